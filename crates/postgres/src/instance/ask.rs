//! Asking the local PostgreSQL: is it there, does it answer, and what does it say.
//!
//! A frozen postmaster does not keep a session's process from answering. So the kept session is replaced by a
//! new one every moment, and one that cannot be made counts as silence.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use trilith_base::BootTime;
use trilith_ha::{History, Lsn, Position, Process, Ready, Standby, SyncInForce, SyncSet};

use super::Instance;
use super::life::Connecting;
use super::line::{Line, Look};
use super::settings::{ConfirmedBy, Role};
use crate::conf::Access;
use crate::error::Error;
use crate::event::PostgresReady;
use crate::inspect::{Running, StartState, running, start_state};
use crate::limits::{ASK_TIMEOUT, LINE_AGE_MAX};
use crate::options::slot_name;
use crate::remote::describe;
use crate::status::Phase;
use crate::wal::read_history;

/// Why there is no answer.
enum NoAnswer {
    /// It says that it does not take connections.
    Starting(String),
    Silent(Duration),
}

impl Instance {
    /// How PostgreSQL is. Finishes what a step left half done.
    pub(super) async fn process(&mut self) -> Process {
        let Some(postmaster) = &self.postmaster else {
            return self.without_postmaster();
        };
        let pid = postmaster.pid();
        self.publish(|status| status.pid = Some(pid));
        if let StartState::NotReady(why) = start_state(&self.options.data_dir, pid) {
            return self.starting(why);
        }
        if !self.is_reachable() {
            // With another port or socket folder than those of today: it has to be started anew.
            let since = BootTime::now().since(self.life.began);
            return Process::Silent { since };
        }
        let until = Instant::now() + ASK_TIMEOUT;
        let look = match self.look(until).await {
            Ok(look) => look,
            Err(no_answer) => return self.no_answer(no_answer),
        };
        let look = match timeout_at(until, self.settle(look)).await {
            Ok(Ok(look)) => look,
            Ok(Err(error)) => {
                let why = format!("it is not as it was left: {}", describe(&error));
                return self.starting(&why);
            }
            Err(_) => return self.starting("it is not yet as it was left"),
        };
        self.life.starting_since = None;
        if self.note_hot_standby(until).await.is_err() {
            return self.starting("it does not tell its settings");
        }
        Process::Ready(Box::new(self.ready(&look)))
    }

    /// Processes of a dead postmaster may still write.
    fn without_postmaster(&mut self) -> Process {
        if running(&self.options.data_dir).is_some() {
            // It has come this moment; the next look sees it.
            return self.starting("");
        }
        self.end_orphans().unwrap_or(Process::Stopped)
    }

    fn starting(&mut self, why: &str) -> Process {
        let now = BootTime::now();
        let since = now.since(*self.life.starting_since.get_or_insert(now));
        let why = why.to_owned();
        self.set_phase(Phase::Starting { why });
        Process::Starting { since }
    }

    fn no_answer(&mut self, no_answer: NoAnswer) -> Process {
        match no_answer {
            NoAnswer::Starting(why) => self.starting(&why),
            NoAnswer::Silent(since) => Process::Silent { since },
        }
    }

    fn is_reachable(&self) -> bool {
        let Some(Running {
            port,
            socket_folder,
            ..
        }) = running(&self.options.data_dir)
        else {
            return true;
        };
        port.is_none_or(|port| port == self.options.port)
            && socket_folder.is_none_or(|folder| folder == self.folder)
    }

