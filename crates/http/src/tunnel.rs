//! An upgraded connection: bytes both ways until both sides have ended or fallen silent.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::body::Upgraded;
use crate::input::poll_read_into;
use crate::limits::TUNNEL_BYTES;
use crate::timer::Timer;

/// Bytes that a tunnel carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    pub from_client: u64,
    pub to_client: u64,
}

/// Carries bytes between `client` (`read_ahead` was read from it already) and the upgraded upstream
/// connection, until both directions have ended, one fails, or nothing moves for `idle`.
pub(crate) async fn tunnel<C: AsyncRead + AsyncWrite + Unpin>(
    client: &mut C,
    read_ahead: BytesMut,
    upgraded: Upgraded,
    idle: Duration,
) -> Carried {
    let mut upstream = upgraded.io;
    let mut up = Half::new(read_ahead);
    let mut down = Half::new(BytesMut::from(upgraded.read_ahead));
    let mut timer = Timer::default();
    timer.set(idle);
    poll_fn(|cx| {
        let before = up.carried + down.carried;
        let up_done = up.poll(client, &mut upstream, cx);
        let down_done = down.poll(&mut upstream, client, cx);
        if up.carried + down.carried > before {
            timer.set(idle);
        }
        match (up_done, down_done) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(()),
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(()),
            _ => timer.poll_expired(cx),
        }
    })
    .await;
    Carried {
        from_client: up.carried,
        to_client: down.carried,
    }
}

/// One direction.
struct Half {
    buffer: BytesMut,
    source_ended: bool,
    shut: bool,
    carried: u64,
}

impl Half {
    fn new(buffer: BytesMut) -> Self {
        Self {
            buffer,
            source_ended: false,
            shut: false,
            carried: 0,
        }
    }

    /// Moves what can be moved; ready when the source has ended and the sink knows.
    fn poll<R, W>(
        &mut self,
        source: &mut R,
        sink: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            let mut blocked = true;
            if !self.source_ended && self.buffer.len() < TUNNEL_BYTES {
                match poll_read_into(source, &mut self.buffer, cx)? {
                    Poll::Ready(0) => self.source_ended = true,
                    Poll::Ready(_) => {}
                    Poll::Pending => {}
                }
            }
            if !self.buffer.is_empty() {
                if let Poll::Ready(written) = Pin::new(&mut *sink).poll_write(cx, &self.buffer)? {
                    if written == 0 {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    self.buffer.advance(written);
                    self.carried += written as u64;
                    blocked = false;
                }
            } else if self.source_ended {
                if self.shut {
                    return Poll::Ready(Ok(()));
                }
                std::task::ready!(Pin::new(&mut *sink).poll_shutdown(cx))?;
                self.shut = true;
                return Poll::Ready(Ok(()));
            }
            if self.buffer.is_empty() && !self.source_ended {
                // Rustls holds back what the socket did not take; nothing more may come to push it.
                let _ = Pin::new(&mut *sink).poll_flush(cx)?;
            }
            if blocked {
                return Poll::Pending;
            }
        }
    }
}
