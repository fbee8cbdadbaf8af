//! This server's lease of the primary: renewed for as long as the agent is well, and how long it lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};
use trilith_base::BootTime;
use trilith_consensus::{Epoch, Store, StoreError};
use trilith_ha::{Policy, RENEW_EVERY, Tenure, lease_key};

use crate::limits::{AGENT_BEAT_MAX, RENEWALS_MAX};

/// Renews the lease on a runtime where nothing else gets in its way. Dropping it ends that.
pub(crate) struct Keeper {
    tenure: watch::Receiver<Option<Tenure>>,
    granted: mpsc::UnboundedSender<(Epoch, BootTime)>,
    beat: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Keeper {
    pub fn start(store: Arc<dyn Store>, policy: Policy, runtime: &Handle) -> Self {
        let (sender, tenure) = watch::channel(None);
        let (granted, grants) = mpsc::unbounded_channel();
        let beat = Arc::new(AtomicU64::new(0));
        let renewer = Renewer {
            store,
            policy,
            tenure: sender,
            over: Epoch::default(),
            beat: beat.clone(),
        };
        let task = runtime.spawn(renewer.run(grants));
        let keeper = Self {
            tenure,
            granted,
            beat,
            task,
        };
        keeper.beat();
        keeper
    }

    pub fn tenure(&self) -> watch::Receiver<Option<Tenure>> {
        self.tenure.clone()
    }

    /// The store granted the lease to a call that began then.
    pub fn granted(&self, epoch: Epoch, asked_at: BootTime) {
        // It ends with this handle alone.
        let _ = self.granted.send((epoch, asked_at));
    }

    /// The agent is alive. When it has not said so for [`AGENT_BEAT_MAX`], the lease is not renewed: a
    /// primary that nobody looks after is no better than a dead one.
    pub fn beat(&self) {
        beat(&self.beat);
    }

    /// [`Keeper::beat`] for somebody who goes on while the agent waits.
    pub fn beater(&self) -> Arc<dyn Fn() + Send + Sync> {
        let cell = self.beat.clone();
        Arc::new(move || beat(&cell))
    }
}

fn beat(cell: &AtomicU64) {
    let now = BootTime::now().0.as_millis();
    cell.store(u64::try_from(now).unwrap_or(u64::MAX), Ordering::Relaxed);
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Renewer {
    store: Arc<dyn Store>,
    policy: Policy,
    tenure: watch::Sender<Option<Tenure>>,
    /// Epochs up to this one are over.
    over: Epoch,
    beat: Arc<AtomicU64>,
}

impl Renewer {
    async fn run(mut self, mut grants: mpsc::UnboundedReceiver<(Epoch, BootTime)>) {
        let mut view = self.store.view();
        let mut ticks = interval(RENEW_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renewals: JoinSet<(Epoch, BootTime, Result<(), StoreError>)> = JoinSet::new();
        loop {
            let mut renew = false;
            tokio::select! {
                _ = ticks.tick() => renew = true,
                granted = grants.recv() => match granted {
                    Some((epoch, asked_at)) => self.extend(epoch, asked_at),
                    None => return,
                },
                changed = view.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // A lease of which this process did not know: prove it at once.
                    let known = self.tenure.borrow().map(|tenure| tenure.epoch);
                    renew = self.mine(&view).is_some_and(|epoch| Some(epoch) != known);
                }
                Some(done) = renewals.join_next() => {
                    // A task can only fail to be joined when the runtime shuts down.
                    if let Ok((epoch, asked_at, result)) = done {
                        match result {
                            Ok(()) => self.extend(epoch, asked_at),
                            Err(StoreError::LeaseLost) => self.lose(epoch),
                            Err(error) => tracing::debug!(%error, "the primary's lease was not renewed"),
                        }
                    }
                }
            }
            self.forget_old(&view);
            if !renew || renewals.len() >= RENEWALS_MAX || !self.agent_is_alive() {
                continue;
            }
            if let Some(epoch) = self.mine(&view) {
                renewals.spawn(renewal(self.store.clone(), epoch, self.policy.ttl));
            }
        }
    }

    /// The epoch under which the store says that the lease is ours. A grant of which the view does not
    /// know yet counts as well.
    fn mine(&self, view: &watch::Receiver<Arc<trilith_consensus::View>>) -> Option<Epoch> {
        let view = view.borrow();
        let lease = view.lease(lease_key().as_str());
        let held = lease.filter(|lease| lease.holder == self.policy.me);
        let known = self.tenure.borrow().map(|tenure| tenure.epoch);
        let unseen = known.filter(|epoch| epoch.0 > view.revision.0);
        unseen
            .or(held.map(|lease| lease.epoch))
            .filter(|epoch| *epoch > self.over)
    }

    fn extend(&mut self, epoch: Epoch, asked_at: BootTime) {
        if epoch <= self.over {
            return;
        }
        let deadline = self.policy.deadline(asked_at);
        self.tenure.send_if_modified(|tenure| {
            let new = match *tenure {
                Some(old) if old.epoch > epoch => return false,
                Some(old) if old.epoch == epoch && old.deadline >= deadline => return false,
                _ => Tenure { epoch, deadline },
            };
            *tenure = Some(new);
            true
        });
    }

    fn lose(&mut self, epoch: Epoch) {
        self.over = self.over.max(epoch);
        self.tenure.send_if_modified(|tenure| {
            let lost = tenure.is_some_and(|tenure| tenure.epoch <= epoch);
            if lost {
                *tenure = None;
            }
            lost
        });
    }

    /// What the store shows to be over.
    fn forget_old(&mut self, view: &watch::Receiver<Arc<trilith_consensus::View>>) {
        let Some(tenure) = *self.tenure.borrow() else {
            return;
        };
        let over = {
            let view = view.borrow();
            let lease = view.lease(lease_key().as_str());
            view.revision.0 >= tenure.epoch.0
                && lease.map(|lease| lease.epoch) != Some(tenure.epoch)
        };
        if over {
            self.lose(tenure.epoch);
        }
    }

    fn agent_is_alive(&self) -> bool {
        let last = BootTime(Duration::from_millis(self.beat.load(Ordering::Relaxed)));
        BootTime::now().since(last) < AGENT_BEAT_MAX
    }
}

async fn renewal(
    store: Arc<dyn Store>,
    epoch: Epoch,
    ttl: Duration,
) -> (Epoch, BootTime, Result<(), StoreError>) {
    let asked_at = BootTime::now();
    let lease = lease_key();
    // An answer after that proves nothing any more.
    let renewed = timeout(ttl, store.renew(&lease, epoch)).await;
    (epoch, asked_at, renewed.unwrap_or(Err(StoreError::Unknown)))
}