    /// Asks over the kept session, and sees to it that there is a young one.
    async fn look(&mut self, until: Instant) -> Result<Look, NoAnswer> {
        self.take_connection().await?;
        let now = BootTime::now();
        let young = |at: BootTime| now.since(at) < LINE_AGE_MAX;
        if self.life.connecting.is_none()
            && (self.life.line.is_none() || !self.life.connected_at.is_some_and(young))
        {
            let door = self.door();
            let task = tokio::spawn(Self::within(async move { door.line().await }));
            self.life.connecting = Some(Connecting { task });
        }
        if self.life.line.is_none() {
            let Some(connecting) = &mut self.life.connecting else {
                return Err(self.silent(now));
            };
            if timeout_at(until, wait_finished(connecting)).await.is_err() {
                return Err(self.silent(now));
            }
            self.take_connection().await?;
        } else if self.life.connecting.is_some() {
            // While a new session is not let in, the kept one proves little.
            let since = *self.life.unheard_since.get_or_insert(now);
            if now.since(since) >= ASK_TIMEOUT {
                return Err(NoAnswer::Silent(now.since(since)));
            }
        }
        let Some(line) = &self.life.line else {
            return Err(self.silent(now));
        };
        match timeout_at(until, line.look()).await {
            Ok(Ok(look)) => Ok(look),
            Ok(Err(error)) => {
                self.life.line = None;
                Err(self.judge(&error, now))
            }
            Err(_) => {
                self.life.line = None;
                Err(self.silent(now))
            }
        }
    }

    fn silent(&mut self, now: BootTime) -> NoAnswer {
        let since = *self.life.unheard_since.get_or_insert(now);
        NoAnswer::Silent(BootTime::now().since(since))
    }

    /// A connection that has been made, or has failed, meanwhile.
    async fn take_connection(&mut self) -> Result<(), NoAnswer> {
        let finished = |connecting: &mut Connecting| connecting.task.is_finished();
        let Some(mut connecting) = self.life.connecting.take_if(finished) else {
            return Ok(());
        };
        let now = BootTime::now();
        let error = match (&mut connecting.task).await {
            Ok(Ok(line)) => {
                self.connected(line, now);
                return Ok(());
            }
            Ok(Err(error)) => error,
            // A panic has been reported where it happened.
            Err(_) => return Err(self.silent(now)),
        };
        let no_answer = self.judge(&error, now);
        let refused = matches!(&error, Error::Sql { source, .. }
            if source.0.as_db_error().is_some() && !source.is_not_ready());
        match (&no_answer, &self.life.line) {
            // There are too many sessions, say. Whoever says so is alive.
            (_, Some(_)) if refused => {
                self.life.connected_at = Some(now);
                self.life.unheard_since = None;
                Ok(())
            }
            // It lets nobody in just now, and the kept session can still be asked.
            (NoAnswer::Silent(since), Some(_)) if *since < ASK_TIMEOUT => Ok(()),
            _ => Err(no_answer),
        }
    }

    pub(super) fn connected(&mut self, line: Line, now: BootTime) {
        self.life.line = Some(line);
        self.life.connected_at = Some(now);
        self.life.unheard_since = None;
        if self.life.ready_since.is_none() {
            self.life.ready_since = Some(now);
            self.telemetry.emit(&PostgresReady {
                pid: self.life.pid,
                adopted: self.life.adopted,
                took: now.since(self.life.began),
            });
        }
    }

    /// An error is an answer, too, when it is PostgreSQL's own.
    fn judge(&mut self, error: &Error, now: BootTime) -> NoAnswer {
        let Error::Sql { source, .. } = error else {
            return self.silent(now);
        };
        let Some(said) = source.0.as_db_error() else {
            return self.silent(now);
        };
        let said = said.message().to_owned();
        if source.is_wrong_password() {
            self.fail(error.to_string(), error.hint());
        }
        NoAnswer::Starting(said)
    }

    /// What the planner is told.
    fn ready(&mut self, look: &Look) -> Ready {
        let now = BootTime::now();
        let since = self.life.note_role(look.in_recovery, now);
        let ready_for = self
            .life
            .ready_since
            .map_or(Duration::ZERO, |at| now.since(at));
        self.failures.ready_for(ready_for);
        let lowers = self.lowers(look);
        let ready = Ready {
            in_recovery: look.in_recovery,
            system_id: look.system_id,
            history: self.history(look),
            since,
            follows: self.follows(look),
            receiving: look
                .replica
                .as_ref()
                .is_some_and(|replica| replica.receiving),
            not_streaming: self.not_streaming(look, now),
            settled: look
                .replica
                .as_ref()
                .is_some_and(|replica| replica.is_settled()),
            open: self.is_open(look),
            sync: self.sync_in_force(),
            standbys: self.standbys(look, now),
            set_up: self.is_set_up(look),
            checkpointed: look
                .primary
                .as_ref()
                .is_some_and(|primary| primary.timeline == look.checkpoint_timeline),
            lowers,
        };
        self.publish_ready(look, &ready);
        self.life.last = Some(Box::new(ready.clone()));
        ready
    }

