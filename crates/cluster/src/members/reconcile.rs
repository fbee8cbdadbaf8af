//! The leader makes the list of members what it should be, step by step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use openraft::{ChangeMembers, ServerState};
use trilith_base::ServerName;

use super::plan::{Observed, Step, plan};
use crate::environment::Environment;
use crate::event;
use crate::inner::Inner;
use crate::limits::{REQUEST_TIMEOUT, WAITING_MAX};
use crate::msg::{Admit, Admitted, FailureKind, Node, NodeId, Reply};
use crate::raft::members_out;

/// How many entries a learner may lack to become a voter: what comes in while it catches up.
const LAG_MAX: u64 = 100;
/// A learner that has been silent for longer is not made a voter.
const SILENCE_MAX: Duration = Duration::from_secs(1);

impl<E: Environment> Inner<E> {
    /// A server says under which id and address it lives.
    pub(crate) fn admit(&self, from: &ServerName, admit: &Admit) -> Reply {
        if self.raft.metrics().borrow().state != ServerState::Leader {
            return self.not_leader();
        }
        let listed = self.servers.borrow().iter().any(|s| s.name == *from);
        let Ok(address) = admit.address.parse() else {
            return Reply::failed(FailureKind::Invalid, "an address that is none");
        };
        if !listed || admit.id == 0 || admit.id == self.id() {
            return Reply::failed(FailureKind::Forbidden, "it is not in the config file");
        }
        let members = self.members();
        let known = members.membership().get_node(&admit.id);
        if known.is_some_and(|node| node.name != from.as_str()) {
            return Reply::failed(FailureKind::Forbidden, "that id is taken");
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= WAITING_MAX && !waiting.contains_key(from) {
            return Reply::failed(FailureKind::Retry, "too many servers at once");
        }
        let new = waiting.insert(from.clone(), (admit.id, address)) != Some((admit.id, address));
        drop(waiting);
        if new {
            self.look.notify_one();
        }
        Reply::Admitted(Admitted {
            member: known.is_some(),
        })
    }

    fn next_step(&self) -> Option<Step> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        if metrics.state != ServerState::Leader {
            // Who asked this leader asks the next one, too.
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.clear();
            return None;
        }
        // One change at a time, and none before a leader knows where it stands.
        let members = &metrics.membership_config;
        if metrics.last_applied < *members.log_id() {
            return None;
        }
        let end = metrics.last_log_index.unwrap_or(0);
        let alive = self.pulse.alive(E::boot_time(), SILENCE_MAX);
        let ready: BTreeSet<NodeId> = (metrics.replication.iter().flatten())
            .filter(|(_, at)| at.is_some_and(|at| at.index + LAG_MAX >= end))
            .map(|(id, _)| *id)
            .filter(|id| alive.contains(id))
            .collect();
        let wanted = self.servers.borrow();
        let mut waiting = (self.waiting.lock())
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        // This is the life of this server that lives; it does not ask itself for admission.
        waiting.insert(self.me.clone(), (self.id(), self.address));
        let answered = (wanted.iter())
            .filter_map(|s| Some((s.name.clone(), self.transport.answered(&s.name)?)))
            .chain([(self.me.clone(), self.address)])
            .collect();
        plan(&Observed {
            members: &members_out(members.membership()),
            wanted: &wanted,
            waiting: &waiting,
            answered: &answered,
            ready: &ready,
        })
    }

    async fn take(&self, step: Step) {
        let detail = format!("{step:?}");
        let (change, members, retain): (_, ChangeMembers<NodeId, Node>, _) = match step {
            Step::AddLearner { id, node } => (
                "learner added",
                ChangeMembers::AddNodes(BTreeMap::from([(id, node)])),
                true,
            ),
            Step::SetAddress { id, node } => (
                "address changed",
                ChangeMembers::SetNodes(BTreeMap::from([(id, node)])),
                true,
            ),
            Step::SetVoters(ids) => (
                "voters changed",
                ChangeMembers::ReplaceAllVoters(ids),
                false,
            ),
            Step::RemoveLearners(ids) => {
                ("learner removed", ChangeMembers::RemoveNodes(ids), false)
            }
        };
        self.telemetry.emit(&event::MembersChange {
            change,
            detail: &detail,
        });
        let change = self.raft.change_membership(members, retain);
        match E::timeout(REQUEST_TIMEOUT, change).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "members: not changed"),
            Err(_) => tracing::debug!("members: no majority to change them"),
        }
    }
}

/// Runs until the store stops.
pub(crate) async fn reconcile<E: Environment>(inner: Arc<Inner<E>>) {
    let mut servers = inner.servers.clone();
    loop {
        while let Some(step) = inner.next_step() {
            inner.take(step).await;
            // The result has to be seen before the next step is chosen; and a step that fails must
            // not become a busy loop.
            E::pause(inner.timing.heartbeat).await;
        }
        let listed = async {
            if servers.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = listed => {}
            () = inner.look.notified() => {}
            () = E::pause(inner.timing.reconcile) => {}
        }
    }
}
