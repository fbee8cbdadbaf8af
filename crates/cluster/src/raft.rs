//! openraft, and nothing of it anywhere else but in `disk`.
//!
//! Names: openraft's `LogId` is our [`msg::Position`], its `NodeId` one life of a store.

mod network;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::marker::PhantomData;
use std::sync::Arc;

use openraft::{CommittedLeaderId, EntryPayload, LogId, Membership, SnapshotPolicy};

use crate::environment::Environment;
use crate::error::Error;
use crate::limits;
use crate::msg::{self, NodeId};
use crate::options::Timing;

pub(crate) use network::{Network, Pulse};

/// openraft's types, in the world of `E`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Types<E>(PhantomData<E>);

impl<E: Environment> openraft::RaftTypeConfig for Types<E> {
    type D = msg::Command;
    /// What a command came to; nothing for the other entries.
    type R = Option<msg::Committed>;
    type NodeId = NodeId;
    type Node = msg::Node;
    type Entry = openraft::Entry<Self>;
    /// [`msg::State`] as JSON.
    type SnapshotData = Cursor<Vec<u8>>;
    type AsyncRuntime = E;
    type Responder = openraft::impls::OneshotResponder<Self>;
}

pub(crate) type Raft<E> = openraft::Raft<Types<E>>;
pub(crate) type Metrics = openraft::RaftMetrics<NodeId, msg::Node>;
pub(crate) type StorageError = openraft::StorageError<NodeId>;
pub(crate) type StoredMembers = openraft::StoredMembership<NodeId, msg::Node>;

pub(crate) fn config(cluster: &str, timing: &Timing) -> Result<Arc<openraft::Config>, Error> {
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let config = openraft::Config {
        cluster_name: cluster.to_owned(),
        heartbeat_interval: millis(timing.heartbeat),
        election_timeout_min: millis(timing.election_min),
        election_timeout_max: millis(timing.election_max),
        install_snapshot_timeout: millis(limits::SNAPSHOT_TIMEOUT),
        max_payload_entries: limits::APPEND_ENTRIES_MAX,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(limits::SNAPSHOT_EVERY_ENTRIES),
        max_in_snapshot_log_to_keep: limits::LOG_ENTRIES_KEPT,
        replication_lag_threshold: limits::LOG_ENTRIES_KEPT + limits::SNAPSHOT_EVERY_ENTRIES,
        purge_batch_size: 256,
        ..Default::default()
    };
    let config = config.validate().map_err(|error| Error::Start {
        reason: error.to_string(),
    })?;
    Ok(Arc::new(config))
}

// --- between openraft's types and ours ----------------------------------------------------------

pub(crate) fn vote_out(vote: &openraft::Vote<NodeId>) -> msg::Vote {
    msg::Vote {
        term: vote.leader_id.term,
        node: vote.leader_id.node_id,
        committed: vote.committed,
    }
}

pub(crate) fn vote_in(vote: msg::Vote) -> openraft::Vote<NodeId> {
    if vote.committed {
        openraft::Vote::new_committed(vote.term, vote.node)
    } else {
        openraft::Vote::new(vote.term, vote.node)
    }
}

pub(crate) fn position_out(at: &LogId<NodeId>) -> msg::Position {
    msg::Position {
        term: at.leader_id.term,
        node: at.leader_id.node_id,
        index: at.index,
    }
}

pub(crate) fn position_in(at: msg::Position) -> LogId<NodeId> {
    LogId::new(CommittedLeaderId::new(at.term, at.node), at.index)
}

pub(crate) fn members_out(members: &Membership<NodeId, msg::Node>) -> msg::Members {
    msg::Members {
        voters: members.get_joint_config().clone(),
        nodes: members
            .nodes()
            .map(|(id, node)| (*id, node.clone()))
            .collect(),
    }
}

pub(crate) fn members_in(members: &msg::Members) -> Membership<NodeId, msg::Node> {
    let nodes: BTreeMap<NodeId, msg::Node> = members.nodes.clone();
    Membership::new(members.voters.clone(), nodes)
}

pub(crate) fn entry_out<E: Environment>(entry: &openraft::Entry<Types<E>>) -> msg::Entry {
    msg::Entry {
        at: position_out(&entry.log_id),
        what: match &entry.payload {
            EntryPayload::Blank => msg::Payload::Nothing,
            EntryPayload::Normal(command) => msg::Payload::Command(command.clone()),
            EntryPayload::Membership(members) => msg::Payload::Members(members_out(members)),
        },
    }
}

pub(crate) fn entry_in<E: Environment>(entry: msg::Entry) -> openraft::Entry<Types<E>> {
    openraft::Entry {
        log_id: position_in(entry.at),
        payload: match entry.what {
            msg::Payload::Nothing => EntryPayload::Blank,
            msg::Payload::Command(command) => EntryPayload::Normal(command),
            msg::Payload::Members(members) => EntryPayload::Membership(members_in(&members)),
        },
    }
}
