//! A server's clocks as functions of true time.

use std::time::Duration;

use crate::executor::Nanos;

/// CLOCK_MONOTONIC, on which tasks sleep, and CLOCK_BOOTTIME, on which leases are counted
/// (clock_gettime(2)). Both run at the server's own rate; only the first stands still in a suspend.
#[derive(Clone, Debug)]
pub struct Clock {
    /// How many parts of a million it runs too fast.
    rate_ppm: i64,
    /// What the boot clock showed at `anchor`.
    boot: Nanos,
    anchor: Nanos,
    /// How much the monotonic clock stands behind the boot clock.
    slept: Nanos,
    /// Since when it has been suspended: the boot clock's reading.
    suspended: Option<Nanos>,
}

impl Clock {
    /// Boots at the true time `now`, with the clock at `boot`.
    pub fn new(rate_ppm: i64, boot: Nanos, now: Nanos) -> Self {
        Self {
            rate_ppm,
            boot,
            anchor: now,
            slept: 0,
            suspended: None,
        }
    }

    fn boot_nanos(&self, now: Nanos) -> Nanos {
        let elapsed = i128::from(now - self.anchor);
        let elapsed = elapsed * i128::from(1_000_000 + self.rate_ppm) / 1_000_000;
        self.boot + u64::try_from(elapsed).unwrap_or(0)
    }

    pub fn boot(&self, now: Nanos) -> Duration {
        Duration::from_nanos(self.boot_nanos(now))
    }

    pub fn monotonic(&self, now: Nanos) -> Nanos {
        self.suspended.unwrap_or_else(|| self.boot_nanos(now)) - self.slept
    }

    /// The true time at which the monotonic clock shows `deadline`, if it is not suspended before.
    pub fn reaches(&self, deadline: Nanos, now: Nanos) -> Nanos {
        let missing = i128::from(deadline.saturating_sub(self.monotonic(now)));
        let rate = i128::from(1_000_000 + self.rate_ppm);
        let wait = (missing * 1_000_000 + rate - 1) / rate;
        now.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    pub fn suspend(&mut self, now: Nanos) {
        if self.suspended.is_none() {
            self.suspended = Some(self.boot_nanos(now));
        }
    }

    pub fn wake(&mut self, now: Nanos) {
        if let Some(since) = self.suspended.take() {
            self.slept += self.boot_nanos(now) - since;
        }
    }

    /// The machine starts anew.
    pub fn reboot(&mut self, now: Nanos, boot: Nanos) {
        *self = Self::new(self.rate_ppm, boot, now);
    }

    /// Runs at another rate from now on: time synchronisation slews both clocks (adjtimex(2)).
    pub fn set_rate(&mut self, rate_ppm: i64, now: Nanos) {
        self.boot = self.boot_nanos(now);
        self.anchor = now;
        self.rate_ppm = rate_ppm;
    }

    /// Puts the boot clock forward without time passing. No machine does that: only a suspend steps
    /// CLOCK_BOOTTIME, and then time has passed. For mistakes that are planted.
    pub fn step(&mut self, forward: Duration) {
        let forward = u64::try_from(forward.as_nanos()).unwrap_or(u64::MAX);
        self.boot += forward;
        self.slept += forward;
        if let Some(since) = &mut self.suspended {
            *since += forward;
        }
    }
}

#[cfg(test)]
mod tests;
