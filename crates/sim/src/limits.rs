//! Bounds of a simulation.

use std::time::Duration;

use trilith_vip::limits::{STOP_BUDGET, SUSPEND_CHECK};

/// Polls of tasks without time passing; more is an endless loop.
pub const POLLS_PER_INSTANT_MAX: u64 = 200_000;
/// What a disk writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;
/// Disk operations that work under way may still do when its process is killed.
pub const DISK_OPERATIONS_OF_THE_DYING_MAX: u64 = 40;
/// How far the clocks of servers run from true time. Two of them differ by at most 0.1 %, which is what a
/// lease's holder allows for.
pub const RATE_PPM_MAX: i64 = 500;
/// A machine that wakes after its lease has ended has the address until its server or its guard, which look
/// that often, has seen it, and has taken it down in the time that every release has. Nobody can do better:
/// nothing runs on a machine before it wakes, and the next holder cannot see it.
pub const AFTER_SUSPEND: Duration = SUSPEND_CHECK.saturating_add(STOP_BUDGET);
/// So long an orphan may have the address beside the holder under a lease once each hears the other. One
/// that runs asks four times a second whether anybody answers; one that is frozen or dead has it until its
/// kernel ends its lifetime of one second, which is up to a tenth late.
pub const ORPHAN_STAYS_MAX: Duration = Duration::from_millis(1_100).saturating_add(STOP_BUDGET);
/// A request that got no reply ends by then, whatever its caller says.
pub const CALL_MAX: Duration = Duration::from_secs(10);
/// How long messages wait for a link that is cut, as TCP sends them again.
pub const RESENT_FOR: Duration = Duration::from_secs(4);
/// After the last fault is healed, everything works again by then: dead servers restarted, replaced ones
/// admitted, reads and writes answered, one holder per address.
pub const HEALED_WITHIN: Duration = Duration::from_secs(15);
/// Operations of one history that the checker follows before it gives up.
pub const CHECKER_STEPS_MAX: u64 = 3_000_000;
/// From the first start until every server follows a leader and votes.
pub const FOUNDED_WITHIN: Duration = Duration::from_secs(5);
/// The last fault begins before that.
pub const FAULTS_FOR: Duration = Duration::from_secs(25);
/// The checker goes one call deeper for each call of a history.
pub const STACK_BYTES: usize = 64 * 1024 * 1024;

// The database. The first few are those of `crates/postgres/src/limits.rs`.

/// How long after the deadline the guard leaves the agent to stop PostgreSQL by itself.
pub const GUARD_GRACE: Duration = Duration::from_millis(150);
/// An agent that has not come round for so long is stuck: its lease is not renewed any more.
pub const AGENT_BEAT_MAX: Duration = Duration::from_secs(5);
/// Renewals of the lease under way at once.
pub const RENEWALS_MAX: usize = 6;
/// Between two looks at PostgreSQL while something is going on, and while all is well.
pub const LOOK_INTERVAL_BUSY: Duration = Duration::from_millis(50);
pub const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// After a step that failed.
pub const STEP_RETRY_MIN: Duration = Duration::from_millis(200);
pub const STEP_RETRY_MAX: Duration = Duration::from_secs(10);
/// For one call of the cluster store.
pub const STORE_TIMEOUT: Duration = Duration::from_secs(3);
/// For this server's view of the store to show what was just written.
pub const VIEW_TIMEOUT: Duration = Duration::from_millis(500);
/// Between two questions to the primary, and how long an answer is used.
pub const ASK_INTERVAL: Duration = Duration::from_millis(300);
pub const ASKED_MAX: Duration = Duration::from_secs(2);
/// For connecting to another server's PostgreSQL and asking it one thing.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(1);
/// For the local PostgreSQL to answer.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// For seeing a commit wait.
pub const PROVE_TIMEOUT: Duration = Duration::from_secs(3);
/// A PostgreSQL that ends so soon after it was ready has not started well; one that lasts so long has.
pub const QUICK_DEATH_MAX: Duration = Duration::from_secs(10);
pub const RESTART_CALM: Duration = Duration::from_secs(30);
/// A fast shutdown that takes longer becomes an immediate one.
pub const STOP_FAST_MAX: Duration = Duration::from_secs(5);
/// A PostgreSQL that does not end within this after an immediate stop is killed.
pub const STOP_IMMEDIATE_MAX: Duration = Duration::from_millis(500);
/// For the end of recovery after the order to promote.
pub const PROMOTE_TIMEOUT: Duration = Duration::from_secs(30);
/// `wal_sender_timeout`.
pub const SENDER_TIMEOUT: Duration = Duration::from_secs(5);
/// From the end of a suspend, past the deadline, until the guard has looked at the clock and acted: beside
/// [`AFTER_SUSPEND`] the grace that it leaves the agent does not count, because the deadline is long past.
pub const GUARD_ACTS: Duration = Duration::from_millis(50);
/// The same as [`HEALED_WITHIN`] for the database: a server that gave the lease up does not ask for it for
/// 20 s, and copies, recoveries and the patience for absent replicas come on top.
pub const DATABASE_HEALED_WITHIN: Duration = Duration::from_secs(60);
/// With a database, faults begin and end later: it has to be founded and copied first.
pub const DATABASE_FOUNDED_WITHIN: Duration = Duration::from_secs(10);
pub const DATABASE_FAULTS_FOR: Duration = Duration::from_secs(32);
/// Fewer acknowledged writes than that show nothing.
pub const WRITES_MIN: u64 = 20;
