//! What one server sees: the input of [`crate::plan`]. Durations are counted by whoever observes, on a
//! clock that goes on while the machine is suspended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use trilith_base::ServerName;
use trilith_consensus::Epoch;

use crate::history::{History, Position};
use crate::lsn::Lsn;
use crate::record::{StoreView, SyncSet};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pub store: StoreView,
    /// Whether this server has heard from the store's majority lately, and at least once since this program
    /// started: `store` is no older than anything that this server ever did.
    pub quorum: bool,
    pub lease: LeaseSeen,
    pub local: Local,
    /// What became of what this server changed last.
    pub changes: Changes,
    /// What the lease's holder says about its PostgreSQL, if it is another server and has been asked and
    /// has answered lately.
    pub primary: Option<PrimarySeen>,
    /// This server gave the lease up, or failed to take it, and waits before it asks again.
    pub yielding: bool,
    /// Of `local.failures`, those from before the lease was granted that there is now.
    pub failures_before: u32,
    /// How long the operator's request has been there.
    pub request_for: Duration,
    /// How long each of the marks in `store.restart` has been as it is.
    pub restart_for: BTreeMap<ServerName, Duration>,
    /// This server is about to stop.
    pub leaving: bool,
}

/// What became of this server's own changes to the record and the lease.
///
/// What is decided from an older record than the true one may be unsafe: who confirms commits is switched
/// here, and is no entry that the store could refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changes {
    /// `store` has them all.
    Seen,
    /// The last one is done, and `store` is older than that.
    Unseen,
    /// The last one may still be done, or not, on the condition that the record is as it was.
    Unknown,
}

/// The lease of the primary, as far as this server may count on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseSeen {
    /// Nobody holds it, for so long as this server knows.
    Free {
        since: Duration,
    },
    /// Ours, proven by a renewal, and the deadline is ahead.
    Mine {
        epoch: Epoch,
    },
    /// The store says that it is ours, but no renewal has proven it. `expired`: it was proven, and the
    /// deadline has passed; or nobody else stops PostgreSQL at the deadline. Otherwise this process has
    /// just started, and the guard knows the deadline.
    Unproven {
        epoch: Epoch,
        expired: bool,
    },
    Other,
}

/// The PostgreSQL of this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    pub data: Data,
    pub process: Process,
    /// Folders set aside so far.
    pub asides: usize,
    /// How often in a row PostgreSQL could not be started, or ended right after.
    pub failures: u32,
}

/// The data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing there, or an empty folder.
    Missing,
    /// Part of a database: an interrupted copy or rewind. Of no use to anybody.
    HalfMade { what: String },
    /// Something that only a person can decide about: not ours, another version, damaged.
    Unusable { what: String, hint: String },
    Ready {
        system_id: u64,
        kind: Kind,
        /// While PostgreSQL does not run: whether it was stopped in good order, so that `history.end` is
        /// the true end. After a crash the end is at or past it.
        clean: bool,
        /// Timelines and the end of the WAL, as far as known without asking PostgreSQL.
        history: History,
        /// A new database of this server's own making that the cluster store does not know of yet.
        unfounded: bool,
    },
}

/// Whose data they are, by the signal files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Primary,
    Replica,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Process {
    Stopped,
    /// It runs, and does not accept connections yet.
    Starting {
        since: Duration,
    },
    Ready(Box<Ready>),
    /// It accepted connections, and has not answered for so long.
    Silent {
        since: Duration,
    },
}

/// A PostgreSQL that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    pub in_recovery: bool,
    pub system_id: u64,
    /// Timelines, and the end of the WAL that is safely on this server's disk.
    pub history: History,
    /// How long it has been ready, or primary.
    pub since: Duration,

    // As a replica.
    /// Which server it is told to receive from.
    pub follows: Option<ServerName>,
    /// A WAL receiver is there, streaming or trying to.
    pub receiving: bool,
    /// For how long no WAL came in although it follows somebody.
    pub not_streaming: Duration,
    /// Everything that lies in its WAL folder has been replayed.
    pub settled: bool,

    // As a primary.
    /// Whether the application may connect.
    pub open: bool,
    pub sync: SyncInForce,
    /// Replicas known to it, by their names.
    pub standbys: Vec<Standby>,
    /// Roles, databases, extensions and slots are as they should be.
    pub set_up: bool,
    /// The checkpoint that others need before they can rewind to this timeline has been made.
    pub checkpointed: bool,
    /// With what the configuration says now, its next start as a primary would have less of what replicas
    /// must have at least as much of (`max_connections` and the like), and more of nothing such. Replicas
    /// can follow only after that.
    pub lowers: bool,
}

/// `synchronous_standby_names` as PostgreSQL works with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncInForce {
    pub set: SyncSet,
    /// Everything written before this position may have been acknowledged under another set; the flush
    /// position just after this one came in force.
    pub since: Lsn,
}

/// A replica as the primary sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standby {
    pub name: ServerName,
    /// Connected and in the state `streaming`.
    pub streaming: bool,
    pub flushed: Lsn,
    /// For how long it has not been streaming; zero while it is.
    pub gone_for: Duration,
}

/// What the primary told this server, which is or will be its replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimarySeen {
    pub server: ServerName,
    /// Whether it says that it is a primary.
    pub is_primary: bool,
    pub system_id: u64,
    /// Its timelines and the end of its WAL.
    pub history: History,
    /// Of its last checkpoint: until that is the current one, nobody can be rewound to it.
    pub checkpoint_timeline: u32,
    /// Where the oldest WAL that it still has begins.
    pub oldest: Lsn,
    pub slot: SlotSeen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotSeen {
    Missing,
    Ready,
    Active,
    /// The WAL it stood for is gone.
    Lost,
}

impl Local {
    pub fn system_id(&self) -> Option<u64> {
        match (&self.process, &self.data) {
            (Process::Ready(ready), _) => Some(ready.system_id),
            (_, Data::Ready { system_id, .. }) => Some(*system_id),
            _ => None,
        }
    }

    /// The best that is known of what is on this server's disk.
    pub fn history(&self) -> Option<&History> {
        match (&self.process, &self.data) {
            (Process::Ready(ready), _) => Some(&ready.history),
            (_, Data::Ready { history, .. }) => Some(history),
            _ => None,
        }
    }

    /// Whether PostgreSQL runs and might be writable.
    pub fn may_be_primary(&self) -> bool {
        match &self.process {
            Process::Stopped => false,
            Process::Ready(ready) => !ready.in_recovery,
            Process::Starting { .. } | Process::Silent { .. } => !matches!(
                self.data,
                Data::Ready {
                    kind: Kind::Replica,
                    ..
                }
            ),
        }
    }
}

impl Ready {
    pub fn end(&self) -> Position {
        self.history.end
    }

    /// Replicas that have been gone for no longer than that.
    pub fn present(&self, patience: Duration) -> BTreeSet<ServerName> {
        let present = |standby: &&Standby| standby.streaming || standby.gone_for < patience;
        let names = self.standbys.iter().filter(present);
        names.map(|standby| standby.name.clone()).collect()
    }

    /// Whether enough members of the set have flushed everything that was written before the set was in
    /// force.
    pub fn confirmed(&self) -> bool {
        let set = &self.sync.set;
        let flushed = |standby: &&Standby| {
            standby.streaming
                && set.members.contains(&standby.name)
                && standby.flushed >= self.sync.since
        };
        self.standbys.iter().filter(flushed).count() >= set.acks
    }
}
