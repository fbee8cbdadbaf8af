//! The database's failover: what the servers agreed on, each server's own part, and what an operator may
//! ask for.

use serde::{Deserialize, Serialize};

/// Grows when a field of this module is removed or changes its meaning.
pub const DATABASE_SCHEMA: u32 = 1;

/// What one server knows of the database's failover.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabasePart {
    /// The cluster's name.
    #[serde(default)]
    pub cluster: String,
    /// Of every PostgreSQL of the cluster.
    #[serde(default)]
    pub port: u16,
    pub agreed: Agreed,
    /// Of a server with the role `db`, once it has looked at its PostgreSQL.
    #[serde(default)]
    pub local: Option<DatabaseLocal>,
}

/// What the cluster store says, as one server sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    /// Position of this view. A higher one is newer.
    pub revision: u64,
    /// Who holds the primary's lease; none while nobody does.
    #[serde(default)]
    pub holder: Option<String>,
    /// The fencing token of that lease.
    #[serde(default)]
    pub epoch: Option<u64>,
    /// Grows by one with every grant of the lease; 0 before the first.
    #[serde(default)]
    pub term: u64,
    /// Who was granted it last.
    #[serde(default)]
    pub primary: Option<String>,
    /// Whether clients were let in, in this term.
    #[serde(default)]
    pub open: bool,
    /// Whether commits wait for nobody.
    #[serde(default)]
    pub asynchronous: bool,
    /// Whether an operator forced this term, accepting that writes may be missing.
    #[serde(default)]
    pub forced: bool,
    /// Who has every acknowledged write, besides the primary: those who may become it.
    #[serde(default)]
    pub synchronous: SyncSetStatus,
    /// The server that a switchover named as the next primary.
    #[serde(default)]
    pub next: Option<String>,
    /// There while failover is paused.
    #[serde(default)]
    pub paused: Option<PausedStatus>,
    /// What an operator asked for and is not done yet.
    #[serde(default)]
    pub request: Option<DatabaseRequest>,
    /// How the last request that was given up ended.
    #[serde(default)]
    pub ended: Option<EndedRequest>,
    /// Servers that are to make their copy anew.
    #[serde(default)]
    pub reinit: Vec<String>,
    /// Servers whose PostgreSQL is to be restarted, and how far that is.
    #[serde(default)]
    pub restart: Vec<RestartStatus>,
    /// What servers said that they have, once they had stopped receiving.
    #[serde(default)]
    pub reports: Vec<ReportStatus>,
    /// PostgreSQL's identity of the database, in decimal digits.
    #[serde(default)]
    pub system_id: Option<String>,
    /// Why nothing is decided: a newer version wrote what decides.
    #[serde(default)]
    pub unreadable: Option<String>,
}

/// Replicas, and how many of them must have flushed a commit before it is acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncSetStatus {
    /// In the order of their names; empty: the primary alone.
    pub members: Vec<String>,
    pub acks: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PausedStatus {
    #[serde(default)]
    pub by: String,
    /// Milliseconds since 1970 UTC; 0 when unknown.
    #[serde(default)]
    pub since_unix_ms: u64,
}

