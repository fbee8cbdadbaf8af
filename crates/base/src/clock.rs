use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where time comes from. Shells own one; pure cores are given the values.
pub trait Clock {
    /// Monotonic time, for timeouts and intervals.
    fn now(&self) -> Instant;
    /// Time since 1970-01-01T00:00:00Z, for what people read.
    fn since_epoch(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn since_epoch(&self) -> Duration {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
    }
}
