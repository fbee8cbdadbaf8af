//! Active checks: from single results to a state, and when to check next.

use std::fmt;
use std::time::Duration;

use crate::limits::{START_CHECKS, START_INTERVAL};

/// What active checks say of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// Not known yet: used only while nothing better is known of any server.
    Checking,
    Up,
    Down,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checking => "checking",
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

/// How a server is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthPolicy {
    /// Between two checks, while nothing changes.
    pub interval: Duration,
    /// Between two checks, while results contradict the state. (A server that was never up is
    /// checked even more often for a while.)
    pub fast_interval: Duration,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Good checks in a row from down to up. At least 1.
    pub rise: u32,
    /// Bad checks in a row from up to down. At least 1.
    pub fall: u32,
}

impl Default for HealthPolicy {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(2),
            fast_interval: Duration::from_millis(500),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthChange {
    pub from: Health,
    pub to: Health,
}

/// The state of one server's checks.
///
/// The first good check of a server that was never up is enough, and it is checked often: there is
/// nothing it contradicts, and a cluster that starts should be whole soon. A bad check that was made
/// because a request had just failed on the server is enough too: two witnesses.
#[derive(Clone, Debug)]
pub struct HealthMachine {
    policy: HealthPolicy,
    health: Health,
    was_up: bool,
    /// Results in a row that contradict `health`.
    against: u32,
    /// Good results in a row.
    good: u32,
    checks: u32,
}

impl HealthMachine {
    pub fn new(policy: HealthPolicy) -> Self {
        Self::resume(policy, Health::Checking, false)
    }

    /// Goes on from a state found before, so that a reload forgets nothing.
    pub fn resume(policy: HealthPolicy, health: Health, was_up: bool) -> Self {
        Self {
            policy,
            health,
            was_up,
            against: 0,
            good: 0,
            checks: 0,
        }
    }

    pub fn health(&self) -> Health {
        self.health
    }

    /// Whether the last `rise` checks were good.
    pub fn is_steadily_good(&self) -> bool {
        self.good >= self.policy.rise
    }

    /// Takes the result of a check. `suspected`: a request failed on the server just before it.
    pub fn observe(&mut self, good: bool, suspected: bool) -> Option<HealthChange> {
        self.checks = self.checks.saturating_add(1);
        self.good = if good { self.good.saturating_add(1) } else { 0 };
        let (to, needed) = match (self.health, good) {
            (Health::Up, true) | (Health::Down, false) => {
                self.against = 0;
                return None;
            }
            (_, true) if !self.was_up => (Health::Up, 1),
            (_, true) => (Health::Up, self.policy.rise),
            (_, false) if suspected => (Health::Down, 1),
            (_, false) => (Health::Down, self.policy.fall),
        };
        self.against += 1;
        if self.against < needed {
            return None;
        }
        self.against = 0;
        self.was_up |= to == Health::Up;
        let from = std::mem::replace(&mut self.health, to);
        Some(HealthChange { from, to })
    }

    /// How long to wait before the next check. `jitter` (0.0 to 1.0, other values are clamped)
    /// spreads it over 90 % to 110 %, so that many checkers do not fall into step.
    pub fn next_check_in(&self, jitter: f64) -> Duration {
        let fast = self.policy.fast_interval.min(self.policy.interval);
        let base = match self.was_up {
            false if self.checks < START_CHECKS => fast.min(START_INTERVAL),
            false => fast,
            true if self.against > 0 => fast,
            true => self.policy.interval,
        };
        base.mul_f64(0.9 + 0.2 * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests;
