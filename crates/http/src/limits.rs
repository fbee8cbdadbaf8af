//! Buffers and bounds that are not configured.

use std::time::Duration;

/// Free space offered to each read, bytes.
pub(crate) const READ_BYTES: usize = 16 * 1024;

/// Spare buffers kept per thread, and the size up to which one is kept, bytes.
pub(crate) const BUFFERS_KEPT: usize = 256;
pub(crate) const BUFFER_BYTES_KEPT_MAX: usize = 64 * 1024;

/// Pieces up to this are copied behind what waits to be written; larger ones are written from where
/// they lie, bytes. A copy of this size costs less than the vectored call it saves.
pub(crate) const COPY_BYTES_MAX: usize = 16 * 1024;

/// Output gathered before it is written although more is ready, bytes.
pub(crate) const GATHER_BYTES_MAX: usize = 64 * 1024;

/// A response body up to this that came with its head is handed on at once, and its connection goes
/// back to the pool before the client has read it, bytes.
pub(crate) const WHOLE_BODY_BYTES_MAX: usize = 16 * 1024;

/// What a server reads and throws away of a request body that the handler did not want, bytes, so
/// that the connection can go on. More is cheaper to answer by closing.
pub(crate) const DISCARD_BYTES_MAX: u64 = 64 * 1024;

/// After the last response on a connection: how long, and how many bytes, the server still reads so
/// that its close does not turn into a reset that eats the response (RFC 9112 section 9.6).
pub(crate) const LINGER: Duration = Duration::from_secs(2);
pub(crate) const LINGER_BYTES_MAX: usize = 512 * 1024;

/// How long a connection that was accepted as the drain began may take to send its first request.
pub(crate) const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// One direction of an upgraded connection, bytes.
pub(crate) const TUNNEL_BYTES: usize = 16 * 1024;

/// Interim responses (1xx) that one request may get; more is an upstream gone wrong.
pub(crate) const INTERIM_MAX: u32 = 16;
