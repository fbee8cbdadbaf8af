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
