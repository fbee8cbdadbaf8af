//! Every bound of this crate that is not an option.

use std::time::Duration;

use trilith_balance::HealthPolicy;

/// Length of each worker's accept queue (the kernel caps it at `net.core.somaxconn`).
pub const ACCEPT_BACKLOG: u32 = 4_096;
/// Most retries that can be configured: a request remembers the servers it has tried.
pub const RETRIES_MAX: u32 = trilith_balance::TRIED_MAX as u32 - 1;
/// A request body of known length up to this is taken into memory before it goes to a web server of
/// the cluster, so that it can go to another one if that one declines.
pub const REPLAY_BYTES_MAX: usize = 64 * 1024;
/// A waiting request looks again after this time even if nothing was reported, then less and less
/// often, up to [`QUEUE_POLL_MAX`].
pub const QUEUE_POLL_MIN: Duration = Duration::from_millis(50);
pub const QUEUE_POLL_MAX: Duration = Duration::from_millis(1_000);
/// What clients are told in `Retry-After` with a 503, in seconds.
pub const RETRY_AFTER_S: &str = "1";
/// Longest `X-Request-Id` taken over from a trusted proxy, in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 128;
/// Addresses read from `X-Forwarded-For`, from the right.
pub const FORWARDED_HOPS_MAX: usize = 32;
/// How the web server of this very process is checked: asking costs next to nothing, and what it
/// says is exact.
pub const LOCAL_POLICY: HealthPolicy = HealthPolicy {
    interval: Duration::from_millis(100),
    fast_interval: Duration::from_millis(100),
    timeout: Duration::from_millis(100),
    rise: 1,
    fall: 1,
};
/// Shortest time between two checks of a server, however often requests fail on it.
pub const CHECK_GAP_MIN: Duration = Duration::from_millis(50);
/// How often a worker closes upstream connections that have been idle for too long.
pub const REAP_INTERVAL: Duration = Duration::from_secs(10);
/// How often the gauges of servers are brought up to date.
pub const GAUGE_INTERVAL: Duration = Duration::from_secs(1);
/// How long the workers have to close their listeners on a floating address in good order.
pub const FLOATING_CLOSE_TIMEOUT: Duration = Duration::from_millis(200);
