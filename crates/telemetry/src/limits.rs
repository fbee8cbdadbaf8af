//! Every bound of this crate.

/// A worker hands its access-log buffer over when it holds this much.
pub const ACCESS_BUFFER_BYTES: usize = 32 * 1024;
/// And at the latest after this time.
pub const ACCESS_FLUSH_INTERVAL_MS: u64 = 1_000;
/// Buffers waiting for the writer thread (16 MiB); beyond it lines are dropped and counted.
pub const ACCESS_BUFFERS_QUEUED_MAX: usize = 512;
/// Longest value of one access-log field; the rest is cut off (a request line may be 8 KiB).
pub const ACCESS_FIELD_BYTES_MAX: usize = 8 * 1024;
/// Label sets of one hot metric; beyond it values are still counted, but under no name.
pub const HOT_SERIES_PER_METRIC_MAX: usize = 4_096;
