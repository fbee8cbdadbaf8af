//! Bounds and times of the store.

use std::time::Duration;

/// Between two signs of life of the leader.
pub const HEARTBEAT: Duration = Duration::from_millis(50);
/// A server that heard nothing from a leader for between these wants to lead. While a leader was
/// heard within `ELECTION_MAX`, nobody else is voted for.
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
/// Requests for the leader, this server's own and those of others, that it has in its hands at one
/// time.
pub const REQUESTS_MAX: usize = 1_024;
/// Damaged files kept beside the store.
pub const DAMAGED_FILES_KEPT: usize = 3;
/// Learners that may be waiting to be admitted at one time.
pub const WAITING_MAX: usize = 64;

// --- between servers ----------------------------------------------------------------------------

/// TCP and TLS of one connection to a peer.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Connections to one peer for short messages; more calls wait for one.
pub(crate) const CONNECTIONS_MAX: usize = 8;
/// The same for snapshots, which are long and must not hold up the short ones.
pub(crate) const BULK_CONNECTIONS_MAX: usize = 2;
/// An idle connection is closed after this long; shorter than what the other side allows.
pub(crate) const CONNECTION_IDLE_MAX: Duration = Duration::from_secs(4);
/// Bytes of any message but a snapshot; an append may exceed its own bound by one entry.
pub(crate) const SMALL_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Peers that are remembered: more than a cluster can have.
pub(crate) const PEERS_MAX: usize = 256;
/// Between two log lines about the same trouble with the same peer.
pub const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);
/// Different troubles remembered for that.
pub(crate) const COMPLAINTS_MAX: usize = 256;

// --- joining ------------------------------------------------------------------------------------

/// How long a token can be used when nothing else is said.
pub const TOKEN_TTL_DEFAULT: Duration = Duration::from_secs(60 * 60);
/// The longest.
pub const TOKEN_TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How far the clocks of servers may differ.
pub(crate) const TOKEN_CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);
/// How long a used or expired token is listed, and its reason is known, after its end.
pub(crate) const TOKEN_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Tokens that exist at one time, used and expired ones included.
pub(crate) const TOKENS_MAX: usize = 100;
/// Addresses of servers in a token.
pub(crate) const TOKEN_ADDRESSES_MAX: usize = 16;
/// Longest text of a token: 16 IPv6 addresses are 381 bytes, as base64 508, and the prefix.
pub(crate) const TOKEN_TEXT_BYTES_MAX: usize = 520;
/// Bytes of a request to join.
pub(crate) const JOIN_REQUEST_BYTES_MAX: usize = 4 * 1024;
/// Bytes of its answer: a config file, a certificate, a key, passwords.
pub(crate) const JOIN_REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A whole attempt to join at one address, both sides.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// TCP and TLS of it.
pub(crate) const JOIN_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Strangers that may be connected at one time.
pub const JOIN_CONNECTIONS_MAX: usize = 16;
/// Attempts from one address, or one IPv6 network: at once, and one more after each interval.
pub(crate) const JOIN_BURST_PER_ADDRESS: u32 = 5;
pub(crate) const JOIN_INTERVAL_PER_ADDRESS: Duration = Duration::from_secs(2);
/// The same for all together.
pub(crate) const JOIN_BURST: u32 = 30;
pub(crate) const JOIN_INTERVAL: Duration = Duration::from_millis(200);
/// Addresses remembered for that.
pub(crate) const JOIN_ADDRESSES_MAX: usize = 1_024;
