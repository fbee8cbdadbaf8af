//! The guard, told what it needs to know by a thread of its own: it must not wait for anything else.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use trilith_base::BootTime;
use trilith_ha::Tenure;

use crate::guard::{Guard, GuardOptions};

/// How often the thread looks whether the deadline has been extended. Far below what is left of a lease
/// after a renewal.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What the agent says about PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// It may be writable: it must be gone by the deadline.
    Armed,
    /// It is not.
    Disarmed,
    /// The agent ends, and PostgreSQL has ended.
    End,
}

/// Keeps the guard informed. Dropping it leaves the guard with what it was told last.
pub(crate) struct Fence {
    words: mpsc::Sender<(Word, oneshot::Sender<Result<(), String>>)>,
    options: GuardOptions,
}

impl Fence {
    /// A guard that runs already, because another agent started it, goes on with what it was told.
    pub fn start(options: GuardOptions, tenure: watch::Receiver<Option<Tenure>>) -> Self {
        let (words, told) = mpsc::channel();
        let teller = Teller {
            options: options.clone(),
            tenure,
            guard: None,
            armed: false,
            told: None,
        };
        // Without the thread every word is answered by an error, and nothing becomes a primary.
        let started = thread::Builder::new()
            .name("pg-guard".to_owned())
            .spawn(move || teller.run(&told));
        if let Err(error) = started {
            tracing::error!(%error, "no thread for the guard");
        }
        Self { words, options }
    }

    /// PostgreSQL is about to be writable. From now on the guard stops it at the deadline of the lease.
    ///
    /// # Errors
    /// There is no guard, so it must not be made writable.
    pub async fn arm(&self) -> Result<(), String> {
        self.say(Word::Armed).await
    }

    /// PostgreSQL is not writable.
    pub async fn disarm(&self) -> Result<(), String> {
        self.say(Word::Disarmed).await
    }

    /// PostgreSQL has ended, and this agent ends.
    pub async fn end(&self) -> Result<(), String> {
        self.say(Word::End).await
    }

    /// Whether a guard runs.
    pub fn is_alive(&self) -> bool {
        matches!(Guard::adopt(self.options.clone()), Ok(Some(_)))
    }

    async fn say(&self, word: Word) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        let gone = || "the thread that speaks to the guard has ended".to_owned();
        self.words.send((word, answer)).map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

struct Teller {
    options: GuardOptions,
    tenure: watch::Receiver<Option<Tenure>>,
    guard: Option<Guard>,
    armed: bool,
    /// The last deadline that the guard was told.
    told: Option<BootTime>,
}

impl Teller {
    fn run(mut self, words: &mpsc::Receiver<(Word, oneshot::Sender<Result<(), String>>)>) {
        loop {
            match words.recv_timeout(LOOK_EVERY) {
                Ok((word, answer)) => {
                    let done = self.take(word).map_err(|error| error.to_string());
                    // Whoever asked may have given up.
                    let _ = answer.send(done);
                    if word == Word::End {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if self.armed
                        && let Err(error) = self.tell_deadline()
                    {
                        tracing::warn!(%error, "the guard of postgres cannot be told the deadline");
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn take(&mut self, word: Word) -> std::io::Result<()> {
        match word {
            Word::Armed => {
                self.armed = true;
                self.tell_deadline()
            }
            Word::Disarmed => {
                self.armed = false;
                self.told = None;
                let guard = match self.guard.take() {
                    Some(guard) => Some(guard),
                    None => Guard::adopt(self.options.clone())?,
                };
                if let Some(mut guard) = guard {
                    guard.tell(None)?;
                    self.guard = Some(guard);
                }
                Ok(())
            }
            Word::End => {
                let guard = match self.guard.take() {
                    Some(guard) => Some(guard),
                    None => Guard::adopt(self.options.clone())?,
                };
                guard.map_or(Ok(()), Guard::end)
            }
        }
    }

    /// The deadline of the lease; one that has passed when there is none.
    fn tell_deadline(&mut self) -> std::io::Result<()> {
        let tenure = *self.tenure.borrow();
        let Some(deadline) = tenure.map(|tenure| tenure.deadline).or(self.told) else {
            return Err(std::io::Error::other("there is no lease"));
        };
        if self.told == Some(deadline) {
            return Ok(());
        }
        let guard = match self.guard.take() {
            Some(guard) => self.guard.insert(guard),
            None => self.guard.insert(Guard::start(self.options.clone())?),
        };
        guard.tell(Some(deadline))?;
        self.told = Some(deadline);
        Ok(())
    }
}
