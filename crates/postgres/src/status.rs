//! What the manager tells about the local PostgreSQL.

use std::path::PathBuf;

use trilith_base::ServerName;

use crate::lsn::Lsn;

/// The local PostgreSQL, as last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub phase: Phase,
    /// What it says it is (`pg_is_in_recovery()`), not what the file wants it to be.
    pub role: Option<CurrentRole>,
    /// The postmaster.
    pub pid: Option<u32>,
    /// Of the programs, such as `15.18`.
    pub version: Option<String>,
    /// The database's own identity, the same on primary and replicas.
    pub system_id: Option<u64>,
    pub timeline: Option<u32>,
    /// Primary: end of the WAL written. Replica: end of the WAL replayed.
    pub lsn: Option<Lsn>,
    /// Primary: the slot of each replica.
    pub slots: Vec<SlotStatus>,
    /// Replica: whether WAL flows in.
    pub streaming: Option<bool>,
    /// How often it was started again after it had died.
    pub restarts: u32,
    /// The plan being carried out, or carried out last, in one line.
    pub plan: Option<String>,
    /// Folders set aside beside the data directory; somebody should look at them and delete them.
    pub asides: Vec<PathBuf>,
}

/// Primary or replica, asked of PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CurrentRole {
    Primary,
    Replica,
}

/// The slot that a primary keeps for a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotStatus {
    pub replica: ServerName,
    /// Whether the replica is connected.
    pub active: bool,
    /// WAL held back for it, in bytes.
    pub held_bytes: u64,
}

/// What the manager is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Looking at what is there.
    #[default]
    Observing,
    /// PostgreSQL does not run; the plan says what it waits for.
    Down,
    /// `initdb` is at work.
    Initialising,
    /// The primary's data is being copied. `percent` is 0 to 100, unknown until the primary tells.
    BaseBackup {
        percent: Option<u8>,
    },
    /// The data are being taken back to where they part from the primary's. `percent` as above.
    Rewinding {
        percent: Option<u8>,
    },
    /// PostgreSQL was started and does not answer yet (it may be recovering).
    Starting {
        why: String,
    },
    /// It answers; roles, database and slots are being looked after.
    SettingUp,
    Running,
    /// It runs, and does not answer.
    Silent,
    Stopping,
    /// Stopped because it was told to.
    Stopped,
    /// Something that needs a person, or time. It is tried again.
    Failed {
        reason: String,
        hint: Option<String>,
    },
}

impl Phase {
    /// One word, for tables and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Observing => "observing",
            Self::Down => "down",
            Self::Initialising => "initialising",
            Self::BaseBackup { .. } => "copying",
            Self::Rewinding { .. } => "rewinding",
            Self::Starting { .. } => "starting",
            Self::SettingUp => "setting-up",
            Self::Running => "running",
            Self::Silent => "silent",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed { .. } => "failed",
        }
    }

    /// The whole story in one line, for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Observing => "looking at the data folder".to_owned(),
            Self::Down => "not running".to_owned(),
            Self::Initialising => "making a new database".to_owned(),
            Self::BaseBackup { percent: None } => "copying the primary".to_owned(),
            Self::BaseBackup { percent: Some(p) } => format!("copying the primary: {p} %"),
            Self::Rewinding { percent: None } => "rewinding to the primary".to_owned(),
            Self::Rewinding { percent: Some(p) } => format!("rewinding to the primary: {p} %"),
            Self::Starting { why } if why.is_empty() => "starting".to_owned(),
            Self::Starting { why } => format!("starting: {why}"),
            Self::SettingUp => "creating roles and database".to_owned(),
            Self::Running => "running".to_owned(),
            Self::Silent => "not answering".to_owned(),
            Self::Stopping => "stopping".to_owned(),
            Self::Stopped => "stopped".to_owned(),
            Self::Failed { reason, hint, .. } => match hint {
                Some(hint) => format!("{reason}; {hint}"),
                None => reason.clone(),
            },
        }
    }
}
