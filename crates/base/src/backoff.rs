use std::time::Duration;

/// Exponential backoff with full control of the randomness: the caller passes the jitter, so that
/// pure cores stay deterministic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// Delay before the first retry.
    pub initial: Duration,
    /// No delay is longer than this.
    pub max: Duration,
}

impl Backoff {
    pub const fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max }
    }

    /// The delay before retry number `attempt` (0 is the first): `initial * 2^attempt`, at most
    /// `max`, then scaled into 75 % to 100 % by `jitter` (0.0 to 1.0; outside values are clamped).
    pub fn delay(&self, attempt: u32, jitter: f64) -> Duration {
        let factor = 2u32.saturating_pow(attempt.min(30));
        let full = self.initial.saturating_mul(factor).min(self.max);
        full.mul_f64(0.75 + 0.25 * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_until_the_cap() {
        let backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        assert_eq!(backoff.delay(0, 1.0), Duration::from_millis(500));
        assert_eq!(backoff.delay(3, 1.0), Duration::from_secs(4));
        assert_eq!(backoff.delay(10, 1.0), Duration::from_secs(30));
        assert_eq!(backoff.delay(u32::MAX, 1.0), Duration::from_secs(30));
    }

    #[test]
    fn jitter_only_shortens() {
        let backoff = Backoff::new(Duration::from_secs(4), Duration::from_secs(30));
        assert_eq!(backoff.delay(0, 0.0), Duration::from_secs(3));
        assert_eq!(backoff.delay(0, -7.0), Duration::from_secs(3));
        assert_eq!(backoff.delay(0, 9.0), Duration::from_secs(4));
    }
}
