//! Message bodies: nothing, bytes in memory, or a stream of frames.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use trilith_http1::Headers;

/// Part of a body.
#[derive(Debug)]
pub enum Frame {
    Data(Bytes),
    /// Comes last, at most once (RFC 9110 section 6.5).
    Trailers(Headers),
}

/// Why a body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the peer closed the connection before the end of the body")]
    Truncated,
    #[error("the body is not framed as HTTP requires")]
    Malformed,
    #[error("the body is longer than allowed")]
    TooLarge,
    #[error("no byte of the body came within the idle time")]
    Idle,
    #[error("the body came slower than the minimum rate")]
    TooSlow,
    #[error("reading the body failed")]
    Io,
}

/// A body that produces its frames when asked. Runs on the thread of its connection.
pub trait BodyStream {
    /// The next frame; `None` is the regular end.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>>;

    /// Bytes still to come, where that is known.
    fn size(&self) -> Option<u64>;
}

/// The body of a request or response.
///
/// Pull-based: nothing is read before somebody asks, which is the back-pressure.
#[derive(Default)]
pub struct Body(Repr);

#[derive(Default)]
enum Repr {
    #[default]
    Empty,
    Full(Bytes),
    Stream(Box<dyn BodyStream>),
    Upgrade(Box<Upgraded>),
}

/// The other side of an upgraded connection (a 101 response): bytes that came with the head, and
/// the connection itself.
pub struct Upgraded {
    /// What the connection now speaks (`websocket`).
    pub protocol: String,
    pub read_ahead: Bytes,
    pub io: Pin<Box<dyn Duplex>>,
}

/// A byte stream in both directions.
pub trait Duplex: tokio::io::AsyncRead + tokio::io::AsyncWrite {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite> Duplex for T {}

impl Body {
    pub const fn empty() -> Self {
        Self(Repr::Empty)
    }

    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() {
            Self::empty()
        } else {
            Self(Repr::Full(bytes))
        }
    }

    pub fn stream(stream: impl BodyStream + 'static) -> Self {
        Self(Repr::Stream(Box::new(stream)))
    }

    /// The body of a 101 response: the server splices the two connections.
    pub fn upgrade(upgraded: Upgraded) -> Self {
        Self(Repr::Upgrade(Box::new(upgraded)))
    }

    pub fn is_empty(&self) -> bool {
        matches!(self.0, Repr::Empty)
    }

    /// Whether the body can be sent a second time: it is in memory.
    pub fn is_replayable(&self) -> bool {
        matches!(self.0, Repr::Empty | Repr::Full(_))
    }

    /// A second body of the same bytes, where [`Body::is_replayable`].
    pub fn try_clone(&self) -> Option<Self> {
        match &self.0 {
            Repr::Empty => Some(Self::empty()),
            Repr::Full(bytes) => Some(Self(Repr::Full(bytes.clone()))),
            Repr::Stream(_) | Repr::Upgrade(_) => None,
        }
    }

    /// Bytes still to come, where that is known.
    pub fn size(&self) -> Option<u64> {
        match &self.0 {
            Repr::Empty => Some(0),
            Repr::Full(bytes) => Some(bytes.len() as u64),
            Repr::Stream(stream) => stream.size(),
            Repr::Upgrade(_) => None,
        }
    }

    /// Takes the bytes of a body that is wholly in memory (empty gives no bytes).
    pub fn take_full(&mut self) -> Option<Bytes> {
        match std::mem::take(&mut self.0) {
            Repr::Empty => Some(Bytes::new()),
            Repr::Full(bytes) => Some(bytes),
            other => {
                self.0 = other;
                None
            }
        }
    }

    /// Takes the connection of a 101 response.
    pub fn take_upgrade(&mut self) -> Option<Upgraded> {
        match std::mem::take(&mut self.0) {
            Repr::Upgrade(upgraded) => Some(*upgraded),
            other => {
                self.0 = other;
                None
            }
        }
    }

    /// The next frame; `None` at the end.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        match &mut self.0 {
            Repr::Empty | Repr::Upgrade(_) => Poll::Ready(None),
            Repr::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Repr::Empty;
                Poll::Ready(Some(Ok(Frame::Data(bytes))))
            }
            Repr::Stream(stream) => stream.poll_frame(cx),
        }
    }

    /// The next frame; `None` at the end.
    pub async fn frame(&mut self) -> Option<Result<Frame, BodyError>> {
        poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// The whole body, refused with [`BodyError::TooLarge`] past `limit_bytes`. Trailers are dropped.
    pub async fn collect(mut self, limit_bytes: usize) -> Result<Bytes, BodyError> {
        if let Some(bytes) = self.take_full() {
            return if bytes.len() > limit_bytes {
                Err(BodyError::TooLarge)
            } else {
                Ok(bytes)
            };
        }
        let mut all = BytesMut::new();
        while let Some(frame) = self.frame().await {
            if let Frame::Data(data) = frame? {
                if all.len() + data.len() > limit_bytes {
                    return Err(BodyError::TooLarge);
                }
                all.extend_from_slice(&data);
            }
        }
        Ok(all.freeze())
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Empty => f.write_str("Body::Empty"),
            Repr::Full(bytes) => write!(f, "Body::Full({} bytes)", bytes.len()),
            Repr::Stream(stream) => write!(f, "Body::Stream(size {:?})", stream.size()),
            Repr::Upgrade(_) => f.write_str("Body::Upgrade"),
        }
    }
}
