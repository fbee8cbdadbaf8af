//! One request over one upstream connection.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;
use trilith_http1::encode::{self, Connection, Framing};
use trilith_http1::{
    BodyDecoder, BodyLength, Decoded, Headers, ParseError, ResponseHead, ResponseParser, StatusCode,
};

use crate::body::{Body, BodyError, BodyStream, Frame, Upgraded};
use crate::buffers;
use crate::error::{SendError, SendErrorKind};
use crate::input::poll_read_into;
use crate::limits::{INTERIM_MAX, WHOLE_BODY_BYTES_MAX};
use crate::message::{Request, Response};
use crate::options::ClientOptions;
use crate::out::Output;
use crate::pool::PoolInner;
use crate::timer::Timer;
use crate::upstream_io::UpstreamIo;

/// When the steps of one exchange happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct SendTiming {
    /// A connection was there (at once when one was idle).
    pub connected: Option<Instant>,
    /// The response head was there.
    pub first_byte: Option<Instant>,
    /// The connection had served before.
    pub reused: bool,
}

/// An open connection to an upstream, between requests or in one.
pub(crate) struct ClientConn {
    pub(crate) io: UpstreamIo,
    read: BytesMut,
    out: Output,
    timer: Timer,
    pub(crate) idle_since: Instant,
}

impl ClientConn {
    pub(crate) fn new(io: UpstreamIo) -> Self {
        Self {
            io,
            read: BytesMut::new(),
            out: Output::default(),
            timer: Timer::default(),
            idle_since: Instant::now(),
        }
    }

    /// Makes an idle connection cost little; whether it is idle: nothing under way either way.
    pub(crate) fn rest(&mut self) -> bool {
        buffers::take_back(&mut self.read);
        buffers::take_back(&mut self.out.buffer);
        self.idle_since = Instant::now();
        self.read.is_empty() && self.out.is_empty()
    }

    /// Whether the connection is still open with nothing in it. Costs no system call while the
    /// kernel has reported nothing.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        poll_read_into(&mut self.io, &mut self.read, &mut cx).is_pending()
    }
}

/// Sends `request` over `conn` and returns the response; the connection goes back to `pool` once
/// the response body has been read and it is proven idle, else it is closed.
pub(crate) async fn exchange(
    mut conn: Box<ClientConn>,
    pool: Rc<PoolInner>,
    request: &mut Request,
) -> Result<Response, SendError> {
    let options = &pool.options;
    let mut sender = RequestSender::start(&mut conn.out, request);
    conn.timer.set(options.response_timeout);
    let mut parser = ResponseParser::default();
    let mut interim = 0;
    let head = loop {
        let outcome = poll_fn(|cx| {
            // Sending and receiving at once: an upstream may answer before it has read it all.
            if let Poll::Ready(Err(error)) = sender.poll(&mut conn, options, cx) {
                return Poll::Ready(Err(error));
            }
            poll_head(&mut conn, &mut parser, request, options, cx)
        })
        .await;
        match outcome {
            Ok(head) if is_interim(&head) && interim < INTERIM_MAX => {
                interim += 1;
                parser = ResponseParser::default();
            }
            Ok(head) if is_interim(&head) => {
                let kind = SendErrorKind::Malformed("too many interim responses");
                return Err(sender.give_up(request, kind));
            }
            Ok(head) => break head,
            Err(kind) => return Err(sender.give_up(request, kind)),
        }
    };
    conn.timer.clear();
    Ok(into_response(conn, pool, sender, head))
}

fn is_interim(head: &ResponseHead) -> bool {
    head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS
}

fn poll_head(
    conn: &mut ClientConn,
    parser: &mut ResponseParser,
    request: &Request,
    options: &ClientOptions,
    cx: &mut Context<'_>,
) -> Poll<Result<ResponseHead, SendErrorKind>> {
    loop {
        if !conn.read.is_empty() {
            match parser.parse(&conn.read, &request.method, &options.limits) {
                Ok(Some((head, len))) => {
                    conn.read.advance(len);
                    let changes = head.status == StatusCode::SWITCHING_PROTOCOLS;
                    if changes && (request.upgrade.is_none() || head.upgrade.is_none()) {
                        let reason = "101 without a request for it";
                        return Poll::Ready(Err(SendErrorKind::Malformed(reason)));
                    }
                    return Poll::Ready(Ok(head));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(SendErrorKind::Malformed(error.reason))),
            }
        }
        match poll_read_into(&mut conn.io, &mut conn.read, cx) {
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(SendErrorKind::ClosedEarly)),
            Poll::Ready(Ok(_)) => {}
            Poll::Pending => {
                return conn
                    .timer
                    .poll_expired(cx)
                    .map(|()| Err(SendErrorKind::Timeout));
            }
        }
    }
}

