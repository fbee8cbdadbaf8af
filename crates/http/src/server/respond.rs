//! Writing the response to the request under way.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use trilith_http1::encode::{self, Connection, Framing};
use trilith_http1::{Headers, Method, ParseError, RequestHead, StatusCode, Version};
use trilith_net::Drain;

use super::{ServerIo, Shared};
use crate::body::{Body, BodyError, Frame};
use crate::date::with_date;
use crate::message::Response;

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every byte was handed to the kernel.
    Complete,
    /// The client closed or reset the connection.
    ClientGone,
    /// The client took no byte within the time-out.
    ClientTimeout,
    /// The body of the response failed; the client got part of it, or a 502 where nothing was sent.
    UpstreamFailed(BodyError),
    /// The connection became a tunnel, which has ended.
    Upgraded,
}

/// What became of one request, for the log.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub end: End,
    /// Body bytes handed to the connection; of an upgraded one, what it carried.
    pub body_bytes_sent: u64,
    pub body_bytes_received: u64,
    /// The request head was complete.
    pub started: Instant,
    /// The first byte of the response was written; `None` when none was.
    pub first_byte: Option<Instant>,
    pub finished: Instant,
}

/// What of the request matters to its response.
pub(super) struct Responder {
    method: Method,
    version: Version,
    keep_alive: bool,
    started: Instant,
    first_byte: Option<Instant>,
    body_bytes_sent: u64,
}

impl Responder {
    pub(super) fn new(head: &RequestHead, started: Instant) -> Self {
        Self {
            method: head.method.clone(),
            version: head.version,
            keep_alive: head.keep_alive,
            started,
            first_byte: None,
            body_bytes_sent: 0,
        }
    }

    /// Writes `response`; the outcome, and whether the connection can carry another request.
    pub(super) async fn respond<IO: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        shared: &Shared<IO>,
        mut response: Response,
        drain: &Drain,
    ) -> (Outcome, bool) {
        let framing = self.framing(&mut response);
        let keep_alive = self.keep_alive
            && !response.close
            && !drain.is_draining()
            && framing != Framing::UntilClose
            && shared.borrow().incoming.can_finish();
        self.encode_head(&mut shared.borrow_mut(), &response, framing, keep_alive);
        let mut body = match framing {
            Framing::None => Body::empty(),
            _ => response.body,
        };
        let mut writer = Writer::new(framing);
        let mut end = poll_fn(|cx| writer.poll(shared, &mut body, self, cx)).await;
        if let End::UpstreamFailed(_) = end
            && self.first_byte.is_none()
        {
            // Not a byte is out yet, so the client can be told properly.
            shared.borrow_mut().out = Default::default();
            let rejection = ParseError {
                status: StatusCode::BAD_GATEWAY,
                reason: "",
            };
            write_rejection(shared, rejection).await;
        } else if end == End::Complete {
            end = flush(shared).await;
        }
        (self.outcome(shared, end), keep_alive)
    }

    /// Writes the head of a 101 response.
    pub(super) async fn upgrade<IO: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        shared: &Shared<IO>,
        response: &Response,
        protocol: &str,
    ) -> Outcome {
        {
            let server = &mut *shared.borrow_mut();
            with_date(|date| {
                encode::response_head(
                    server.out.begin(),
                    response.status,
                    &response.headers,
                    Framing::None,
                    Connection::Upgrade(protocol),
                    date,
                );
            });
        }
        let end = flush(shared).await;
        self.first_byte = Some(Instant::now());
        self.outcome(shared, end)
    }

    /// How the body is framed (RFC 9112 section 6). Fixes `Content-Length` where it is only told.
    fn framing(&self, response: &mut Response) -> Framing {
        let status = response.status;
        if status.is_informational() || status == StatusCode::NO_CONTENT {
            response.headers.remove("content-length");
            return Framing::None;
        }
        if self.method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
            if let Some(len @ 1..) = response.body.size() {
                response.headers.set("Content-Length", len.to_string());
            }
            return Framing::None;
        }
        match response.body.size() {
            Some(len) => Framing::Length(len),
            None if self.version == Version::HTTP_11 => Framing::Chunked,
            None => Framing::UntilClose,
        }
    }

    fn encode_head<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        server: &mut ServerIo<IO>,
        response: &Response,
        framing: Framing,
        keep_alive: bool,
    ) {
        server.incoming.withdraw_continue();
        let connection = match (keep_alive, self.version) {
            (false, _) => Connection::Close,
            (true, Version::HTTP_11) => Connection::Persistent,
            (true, _) => Connection::KeepAlive,
        };
        with_date(|date| {
            let ServerIo { out, .. } = server;
            encode::response_head(
                out.begin(),
                response.status,
                &response.headers,
                framing,
                connection,
                date,
            );
        });
    }

    fn outcome<IO>(&self, shared: &Shared<IO>, end: End) -> Outcome {
        Outcome {
            end,
            body_bytes_sent: self.body_bytes_sent,
            body_bytes_received: shared.borrow().incoming.received,
            started: self.started,
            first_byte: self.first_byte,
            finished: Instant::now(),
        }
    }
}

