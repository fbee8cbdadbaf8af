//! Every bound of this crate in one place.

use std::time::Duration;

/// Short, because a server that is slow to answer is tried again, or another one, within the hold time.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
pub const HOLD_TIMEOUT: Duration = Duration::from_secs(10);
pub const STARTUP_TIMEOUT: Duration = Duration::from_secs(10);
pub const CONNECTIONS_MAX: usize = 2000;
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Between two rounds over the servers while a client is held. New targets begin one at once.
pub const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// For servers that let nobody in to be those of a moment before a failover or a switchover was seen here.
/// After that the refusal is meant, and the client's to know.
pub const REFUSAL_PATIENCE: Duration = Duration::from_secs(2);

/// Connections over the limit that are being told so. Still more are closed without a word.
pub const REFUSALS_MAX: usize = 64;
/// For telling them.
pub const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// `MAX_STARTUP_PACKET_LENGTH` of PostgreSQL (pqcomm.h).
pub const STARTUP_BYTES_MAX: usize = 10_000;
/// A client asks for SSL, then for GSSAPI encryption, then starts in the clear.
pub const STARTUP_PACKETS_MAX: usize = 3;
/// An error that a server answers the startup packet with. Longer ones go to the client unread.
pub const FIRST_ERROR_BYTES_MAX: usize = 8 << 10;
/// Servers named in the error that a client gets at last.
pub const FAILURES_TOLD_MAX: usize = 8;

/// One read. Shared by all sessions of a worker.
pub const READ_BYTES: usize = 64 << 10;

/// For what a server had said before it broke the connection.
pub const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);
/// For a client to notice that its server has closed the connection.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(10);
/// The same, when its session was cut: short, because the client's next one may need the place.
pub const CUT_LINGER_TIMEOUT: Duration = Duration::from_secs(1);
/// One read of what a client whose session was cut still sends. Nobody looks at it.
pub const DISCARD_BYTES: usize = 4 << 10;

pub const BACKLOG: u32 = 1024;

/// `TCP_USER_TIMEOUT` finds a peer that is gone while something is being sent; with keepalive probes, also
/// one that is gone while nothing is: where both are set, Linux goes by this time and not by a number of
/// probes (`tcp_keepalive_timer`). It also cuts off a peer that is alive and reads nothing for so long, hence
/// no shorter: a backend that waits for a lock in the middle of a COPY does that, and so does a client that
/// digests a large result. Sessions at a primary that died do not wait for it: they end with its tenure.
pub const UPSTREAM_USER_TIMEOUT: Duration = Duration::from_secs(60);
/// A client on this server: its kernel is this one, and tells when it is gone.
pub const CLIENT_USER_TIMEOUT: Duration = Duration::from_secs(600);
/// The first probe of an idle connection, and the next ones.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
