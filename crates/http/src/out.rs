//! Output that is gathered, then written with as few calls as it takes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;
use trilith_http1::{Headers, encode};

use crate::buffers;
use crate::limits::{COPY_BYTES_MAX, GATHER_BYTES_MAX};

/// What waits to be written to one connection: small pieces in a buffer, then at most one large one.
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) buffer: BytesMut,
    large: Bytes,
    /// The line end behind a large chunk.
    tail: &'static [u8],
}

impl Output {
    /// Ready to take a head: has a buffer.
    pub(crate) fn begin(&mut self) -> &mut BytesMut {
        buffers::lend(&mut self.buffer);
        &mut self.buffer
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.large.is_empty() && self.tail.is_empty()
    }

    /// Whether enough has been gathered to be worth a write before more is added. Always so while a
    /// large piece waits: nothing may be added behind it.
    pub(crate) fn is_full(&self) -> bool {
        !self.large.is_empty() || !self.tail.is_empty() || self.buffer.len() >= GATHER_BYTES_MAX
    }

    /// Adds body bytes, only while not [`Output::is_full`].
    pub(crate) fn push(&mut self, data: Bytes) {
        debug_assert!(
            self.large.is_empty() && self.tail.is_empty(),
            "nothing behind a large piece"
        );
        if data.len() <= COPY_BYTES_MAX {
            self.buffer.extend_from_slice(&data);
        } else {
            self.large = data;
        }
    }

    /// Adds a chunk of a chunked body, only while not [`Output::is_full`]. Empty data adds nothing.
    pub(crate) fn push_chunk(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        encode::chunk_size(&mut self.buffer, data.len());
        self.push(data);
        if self.large.is_empty() {
            self.buffer.extend_from_slice(b"\r\n");
        } else {
            self.tail = b"\r\n";
        }
    }

    pub(crate) fn push_last_chunk(&mut self, trailers: Option<&Headers>) {
        encode::last_chunk(&mut self.buffer, trailers);
    }

    /// Writes until all is written.
    pub(crate) fn poll_write_all<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            ready!(self.poll_write(io, cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes once; the number of bytes written.
    pub(crate) fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let io = Pin::new(io);
        let written = if self.large.is_empty() && self.tail.is_empty() {
            ready!(io.poll_write(cx, &self.buffer))?
        } else {
            let pieces = [&self.buffer[..], &self.large[..], self.tail];
            ready!(io.poll_write_vectored(cx, &pieces.map(IoSlice::new)))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(written);
        Poll::Ready(Ok(written))
    }

    fn advance(&mut self, mut written: usize) {
        if written < self.buffer.len() {
            self.buffer.advance(written);
            return;
        }
        written -= self.buffer.len();
        // Starts at the front again instead of reallocating behind what is written.
        self.buffer.clear();
        let of_large = written.min(self.large.len());
        self.large.advance(of_large);
        self.tail = &self.tail[written - of_large..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn writes_everything_in_order_through_a_narrow_pipe() {
        let (mut near, mut far) = tokio::io::duplex(7);
        let large = Bytes::from(vec![b'x'; COPY_BYTES_MAX + 1]);
        let mut output = Output::default();
        output.buffer.extend_from_slice(b"head ");
        output.push_chunk(Bytes::from_static(b"small"));
        output.push_chunk(Bytes::new());
        output.push_chunk(large.clone());
        assert!(output.is_full());
        let writer = async {
            poll_fn(|cx| output.poll_write_all(&mut near, cx))
                .await
                .unwrap();
            assert!(output.is_empty() && !output.is_full());
            output.push_last_chunk(None);
            poll_fn(|cx| output.poll_write_all(&mut near, cx))
                .await
                .unwrap();
            drop(near);
        };
        let mut received = Vec::new();
        let reader = far.read_to_end(&mut received);
        let (_, read) = tokio::join!(writer, reader);
        read.unwrap();
        let mut expected = b"head 5\r\nsmall\r\n4001\r\n".to_vec();
        expected.extend_from_slice(&large);
        expected.extend_from_slice(b"\r\n0\r\n\r\n");
        assert_eq!(received, expected);
    }
}
