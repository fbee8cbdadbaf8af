//! Asking for the drain once a request, and being woken by it, for the price of a flag.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

use trilith_net::Drain;

/// Waits for the drain on behalf of an idle connection.
///
/// The wait is registered once and again only when the task's waker changes: registering takes a
/// lock that all connections share.
pub(super) struct DrainWatch {
    drain: Drain,
    wait: Option<(Wait, Waker)>,
}

type Wait = Pin<Box<dyn Future<Output = ()>>>;

impl DrainWatch {
    pub(super) fn new(drain: &Drain) -> Self {
        Self {
            drain: drain.clone(),
            wait: None,
        }
    }

    /// Whether the drain has started; if not, wakes the task when it does.
    pub(super) fn poll_draining(&mut self, cx: &mut Context<'_>) -> bool {
        if self.drain.is_draining() {
            return true;
        }
        if self
            .wait
            .as_ref()
            .is_some_and(|(_, waker)| waker.will_wake(cx.waker()))
        {
            return false;
        }
        let drain = self.drain.clone();
        let mut wait: Wait = Box::pin(async move { drain.wait().await });
        let started = wait.as_mut().poll(cx).is_ready();
        self.wait = Some((wait, cx.waker().clone()));
        started
    }
}
