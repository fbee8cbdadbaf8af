//! What all workers must agree on about one server, in atomics.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};

use crate::health::Health;
use crate::limits::{EJECTION, EJECTION_FACTOR_MAX, SLOW_START, SLOW_START_PERMILLE_MIN};

/// Milliseconds since a moment that the caller chooses, the same for all calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

/// A server as the config describes it, and its state.
#[derive(Clone, Debug)]
pub struct ServerSpec {
    /// Names the server on every edge alike (for consistent hashing): its name or address.
    pub key: String,
    /// Its share in relation to the others; 0 counts as 1.
    pub weight: u32,
    /// Used when no other server is usable.
    pub backup: bool,
    /// Requests under way at a time; 0 is no limit.
    pub in_flight_max: u32,
    /// Outlives the spec: a reload builds new specs around the states there are.
    pub state: Arc<ServerState>,
}

/// Why a request failed on a server, as far as the server is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection.
    Connect,
    /// A connection, but no valid response, or 502, 503, 504.
    BadGateway,
}

/// Whether a server may be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Usable, for `permille` of its share (slow start).
    Usable {
        permille: u64,
    },
    Checking,
    /// For failed requests.
    Ejected,
    Down,
}

/// The part of a server's state that every request touches. One per server, shared by all workers,
/// on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
pub struct ServerState {
    in_flight: AtomicU32,
    /// When it was picked last, in picks of its balancer: breaks ties.
    picked_at: AtomicU32,
    health: AtomicU8,
    was_up: AtomicBool,
    /// Failed requests in a row.
    failures: AtomicU32,
    /// 0: full share. Otherwise when slow start begins, which is the end of an ejection, too.
    ramp_from: AtomicU64,
    ramp_turn: AtomicU32,
    /// 0: never was.
    ejected_until: AtomicU64,
    ejections: AtomicU32,
    ejected_for_connect: AtomicBool,
}

const CHECKING: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;

impl ServerState {
    /// For a server without active checks: up until requests fail.
    pub fn unchecked() -> Self {
        Self::with_health(UP)
    }

    /// For a server with active checks.
    pub fn checking() -> Self {
        Self::with_health(CHECKING)
    }

    fn with_health(health: u8) -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            picked_at: AtomicU32::new(0),
            health: AtomicU8::new(health),
            was_up: AtomicBool::new(health == UP),
            failures: AtomicU32::new(0),
            ramp_from: AtomicU64::new(0),
            ramp_turn: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            ejections: AtomicU32::new(0),
            ejected_for_connect: AtomicBool::new(false),
        }
    }

    /// Requests under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    pub fn health(&self) -> Health {
        match self.health.load(Relaxed) {
            UP => Health::Up,
            DOWN => Health::Down,
            _ => Health::Checking,
        }
    }

    /// Whether it ever was up.
    pub fn was_up(&self) -> bool {
        self.was_up.load(Relaxed)
    }

    /// What active checks found. A server that comes back from down starts slowly, and is not
    /// ejected any more; one that comes up for the first time takes its full share at once.
    pub fn set_health(&self, health: Health, now: Millis) {
        let value = match health {
            Health::Checking => CHECKING,
            Health::Up => UP,
            Health::Down => DOWN,
        };
        if health == Health::Up {
            let was_up = self.was_up.swap(true, Relaxed);
            if was_up && self.health.load(Relaxed) == DOWN {
                self.failures.store(0, Relaxed);
                self.ejected_until.store(0, Relaxed);
                self.ramp_from.store(now.0.max(1), Relaxed);
            }
        }
        self.health.store(value, Relaxed);
    }

    /// When an ejection ends, if it has not yet.
    pub fn ejected_until(&self, now: Millis) -> Option<Millis> {
        let until = self.ejected_until.load(Relaxed);
        (until > now.0).then_some(Millis(until))
    }

    pub fn standing(&self, now: Millis) -> Standing {
        match self.health.load(Relaxed) {
            UP if self.ramp_from.load(Relaxed) == 0 => Standing::Usable { permille: 1000 },
            UP => self.standing_in_ramp(now),
            DOWN => Standing::Down,
            _ => Standing::Checking,
        }
    }

    #[cold]
    fn standing_in_ramp(&self, now: Millis) -> Standing {
        let from = self.ramp_from.load(Relaxed);
        if self.ejected_until(now).is_some() {
            return Standing::Ejected;
        }
        let length = SLOW_START.as_millis() as u64;
        let elapsed = now.0.saturating_sub(from);
        if elapsed >= length {
            // Only if nobody began another ramp meanwhile.
            let _ = self.ramp_from.compare_exchange(from, 0, Relaxed, Relaxed);
            return Standing::Usable { permille: 1000 };
        }
        let permille = (elapsed * 1000 / length).max(SLOW_START_PERMILLE_MIN);
        Standing::Usable { permille }
    }

    /// Whether a server that would have its turn takes it, in slow start: `permille` of the times,
    /// evenly spread.
    pub(crate) fn takes_turn(&self, permille: u64) -> bool {
        if permille >= 1000 {
            return true;
        }
        let turn = u64::from(self.ramp_turn.fetch_add(1, Relaxed));
        (turn * permille) % 1000 + permille >= 1000
    }

    pub(crate) fn picked_at(&self) -> u32 {
        self.picked_at.load(Relaxed)
    }

    pub(crate) fn set_picked_at(&self, pick: u32) {
        self.picked_at.store(pick, Relaxed);
    }

    /// Counts a request in, unless there are `max` (0: no limit).
    pub(crate) fn begin(&self, max: u32) -> bool {
        let before = self.in_flight.fetch_add(1, Relaxed);
        if max > 0 && before >= max {
            self.in_flight.fetch_sub(1, Relaxed);
            return false;
        }
        true
    }

    pub(crate) fn end(&self) {
        let before = self.in_flight.fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "more requests ended than began");
    }

    pub(crate) fn clear_failures(&self) {
        // The load spares the cache line a write in the usual case.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// Failures in a row, with this one.
    pub(crate) fn add_failure(&self) -> u32 {
        self.failures.fetch_add(1, Relaxed).saturating_add(1)
    }

    /// Ejects, longer each time; time without ejection is forgiven at the same rate.
    pub(crate) fn eject(&self, failure: Failure, now: Millis) -> Millis {
        let unit = EJECTION.as_millis() as u64;
        let last_end = self.ejected_until.load(Relaxed);
        let good_for = now.0.saturating_sub(last_end) / unit;
        let before = u64::from(self.ejections.load(Relaxed));
        let count = before
            .saturating_sub(good_for)
            .saturating_add(1)
            .min(u64::from(EJECTION_FACTOR_MAX));
        let until = now.0.saturating_add(unit * count).max(1);
        self.ejections.store(count as u32, Relaxed);
        self.ejected_for_connect
            .store(failure == Failure::Connect, Relaxed);
        self.ejected_until.store(until, Relaxed);
        self.ramp_from.store(until, Relaxed);
        self.failures.store(0, Relaxed);
        Millis(until)
    }

    /// Ends an ejection that was for connect errors: active checks connect now. Whether there was
    /// one.
    pub fn readmit(&self, now: Millis) -> bool {
        let ejected = self.ejected_until(now).is_some();
        if !ejected || !self.ejected_for_connect.load(Relaxed) {
            return false;
        }
        self.failures.store(0, Relaxed);
        self.ramp_from.store(now.0.max(1), Relaxed);
        self.ejected_until.store(now.0.max(1), Relaxed);
        true
    }
}
