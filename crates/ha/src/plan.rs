//! Steps in order, and why. Prints as text.

use std::collections::BTreeSet;
use std::fmt;

use trilith_base::ServerName;

use crate::record::{Record, Report, SyncSet, listed};
use crate::txn::{RestartMove, TakeLease, Written};

/// What this server does next. An empty list of steps: all is as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub reason: String,
    pub steps: Vec<Act>,
}

/// A step and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    pub step: Step,
    pub why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Sessions end, replicas receive everything, a checkpoint is written.
    Fast,
    /// At once; the next start recovers from the WAL.
    Immediate,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartAs {
    /// Writable, but closed to the application. These must confirm commits from the first one on.
    Primary { sync: SyncSet },
    /// Receives from that server, or from nobody.
    Replica { follow: Option<ServerName> },
}

/// One thing to do. They are done in order; the first that fails ends the plan. While one is under way
/// the plan is made anew when the lease, the record or the process changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing can be done before something else happens.
    Wait,
    /// A person must act.
    Fail {
        hint: String,
    },

    // The local PostgreSQL.
    /// A new, empty database, put in place.
    Initdb,
    /// A copy of that server's, put in place; what is there meanwhile is set aside.
    Copy {
        from: ServerName,
    },
    /// Back to where the histories parted, then on to that server's.
    Rewind {
        from: ServerName,
    },
    Start {
        how: StartAs,
    },
    Stop {
        mode: StopMode,
    },
    /// Ends recovery. Closed to the application; these must confirm commits from the first one on.
    Promote {
        sync: SyncSet,
        /// The number of the timeline that begins. It must be this one: the number that PostgreSQL would
        /// choose by itself (one above the highest `.history` file that it has) may have been begun by
        /// another server that died before anybody heard of it.
        timeline: u32,
    },
    /// Receives from that server from now on; from nobody: returns when the WAL receiver has ended.
    Follow {
        server: Option<ServerName>,
    },
    /// Who must confirm commits from now on. `forget`: replicas whose connection is ended, so that what
    /// they confirm no longer counts. `prove`: clients are in and commits waited for nobody so far, so it
    /// has to be shown that every commit waits before this counts as in force.
    Sync {
        set: SyncSet,
        forget: BTreeSet<ServerName>,
        prove: bool,
    },
    /// Lets the application in.
    Open,
    /// Lets no new session of the application in.
    Close,
    /// Roles, databases, extensions, slots.
    SetUp,
    Checkpoint,

    // The cluster store.
    Report(Report),
    TakeLease(Box<TakeLease>),
    /// Gives the lease back, and writes the record with it.
    GiveUpLease {
        record: Option<Box<Record>>,
        /// Of the record read; `None`: there was none.
        over: Option<trilith_consensus::Revision>,
        /// The operator's request that this fulfils.
        fulfils: Option<trilith_consensus::Revision>,
    },
    WriteRecord(Box<Written<Record>>),
    /// Writes down which database this is, once it is there.
    Found {
        system_id: u64,
    },
    /// The operator's request is fulfilled, or cannot be.
    ForgetRequest {
        version: trilith_consensus::Revision,
    },
    /// This server's copy was made anew.
    ForgetReinit,
    /// A restart that the operator asked for goes on.
    Restart(RestartMove),
}

