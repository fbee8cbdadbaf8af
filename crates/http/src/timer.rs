//! Deadlines that are cheap to move.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// One deadline of one connection.
///
/// Moving it later costs a store: the runtime's timer is touched only when it fires too early, so a
/// busy connection with a 60 s timeout arms it once a minute, not once a request.
#[derive(Default)]
pub(crate) struct Timer {
    deadline: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    pub(crate) fn set(&mut self, after: Duration) {
        self.deadline = Instant::now().checked_add(after);
    }

    pub(crate) fn clear(&mut self) {
        self.deadline = None;
    }

    /// Ready once the deadline has passed; pending for ever without one.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else {
            return Poll::Pending;
        };
        let target = tokio::time::Instant::from_std(deadline);
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(target)));
        if sleep.deadline() > target {
            sleep.as_mut().reset(target);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if tokio::time::Instant::now() >= target {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(target);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn fires_at_the_last_deadline_set() {
        let start = tokio::time::Instant::now();
        let mut timer = Timer::default();
        // Under paused time the two clocks differ, so deadlines are given through tokio's.
        let at = |timer: &mut Timer, secs| {
            timer.deadline = Some((start + Duration::from_secs(secs)).into_std());
        };
        at(&mut timer, 1);
        assert!(
            poll_fn(|cx| Poll::Ready(timer.poll_expired(cx)))
                .await
                .is_pending()
        );
        at(&mut timer, 5);
        poll_fn(|cx| timer.poll_expired(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 5);
        at(&mut timer, 60);
        assert!(
            poll_fn(|cx| Poll::Ready(timer.poll_expired(cx)))
                .await
                .is_pending()
        );
        at(&mut timer, 7);
        poll_fn(|cx| timer.poll_expired(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 7);
    }
}
