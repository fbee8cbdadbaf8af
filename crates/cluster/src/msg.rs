//! What servers say to each other, and what is on the disk: the only serialised types of this
//! crate.
//!
//! JSON, readable with curl. Unknown fields are ignored and missing ones have defaults, so that
//! servers of two neighbouring releases understand each other (`msg/tests.rs` keeps the form of
//! each release). What a server must not guess, a log entry or a request of an unknown kind, is an
//! error.

mod convert;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use convert::Malformed;

/// One life of a server's store: random, chosen when its file was created. 0 is nobody.
pub type NodeId = u64;

/// A question, and who asks whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// The name of the cluster. That of another one is refused.
    pub cluster: String,
    /// The sender's life; its name is in its certificate.
    pub from: NodeId,
    /// The life that is meant. 0: whichever lives there now.
    pub to: NodeId,
    pub ask: Ask,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Who are you, and what do you know?
    Hello(Hello),
    /// Raft: append these entries (or just a heartbeat).
    Append(Append),
    /// Raft: vote for me.
    Vote(VoteAsk),
    /// Raft: this is the whole state.
    Snapshot(SnapshotAsk),
    /// Is the highest vote you ever began to save still mine?
    Confirm(Confirm),
    /// To the leader: extend this lease.
    Renew(Renew),
    /// To the leader: put this into the log.
    Commit(Commit),
    /// To the leader: which revision has everything that was acknowledged until now?
    ReadIndex(ReadIndex),
    /// To the leader: make me a member.
    Admit(Admit),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Hello(HelloReply),
    Append(AppendReply),
    Vote(VoteReply),
    Snapshot(SnapshotReply),
    Confirm(ConfirmReply),
    Renewed(Renewed),
    Committed(Committed),
    ReadIndex(ReadIndexReply),
    Admitted(Admitted),
    /// I do not lead. Nothing was done.
    NotLeader(NotLeader),
    /// It was not done, or (kind `unknown`) perhaps it was.
    Failed(Failed),
}

/// A vote: who wants to lead, or leads, in which term.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(default)]
pub struct Vote {
    pub term: u64,
    pub node: NodeId,
    /// A majority granted it: `node` leads.
    pub committed: bool,
}

/// A position in the log.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(default)]
pub struct Position {
    pub term: u64,
    /// Who led when it was written.
    pub node: NodeId,
    pub index: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub at: Position,
    pub what: Payload,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// A new leader's first entry.
    Nothing,
    Command(Command),
    Members(Members),
}

/// Who takes part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Members {
    /// One set, or two while it changes: then a majority of each is needed.
    pub voters: Vec<BTreeSet<NodeId>>,
    /// Voters and learners.
    pub nodes: BTreeMap<NodeId, Node>,
}

/// Where a life of a store is to be found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    pub name: String,
    /// `IP:port` between servers.
    pub address: String,
}

// --- the state machine's commands ---------------------------------------------------------------

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    Txn(Txn),
    Expire {
        lease: String,
        epoch: u64,
        /// Under which leadership it was proposed: it counts in no other. 0: in any.
        #[serde(default)]
        term: u64,
        #[serde(default)]
        node: NodeId,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Txn {
    #[serde(rename = "if")]
    pub conditions: Vec<Condition>,
    #[serde(rename = "then")]
    pub writes: Vec<Write>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    Absent { key: String },
    Unchanged { key: String, version: u64 },
    Free { lease: String },
    Held { lease: String, epoch: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Write {
    Put {
        key: String,
        value: Value,
    },
    Delete {
        key: String,
    },
    Grant {
        lease: String,
        holder: String,
        ttl_ms: u64,
    },
    Revoke {
        lease: String,
        epoch: u64,
    },
}

/// Bytes: as text where they are text, so that people can read them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    Text(String),
    Hex(String),
}

/// The whole state, with the position and the members it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Of the last entry in it.
    pub at: Option<Position>,
    pub members: Members,
    /// Where `members` was decided.
    pub members_at: Option<Position>,
    pub revision: u64,
    pub entries: BTreeMap<String, StateEntry>,
    pub leases: BTreeMap<String, StateLease>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateEntry {
    pub value: Value,
    pub version: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateLease {
    pub holder: String,
    pub epoch: u64,
    pub ttl_ms: u64,
}

/// The store's file: which life it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Life {
    /// Of the records.
    pub format: u32,
    pub id: NodeId,
}

/// The store's file: the state at some point, so that the log before it can go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    pub name: String,
    pub state: State,
}

// --- questions and answers ----------------------------------------------------------------------

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hello {
    /// Whether the sender's store has never been part of a cluster.
    pub fresh: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HelloReply {
    pub name: String,
    pub id: NodeId,
    /// Its store has never been part of a cluster.
    pub fresh: bool,
    /// The voters its config file lists, in the order of the file. They must agree before a cluster
    /// is founded.
    pub voters: Vec<String>,
    pub term: u64,
    pub leader: Option<Leader>,
}

/// Who leads, as far as the sender knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Leader {
    pub id: NodeId,
    pub name: String,
    pub address: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Append {
    pub vote: Vote,
    pub previous: Option<Position>,
    pub entries: Vec<Entry>,
    pub committed: Option<Position>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppendReply {
    Stored,
    StoredUpTo(Option<Position>),
    Conflict,
    HigherVote(Vote),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VoteAsk {
    pub vote: Vote,
    pub last: Option<Position>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VoteReply {
    pub vote: Vote,
    pub granted: bool,
    pub last: Option<Position>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotAsk {
    pub vote: Vote,
    /// Its name among snapshots.
    pub id: String,
    pub state: State,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotReply {
    pub vote: Vote,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Confirm {
    pub term: u64,
    pub node: NodeId,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfirmReply {
    /// The highest vote it ever began to save is that of the question.
    pub yes: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Renew {
    pub lease: String,
    pub epoch: u64,
}

/// A renewal counts from some moment between the question and this answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Renewed {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    pub txn: Txn,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Committed {
    Done { revision: u64 },
    Refused { index: usize },
    TooLarge { reason: String },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReadIndex {}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReadIndexReply {
    pub revision: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Admit {
    pub id: NodeId,
    pub address: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Admitted {
    /// It is a member now; otherwise the leader is about to make it one.
    pub member: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NotLeader {
    pub leader: Option<Leader>,
    pub term: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    pub kind: FailureKind,
    #[serde(default)]
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// Another cluster, a stranger, or a life that is over: asking again is of no use.
    Forbidden,
    /// Not at the moment. Nothing was done.
    Retry,
    /// Perhaps it was done.
    Unknown,
    LeaseLost,
    Invalid,
    Stopped,
    /// What a newer release says and this one does not know.
    #[serde(other)]
    Other,
}

impl Default for Ask {
    fn default() -> Self {
        Self::Hello(Hello::default())
    }
}

impl Request {
    /// The part of the path after `/v1/cluster/`, and a metric's label.
    pub fn kind(&self) -> &'static str {
        match self.ask {
            Ask::Hello(_) => "hello",
            Ask::Append(_) => "append",
            Ask::Vote(_) => "vote",
            Ask::Snapshot(_) => "snapshot",
            Ask::Confirm(_) => "confirm",
            Ask::Renew(_) => "renew",
            Ask::Commit(_) => "commit",
            Ask::ReadIndex(_) => "read_index",
            Ask::Admit(_) => "admit",
        }
    }
}
