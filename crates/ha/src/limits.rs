//! Every bound of this crate in one place.

use std::time::Duration;

/// How long a lease lasts without renewal. A dead primary's server is noticed after that.
pub const LEASE_TTL: Duration = Duration::from_millis(2_500);
/// Between renewals: several may be lost.
pub const RENEW_EVERY: Duration = Duration::from_millis(300);
/// PostgreSQL has to be gone so long before the lease may end elsewhere: the agent stops it at the
/// deadline, the guard kills what is left of it a moment later.
pub const STOP_BUDGET: Duration = Duration::from_millis(700);
/// The fastest and the slowest of our clocks differ by less than one part in so many (500 ppm is what
/// ntpd steers at most; twice that, and some).
pub const DRIFT_DIVISOR: u32 = 500;

/// A primary that needs longer than this to answer after its start makes room for another server, if
/// one may take over.
pub const START_BUDGET: Duration = Duration::from_secs(10);
/// The budget doubles with every time that it was given up in vain, so often at most (640 s).
pub const START_BUDGET_DOUBLINGS: u32 = 6;
/// A PostgreSQL that does not answer for so long is stopped hard.
pub const SILENT_MAX: Duration = Duration::from_secs(5);
/// A replica that does not stream for so long is taken out of the synchronous set: until then commits
/// may wait for it.
pub const STANDBY_PATIENCE: Duration = Duration::from_secs(3);
/// A new primary waits for its replicas for so long before it opens without them.
pub const OPEN_PATIENCE: Duration = Duration::from_secs(3);
/// A replica further behind does not become a member of the synchronous set yet: commits would wait
/// until it has caught up.
pub const CAUGHT_UP_BYTES: u64 = 16 << 20;
/// The server that a switchover names, and whoever else comes first by what it has, has so long to take
/// the lease, before others that may do so as well.
pub const NEXT_PATIENCE: Duration = Duration::from_millis(1_500);
/// With asynchronous replication the most advanced replica is to be found: those that do not report for
/// so long are not waited for. After twice that, one that reported and does not take the lease neither.
pub const REPORTS_PATIENCE: Duration = Duration::from_secs(2);
/// Between the servers, in the order of the file, when each of them may make the new database.
pub const FIRST_DELAY: Duration = Duration::from_secs(3);
/// A server that gave the lease up because its PostgreSQL did not start does not ask for it for so long.
pub const YIELD_FOR: Duration = Duration::from_secs(20);
/// A replica that does not stream asks its primary why after so long.
pub const NOT_STREAMING_MAX: Duration = Duration::from_secs(3);
/// A switchover that cannot begin within this is given up; and so long the others leave a free lease to
/// the server that the operator named.
pub const SWITCHOVER_PATIENCE: Duration = Duration::from_secs(10);
/// With restarts one by one, a server that is away, or does nothing although it may restart, is waited for
/// so long.
pub const RESTART_PATIENCE: Duration = Duration::from_secs(60);
/// Folders set aside that are kept. With more, a person has to look first.
pub const ASIDES_MAX: usize = 3;
