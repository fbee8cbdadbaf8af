//! Every bound of this crate.

use std::time::Duration;

/// Time for the head of a request on the admin or peer port.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What an agent saw longer ago says nothing about now.
pub(crate) const LOOK_MAX_MS: u64 = 10_000;

/// Two terms of the primary's lease.
pub(crate) const LIVENESS_MAX_MS: u64 = 5_000;

/// A replica further behind is not ready, unless the probe says otherwise (Patroni's default is the same).
pub(crate) const READINESS_LAG_MAX: u64 = 1 << 20;
