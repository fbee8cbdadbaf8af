//! What the tasks of one server's part of the store share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::ServerState;
use tokio::sync::{Notify, Semaphore, watch};
use trilith_base::{BootTime, ServerName};
use trilith_consensus::{Membership, View};
use trilith_telemetry::Telemetry;

use crate::disk::{Applied, Disk};
use crate::environment::Environment;
use crate::event;
use crate::health::{ClusterHealth, Stage};
use crate::leases::{LeaseTable, Rounds, Term};
use crate::msg::{self, Ask, NodeId, Reply, Request};
use crate::options::{Listed, Timing};
use crate::raft::{Pulse, Raft, StoredMembers};
use crate::seldom::Seldom;
use crate::transport::{CallError, Peer, Transport};
use crate::whereabouts::Whereabouts;

pub(crate) struct Inner<E: Environment> {
    pub me: ServerName,
    pub address: SocketAddr,
    pub cluster: Arc<str>,
    pub servers: watch::Receiver<Vec<Listed>>,
    pub timing: Timing,
    pub telemetry: Telemetry,
    pub on_fatal: Arc<dyn Fn(String) + Send + Sync>,
    pub transport: Arc<Whereabouts>,
    pub raft: Raft<E>,
    pub disk: Arc<Disk>,
    pub applied: watch::Sender<Applied>,
    pub views: watch::Sender<Arc<View>>,
    pub membership: watch::Sender<Arc<Membership>>,
    pub health: watch::Sender<ClusterHealth>,
    pub table: Mutex<LeaseTable>,
    pub rounds: Rounds,
    pub pulse: Arc<Pulse>,
    /// When the leader was last heard.
    pub heard: Mutex<Option<BootTime>>,
    /// Servers that asked to be members, under which id and address. Only of use while this server
    /// leads.
    pub waiting: Mutex<BTreeMap<ServerName, (NodeId, SocketAddr)>>,
    /// Something about the members is to be looked at now.
    pub look: Notify,
    pub stop: watch::Sender<bool>,
    pub failed: AtomicBool,
    /// Requests for the leader, from here and from the others, that are under way.
    pub requests: Semaphore,
    pub complaints: Seldom<(ServerName, &'static str)>,
}

impl<E: Environment> Inner<E> {
    pub(crate) fn id(&self) -> NodeId {
        self.disk.id()
    }

    /// The members of the newest configuration in this server's log, committed or not: what
    /// majorities are counted over.
    pub(crate) fn members(&self) -> Arc<StoredMembers> {
        self.raft.metrics().borrow().membership_config.clone()
    }

    /// Whether this store has never been part of a cluster.
    pub(crate) fn is_fresh(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        metrics.last_log_index.is_none()
            && metrics.current_term == 0
            && self.applied.borrow().at.is_none()
    }

    /// Whether the leader, or whoever this server follows, was heard within `window`.
    pub(crate) fn heard(&self, now: BootTime, window: Duration) -> bool {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.is_some_and(|at| now.since(at) <= window)
    }

    /// Whether this server leads, as far as openraft has said.
    pub(crate) fn seems_to_lead(&self) -> bool {
        self.raft.metrics().borrow().state == ServerState::Leader
    }

    /// The leader as this server knows it.
    pub(crate) fn leader(&self) -> Option<msg::Leader> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let id = metrics.current_leader?;
        let node = (metrics.membership_config.membership()).get_node(&id)?;
        Some(msg::Leader {
            id,
            name: node.name.clone(),
            address: node.address.clone(),
        })
    }

    pub(crate) fn leases(&self) -> MutexGuard<'_, LeaseTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease table, up to date with leadership and the applied state.
    pub(crate) fn lead_table(&self) -> MutexGuard<'_, LeaseTable> {
        let mut table = self.leases();
        // Read under the table's lock, so that nobody brings an older state to a newer table.
        let applied = self.applied.borrow();
        // The clock comes last. A thread may be kept waiting anywhere above: a timer that began at
        // an earlier reading could have begun before its lease was asked for, or before the
        // election.
        let now = E::boot_time();
        match self.leadership(&applied) {
            Some(term) => table.lead(term, &applied.view, now),
            None => table.step_down(),
        }
        drop(applied);
        table
    }

    /// The term this server leads, if it has applied an entry of it.
    fn leadership(&self, applied: &Applied) -> Option<Term> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let vote = &metrics.vote;
        let leads = metrics.state == ServerState::Leader
            && vote.committed
            && vote.leader_id.node_id == self.id();
        let at = applied.at.filter(|_| leads)?;
        let mine = at.term == vote.leader_id.term && at.node == self.id();
        mine.then_some(Term(at.term))
    }

    /// Asks one server, within the time of one call.
    pub(crate) async fn call(&self, peer: &Peer, to: NodeId, ask: Ask) -> Result<Reply, CallError> {
        self.call_within(self.timing.call, peer, to, ask).await
    }

    pub(crate) async fn call_within(
        &self,
        limit: Duration,
        peer: &Peer,
        to: NodeId,
        ask: Ask,
    ) -> Result<Reply, CallError> {
        let request = Request {
            cluster: self.cluster.to_string(),
            from: self.id(),
            to,
            ask,
        };
        match E::timeout(limit, self.transport.call(peer, request)).await {
            Ok(reply) => reply,
            Err(_) => Err(CallError::Lost(format!("no answer within {limit:?}"))),
        }
    }

    pub(crate) fn stopped(&self) -> bool {
        *self.stop.borrow() || self.failed.load(Ordering::Relaxed)
    }

    /// This server's part cannot go on.
    pub(crate) fn fail(&self, reason: &str) {
        if *self.stop.borrow() || self.failed.swap(true, Ordering::Relaxed) {
            return;
        }
        self.telemetry.emit(&event::StoreFailed { reason });
        self.health.send_modify(|health| {
            health.stage = Stage::Stopped;
            health.waiting_for = Some(reason.to_owned());
        });
        (self.on_fatal)(reason.to_owned());
    }
}
