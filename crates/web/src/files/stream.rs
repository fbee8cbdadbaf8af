//! The bodies of files too large to keep in memory.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags};
use tokio::task::JoinHandle;
use trilith_http::{BodyError, BodyStream, Frame};
use trilith_telemetry::HotCounter;

use crate::limits::{FILE_BUFFERS_KEPT, FILE_CHUNK_BYTES};

/// A piece of such a body.
#[derive(Clone, Debug)]
pub enum Segment {
    Bytes(Bytes),
    /// Positions in the file.
    File(Range<u64>),
}

impl Segment {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(range) => range.end - range.start,
        }
    }
}

/// Sends segments of one file and bytes between them.
///
/// What the page cache holds is read on the spot; for the rest a thread of the blocking pool waits.
/// A file that turns out shorter than promised fails the body.
pub struct FileStream {
    file: Arc<OwnedFd>,
    segments: VecDeque<Segment>,
    /// A read that waits for the disk.
    waiting: Option<JoinHandle<(Buffer, io::Result<usize>)>>,
    /// Whether the file system can tell what it has in memory.
    nowait: bool,
    failures: HotCounter,
}

impl FileStream {
    pub fn new(file: OwnedFd, segments: Vec<Segment>, failures: HotCounter) -> Self {
        Self {
            file: Arc::new(file),
            segments: segments.into(),
            waiting: None,
            nowait: true,
            failures,
        }
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame, BodyError>>> {
        self.segments.clear();
        self.failures.inc();
        Poll::Ready(Some(Err(error)))
    }

    /// Takes what was read off the segment in front.
    fn read(&mut self, buffer: Buffer, count: usize) -> Poll<Option<Result<Frame, BodyError>>> {
        if count == 0 {
            return self.fail(BodyError::Truncated);
        }
        if let Some(Segment::File(range)) = self.segments.front_mut() {
            range.start += count as u64;
            if range.start >= range.end {
                self.segments.pop_front();
            }
        }
        Poll::Ready(Some(Ok(Frame::Data(buffer.into_bytes(count)))))
    }
}

impl BodyStream for FileStream {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if let Some(waiting) = &mut self.waiting {
            let done = ready!(Pin::new(waiting).poll(cx));
            self.waiting = None;
            return match done {
                Ok((buffer, Ok(count))) => self.read(buffer, count),
                Ok((_, Err(_))) | Err(_) => self.fail(BodyError::Io),
            };
        }
        let range = match self.segments.front() {
            None => return Poll::Ready(None),
            Some(Segment::Bytes(bytes)) => {
                let bytes = bytes.clone();
                self.segments.pop_front();
                return Poll::Ready(Some(Ok(Frame::Data(bytes))));
            }
            Some(Segment::File(range)) => range.clone(),
        };
        let want = usize::try_from(range.end - range.start)
            .unwrap_or(usize::MAX)
            .min(FILE_CHUNK_BYTES);
        let mut buffer = Buffer::take();
        if self.nowait {
            match read_nowait(&self.file, &mut buffer.bytes[..want], range.start) {
                Ok(count) => return self.read(buffer, count),
                Err(Errno::AGAIN) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.nowait = false,
                Err(_) => return self.fail(BodyError::Io),
            }
        }
        let file = Arc::clone(&self.file);
        self.waiting = Some(tokio::task::spawn_blocking(move || {
            let read = rustix::io::retry_on_intr(|| {
                rustix::io::pread(&file, &mut buffer.bytes[..want], range.start)
            });
            (buffer, read.map_err(io::Error::from))
        }));
        self.poll_frame(cx)
    }

    fn size(&self) -> Option<u64> {
        Some(self.segments.iter().map(Segment::len).sum())
    }
}

/// Reads what is in the page cache. `EAGAIN` when nothing of it is.
pub fn read_nowait(file: &OwnedFd, into: &mut [u8], at: u64) -> Result<usize, Errno> {
    let mut slices = [IoSliceMut::new(into)];
    rustix::io::retry_on_intr(|| rustix::io::preadv2(file, &mut slices, at, ReadWriteFlags::NOWAIT))
}

/// A buffer of [`FILE_CHUNK_BYTES`] that goes back to a small stock when its bytes are sent: what
/// was zeroed once need not be zeroed for every piece.
struct Buffer {
    bytes: Vec<u8>,
}

thread_local! {
    static STOCK: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Buffer {
    fn take() -> Self {
        let bytes = STOCK.with_borrow_mut(Vec::pop);
        Self {
            bytes: bytes.unwrap_or_else(|| vec![0; FILE_CHUNK_BYTES]),
        }
    }

    fn into_bytes(self, count: usize) -> Bytes {
        Bytes::from_owner(Piece {
            buffer: self,
            count,
        })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        // Fails only while the thread is ending; then the buffer is simply freed.
        let _ = STOCK.try_with(|stock| {
            let mut stock = stock.borrow_mut();
            if stock.len() < FILE_BUFFERS_KEPT {
                stock.push(bytes);
            }
        });
    }
}

struct Piece {
    buffer: Buffer,
    count: usize,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.buffer.bytes[..self.count]
    }
}

#[cfg(test)]
mod tests;
