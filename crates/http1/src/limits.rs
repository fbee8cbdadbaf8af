//! What a message head may be at most.

/// Limits on a head. A head beyond them is refused with 431 (414 for the target).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Start line and fields together, bytes.
    pub head_bytes_max: usize,
    /// Number of fields; at most [`FIELDS_MAX`].
    pub fields_max: usize,
    /// The request target, bytes.
    pub target_bytes_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self {
            head_bytes_max: 32 * 1024,
            fields_max: 100,
            target_bytes_max: 8 * 1024,
        }
    }
}

/// The most fields a head can have whatever the configuration says: the parser's table is on the
/// stack.
pub const FIELDS_MAX: usize = 256;

/// A chunk's size line with its extensions, bytes. Extensions have no use but abuse
/// (RFC 9112 section 7.1.1 asks for a limit).
pub const CHUNK_LINE_BYTES_MAX: usize = 256;

/// A whole trailer section, bytes.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// Fields of a trailer section.
pub const TRAILER_FIELDS_MAX: usize = 32;
