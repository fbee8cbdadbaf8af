//! Reading from a connection into its buffer.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::buffers;
use crate::limits::READ_BYTES;

/// Reads once, behind what `buffer` holds; the number of bytes, 0 at the end of the stream.
pub(crate) fn poll_read_into<R: AsyncRead + Unpin>(
    io: &mut R,
    buffer: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    buffers::lend(buffer);
    if buffer.capacity() - buffer.len() < READ_BYTES / 4 {
        buffer.reserve(READ_BYTES);
    }
    // The future keeps no state between polls, so one may be made for each.
    let read = pin!(io.read_buf(buffer)).poll(cx);
    if read.is_pending() {
        buffers::take_back(buffer);
    }
    read
}
