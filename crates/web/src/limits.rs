//! Bounds of the web server, in one place.

use std::time::Duration;

/// Files up to this size are served from memory.
pub const CACHED_FILE_BYTES_MAX: u64 = 64 * 1024;
/// All of them together, per process.
pub const FILE_CACHE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// How long a file in memory is served without asking the file system whether it changed.
pub const FILE_REVALIDATE_AFTER: Duration = Duration::from_secs(1);
