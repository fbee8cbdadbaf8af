//! Every bound of this crate.

use std::time::Duration;

/// Time for the head of a request on the admin or peer port.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