fn into_response(
    mut conn: Box<ClientConn>,
    pool: Rc<PoolInner>,
    sender: RequestSender,
    head: ResponseHead,
) -> Response {
    let mut response = Response::new(head.status);
    response.headers = head.headers;
    if let Some(protocol) = head.upgrade {
        let read_ahead = conn.read.split().freeze();
        response.body = Body::upgrade(Upgraded {
            protocol,
            read_ahead,
            io: Box::pin(conn.io),
        });
        return response;
    }
    let reusable = head.keep_alive && sender.is_done();
    match head.body {
        BodyLength::Length(len) if len <= conn.read.len().min(WHOLE_BODY_BYTES_MAX) as u64 => {
            let len = len as usize;
            response.body = Body::full(Bytes::copy_from_slice(&conn.read[..len]));
            conn.read.advance(len);
            if reusable {
                pool.put(conn);
            }
        }
        length => {
            let is_event_stream = response
                .headers
                .get("content-type")
                .is_some_and(|v| v.to_ascii_lowercase().starts_with(b"text/event-stream"));
            response.body = Body::stream(ResponseBody {
                conn: Some(conn),
                pool,
                sender,
                decoder: BodyDecoder::new(length),
                reusable: head.keep_alive,
                may_be_silent: is_event_stream,
                waiting: false,
            });
        }
    }
    response
}

/// The body of a response that did not come whole with its head.
struct ResponseBody {
    /// Gone once the body is complete.
    conn: Option<Box<ClientConn>>,
    pool: Rc<PoolInner>,
    /// The rest of the request, where the upstream answered before it had all of it.
    sender: RequestSender,
    decoder: BodyDecoder,
    reusable: bool,
    /// Events may be hours apart: no idle time-out.
    may_be_silent: bool,
    waiting: bool,
}

impl BodyStream for ResponseBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let Some(conn) = &mut self.conn else {
            return Poll::Ready(None);
        };
        let options = &self.pool.options;
        if let Poll::Ready(Err(error)) = self.sender.poll(conn, options, cx) {
            self.conn = None;
            let cause = match error {
                SendErrorKind::RequestBody(cause) => cause,
                _ => BodyError::Io,
            };
            return Poll::Ready(Some(Err(cause)));
        }
        loop {
            let frame = match self.decoder.decode(&mut conn.read) {
                Ok(Decoded::Data(data)) => Frame::Data(data),
                Ok(Decoded::Trailers(trailers)) => Frame::Trailers(trailers),
                Ok(Decoded::End) => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Ok(Decoded::NeedMore) => match poll_read_into(&mut conn.io, &mut conn.read, cx) {
                    Poll::Ready(Ok(0)) if self.decoder.end_of_stream() => {
                        self.conn = None;
                        return Poll::Ready(None);
                    }
                    Poll::Ready(Ok(0)) => return self.fail(BodyError::Truncated),
                    Poll::Ready(Ok(_)) => {
                        self.waiting = false;
                        continue;
                    }
                    Poll::Ready(Err(_)) => return self.fail(BodyError::Io),
                    Poll::Pending => {
                        if !self.waiting && !self.may_be_silent {
                            self.waiting = true;
                            conn.timer.set(options.body_idle_timeout);
                        }
                        if conn.timer.poll_expired(cx).is_ready() {
                            return self.fail(BodyError::Idle);
                        }
                        return Poll::Pending;
                    }
                },
                Err(ParseError { .. }) => return self.fail(BodyError::Malformed),
            };
            if self.decoder.is_done() {
                // The next request need not wait until somebody asks for the end.
                self.finish();
            }
            return Poll::Ready(Some(Ok(frame)));
        }
    }

    fn size(&self) -> Option<u64> {
        self.decoder.remaining()
    }
}

