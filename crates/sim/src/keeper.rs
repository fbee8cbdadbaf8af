//! This server's lease of the primary, renewed, and what the guard is told of it: as
//! `crates/postgres/src/tenure.rs` and `fence.rs` have it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use trilith_base::BootTime;
use trilith_cluster::{Cluster, Environment};
use trilith_consensus::{Epoch, Store, StoreError, View};
use trilith_ha::{Policy, RENEW_EVERY, Tenure, lease_key};

use crate::environment::{SimEnvironment, Sleep, Timeout, spawn_for};
use crate::executor::executor;
use crate::limits::{AGENT_BEAT_MAX, RENEWALS_MAX};
use crate::plant::Plant;
use crate::world::{World, lock, name_of};

/// How often the deadline is passed on to the guard.
const TELL_EVERY: Duration = Duration::from_millis(50);

pub struct Keeper {
    world: Arc<World>,
    server: usize,
    cluster: Arc<Cluster<SimEnvironment>>,
    policy: Policy,
    tenure: watch::Sender<Option<Tenure>>,
    state: Mutex<State>,
}

struct State {
    /// Epochs up to this one are over.
    over: Epoch,
    beat: BootTime,
    under_way: usize,
    armed: bool,
}

pub fn boot_time() -> BootTime {
    SimEnvironment::boot_time()
}

impl Keeper {
    pub fn start(
        world: &Arc<World>,
        server: usize,
        cluster: &Arc<Cluster<SimEnvironment>>,
        policy: &Policy,
    ) -> Arc<Self> {
        let keeper = Arc::new(Self {
            world: world.clone(),
            server,
            cluster: cluster.clone(),
            policy: policy.clone(),
            tenure: watch::channel(None).0,
            state: Mutex::new(State {
                over: Epoch::default(),
                beat: boot_time(),
                under_way: 0,
                armed: false,
            }),
        });
        let owner = executor().current();
        let this = keeper.clone();
        spawn_for(owner, async move {
            loop {
                this.forget_old();
                this.renew();
                Sleep::new(RENEW_EVERY).await;
            }
        });
        let this = keeper.clone();
        spawn_for(owner, async move {
            let mut view = this.cluster.view();
            while view.changed().await.is_ok() {
                this.forget_old();
                // A lease of which this process did not know: prove it at once.
                let known = this.known();
                if this
                    .mine(&view.borrow())
                    .is_some_and(|epoch| Some(epoch) != known)
                {
                    this.renew();
                }
            }
        });
        let this = keeper.clone();
        spawn_for(owner, async move {
            loop {
                Sleep::new(TELL_EVERY).await;
                this.tell_deadline();
            }
        });
        keeper
    }

    pub fn tenure(&self) -> Option<Tenure> {
        *self.tenure.borrow()
    }

    fn known(&self) -> Option<Epoch> {
        self.tenure().map(|tenure| tenure.epoch)
    }

    pub fn granted(&self, epoch: Epoch, asked_at: BootTime) {
        self.extend(epoch, asked_at);
    }

    pub fn beat(&self) {
        lock(&self.state).beat = boot_time();
    }

    fn renew(self: &Arc<Self>) {
        let Some(epoch) = self.mine(&self.cluster.view().borrow()) else {
            return;
        };
        {
            let mut state = lock(&self.state);
            let stuck = boot_time().since(state.beat) >= AGENT_BEAT_MAX;
            if stuck || state.under_way >= RENEWALS_MAX {
                return;
            }
            state.under_way += 1;
        }
        let this = self.clone();
        spawn_for(executor().current(), async move {
            let asked_at = boot_time();
            let lease = lease_key();
            let renewal = this.cluster.renew(&lease, epoch);
            let renewed = Timeout::new(Sleep::new(this.policy.ttl), renewal).await;
            lock(&this.state).under_way -= 1;
            match renewed {
                Ok(Ok(())) => this.extend(epoch, asked_at),
                Ok(Err(StoreError::LeaseLost)) => this.lose(epoch),
                _ => {}
            }
        });
    }

    fn mine(&self, view: &View) -> Option<Epoch> {
        let lease = view.lease(lease_key().as_str());
        let held = lease.filter(|lease| lease.holder == self.policy.me);
        let unseen = self.known().filter(|epoch| epoch.0 > view.revision.0);
        let over = lock(&self.state).over;
        unseen
            .or(held.map(|lease| lease.epoch))
            .filter(|epoch| *epoch > over)
    }

    fn extend(&self, epoch: Epoch, asked_at: BootTime) {
        if epoch <= lock(&self.state).over {
            return;
        }
        let excess = self.world.shape.plant.map_or(Duration::ZERO, Plant::excess);
        let deadline = self.policy.deadline(asked_at) + excess;
        let known = self.tenure();
        let newer = known
            .is_none_or(|old| epoch > old.epoch || (epoch == old.epoch && deadline > old.deadline));
        if newer {
            self.tenure.send_replace(Some(Tenure { epoch, deadline }));
        }
    }

    fn lose(&self, epoch: Epoch) {
        let mut state = lock(&self.state);
        state.over = state.over.max(epoch);
        drop(state);
        if self.known().is_some_and(|known| known <= epoch) {
            self.tenure.send_replace(None);
        }
    }

    fn forget_old(&self) {
        let Some(epoch) = self.known() else {
            return;
        };
        let over = {
            let view = self.cluster.view();
            let view = view.borrow();
            let lease = view.lease(lease_key().as_str());
            view.revision.0 >= epoch.0 && lease.map(|lease| lease.epoch) != Some(epoch)
        };
        if over {
            self.lose(epoch);
        }
    }

    // The guard.

    /// From now on the guard stops PostgreSQL at the deadline.
    ///
    /// # Errors
    /// There is no lease.
    pub fn arm(&self) -> Result<(), String> {
        lock(&self.state).armed = true;
        match self.tell_deadline() {
            true => Ok(()),
            false => Err("there is no lease".to_owned()),
        }
    }

    pub fn disarm(&self) {
        lock(&self.state).armed = false;
        lock(&self.world.databases).servers[self.server]
            .guard
            .deadline = None;
    }

    /// The agent ends, and PostgreSQL has ended.
    pub fn end(&self) {
        self.disarm();
        lock(&self.world.databases).servers[self.server].guard.alive = false;
    }

    fn tell_deadline(&self) -> bool {
        let armed = lock(&self.state).armed;
        let Some(tenure) = self.tenure().filter(|_| armed) else {
            return false;
        };
        let mut databases = lock(&self.world.databases);
        let guard = &mut databases.servers[self.server].guard;
        let started = !guard.alive;
        (guard.alive, guard.deadline) = (true, Some(tenure.deadline));
        drop(databases);
        if started {
            let name = name_of(self.server);
            self.world.note(format_args!("{name} starts the guard"));
        }
        true
    }
}