    fn history(&mut self, look: &Look) -> History {
        let dir = &self.options.data_dir;
        let end = match (&look.primary, &look.replica, &self.life.line) {
            (Some(primary), ..) => Position {
                timeline: primary.timeline,
                lsn: primary.flushed,
            },
            (None, Some(replica), Some(line)) => {
                replica.end(dir, line.shape, look.checkpoint_timeline)
            }
            // Not both at once: it was promoted between two questions of one query.
            _ => Position {
                timeline: look.checkpoint_timeline,
                lsn: Lsn::default(),
            },
        };
        let known = self.life.ended_timelines.as_ref();
        let ended = match known.filter(|(timeline, _)| *timeline == end.timeline) {
            Some((_, ended)) => ended.clone(),
            None => match read_history(dir, end.timeline) {
                Ok(ended) => {
                    self.life.ended_timelines = Some((end.timeline, ended.clone()));
                    ended
                }
                // It may be on its way. Without it this history has nothing in common with others: safe.
                Err(_) => Vec::new(),
            },
        };
        History::new(ended, end)
    }

    fn follows(&self, look: &Look) -> Option<trilith_base::ServerName> {
        let settings = self.life.settings.as_ref()?;
        look.in_recovery
            .then(|| settings.follows().cloned())
            .flatten()
    }

    fn not_streaming(&mut self, look: &Look, now: BootTime) -> Duration {
        let streaming = look
            .replica
            .as_ref()
            .is_some_and(|replica| replica.streaming);
        let waits = self.follows(look).is_some() && !streaming;
        self.life.not_streaming(waits, now)
    }

    fn is_open(&self, look: &Look) -> bool {
        let settings = self.life.settings.as_ref();
        !look.in_recovery && settings.is_some_and(|settings| settings.access == Access::Open)
    }

    /// Of a replica nobody asks.
    fn sync_in_force(&self) -> SyncInForce {
        match &self.life.confirmed {
            Some(confirmed) => SyncInForce {
                set: confirmed.set.clone(),
                since: confirmed.since,
            },
            None => SyncInForce {
                set: SyncSet::alone(),
                since: Lsn::default(),
            },
        }
    }

    fn standbys(&mut self, look: &Look, now: BootTime) -> Vec<Standby> {
        if look.in_recovery {
            return Vec::new();
        }
        let names: Vec<_> = self
            .options
            .others()
            .map(|peer| peer.name.clone())
            .collect();
        let of = |name: trilith_base::ServerName| {
            let sender = look.sender(&name);
            let streaming = sender.is_some_and(|sender| sender.streaming);
            Standby {
                gone_for: self.life.gone_for(&name, streaming, now),
                flushed: sender.map_or(Lsn::default(), |sender| sender.flushed),
                streaming,
                name,
            }
        };
        names.into_iter().map(of).collect()
    }

    fn is_set_up(&self, look: &Look) -> bool {
        let good = |name: &str| {
            look.slots
                .iter()
                .any(|slot| slot.name == name && !slot.lost)
        };
        let due = self
            .life
            .set_up_until
            .is_some_and(|until| BootTime::now() >= until);
        self.life.set_up
            && !due
            && self
                .options
                .others()
                .all(|peer| good(&slot_name(&peer.name)))
    }

    /// Whether what PostgreSQL shows is what is remembered.
    pub(super) fn is_as_remembered(&self, look: &Look) -> bool {
        let Some(settings) = &self.life.settings else {
            return false;
        };
        if look.in_recovery {
            return true;
        }
        if self.life.keep_clients_out && look.clients > 0 {
            return false;
        }
        let shown = ConfirmedBy::parse(&look.synchronous_standby_names);
        match (&settings.role, &self.life.confirmed) {
            (Role::Primary { .. }, Some(confirmed)) => {
                shown == Some(ConfirmedBy::Set(confirmed.set.clone()))
            }
            _ => false,
        }
    }
}

async fn wait_finished(connecting: &Connecting) {
    while !connecting.task.is_finished() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
