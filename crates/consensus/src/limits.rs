//! Bounds of the state, so that a snapshot always fits a message and a mistake cannot fill a disk.

/// Bytes of a key or of a lease's name.
pub const KEY_BYTES_MAX: usize = 256;
/// Bytes of one value. A config file is the largest thing kept.
pub const VALUE_BYTES_MAX: usize = 256 * 1024;
/// Conditions plus writes of one transaction.
pub const TXN_STEPS_MAX: usize = 128;
/// Entries of the whole state.
pub const ENTRIES_MAX: usize = 10_000;
/// Leases that exist at one time.
pub const LEASES_MAX: usize = 1_000;
/// Bytes of all keys and values together.
pub const STATE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Shortest and longest time to live of a lease.
pub const LEASE_TTL_MIN: std::time::Duration = std::time::Duration::from_millis(100);
pub const LEASE_TTL_MAX: std::time::Duration = std::time::Duration::from_secs(3600);