impl ResponseBody {
    fn finish(&mut self) {
        if let Some(conn) = self.conn.take()
            && self.reusable
            && self.sender.is_done()
        {
            self.pool.put(conn);
        }
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame, BodyError>>> {
        self.conn = None;
        Poll::Ready(Some(Err(error)))
    }
}

/// The request on its way out, across however many polls it takes.
struct RequestSender {
    /// What is still to be sent.
    body: Body,
    chunked: bool,
    /// Bytes still to come of a body of known length.
    left: u64,
    trailers: Option<Headers>,
    /// A body that is in memory, for another try.
    replay: Option<Bytes>,
    /// Part of a body that is not in memory has been taken.
    body_started: bool,
    bytes_written: u64,
    /// All of the request is in the output.
    encoded: bool,
    /// All of the request is written.
    done: bool,
    /// The upstream takes no more; what it says is still worth reading.
    broken: bool,
}

impl RequestSender {
    fn start(out: &mut Output, request: &mut Request) -> Self {
        let mut body = std::mem::take(&mut request.body);
        let size = body.size();
        let framing = match size {
            Some(0) => Framing::None,
            Some(len) => Framing::Length(len),
            None => Framing::Chunked,
        };
        let connection = match &request.upgrade {
            Some(protocol) => Connection::Upgrade(protocol),
            None => Connection::Persistent,
        };
        encode::request_head(
            out.begin(),
            &request.method,
            request.target.as_str(),
            &request.headers,
            framing,
            connection,
        );
        let replay = body.take_full();
        if let Some(bytes) = &replay {
            out.push(bytes.clone());
        }
        Self {
            body,
            chunked: size.is_none(),
            left: size.unwrap_or(0),
            trailers: None,
            encoded: replay.is_some(),
            replay,
            body_started: false,
            bytes_written: 0,
            done: false,
            broken: false,
        }
    }

    fn is_done(&self) -> bool {
        self.done
    }

    /// Sends what can be sent now. Ready with `Ok` when there is no more to do.
    fn poll(
        &mut self,
        conn: &mut ClientConn,
        options: &ClientOptions,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendErrorKind>> {
        while !self.done && !self.broken {
            self.poll_gather(&mut conn.out, cx)?;
            if conn.out.is_empty() {
                if !self.encoded {
                    return Poll::Pending;
                }
                match ready!(Pin::new(&mut conn.io).poll_flush(cx)) {
                    Ok(()) => self.done = true,
                    Err(_) => self.broken = true,
                }
                break;
            }
            match ready!(conn.out.poll_write(&mut conn.io, cx)) {
                Ok(written) => {
                    self.bytes_written += written as u64;
                    if !self.encoded {
                        // A long upload is not a slow response.
                        conn.timer.set(options.response_timeout);
                    }
                }
                Err(_) => self.broken = true,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes frames of the body until the output is full, the body ends or makes us wait.
    fn poll_gather(&mut self, out: &mut Output, cx: &mut Context<'_>) -> Result<(), SendErrorKind> {
        while !self.encoded && !out.is_full() {
            match self.body.poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(Frame::Data(data)))) => {
                    self.body_started = true;
                    if self.chunked {
                        out.push_chunk(data);
                    } else {
                        let len = data.len() as u64;
                        self.left = self
                            .left
                            .checked_sub(len)
                            .ok_or(SendErrorKind::RequestBody(BodyError::TooLarge))?;
                        out.push(data);
                    }
                }
                Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => self.trailers = Some(trailers),
                Poll::Ready(Some(Err(error))) => {
                    self.body_started = true;
                    return Err(SendErrorKind::RequestBody(error));
                }
                Poll::Ready(None) if self.chunked => {
                    out.push_last_chunk(self.trailers.as_ref());
                    self.encoded = true;
                }
                Poll::Ready(None) if self.left > 0 => {
                    return Err(SendErrorKind::RequestBody(BodyError::Truncated));
                }
                Poll::Ready(None) => self.encoded = true,
            }
        }
        Ok(())
    }

    /// Gives the request back what another try needs, and says what that try may assume.
    fn give_up(self, request: &mut Request, kind: SendErrorKind) -> SendError {
        let body_intact = self.replay.is_some() || !self.body_started;
        request.body = match self.replay {
            Some(bytes) => Body::full(bytes),
            None => self.body,
        };
        SendError {
            kind,
            nothing_sent: self.bytes_written == 0,
            body_intact,
        }
    }
}
