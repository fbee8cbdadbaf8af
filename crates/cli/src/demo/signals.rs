//! Ctrl-C and friends, as a number that grows.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::signal::unix::{SignalKind, signal};

/// Counts SIGINT, SIGTERM and SIGHUP from the moment it is made.
pub struct Signals {
    count: Arc<AtomicUsize>,
}

impl Signals {
    pub fn listen() -> io::Result<Self> {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let (mut interrupt, mut terminate, mut hangup) = {
            let _inside = runtime.enter();
            (
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            )
        };
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    loop {
                        tokio::select! {
                            _ = interrupt.recv() => {}
                            _ = terminate.recv() => {}
                            _ = hangup.recv() => {}
                        }
                        counter.fetch_add(1, SeqCst);
                    }
                });
            })?;
        Ok(Self { count })
    }

    pub fn count(&self) -> usize {
        self.count.load(SeqCst)
    }
}
