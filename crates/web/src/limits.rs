//! Bounds of the web server, in one place.

use std::time::Duration;

/// Files up to this size are served from memory.
pub const CACHED_FILE_BYTES_MAX: u64 = 128 * 1024;
/// All of them together, per process.
pub const FILE_CACHE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Parts the cache is locked by. Each must have room for several of the largest files.
pub const FILE_CACHE_SHARDS: usize = 16;
/// How long a file in memory is served without asking the file system whether it changed, and a
/// folder is used without looking whether another has taken its place.
pub const FILE_REVALIDATE_AFTER: Duration = Duration::from_secs(1);
/// A file younger than this is not kept in memory: a second write within one tick of the file
/// system's clock would leave size and times as they are.
pub const FILE_SETTLED_AFTER: Duration = Duration::from_millis(50);

/// Larger files are read and sent in pieces of this many bytes.
pub const FILE_CHUNK_BYTES: usize = 128 * 1024;
/// Buffers of that size kept per thread for the next piece.
pub const FILE_BUFFERS_KEPT: usize = 8;

/// More ranges than this in one request are answered with the whole file (RFC 9110 section 14.2).
pub const RANGES_MAX: usize = 16;
/// Ranges closer together than this are sent as one: a part's own head is about as long
/// (RFC 9110 section 15.3.7.2).
pub const RANGE_GAP_BYTES_MIN: u64 = 80;

/// Instances that one request is tried on before another server gets its chance.
pub const APP_TRIES_MAX: u32 = 3;
/// Idle connections kept per worker and app instance.
pub const APP_IDLE_CONNECTIONS_MAX: usize = 256;
