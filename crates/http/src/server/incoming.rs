//! The body of the request under way, as the handler reads it.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use trilith_http1::{BodyDecoder, BodyLength, Decoded, StatusCode, encode};

use super::{ServerIo, Shared};
use crate::body::{Body, BodyError, BodyStream, Frame};
use crate::limits::DISCARD_BYTES_MAX;

/// Where the connection is in the body of the request under way.
pub(super) struct State {
    decoder: BodyDecoder,
    /// The client waits for `100 Continue`.
    wants_continue: bool,
    pub(super) received: u64,
    /// Since when the client owes us bytes, and for how long it did before.
    waiting_since: Option<Instant>,
    waited: Duration,
    /// The body broke off or was no body: where the next request would start, nobody knows.
    failed: bool,
    /// Tells the body of this request from one that a handler kept from an earlier request.
    serial: u64,
}

impl State {
    pub(super) fn none() -> Self {
        Self::new(BodyDecoder::new(BodyLength::Length(0)), false)
    }

    pub(super) fn new(decoder: BodyDecoder, wants_continue: bool) -> Self {
        thread_local! {
            static SERIAL: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
        }
        let serial = SERIAL.get().wrapping_add(1);
        SERIAL.set(serial);
        Self {
            decoder,
            wants_continue,
            received: 0,
            waiting_since: None,
            waited: Duration::ZERO,
            failed: false,
            serial,
        }
    }

    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    /// Takes a body of known length that is all in `read`.
    pub(super) fn take_whole(&mut self, read: &mut BytesMut, len: usize) -> Body {
        let body = Bytes::copy_from_slice(&read[..len]);
        read.advance(len);
        self.decoder = BodyDecoder::new(BodyLength::Length(0));
        self.received = len as u64;
        Body::full(body)
    }

    /// A response has begun: too late to invite the body.
    pub(super) fn withdraw_continue(&mut self) {
        self.wants_continue = false;
    }

    /// Whether the connection can be used again, as far as the request's body goes. A client that
    /// was never told to continue may send the body all the same or not at all: the framing is lost.
    pub(super) fn can_finish(&self) -> bool {
        let left = self.decoder.remaining();
        !self.failed
            && (self.decoder.is_done()
                || !self.wants_continue && left.is_none_or(|left| left <= DISCARD_BYTES_MAX))
    }
}

/// The request's body, for the handler.
pub(super) struct IncomingBody<IO> {
    shared: Shared<IO>,
    serial: u64,
}

impl<IO> IncomingBody<IO> {
    pub(super) fn new(shared: Shared<IO>, serial: u64) -> Self {
        Self { shared, serial }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> BodyStream for IncomingBody<IO> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let server = &mut *self.shared.borrow_mut();
        if server.incoming.serial != self.serial {
            return Poll::Ready(Some(Err(BodyError::Truncated)));
        }
        if server.incoming.wants_continue {
            server.incoming.wants_continue = false;
            encode::interim_head(server.out.begin(), StatusCode::CONTINUE);
        }
        if !server.out.is_empty()
            && let Poll::Ready(Err(_)) = server.out.poll_write_all(&mut server.io, cx)
        {
            return Poll::Ready(Some(Err(BodyError::Io)));
        }
        poll_decode(server, cx)
    }

    fn size(&self) -> Option<u64> {
        let server = self.shared.borrow();
        (server.incoming.serial == self.serial).then(|| server.incoming.decoder.remaining())?
    }
}

fn poll_decode<IO: AsyncRead + AsyncWrite + Unpin>(
    server: &mut ServerIo<IO>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame, BodyError>>> {
    let decoded = poll_next(server, cx);
    if let Poll::Ready(Some(Err(_))) = decoded {
        server.incoming.failed = true;
    }
    decoded
}

fn poll_next<IO: AsyncRead + AsyncWrite + Unpin>(
    server: &mut ServerIo<IO>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame, BodyError>>> {
    loop {
        match server.incoming.decoder.decode(&mut server.read) {
            Ok(Decoded::Data(data)) => {
                server.incoming.received += data.len() as u64;
                return Poll::Ready(Some(Ok(Frame::Data(data))));
            }
            Ok(Decoded::Trailers(trailers)) => {
                return Poll::Ready(Some(Ok(Frame::Trailers(trailers))));
            }
            Ok(Decoded::End) => return Poll::Ready(None),
            Err(_) => return Poll::Ready(Some(Err(BodyError::Malformed))),
            Ok(Decoded::NeedMore) => {}
        }
        match server.poll_read(cx) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Some(Err(BodyError::Truncated))),
            Poll::Ready(Err(_)) => return Poll::Ready(Some(Err(BodyError::Io))),
            Poll::Ready(Ok(_)) => {
                if let Err(error) = stop_waiting(server) {
                    return Poll::Ready(Some(Err(error)));
                }
            }
            Poll::Pending => {
                if server.incoming.waiting_since.is_none() {
                    server.incoming.waiting_since = Some(Instant::now());
                    server.timer.set(server.options.body_idle_timeout);
                }
                return server
                    .timer
                    .poll_expired(cx)
                    .map(|()| Some(Err(BodyError::Idle)));
            }
        }
    }
}

/// Judges the rate when bytes have come: only the time that we waited for the client counts, not
/// the time that an upstream let the client wait.
fn stop_waiting<IO>(server: &mut ServerIo<IO>) -> Result<(), BodyError> {
    let state = &mut server.incoming;
    let Some(since) = state.waiting_since.take() else {
        return Ok(());
    };
    state.waited += since.elapsed();
    let seen = state.received + server.read.len() as u64;
    let judged = state.waited.saturating_sub(server.options.body_rate_grace);
    let least = server
        .options
        .body_rate_min
        .saturating_mul(judged.as_secs());
    if seen < least {
        Err(BodyError::TooSlow)
    } else {
        Ok(())
    }
}

/// Reads the rest of the body and drops it; ready with whether the next request can follow.
pub(super) fn poll_discard<IO: AsyncRead + AsyncWrite + Unpin>(
    server: &mut ServerIo<IO>,
    cx: &mut Context<'_>,
) -> Poll<bool> {
    if !server.incoming.can_finish() {
        return Poll::Ready(false);
    }
    let mut dropped = 0;
    loop {
        match std::task::ready!(poll_decode(server, cx)) {
            None => return Poll::Ready(true),
            Some(Ok(Frame::Data(data))) => {
                dropped += data.len() as u64;
                if dropped > DISCARD_BYTES_MAX {
                    return Poll::Ready(false);
                }
            }
            Some(Ok(Frame::Trailers(_))) => {}
            Some(Err(_)) => return Poll::Ready(false),
        }
    }
}
