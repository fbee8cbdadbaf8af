//! Confirmation rounds: is this server still the last one that anybody voted for?

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use super::Term;
use crate::environment::Environment;
use crate::inner::Inner;
use crate::msg::{Ask, Confirm, NodeId, Reply};

/// Rounds under way at one time: one that hangs must not hold up the next.
const ROUNDS_MAX: usize = 4;

/// Collects those who ask, and runs rounds for them. A round serves those who asked before it
/// began.
#[derive(Default)]
pub(crate) struct Rounds {
    waiting: Mutex<Vec<(Term, oneshot::Sender<bool>)>>,
    asked: Notify,
}

impl Rounds {
    /// Whether, at some moment after this call, a majority of the voters had begun to save no
    /// higher vote than this server's in `term`.
    pub(crate) async fn confirm(&self, term: Term) -> bool {
        let (answer, answered) = oneshot::channel();
        self.lock().push((term, answer));
        self.asked.notify_one();
        answered.await.unwrap_or(false)
    }

    /// Runs until the store stops.
    pub(crate) async fn run<E: Environment>(inner: Arc<Inner<E>>) {
        let permits = Arc::new(Semaphore::new(ROUNDS_MAX));
        loop {
            inner.rounds.asked.notified().await;
            let Ok(permit) = permits.clone().acquire_owned().await else {
                return;
            };
            let waiting = std::mem::take(&mut *inner.rounds.lock());
            let inner = inner.clone();
            // Dropping the handle lets it run.
            drop(E::spawn(async move {
                round(&inner, waiting).await;
                drop(permit);
            }));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Term, oneshot::Sender<bool>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn round<E: Environment>(inner: &Arc<Inner<E>>, waiting: Vec<(Term, oneshot::Sender<bool>)>) {
    let Some(term) = waiting.iter().map(|(term, _)| term.0).max() else {
        return;
    };
    let confirmed = majority(inner, Term(term)).await;
    for (asked, answer) in waiting {
        // Who asked for an older term is no leader any more.
        let _ = answer.send(confirmed && asked.0 == term);
    }
}

async fn majority<E: Environment>(inner: &Arc<Inner<E>>, term: Term) -> bool {
    let me = inner.id();
    let members = inner.members();
    let voters: Vec<BTreeSet<NodeId>> = members.membership().get_joint_config().clone();
    let all: BTreeSet<NodeId> = voters.iter().flatten().copied().collect();
    if all.is_empty() || !inner.disk.begun().is(term.0, me) {
        return false;
    }
    let mut yes = BTreeSet::from([me]);
    let (answers, mut answered) = mpsc::channel(all.len());
    for id in all.into_iter().filter(|id| *id != me) {
        let Some(Ok(peer)) = members.membership().get_node(&id).map(|node| node.peer()) else {
            continue;
        };
        let inner = inner.clone();
        let answers = answers.clone();
        drop(E::spawn(async move {
            let ask = Ask::Confirm(Confirm {
                term: term.0,
                node: inner.id(),
            });
            if let Ok(Reply::Confirm(reply)) = inner.call(&peer, id, ask).await
                && reply.yes
            {
                let _ = answers.send(id).await;
            }
        }));
    }
    drop(answers);
    while !is_majority(&voters, &yes) {
        match answered.recv().await {
            Some(id) => yes.insert(id),
            None => return false,
        };
    }
    // This server counts as a voter too: it may have voted for somebody else during the round.
    inner.disk.begun().is(term.0, me)
}

/// Of each set.
pub(crate) fn is_majority(voters: &[BTreeSet<NodeId>], yes: &BTreeSet<NodeId>) -> bool {
    !voters.is_empty()
        && voters
            .iter()
            .all(|set| set.intersection(yes).count() * 2 > set.len())
}
