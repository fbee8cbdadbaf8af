//! What this server knows about itself and the others: published for everybody else on it.

use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use trilith_base::{BootTime, ServerName};
use trilith_consensus::{Member, Membership};
use trilith_telemetry::{Counter, Labels, Telemetry};

use crate::environment::Environment;
use crate::event;
use crate::health::{ClusterHealth, Stage};
use crate::inner::Inner;
use crate::msg::NodeId;
use crate::raft::Metrics;

/// Between two looks when nothing happens: whether there is a quorum is a matter of time.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A write to the file that takes longer is counted as slow.
const SLOW_WRITE: Duration = Duration::from_millis(100);

/// How long the disk takes.
pub(crate) struct DiskTimes {
    writes: Counter,
    slow: Counter,
    micros: Counter,
}

impl DiskTimes {
    pub(crate) fn new(telemetry: &Telemetry) -> Self {
        Self {
            writes: telemetry.counter(
                "cluster_disk_writes",
                "Durable writes to the file of the cluster store",
                Labels::new(),
            ),
            slow: telemetry.counter(
                "cluster_disk_slow_writes",
                "Durable writes to the file of the cluster store that took more than 100 ms",
                Labels::new(),
            ),
            micros: telemetry.counter(
                "cluster_disk_write_microseconds",
                "Time spent in durable writes to the file of the cluster store",
                Labels::new(),
            ),
        }
    }

    pub(crate) fn wrote(&self, took: Duration) {
        self.writes.inc();
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.inc_by(micros);
        if took > SLOW_WRITE {
            self.slow.inc();
        }
    }
}

/// Keeps membership and health up to date until the store stops. Says when openraft has died.
pub(crate) async fn publish<E: Environment>(inner: Arc<Inner<E>>) {
    let mut metrics = inner.raft.metrics();
    let mut led = None;
    loop {
        let now = metrics.borrow_and_update().clone();
        if let Err(error) = &now.running_state {
            inner.fail(&format!("the consensus core ended: {error}"));
            return;
        }
        let membership = inner.membership_of(&now, E::boot_time());
        if let Some(leader) = &membership.leader
            && led.as_ref() != Some(&(leader.clone(), membership.term))
        {
            inner.telemetry.emit(&event::LeaderChanged {
                leader,
                term: membership.term,
            });
            led = Some((leader.clone(), membership.term));
        }
        inner.update_health(&now, &membership);
        let membership = Arc::new(membership);
        inner.membership.send_if_modified(|old| {
            let changed = *old != membership;
            if changed {
                *old = membership;
            }
            changed
        });
        tokio::select! {
            biased;
            changed = metrics.changed() => if changed.is_err() {
                inner.fail("the consensus core is gone");
                return;
            },
            () = E::pause(LOOK_EVERY) => {}
        }
    }
}

impl<E: Environment> Inner<E> {
    fn membership_of(&self, metrics: &Metrics, now: BootTime) -> Membership {
        let members = metrics.membership_config.membership();
        let voters = members.get_joint_config();
        let voter = |id: &NodeId| voters.iter().any(|set| set.contains(id));
        let list = members.nodes().filter_map(|(id, node)| {
            let peer = node.peer().ok()?;
            Some(Member {
                name: peer.name,
                address: peer.address,
                id: *id,
                voter: voter(id),
            })
        });
        // A leader whose followers, or a follower whose leader, has been silent for so long that an
        // election should be over.
        let window = self.timing.election_max * 2;
        let has_quorum = if metrics.state == ServerState::Leader {
            self.pulse.has_majority(voters, self.id(), now, window)
        } else {
            self.heard(now, window)
        };
        let leader = (metrics.current_leader)
            .filter(|_| has_quorum)
            .and_then(|id| members.get_node(&id))
            .and_then(|node| ServerName::new(&node.name).ok());
        Membership {
            members: list.collect(),
            leader,
            term: metrics.current_term,
            has_quorum,
        }
    }

    fn update_health(&self, metrics: &Metrics, membership: &Membership) {
        let me = membership.members.iter().find(|m| m.id == self.id());
        let stage = match me {
            Some(me) if me.voter => Stage::Voter,
            Some(_) => Stage::Learner,
            None if self.is_fresh() => Stage::Fresh,
            None => Stage::Removed,
        };
        self.health.send_if_modified(|old| {
            let new = ClusterHealth {
                id: self.id(),
                stage,
                leader: membership.leader.clone(),
                term: membership.term,
                has_quorum: membership.has_quorum,
                applied: self.views.borrow().revision,
                log_end: metrics.last_log_index.unwrap_or(0),
                set_aside: old.set_aside.clone(),
                waiting_for: old.waiting_for.clone().filter(|_| me.is_none()),
            };
            let changed = *old != new;
            if changed {
                *old = new;
            }
            changed
        });
    }
}
