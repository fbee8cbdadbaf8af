//! openraft's calls to the other servers.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::error::{
    Fatal, InstallSnapshotError, NetworkError, RPCError, RaftError, ReplicationClosed,
    StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend, Snapshot, Vote};
use trilith_base::BootTime;

use super::{Types, entry_out, position_in, position_out, vote_in, vote_out};
use crate::environment::Environment;
use crate::leases::is_majority;
use crate::msg::{self, Append, AppendReply, Ask, NodeId, Reply, Request, SnapshotAsk, VoteAsk};
use crate::transport::{Peer, Transport};

/// Followers that have been silent for longer are forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(60);

type Failure = RPCError<NodeId, msg::Node, RaftError<NodeId>>;

/// When each follower last accepted something from this server as the leader, and what it was told.
#[derive(Default)]
pub(crate) struct Pulse {
    last: Mutex<BTreeMap<NodeId, BootTime>>,
    /// The highest position that any follower was told to be committed.
    told: AtomicU64,
}

impl Pulse {
    /// Called before it is told.
    fn tells(&self, committed: Option<u64>) {
        self.told
            .fetch_max(committed.unwrap_or(0), Ordering::SeqCst);
    }

    /// A follower may have applied the log up to there, perhaps before this server has.
    pub(crate) fn told(&self) -> u64 {
        self.told.load(Ordering::SeqCst)
    }

    fn felt(&self, id: NodeId, sent: BootTime) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|_, at| sent.since(*at) < FORGET_AFTER);
        last.insert(id, sent);
    }

    /// Whether a majority, `me` included, accepted something that was sent within `window` of
    /// `now`.
    pub(crate) fn has_majority(
        &self,
        voters: &[BTreeSet<NodeId>],
        me: NodeId,
        now: BootTime,
        window: Duration,
    ) -> bool {
        let mut alive = self.alive(now, window);
        alive.insert(me);
        is_majority(voters, &alive)
    }

    /// The followers that accepted something that was sent within `window` of `now`.
    pub(crate) fn alive(&self, now: BootTime, window: Duration) -> BTreeSet<NodeId> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = last.iter().filter(|(_, sent)| now.since(**sent) <= window);
        recent.map(|(id, _)| *id).collect()
    }
}

/// Makes a client per peer and purpose.
#[derive(Clone)]
pub(crate) struct Network<E> {
    pub cluster: Arc<str>,
    pub me: NodeId,
    pub transport: Arc<dyn Transport>,
    pub pulse: Arc<Pulse>,
    pub backoff: Duration,
    pub environment: std::marker::PhantomData<E>,
}

pub(crate) struct Client<E> {
    network: Network<E>,
    target: NodeId,
    peer: Result<Peer, msg::Malformed>,
}

impl<E: Environment> RaftNetworkFactory<Types<E>> for Network<E> {
    type Network = Client<E>;

    async fn new_client(&mut self, target: NodeId, node: &msg::Node) -> Client<E> {
        Client {
            network: self.clone(),
            target,
            peer: node.peer(),
        }
    }
}

/// What openraft waits a little after. With anything else it would try again at once, for ever.
fn unreachable(reason: impl ToString) -> Unreachable {
    Unreachable::new(&AnyError::error(reason))
}

impl<E: Environment> Client<E> {
    async fn call(&self, ask: Ask) -> Result<Reply, Unreachable> {
        let peer = self.peer.as_ref().map_err(unreachable)?;
        let request = Request {
            cluster: self.network.cluster.to_string(),
            from: self.network.me,
            to: self.target,
            ask,
        };
        let reply = self.network.transport.call(peer, request).await;
        match reply.map_err(unreachable)? {
            Reply::Failed(failed) => Err(unreachable(failed.reason)),
            reply => Ok(reply),
        }
    }
}

impl<E: Environment> RaftNetwork<Types<E>> for Client<E> {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types<E>>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, Failure> {
        let ask = Ask::Append(Append {
            vote: vote_out(&rpc.vote),
            previous: rpc.prev_log_id.as_ref().map(position_out),
            entries: rpc.entries.iter().map(entry_out).collect(),
            committed: rpc.leader_commit.as_ref().map(position_out),
        });
        (self.network.pulse).tells(rpc.leader_commit.as_ref().map(|at| at.index));
        let sent = E::boot_time();
        let Reply::Append(reply) = self.call(ask).await? else {
            return Err(unreachable("another kind of answer").into());
        };
        if !matches!(reply, AppendReply::HigherVote(_)) {
            self.network.pulse.felt(self.target, sent);
        }
        Ok(match reply {
            AppendReply::Stored => AppendEntriesResponse::Success,
            AppendReply::StoredUpTo(at) if at.map(position_in) >= rpc.prev_log_id => {
                AppendEntriesResponse::PartialSuccess(at.map(position_in))
            }
            AppendReply::StoredUpTo(_) => {
                return Err(unreachable("less than it had").into());
            }
            AppendReply::Conflict if rpc.prev_log_id.is_none() => {
                return Err(unreachable("a conflict with nothing").into());
            }
            AppendReply::Conflict => AppendEntriesResponse::Conflict,
            AppendReply::HigherVote(vote) if vote_in(vote) > rpc.vote => {
                AppendEntriesResponse::HigherVote(vote_in(vote))
            }
            AppendReply::HigherVote(_) => {
                return Err(unreachable("a higher vote that is none").into());
            }
        })
    }

    async fn install_snapshot(
        &mut self,
        _rpc: InstallSnapshotRequest<Types<E>>,
        _option: RPCOption,
    ) -> Result<
        InstallSnapshotResponse<NodeId>,
        RPCError<NodeId, msg::Node, RaftError<NodeId, InstallSnapshotError>>,
    > {
        // A snapshot is sent whole: `full_snapshot`.
        Err(RPCError::Network(NetworkError::new(&unreachable(
            "snapshots are not sent in pieces",
        ))))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<NodeId>,
        _option: RPCOption,
    ) -> Result<VoteResponse<NodeId>, Failure> {
        let ask = Ask::Vote(VoteAsk {
            vote: vote_out(&rpc.vote),
            last: rpc.last_log_id.as_ref().map(position_out),
        });
        match self.call(ask).await? {
            Reply::Vote(reply) => Ok(VoteResponse::new(
                vote_in(reply.vote),
                reply.last.map(position_in),
                reply.granted,
            )),
            _ => Err(unreachable("another kind of answer").into()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote<NodeId>,
        snapshot: Snapshot<Types<E>>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<NodeId>, StreamingError<Types<E>, Fatal<NodeId>>> {
        let state = serde_json::from_slice(snapshot.snapshot.get_ref()).map_err(unreachable)?;
        let ask = Ask::Snapshot(SnapshotAsk {
            vote: vote_out(&vote),
            id: snapshot.meta.snapshot_id.clone(),
            state,
        });
        let call = E::timeout(option.hard_ttl(), self.call(ask));
        let reply = tokio::select! {
            biased;
            closed = cancel => return Err(StreamingError::Closed(closed)),
            reply = call => reply.map_err(|_| unreachable("too slow"))??,
        };
        match reply {
            Reply::Snapshot(reply) => Ok(SnapshotResponse {
                vote: vote_in(reply.vote),
            }),
            _ => Err(unreachable("another kind of answer").into()),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(self.network.backoff))
    }
}
