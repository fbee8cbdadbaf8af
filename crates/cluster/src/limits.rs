//! Bounds and times of the store.

use std::time::Duration;

/// Between two signs of life of the leader.
pub const HEARTBEAT: Duration = Duration::from_millis(50);
/// A server that heard nothing from a leader for between these wants to lead. While a leader was heard
/// within `ELECTION_MAX`, nobody else is voted for.
pub const ELECTION_MIN: Duration = Duration::from_millis(150);
pub const ELECTION_MAX: Duration = Duration::from_millis(300);
/// One question to another server.
pub const CALL_TIMEOUT: Duration = Duration::from_millis(500);
/// A renewal, new leader found on the way included. The holder tries again until its deadline.
pub const RENEW_TIMEOUT: Duration = Duration::from_secs(1);
/// A read or a commit.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two attempts of one call.
pub const RETRY_EVERY: Duration = Duration::from_millis(20);
/// Between two looks at who should be a member.
pub const RECONCILE_EVERY: Duration = Duration::from_millis(500);

/// More voters make every commit slower and survive nothing that happens.
pub const VOTERS_MAX: usize = 5;
/// Log entries kept after a snapshot, so that a server that was away catches up by entries.
pub const LOG_ENTRIES_KEPT: u64 = 5_000;
/// Log entries between two snapshots.
pub const SNAPSHOT_EVERY_ENTRIES: u64 = 5_000;
/// Entries of one append.
pub const APPEND_ENTRIES_MAX: u64 = 300;
/// Bytes of the entries of one append; one entry is always sent.
pub const APPEND_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Sending and installing a snapshot.
pub const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of one message: a snapshot is the largest.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Requests of clients that this server has in its hands at one time.
pub const REQUESTS_MAX: usize = 1_024;
/// Damaged files kept beside the store.
pub const DAMAGED_FILES_KEPT: usize = 3;
/// Learners that may be waiting to be admitted at one time.
pub const WAITING_MAX: usize = 64;
