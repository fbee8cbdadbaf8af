//! What other servers ask.

use std::io::Cursor;
use std::sync::Arc;

use openraft::EntryPayload;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};
use trilith_base::ServerName;
use trilith_consensus::Command;

use crate::disk::meta;
use crate::environment::Environment;
use crate::event;
use crate::inner::Inner;
use crate::limits::SNAPSHOT_TIMEOUT;
use crate::msg::{
    Append, AppendReply, Ask, ConfirmReply, FailureKind, HelloReply, NotLeader, Position,
    ReadIndexReply, Renewed, Reply, Request, SnapshotAsk, SnapshotReply, VoteAsk, VoteReply,
};
use crate::raft::{Types, entry_in, position_in, position_out, vote_in, vote_out};

impl<E: Environment> Inner<E> {
    pub(crate) async fn answer(self: &Arc<Self>, from: &ServerName, request: Request) -> Reply {
        if self.stopped() {
            return Reply::failed(FailureKind::Stopped, "the store of this server has stopped");
        }
        if let Err(reason) = self.admissible(from, &request) {
            let kind = request.kind();
            let now = E::boot_time();
            self.telemetry.emit(&event::PeerRefused {
                peer: from,
                kind,
                reason: &reason,
                quiet: !self.complaints.allows((from.clone(), kind), now),
            });
            return Reply::failed(FailureKind::Forbidden, reason);
        }
        if request.to != 0 && request.to != self.id() {
            // It means a life of this store that is over. That is no fault of the sender's.
            return Reply::failed(FailureKind::Forbidden, "that store is no more");
        }
        let for_a_leader = matches!(
            request.ask,
            Ask::Renew(_) | Ask::Commit(_) | Ask::ReadIndex(_)
        );
        let one_of_many = for_a_leader.then(|| self.requests.try_acquire());
        if matches!(one_of_many, Some(Err(_))) {
            return Reply::failed(FailureKind::Retry, "too many requests at once");
        }
        match request.ask {
            Ask::Hello(_) => Reply::Hello(self.hello()),
            Ask::Append(append) => self.append(append).await,
            Ask::Vote(ask) => self.vote(ask).await,
            Ask::Snapshot(ask) => self.install(ask).await,
            Ask::Confirm(ask) => Reply::Confirm(ConfirmReply {
                yes: self.disk.begun().is(ask.term, ask.node),
            }),
            Ask::Renew(renew) => match self.lead_renewal(&renew.lease, renew.epoch).await {
                Ok(()) => Reply::Renewed(Renewed {}),
                Err(refusal) => refusal,
            },
            Ask::Commit(commit) => self
                .lead_commit(&commit.txn)
                .await
                .map_or_else(|refusal| refusal, Reply::Committed),
            Ask::ReadIndex(_) => match self.lead_read_index().await {
                Ok(revision) => Reply::ReadIndex(ReadIndexReply { revision }),
                Err(refusal) => refusal,
            },
            Ask::Admit(admit) => self.admit(from, &admit),
        }
    }

    /// Whether that sender may ask that at all.
    fn admissible(&self, from: &ServerName, request: &Request) -> Result<(), String> {
        if request.cluster != *self.cluster {
            let theirs: String = request.cluster.chars().take(64).collect();
            return Err(format!(
                "it belongs to the cluster `{theirs}`, not to `{}`",
                self.cluster
            ));
        }
        let members = self.members();
        let members = members.membership();
        let listed = self.servers.borrow().iter().any(|s| s.name == *from);
        let member = || members.nodes().any(|(_, node)| node.name == from.as_str());
        if !listed && !member() {
            return Err("it is not a server of this cluster".to_owned());
        }
        if let Some(node) = members.get_node(&request.from)
            && node.name != from.as_str()
        {
            return Err(format!("it pretends to be {}", node.name));
        }
        let candidate = match &request.ask {
            Ask::Append(append) => append.vote.node,
            Ask::Vote(vote) => vote.vote.node,
            Ask::Snapshot(snapshot) => snapshot.vote.node,
            Ask::Confirm(confirm) => confirm.node,
            _ => return Ok(()),
        };
        if candidate != request.from || candidate == self.id() {
            return Err("it speaks for somebody else".to_owned());
        }
        Ok(())
    }

    fn hello(&self) -> HelloReply {
        let servers = self.servers.borrow();
        HelloReply {
            name: self.me.to_string(),
            id: self.id(),
            fresh: self.is_fresh(),
            voters: (servers.iter())
                .filter(|server| server.votes)
                .map(|server| server.name.to_string())
                .collect(),
            term: self.raft.metrics().borrow().current_term,
            leader: self.leader(),
        }
    }

