//! Time since boot, suspend included.

use std::ops::{Add, Sub};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A reading of CLOCK_BOOTTIME (clock_gettime(2)): it does not jump when somebody sets the time of day,
/// and goes on while the machine is suspended. Leases are counted on it: a server that slept must know
/// that its leases ran out meanwhile. Readings of different machines cannot be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(pub Duration);

impl BootTime {
    /// The machine's clock. Pure cores are given the value instead.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
        Self(Duration::new(seconds, nanos))
    }

    /// How much later this is than `earlier`; zero when it is not.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for BootTime {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

impl Sub<Duration> for BootTime {
    type Output = Self;

    fn sub(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs() {
        let begin = BootTime::now();
        while BootTime::now() <= begin {
            std::hint::spin_loop();
        }
        assert_eq!(
            (begin + Duration::from_secs(2)).since(begin),
            Duration::from_secs(2)
        );
        assert_eq!(begin.since(begin + Duration::from_secs(2)), Duration::ZERO);
    }
}
