//! Graceful shutdown as a value that everybody can hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// Tells whether it is time to finish: cheap to ask for each request, and awaitable.
#[derive(Clone)]
pub struct Drain {
    flag: Arc<AtomicBool>,
    started: watch::Receiver<bool>,
}

/// Starts the drain that the paired [`Drain`] values see. Dropping it starts the drain too, so that
/// no connection outlives its owner unnoticed.
pub struct DrainTrigger {
    flag: Arc<AtomicBool>,
    started: watch::Sender<bool>,
}

/// A trigger and what it triggers.
pub fn drain_pair() -> (DrainTrigger, Drain) {
    let flag = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = watch::channel(false);
    (
        DrainTrigger {
            flag: flag.clone(),
            started: sender,
        },
        Drain {
            flag,
            started: receiver,
        },
    )
}

impl Drain {
    /// Whether the drain has started.
    pub fn is_draining(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// Returns once the drain has started.
    pub async fn wait(&self) {
        // An error means that the trigger is gone, which starts the drain as well.
        let _ = self.started.clone().wait_for(|started| *started).await;
    }
}

impl DrainTrigger {
    pub fn start(&self) {
        self.flag.store(true, Ordering::Relaxed);
        self.started.send_replace(true);
    }

    pub fn is_draining(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

impl Drop for DrainTrigger {
    fn drop(&mut self) {
        self.start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_for_the_start() {
        let (trigger, drain) = drain_pair();
        assert!(!drain.is_draining());
        let waiter = tokio::spawn({
            let drain = drain.clone();
            async move { drain.wait().await }
        });
        trigger.start();
        waiter.await.unwrap();
        assert!(drain.is_draining());
        drain.wait().await;
    }

    #[tokio::test]
    async fn a_dropped_trigger_starts_it() {
        let (trigger, drain) = drain_pair();
        drop(trigger);
        drain.wait().await;
        assert!(drain.is_draining());
    }
}