    pub(crate) fn not_leader(&self) -> Reply {
        Reply::NotLeader(NotLeader {
            leader: self.leader().filter(|leader| leader.id != self.id()),
            term: self.raft.metrics().borrow().current_term,
        })
    }

    async fn append(&self, append: Append) -> Reply {
        let rpc = AppendEntriesRequest {
            vote: vote_in(append.vote),
            prev_log_id: append.previous.map(position_in),
            entries: append.entries.into_iter().map(entry_in).collect(),
            leader_commit: append.committed.map(position_in),
        };
        if !append.vote.committed || !sensible(append.previous, &rpc.entries) {
            return Reply::failed(FailureKind::Invalid, "entries that make no sense");
        }
        let reply = E::timeout(self.timing.request, self.raft.append_entries(rpc)).await;
        let reply = match reply {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => return Reply::failed(FailureKind::Stopped, error),
            Err(_) => return Reply::failed(FailureKind::Retry, "the disk is slow"),
        };
        if !matches!(reply, AppendEntriesResponse::HigherVote(_)) {
            self.hear();
        }
        Reply::Append(match reply {
            AppendEntriesResponse::Success => AppendReply::Stored,
            AppendEntriesResponse::PartialSuccess(at) => {
                AppendReply::StoredUpTo(at.as_ref().map(position_out))
            }
            AppendEntriesResponse::Conflict => AppendReply::Conflict,
            AppendEntriesResponse::HigherVote(vote) => AppendReply::HigherVote(vote_out(&vote)),
        })
    }

    async fn vote(&self, ask: VoteAsk) -> Reply {
        // A server that was removed does not know it, and would disturb those that stayed.
        let members = self.members();
        let members = members.membership();
        if members.nodes().next().is_some() && members.get_node(&ask.vote.node).is_none() {
            return Reply::failed(FailureKind::Retry, "you are not a member");
        }
        if ask.vote.committed {
            return Reply::failed(FailureKind::Invalid, "a vote that was won already");
        }
        let rpc = VoteRequest::new(vote_in(ask.vote), ask.last.map(position_in));
        match E::timeout(self.timing.request, self.raft.vote(rpc)).await {
            Ok(Ok(reply)) => Reply::Vote(VoteReply {
                vote: vote_out(&reply.vote),
                granted: reply.vote_granted,
                last: reply.last_log_id.as_ref().map(position_out),
            }),
            Ok(Err(error)) => Reply::failed(FailureKind::Stopped, error),
            Err(_) => Reply::failed(FailureKind::Retry, "the disk is slow"),
        }
    }

    async fn install(&self, ask: SnapshotAsk) -> Reply {
        if !ask.vote.committed || ask.state.at.is_none() {
            return Reply::failed(FailureKind::Invalid, "a snapshot that makes no sense");
        }
        // Checked before openraft has it: what cannot be installed would end the process.
        if let Err(error) = ask.state.view() {
            return Reply::failed(FailureKind::Invalid, error);
        }
        let data = match serde_json::to_vec(&ask.state) {
            Ok(data) => data,
            Err(error) => return Reply::failed(FailureKind::Invalid, error),
        };
        let snapshot = openraft::Snapshot {
            meta: meta(&ask.id, &ask.state),
            snapshot: Box::new(Cursor::new(data)),
        };
        let install = (self.raft).install_full_snapshot(vote_in(ask.vote), snapshot);
        match E::timeout(SNAPSHOT_TIMEOUT, install).await {
            Ok(Ok(reply)) => {
                self.hear();
                Reply::Snapshot(SnapshotReply {
                    vote: vote_out(&reply.vote),
                })
            }
            Ok(Err(error)) => Reply::failed(FailureKind::Stopped, error),
            Err(_) => Reply::failed(FailureKind::Retry, "the disk is slow"),
        }
    }

    fn hear(&self) {
        let mut heard = (self.heard.lock()).unwrap_or_else(std::sync::PoisonError::into_inner);
        *heard = Some(E::boot_time());
    }
}

/// Entries follow each other and what was there before, and their commands can be carried out.
/// openraft takes that for granted, and the state machine could only end the process.
fn sensible<E: Environment>(
    previous: Option<Position>,
    entries: &[openraft::Entry<Types<E>>],
) -> bool {
    let mut next = previous.map_or(0, |at| at.index + 1);
    entries.iter().all(|entry| {
        let fits = entry.log_id.index == next;
        next += 1;
        fits && match &entry.payload {
            EntryPayload::Normal(command) => Command::try_from(command).is_ok(),
            EntryPayload::Blank | EntryPayload::Membership(_) => true,
        }
    })
}