impl Plan {
    pub(crate) fn idle(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            steps: Vec::new(),
        }
    }

    pub(crate) fn one(reason: impl Into<String>, step: Step, why: impl Into<String>) -> Self {
        Self::idle(reason).then(step, why)
    }

    pub(crate) fn wait(reason: impl Into<String>, why: impl Into<String>) -> Self {
        Self::one(reason, Step::Wait, why)
    }

    pub(crate) fn fail(why: impl Into<String>, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        Self::one("a person must act", Step::Fail { hint }, why)
    }

    pub(crate) fn then(mut self, step: Step, why: impl Into<String>) -> Self {
        let why = why.into();
        self.steps.push(Act { step, why });
        self
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.reason)?;
        for (number, act) in self.steps.iter().enumerate() {
            writeln!(f, "  {}. {}: {}", number + 1, act.step, act.why)?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait => f.write_str("wait"),
            Self::Fail { hint } => write!(f, "do nothing until a person has acted ({hint})"),
            Self::Initdb => f.write_str("make a new database"),
            Self::Copy { from } => write!(f, "copy {from}'s data"),
            Self::Rewind { from } => write!(f, "rewind to {from}'s history"),
            Self::Start { how } => match how {
                StartAs::Primary { sync } => {
                    write!(f, "start as primary, closed, commits {}", wait_for(sync))
                }
                StartAs::Replica {
                    follow: Some(server),
                } => {
                    write!(f, "start as replica of {server}")
                }
                StartAs::Replica { follow: None } => {
                    f.write_str("start as replica that receives from nobody")
                }
            },
            Self::Stop {
                mode: StopMode::Fast,
            } => f.write_str("stop in good order"),
            Self::Stop {
                mode: StopMode::Immediate,
            } => f.write_str("stop at once"),
            Self::Promote { sync, timeline } => {
                write!(
                    f,
                    "promote to timeline {timeline}, closed, commits {}",
                    wait_for(sync)
                )
            }
            Self::Follow {
                server: Some(server),
            } => write!(f, "receive from {server}"),
            Self::Follow { server: None } => f.write_str("stop receiving"),
            Self::Sync { set, forget, prove } => {
                write!(f, "let commits {}", wait_for(set))?;
                if !forget.is_empty() {
                    write!(f, ", end the connections of {}", listed(forget))?;
                }
                if *prove {
                    f.write_str(", and prove it")?;
                }
                Ok(())
            }
            Self::Open => f.write_str("let the application in"),
            Self::Close => f.write_str("let no new session in"),
            Self::SetUp => f.write_str("set up roles, databases and slots"),
            Self::Checkpoint => f.write_str("write a checkpoint"),
            Self::Report(report) => match report.term {
                0 => f.write_str("report what is here"),
                term => write!(f, "report for the end of term {term}"),
            },
            Self::TakeLease(take) => {
                write!(f, "take the lease, term {}", take.record.term)?;
                match take.record.forced && !take.again {
                    true => f.write_str(", writes may be lost"),
                    false => Ok(()),
                }
            }
            Self::GiveUpLease { record, .. } => {
                f.write_str("give the lease back")?;
                match record.as_ref().and_then(|record| record.next.as_ref()) {
                    Some(next) => write!(f, " for {next}"),
                    None => Ok(()),
                }
            }
            Self::WriteRecord(written) => {
                let record = &written.value;
                let open = if record.open { "open" } else { "closed" };
                write!(f, "record: {open}, commits {}", wait_for(&record.sync))?;
                if record.asynchronous && record.open {
                    f.write_str(", the last of them may be lost")?;
                }
                Ok(())
            }
            Self::Found { .. } => f.write_str("record the new database"),
            Self::ForgetRequest { .. } => f.write_str("end the request"),
            Self::ForgetReinit => f.write_str("end the request to copy anew"),
            Self::Restart(RestartMove::Turn { server, .. }) => write!(f, "let {server} restart"),
            Self::Restart(RestartMove::Begun { .. }) => {
                f.write_str("note that PostgreSQL is started anew")
            }
            Self::Restart(RestartMove::Done { server, .. }) => {
                write!(f, "end the request to restart {server}")
            }
            Self::Restart(RestartMove::HandOver { to, .. }) => {
                write!(f, "ask for a switchover to {to}")
            }
        }
    }
}

fn wait_for(set: &SyncSet) -> String {
    match set.is_alone() {
        true => "wait for nobody".to_owned(),
        false => format!("wait for {set}"),
    }
}
