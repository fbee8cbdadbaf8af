//! What an operator may want to know, each a log line and a metric.

pub(crate) mod failover;

use std::path::Path;
use std::time::Duration;

use trilith_telemetry::{Event, Labels};

use crate::guard::Fenced;
use crate::observe::{ServerState, ServerView};

/// PostgreSQL answers.
pub(crate) struct PostgresReady {
    pub pid: u32,
    pub adopted: bool,
    pub took: Duration,
}

impl Event for PostgresReady {
    const NAME: &'static str = "postgres_starts";
    const HELP: &'static str = "Times the local PostgreSQL became ready, or was adopted";
    fn labels(&self) -> Labels {
        vec![("adopted", self.adopted.to_string())]
    }
    fn log(&self) {
        let took_ms = self.took.as_millis() as u64;
        tracing::info!(
            pid = self.pid,
            adopted = self.adopted,
            took_ms,
            "postgres ready"
        );
    }
}

/// PostgreSQL ended although nobody told it to.
pub(crate) struct PostgresDied<'a> {
    pub how: &'a str,
    pub log: &'a str,
}

impl Event for PostgresDied<'_> {
    const NAME: &'static str = "postgres_deaths";
    const HELP: &'static str = "Times the local PostgreSQL ended by itself";
    fn log(&self) {
        tracing::warn!(how = self.how, log = self.log, "postgres died");
    }
}

/// The guard had to stop PostgreSQL, because this server's right to run it had ended.
pub(crate) struct GuardStoppedPostgres<'a> {
    pub fenced: &'a Fenced,
}

impl Event for GuardStoppedPostgres<'_> {
    const NAME: &'static str = "postgres_guard_kills";
    const HELP: &'static str = "Times the guard had to stop the local PostgreSQL";
    fn log(&self) {
        let fenced = self.fenced;
        let late_ms = fenced.late.as_millis() as u64;
        let took_ms = fenced.took.as_millis() as u64;
        tracing::warn!(
            time = fenced.time,
            boot = fenced.boot.0.as_secs_f64(),
            reason = fenced.reason(),
            late_ms,
            took_ms,
            processes = fenced.processes,
            "the guard stopped postgres"
        );
    }
}

/// PostgreSQL was stopped on demand.
pub(crate) struct PostgresStopped {
    pub mode: &'static str,
    pub took: Duration,
}

impl Event for PostgresStopped {
    const NAME: &'static str = "postgres_stops";
    const HELP: &'static str = "Times the local PostgreSQL was stopped";
    fn labels(&self) -> Labels {
        vec![("mode", self.mode.to_owned())]
    }
    fn log(&self) {
        let took_ms = self.took.as_millis() as u64;
        if self.mode == "fast" {
            tracing::info!(mode = self.mode, took_ms, "postgres stopped");
        } else {
            tracing::warn!(mode = self.mode, took_ms, "postgres had to be stopped hard");
        }
    }
}

/// A step failed, or the plan is that a person must act.
pub(crate) struct PostgresFailed<'a> {
    pub reason: &'a str,
    pub hint: Option<&'a str>,
}

impl Event for PostgresFailed<'_> {
    const NAME: &'static str = "postgres_failures";
    const HELP: &'static str = "Attempts to run the local PostgreSQL that failed";
    fn log(&self) {
        tracing::error!(reason = self.reason, hint = self.hint, "postgres failed");
    }
}

/// A data directory was renamed.
pub(crate) struct DataSetAside<'a> {
    pub why: &'a str,
    pub to: &'a Path,
}

impl Event for DataSetAside<'_> {
    const NAME: &'static str = "postgres_data_set_aside";
    const HELP: &'static str = "Data directories renamed because they no longer fit";
    fn log(&self) {
        tracing::warn!(why = self.why, to = %self.to.display(), "postgres data set aside");
    }
}

/// A slot was made, made anew because its WAL was gone, or dropped.
pub(crate) struct SlotChanged<'a> {
    pub slot: &'a str,
    pub what: SlotChange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotChange {
    Created,
    Recreated,
    Dropped,
}

impl Event for SlotChanged<'_> {
    const NAME: &'static str = "postgres_slot_changes";
    const HELP: &'static str = "Replication slots created, recreated and dropped";
    fn labels(&self) -> Labels {
        vec![("what", format!("{:?}", self.what).to_lowercase())]
    }
    fn log(&self) {
        match self.what {
            SlotChange::Created => tracing::info!(slot = self.slot, "replication slot created"),
            SlotChange::Recreated => {
                tracing::warn!(
                    slot = self.slot,
                    "replication slot had lost its WAL; recreated"
                );
            }
            SlotChange::Dropped => {
                tracing::info!(
                    slot = self.slot,
                    "replication slot of a former replica dropped"
                );
            }
        }
    }
}

/// The log was cut.
pub(crate) struct LogRotated {
    pub bytes: u64,
}

impl Event for LogRotated {
    const NAME: &'static str = "postgres_log_rotations";
    const HELP: &'static str = "Rotations of the log of the local PostgreSQL";
    fn log(&self) {
        tracing::info!(bytes = self.bytes, "postgres log rotated");
    }
}

/// A database server, seen from here, came, went or changed its role. Not a warning: it happens at
/// every start and stop, and the server concerned knows better why.
pub(crate) struct DatabaseStateChanged<'a> {
    pub server: &'a ServerView,
}

impl Event for DatabaseStateChanged<'_> {
    const NAME: &'static str = "database_state_changes";
    const HELP: &'static str = "Changes of the role or the reachability of database servers";
    fn labels(&self) -> Labels {
        vec![
            ("database", self.server.name.as_str().to_owned()),
            ("state", self.server.state.word().to_owned()),
        ]
    }
    fn log(&self) {
        let why = match &self.server.state {
            ServerState::Down { why } => Some(why.as_str()),
            _ => None,
        };
        let (database, state) = (self.server.name.as_str(), self.server.state.word());
        tracing::info!(database, state, why, "database server");
    }
}