/// Moves a body from where it comes from to the client, as fast as the slower of the two.
struct Writer {
    chunked: bool,
    /// Bytes still to come of a body of known length.
    left: Option<u64>,
    trailers: Option<Headers>,
    /// All of the response is in the output.
    encoded: bool,
    /// The client has not taken all it was offered.
    waiting: bool,
}

impl Writer {
    fn new(framing: Framing) -> Self {
        let left = match framing {
            Framing::Length(len) => Some(len),
            _ => None,
        };
        Self {
            chunked: framing == Framing::Chunked,
            left,
            trailers: None,
            encoded: framing == Framing::None || left == Some(0),
            waiting: false,
        }
    }

    fn poll<IO: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        shared: &Shared<IO>,
        body: &mut Body,
        responder: &mut Responder,
        cx: &mut Context<'_>,
    ) -> Poll<End> {
        loop {
            if let Err(error) = self.gather(shared, body, responder, cx) {
                return Poll::Ready(End::UpstreamFailed(error));
            }
            let server = &mut *shared.borrow_mut();
            if server.out.is_empty() {
                // Either all is written, or the body makes us wait and will wake us.
                return if self.encoded {
                    Poll::Ready(End::Complete)
                } else {
                    Poll::Pending
                };
            }
            match server.out.poll_write(&mut server.io, cx) {
                Poll::Ready(Ok(_)) => {
                    self.waiting = false;
                    if responder.first_byte.is_none() {
                        responder.first_byte = Some(Instant::now());
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(End::ClientGone),
                Poll::Pending => {
                    if !self.waiting {
                        self.waiting = true;
                        server.timer.set(server.options.write_idle_timeout);
                    }
                    return server.timer.poll_expired(cx).map(|()| End::ClientTimeout);
                }
            }
        }
    }

    /// Takes frames into the output until it is full, the body ends or makes us wait.
    ///
    /// The connection is not borrowed while the body is polled: the body may be that of a proxied
    /// response, which reads the rest of the request from this very connection.
    fn gather<IO>(
        &mut self,
        shared: &Shared<IO>,
        body: &mut Body,
        responder: &mut Responder,
        cx: &mut Context<'_>,
    ) -> Result<(), BodyError> {
        while !self.encoded && !shared.borrow().out.is_full() {
            let frame = match body.poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(frame) => frame.transpose()?,
            };
            let out = &mut shared.borrow_mut().out;
            match frame {
                Some(Frame::Data(data)) => {
                    responder.body_bytes_sent += data.len() as u64;
                    self.push(out, data)?;
                }
                Some(Frame::Trailers(trailers)) => self.trailers = Some(trailers),
                None if self.chunked => {
                    out.push_last_chunk(self.trailers.as_ref());
                    self.encoded = true;
                }
                None if self.left.is_some_and(|left| left > 0) => return Err(BodyError::Truncated),
                None => self.encoded = true,
            }
        }
        Ok(())
    }

    fn push(&mut self, out: &mut crate::out::Output, data: Bytes) -> Result<(), BodyError> {
        if self.chunked {
            out.push_chunk(data);
            return Ok(());
        }
        if let Some(left) = &mut self.left {
            *left = left
                .checked_sub(data.len() as u64)
                .ok_or(BodyError::TooLarge)?;
            // The last byte is the end: no need to ask the body for it.
            self.encoded = *left == 0;
        }
        out.push(data);
        Ok(())
    }
}

/// Answers what is no request: the status, one line of text, and the end of the connection.
pub(super) async fn write_rejection<IO: AsyncRead + AsyncWrite + Unpin>(
    shared: &Shared<IO>,
    error: ParseError,
) {
    let reason = error.status.canonical_reason().unwrap_or_default();
    let detail = if error.reason.is_empty() { "" } else { ": " };
    let text = format!(
        "{} {reason}{detail}{}\n",
        error.status.as_str(),
        error.reason
    );
    let response = Response::text(error.status, text);
    {
        let server = &mut *shared.borrow_mut();
        let framing = Framing::Length(response.body.size().unwrap_or(0));
        with_date(|date| {
            encode::response_head(
                server.out.begin(),
                response.status,
                &response.headers,
                framing,
                Connection::Close,
                date,
            );
        });
        let mut body = response.body;
        server.out.push(body.take_full().unwrap_or_default());
    }
    let _ = flush(shared).await;
}

/// Writes what is in the output and flushes what the connection itself buffers (TLS).
async fn flush<IO: AsyncRead + AsyncWrite + Unpin>(shared: &Shared<IO>) -> End {
    let mut waiting = false;
    poll_fn(|cx| {
        let server = &mut *shared.borrow_mut();
        let ServerIo {
            io,
            out,
            timer,
            options,
            ..
        } = server;
        let flushed = match out.poll_write_all(io, cx) {
            Poll::Ready(Ok(())) => Pin::new(io).poll_flush(cx),
            other => other,
        };
        match flushed {
            Poll::Ready(Ok(())) => Poll::Ready(End::Complete),
            Poll::Ready(Err(_)) => Poll::Ready(End::ClientGone),
            Poll::Pending => {
                if !std::mem::replace(&mut waiting, true) {
                    timer.set(options.write_idle_timeout);
                }
                timer.poll_expired(cx).map(|()| End::ClientTimeout)
            }
        }
    })
    .await
}
