use trilith_base::ServerName;
use trilith_consensus::Revision;

use crate::msg::NodeId;

/// How this server's part of the store is, for `trilith status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterHealth {
    /// This life of the store.
    pub id: NodeId,
    pub stage: Stage,
    pub leader: Option<ServerName>,
    pub term: u64,
    /// See [`Membership::has_quorum`](trilith_consensus::Membership::has_quorum).
    pub has_quorum: bool,
    pub applied: Revision,
    /// Position of the last entry of the log on this server.
    pub log_end: u64,
    /// Where a damaged file was put at this start.
    pub set_aside: Option<String>,
    /// What keeps it from going on, in words, while it waits.
    pub waiting_for: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Never part of a cluster; looks for one, or for the others to found one.
    Fresh,
    Learner,
    Voter,
    /// Was a member and is none any more.
    Removed,
    Stopped,
}
