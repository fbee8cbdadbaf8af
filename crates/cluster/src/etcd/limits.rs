//! Bounds and times towards etcd.

use std::time::Duration;

/// Making a connection to one endpoint.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// What may be asked twice, of one endpoint. Then the next one is tried.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);
/// The same for the parts of a renewal.
pub const RENEW_ATTEMPT_TIMEOUT: Duration = Duration::from_millis(500);
/// A read or a commit, all endpoints together.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);
/// A renewal, all endpoints together.
pub const RENEW_TIMEOUT: Duration = Duration::from_millis(1500);
/// Between two attempts, when every endpoint has failed.
pub const RETRY_EVERY: Duration = Duration::from_millis(50);
/// Between two looks at whether etcd still answers, and the watch still tells everything.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two looks at etcd's members.
pub const MEMBERS_EVERY: Duration = Duration::from_secs(10);
/// etcd is silent for so long: an operator should know.
pub const SILENT_BEFORE_WARNING: Duration = Duration::from_secs(5);
/// Bytes of one answer, and of one line of a watch.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Entries of one page of a read. The largest values fit a page of four megabytes, which is what
/// gRPC takes by default.
pub const PAGE_ENTRIES: usize = 512;
/// Pages of one read: far more than the bounds of a state allow.
pub const PAGES_MAX: usize = 10_000;
/// Connections kept for each endpoint.
pub const IDLE_CONNECTIONS_MAX: usize = 4;
/// Endpoints that may be named.
pub const ENDPOINTS_MAX: usize = 16;