/// What an operator asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseRequest {
    /// The revision at which it was made.
    pub id: u64,
    /// `switchover` or `failover`.
    pub kind: String,
    #[serde(default)]
    pub to: Option<String>,
    #[serde(default)]
    pub accept_loss: bool,
    /// In a later term it is void.
    pub term: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedRequest {
    /// [`DatabaseRequest::id`].
    pub id: u64,
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartStatus {
    pub server: String,
    /// `asked`, `turn` (it restarts now), or `begun` (it was stopped, and is started again).
    pub state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportStatus {
    pub server: String,
    /// For the succession after this term.
    pub term: u64,
    /// `nothing`, why the data are unusable, or `timeline/position`.
    pub has: String,
}

/// What a server's agent saw last, and what it is about to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseLocal {
    /// How long ago it looked. Long while one step takes long.
    pub looked_ms_ago: u64,
    /// `free`, `mine`, `unproven` (ours by the store, not by a renewal) or `other`.
    pub lease: String,
    /// Of its own lease: what is left until PostgreSQL would be stopped here.
    #[serde(default)]
    pub lease_left_ms: Option<u64>,
    /// Of the process: `stopped`, `starting`, `running` or `silent`.
    pub state: String,
    /// Of the data directory: `missing`, `half-made`, `unusable`, `primary` or `replica`.
    pub data: String,
    /// What PostgreSQL says that it is: `primary` or `replica`; none while it does not answer.
    #[serde(default)]
    pub role: Option<String>,
    #[serde(default)]
    pub timeline: Option<u32>,
    /// End of the WAL that is safely on this server's disk.
    #[serde(default)]
    pub lsn: Option<String>,
    /// Primary: whether the application may connect.
    #[serde(default)]
    pub open: bool,
    /// Primary: who must confirm commits, as PostgreSQL works with it. Recorded is
    /// [`Agreed::synchronous`].
    #[serde(default)]
    pub in_force: SyncSetStatus,
    /// Primary: its replicas.
    #[serde(default)]
    pub replicas: Vec<ReplicaStatus>,
    /// Primary: the slots that it keeps for them.
    #[serde(default)]
    pub slots: Vec<SlotStatus>,
    /// Replica: whom it receives from.
    #[serde(default)]
    pub follows: Option<String>,
    /// Replica: for how long no WAL came in.
    #[serde(default)]
    pub not_streaming_ms: u64,
    /// Counts the plans that were made.
    #[serde(default)]
    pub generation: u64,
    #[serde(default)]
    pub plan: PlanStatus,
    /// Folders set aside beside the data directory.
    #[serde(default)]
    pub asides: Vec<String>,
    /// Settings of PostgreSQL that are in force after its next restart only.
    #[serde(default)]
    pub pending_restart: Vec<String>,
    /// How often in a row PostgreSQL could not be started.
    #[serde(default)]
    pub failures: u32,
}

/// What a server does next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStatus {
    pub reason: String,
    /// Empty: all is as it should be.
    #[serde(default)]
    pub steps: Vec<PlanStep>,
    /// A person must act: what to do.
    #[serde(default)]
    pub stuck: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStep {
    pub step: String,
    pub why: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    pub server: String,
    pub streaming: bool,
    /// Flushed up to.
    pub lsn: String,
    /// Bytes of WAL that it has not flushed yet; none while it is not connected.
    #[serde(default)]
    pub behind_bytes: Option<u64>,
    /// For how long it has not been streaming; 0 while it is.
    #[serde(default)]
    pub gone_ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotStatus {
    pub server: String,
    /// Whether the replica is connected.
    pub active: bool,
    /// WAL kept for it.
    pub held_bytes: u64,
}

/// `POST /v1/db/switchover`, `/v1/db/failover`, `/v1/db/reinit`, `/v1/db/restart`, `/v1/db/pause` and
/// `/v1/db/resume` of the admin socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseOrder {
    /// Whom it is about. For a switchover it may be left out.
    #[serde(default)]
    pub server: Option<String>,
    /// Of a restart: whom it is about; empty: all.
    #[serde(default)]
    pub servers: Vec<String>,
    /// Of a failover.
    #[serde(default)]
    pub accept_loss: bool,
    /// Of a pause: who asks, `root@one`.
    #[serde(default)]
    pub by: String,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

/// What comes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseAnswer {
    pub schema: u32,
    /// Whether anything was written.
    pub changed: bool,
    #[serde(default)]
    pub dry_run: bool,
    /// What happens now, would happen, or why there is nothing to do; one sentence without its full stop.
    pub says: String,
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Who will be the primary, or make its copy anew.
    #[serde(default)]
    pub server: Option<String>,
    /// Who is restarted, in the order of the file.
    #[serde(default)]
    pub servers: Vec<String>,
    /// Of the cluster when it was asked.
    #[serde(default)]
    pub term: u64,
    /// [`DatabaseRequest::id`]; of a restart, the revision at which it was written.
    #[serde(default)]
    pub request: Option<u64>,
}

impl Agreed {
    /// Whether that server has every acknowledged write without being the primary.
    pub fn is_member(&self, server: &str) -> bool {
        self.open && self.synchronous.members.iter().any(|m| m == server)
    }

    /// Whether there is a primary that lets clients in.
    pub fn has_open_primary(&self) -> bool {
        self.open && self.holder.is_some() && self.holder == self.primary
    }
}

impl DatabaseLocal {
    /// Whether clients can write here.
    pub fn is_open_primary(&self) -> bool {
        let holds = self.lease == "mine" && self.lease_left_ms.is_some_and(|left| left > 0);
        holds && self.open && self.is_running_as("primary")
    }

    pub fn is_running_as(&self, role: &str) -> bool {
        self.state == "running" && self.role.as_deref() == Some(role)
    }

    /// What would be lost with this server, at least as far as is known: the WAL that the most advanced
    /// replica has not flushed. `None`: it is no primary, or no replica is connected.
    pub fn unreplicated_bytes(&self) -> Option<u64> {
        match self.is_running_as("primary") {
            true => self.replicas.iter().filter_map(|r| r.behind_bytes).min(),
            false => None,
        }
    }
}

impl std::fmt::Display for SyncSetStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.members.is_empty() {
            true => f.write_str("none"),
            false => write!(f, "{} of {}", self.acks, self.members.join(", ")),
        }
    }
}

impl std::fmt::Display for DatabaseRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.kind)?;
        if let Some(to) = &self.to {
            write!(f, " to {to}")?;
        }
        match self.accept_loss {
            true => f.write_str(", writes may be lost"),
            false => Ok(()),
        }
    }
}
