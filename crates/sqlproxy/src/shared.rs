//! The newest targets: one writes, all sessions read, and those that have to know are woken by a change.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;
use trilith_base::ServerName;

use crate::targets::{Candidate, Targets, Tenure};

/// The newest [`Targets`]. Cloning shares it.
#[derive(Clone, Debug)]
pub struct SharedTargets {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    snapshot: ArcSwap<Targets>,
    /// Sent to after each change of the snapshot.
    changed: watch::Sender<()>,
    /// The largest epoch ever stored. Locked by writers alone.
    epoch: Mutex<u64>,
}

impl SharedTargets {
    pub fn new(targets: Targets) -> Self {
        let shared = Self {
            shared: Arc::new(Shared {
                snapshot: ArcSwap::default(),
                changed: watch::Sender::new(()),
                epoch: Mutex::new(0),
            }),
        };
        shared.store(targets);
        shared
    }

    /// Replaces the snapshot. Sessions of a tenure that it does not have end, held ones try again.
    ///
    /// A tenure older than one that was stored before is not believed: then there is neither tenure
    /// nor primary. To go back would lead sessions to a deposed primary.
    pub fn store(&self, mut new: Targets) {
        let shared = &*self.shared;
        let mut newest = shared.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        let outdated = new.tenure.take_if(|tenure| tenure.epoch < *newest);
        if outdated.is_some() {
            new.primary = None;
        }
        if let Some(tenure) = &new.tenure {
            *newest = tenure.epoch;
        }
        if **shared.snapshot.load() == new {
            return;
        }
        if let Some(Tenure { server, epoch }) = outdated {
            tracing::warn!(
                %server,
                epoch,
                newest = *newest,
                "the sql entry was told of a primary by an old lease; waiting for the newer one"
            );
        }
        shared.snapshot.store(Arc::new(new));
        // After the snapshot: whoever is woken sees it.
        shared.changed.send_replace(());
    }

    /// For a short look.
    pub fn load(&self) -> Guard<Arc<Targets>> {
        self.shared.snapshot.load()
    }

    /// To be kept for longer.
    pub fn load_full(&self) -> Arc<Targets> {
        self.shared.snapshot.load_full()
    }
}

/// The same for the sessions of one worker. A waiting session takes the lock of its channel whenever it
/// moves a byte: each worker has a channel of its own, so that no other thread is ever in the way.
pub(crate) struct WorkerTargets {
    targets: SharedTargets,
    changed: watch::Sender<()>,
}

impl WorkerTargets {
    pub fn new(targets: SharedTargets) -> Self {
        Self {
            targets,
            changed: watch::Sender::new(()),
        }
    }

    /// Passes changes on to the sessions. Has to run beside them; never returns.
    pub async fn relay(&self) {
        let mut changes = self.targets.shared.changed.subscribe();
        loop {
            // Once at the beginning, for what changed before it.
            self.changed.send_replace(());
            // The sender lives as long as `self`.
            let _ = changes.changed().await;
        }
    }

    pub fn load_full(&self) -> Arc<Targets> {
        self.targets.load_full()
    }

    /// Tells when the snapshot has changed. Mark it as seen *before* looking at the snapshot.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Returns when the newest snapshot does not offer that server in that part any more.
    pub async fn withdrawn(&self, candidate: Candidate<'_>) {
        self.when(|targets| !targets.offers(candidate)).await;
    }

    /// Returns when a session of `server` has to end. `tenure`: that of the primary it was made to;
    /// `None`: it was made to a replica. That one stays when its server becomes the primary, but from
    /// then on it might write, and ends like any other session there.
    pub async fn deposed(&self, server: &ServerName, tenure: Option<Tenure>) {
        let mut bound = tenure;
        self.when(move |targets| {
            let now = targets.tenure.as_ref();
            if bound.is_none() {
                bound = now.filter(|tenure| tenure.server == *server).cloned();
            }
            bound.is_some() && now != bound.as_ref()
        })
        .await;
    }

    async fn when(&self, mut condition: impl FnMut(&Targets) -> bool) {
        let mut changes = self.changes();
        while !condition(&self.targets.load()) {
            // The sender lives as long as `self`.
            let _ = changes.changed().await;
        }
    }
}

#[cfg(test)]
mod tests;
