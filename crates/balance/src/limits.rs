//! Every bound of this crate.

use std::time::Duration;

/// Longest round-robin sequence of a tier. Weights are scaled down until theirs fits.
pub const SCHEDULE_MAX: usize = 1_024;
/// Points of the consistent-hash ring for a server of average weight.
pub const RING_POINTS_PER_SERVER: usize = 160;
/// Points of the whole ring, however many servers there are.
pub const RING_POINTS_MAX: usize = 65_536;
/// A server may hold this many times its share of the requests under way (in percent) before a
/// consistent hash moves on to the next server (Mirrokni et al., "Consistent Hashing with Bounded
/// Loads").
pub const BOUNDED_LOAD_PERCENT: u64 = 150;
/// But below this many requests under way nothing is moved: a browser's parallel requests are no
/// reason to take a client off its server.
pub const BOUNDED_LOAD_FREE: u64 = 128;
/// Servers that one request may have tried.
pub const TRIED_MAX: usize = 8;
/// Connect errors and bad gateways in a row until a server is ejected.
pub const EJECT_AFTER_FAILURES: u32 = 5;
/// First ejection; the n-th lasts n times as long.
pub const EJECTION: Duration = Duration::from_secs(30);
/// An ejection is never longer than this many times [`EJECTION`].
pub const EJECTION_FACTOR_MAX: u32 = 10;
/// Share of a pool's servers that may be ejected at a time.
pub const EJECTED_PERCENT_MAX: usize = 50;
/// A server that comes back gets its full share after this time.
pub const SLOW_START: Duration = Duration::from_secs(10);
/// Its share at the beginning.
pub const SLOW_START_PERMILLE_MIN: u64 = 100;
/// A server that was never up is checked this often, so that a cluster that starts is whole soon ...
pub const START_INTERVAL: Duration = Duration::from_millis(100);
/// ... but only for so many checks (half a minute): it may never come.
pub const START_CHECKS: u32 = 300;
/// Retries under way that are always allowed, whatever the budget.
pub const RETRIES_ALWAYS: u32 = 3;
