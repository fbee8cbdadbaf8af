//! Every bound and interval of this crate.

use std::ops::RangeInclusive;
use std::time::Duration;

use trilith_base::Backoff;

/// Where instance ports come from: below Linux's ephemeral range (32768 on), above the well-known
/// services.
pub const PORTS: RangeInclusive<u16> = 20_000..=31_999;
/// Instances of one app on one server.
pub const INSTANCES_MAX: u16 = 256;

/// Until an instance is ready (default).
pub const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Between SIGTERM and SIGKILL (default).
pub const STOP_GRACE: Duration = Duration::from_secs(15);
/// A worker that has run this long counts as started.
pub const WORKER_READY_AFTER: Duration = Duration::from_secs(1);

/// Between two tries while an instance starts: short, a start is what people wait for.
pub const START_PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// Between two health checks of a live instance.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// One health check, from connect to status line. More than the interval on purpose: a busy
/// single-threaded app answers late, and taking it away makes the others busier.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// Failed checks in a row that take a live instance out of rotation.
pub const PROBE_FALL: u32 = 3;
/// Good checks in a row that bring an unhealthy instance back.
pub const PROBE_RISE: u32 = 2;
/// An instance that has failed its checks for this long is restarted.
pub const UNHEALTHY_RESTART_AFTER: Duration = Duration::from_secs(10);
/// What a health check reads of a response before it hangs up.
pub const PROBE_RESPONSE_BYTES_MAX: usize = 256 * 1024;
/// A status line and header section longer than this is no HTTP.
pub const PROBE_HEAD_BYTES_MAX: usize = 64 * 1024;

/// Between a failure and the next start.
pub const RESTART_BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
/// An instance that was live this long starts over with the shortest backoff.
pub const BACKOFF_RESET_AFTER: Duration = Duration::from_secs(60);
/// Failures in a row from which on it is called a crash loop.
pub const CRASH_LOOP_FROM: u32 = 5;

/// How long the processes a killed predecessor left behind have between SIGTERM and SIGKILL.
pub const LEFTOVER_GRACE: Duration = Duration::from_secs(2);
/// How long to wait for the kernel to remove a group after SIGKILL.
pub const KILL_WAIT: Duration = Duration::from_secs(5);
/// How often a group that is being stopped is looked at.
pub const GROUP_POLL_INTERVAL: Duration = Duration::from_millis(25);
/// How long output that is still in the pipes of an ended instance is waited for.
pub const OUTPUT_DRAIN: Duration = Duration::from_millis(500);

/// A longer line is written as several.
pub const LOG_LINE_BYTES_MAX: usize = 16 * 1024;
/// A line without its end is written after this long.
pub const LOG_PARTIAL_LINE_AFTER: Duration = Duration::from_secs(1);
/// Lines that may wait for the disk, per app; what comes on top is dropped and counted.
pub const LOG_QUEUE_LINES_MAX: usize = 8 * 1024;
/// Bytes that may wait for the disk, per app.
pub const LOG_QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A log file of this size is rotated.
pub const LOG_FILE_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Log files per app, the current one included.
pub const LOG_FILES_MAX: u32 = 5;
/// Lines of an ended instance that its event and status show.
pub const TAIL_LINES_MAX: usize = 20;
/// Characters of each of them.
pub const TAIL_LINE_CHARS_MAX: usize = 400;

/// Lines of a Procfile.
pub const PROCFILE_LINES_MAX: usize = 1_000;
/// Bytes of one line of a Procfile, and of any command.
pub const COMMAND_BYTES_MAX: usize = 16 * 1024;

/// Files, folders and links of a code base.
pub const RELEASE_ENTRIES_MAX: usize = 100_000;
/// Bytes of a code base.
pub const RELEASE_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Folders in folders.
pub const RELEASE_DEPTH_MAX: usize = 64;
/// Releases kept on disk, the current one included.
pub const RELEASES_KEPT: usize = 5;
/// Tries to copy a code base that changes meanwhile.
pub const RELEASE_COPY_TRIES: usize = 3;

/// A release command (such as a migration) that runs longer is killed (default).
pub const RELEASE_COMMAND_TIMEOUT: Duration = Duration::from_secs(600);
/// Lines of its output that are kept for the error.
pub const RELEASE_COMMAND_TAIL_LINES_MAX: usize = 40;
