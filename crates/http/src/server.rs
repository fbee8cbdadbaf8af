//! Serving one client connection: requests in order, until either side has had enough.

mod drain_watch;
mod incoming;
mod respond;

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use trilith_http1::{BodyDecoder, BodyLength, ParseError, RequestHead, RequestParser, StatusCode};
use trilith_net::Drain;

use self::drain_watch::DrainWatch;
use self::incoming::IncomingBody;
pub use self::respond::{End, Outcome};
use self::respond::{Responder, write_rejection};
use crate::body::{Body, Upgraded};
use crate::buffers;
use crate::input::poll_read_into;
use crate::limits::{DRAIN_GRACE, LINGER, LINGER_BYTES_MAX, WHOLE_BODY_BYTES_MAX};
use crate::message::{ConnInfo, Request, Response, Target};
use crate::options::ServerOptions;
use crate::out::Output;
use crate::timer::Timer;
use crate::tunnel::tunnel;

/// Answers requests.
#[allow(
    async_fn_in_trait,
    reason = "one thread owns a connection: the futures need not be Send"
)]
pub trait Handler {
    /// What the handler wants to know again when the response is written, for its log.
    type Record;

    /// Answers one request. The body of the request may still be read after this returns, by the
    /// body of the response.
    async fn handle(&self, request: Request) -> (Response, Self::Record);

    /// The response is written, or given up.
    fn finished(&self, record: Self::Record, outcome: Outcome);

    /// What came was no request. The engine has answered it with `status` and closes.
    fn rejected(&self, conn: &ConnInfo, status: StatusCode, reason: &'static str) {
        let _ = (conn, status, reason);
    }
}

/// Serves the requests of one connection, in order, and closes it.
///
/// Returns when the client is gone, has been idle for too long, has sent what is no request, or
/// when `drain` has started and the request under way is answered.
pub async fn serve_connection<IO, H>(
    io: IO,
    conn: Rc<ConnInfo>,
    handler: &H,
    options: &ServerOptions,
    drain: &Drain,
) where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Handler,
{
    let options = Rc::new(options.clone());
    let server = Rc::new(RefCell::new(ServerIo::new(io, options.clone())));
    let mut drain_watch = DrainWatch::new(drain);
    let mut first = true;
    loop {
        let head = match next_head(&server, &mut drain_watch, std::mem::take(&mut first)).await {
            Next::Head(head) => head,
            Next::Closed => return,
            Next::Bad(error) => {
                write_rejection(&server, error).await;
                handler.rejected(&conn, error.status, error.reason);
                return linger(&server).await;
            }
        };
        let started = Instant::now();
        let mut responder = Responder::new(&head, started);
        let upgrade_wanted = head.upgrade.is_some();
        let request = into_request(head, &server, &conn);
        let (mut response, record) = handler.handle(request).await;
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            if let Some(upgraded) = response.body.take_upgrade()
                && upgrade_wanted
            {
                let outcome = responder
                    .upgrade(&server, &response, &upgraded.protocol)
                    .await;
                let outcome = match outcome.end {
                    End::Complete => run_tunnel(server, upgraded, &options, outcome).await,
                    _ => outcome,
                };
                return handler.finished(record, outcome);
            }
            response = Response::text(StatusCode::BAD_GATEWAY, "502 Bad Gateway\n");
        }
        let (outcome, keep_alive) = responder.respond(&server, response, drain).await;
        let complete = outcome.end == End::Complete;
        // A response that failed before its first byte was replaced by a whole one.
        let told = matches!(outcome.end, End::UpstreamFailed(_)) && outcome.first_byte.is_none();
        handler.finished(record, outcome);
        if !complete && !told {
            return;
        }
        if !complete || !keep_alive || !finish_request(&server).await {
            return linger(&server).await;
        }
    }
}

/// A client connection: shared between the loop and the body of the request under way, both on one
/// task. Borrowed for the length of a poll, never across an await.
pub(crate) struct ServerIo<IO> {
    io: IO,
    read: BytesMut,
    out: Output,
    timer: Timer,
    options: Rc<ServerOptions>,
    incoming: incoming::State,
}

type Shared<IO> = Rc<RefCell<ServerIo<IO>>>;

impl<IO: AsyncRead + AsyncWrite + Unpin> ServerIo<IO> {
    fn new(io: IO, options: Rc<ServerOptions>) -> Self {
        Self {
            io,
            read: BytesMut::new(),
            out: Output::default(),
            timer: Timer::default(),
            options,
            incoming: incoming::State::none(),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        poll_read_into(&mut self.io, &mut self.read, cx)
    }
}

enum Next {
    Head(RequestHead),
    /// Nothing to answer: the client is gone or idle, or we drain.
    Closed,
    Bad(ParseError),
}

async fn next_head<IO: AsyncRead + AsyncWrite + Unpin>(
    server: &Shared<IO>,
    drain: &mut DrainWatch,
    first: bool,
) -> Next {
    let mut parser = RequestParser::default();
    let mut in_head = false;
    let mut in_grace = false;
    {
        let server = &mut *server.borrow_mut();
        server.timer.set(server.options.keep_alive_timeout);
        buffers::take_back(&mut server.out.buffer);
    }
    poll_fn(|cx| {
        let server = &mut *server.borrow_mut();
        loop {
            if !server.read.is_empty() {
                match parser.parse(&server.read, &server.options.limits) {
                    Ok(Some((head, len))) => {
                        server.read.advance(len);
                        return Poll::Ready(Next::Head(head));
                    }
                    Ok(None) if !in_head => {
                        in_head = true;
                        server.timer.set(server.options.header_timeout);
                    }
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Next::Bad(error)),
                }
            } else if !in_grace && drain.poll_draining(cx) {
                if !first {
                    return Poll::Ready(Next::Closed);
                }
                // The client's request may be on its way: connecting is no cause to be turned away.
                in_grace = true;
                server.timer.set(DRAIN_GRACE);
            }
            match server.poll_read(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Next::Closed),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => {
                    ready!(server.timer.poll_expired(cx));
                    return Poll::Ready(if in_head {
                        Next::Bad(SLOW_HEAD)
                    } else {
                        Next::Closed
                    });
                }
            }
        }
    })
    .await
}

const SLOW_HEAD: ParseError = ParseError {
    status: StatusCode::REQUEST_TIMEOUT,
    reason: "the request head did not come within the time-out",
};

fn into_request<IO: AsyncRead + AsyncWrite + Unpin + 'static>(
    head: RequestHead,
    shared: &Shared<IO>,
    conn: &Rc<ConnInfo>,
) -> Request {
    let body = match head.body {
        BodyLength::Length(0) => {
            shared.borrow_mut().incoming = incoming::State::none();
            Body::empty()
        }
        length => {
            let server = &mut *shared.borrow_mut();
            let wants_continue = head.expects_continue && server.read.is_empty();
            server.incoming = incoming::State::new(BodyDecoder::new(length), wants_continue);
            match length {
                // A body that is here already can be sent again if an upstream dies with it.
                BodyLength::Length(len)
                    if len <= server.read.len().min(WHOLE_BODY_BYTES_MAX) as u64 =>
                {
                    server.incoming.take_whole(&mut server.read, len as usize)
                }
                _ => Body::stream(IncomingBody::new(shared.clone(), server.incoming.serial())),
            }
        }
    };
    Request {
        method: head.method,
        target: Target::new(head.target),
        version: head.version,
        host: head.host,
        headers: head.headers,
        body,
        upgrade: head.upgrade,
        conn: conn.clone(),
    }
}

/// Reads what the handler left of the request, so that the next one can be found; whether the
/// connection can go on.
async fn finish_request<IO: AsyncRead + AsyncWrite + Unpin>(shared: &Shared<IO>) -> bool {
    poll_fn(|cx| {
        let server = &mut *shared.borrow_mut();
        incoming::poll_discard(server, cx)
    })
    .await
}

/// Ends the connection such that the client can still read the response: no more is sent, and what
/// the client had under way is read and dropped for a while (RFC 9112 section 9.6).
async fn linger<IO: AsyncRead + AsyncWrite + Unpin>(shared: &Shared<IO>) {
    let mut dropped = 0;
    poll_fn(|cx| {
        let server = &mut *shared.borrow_mut();
        server.timer.set(LINGER);
        std::pin::Pin::new(&mut server.io)
            .poll_shutdown(cx)
            .map(|_| ())
    })
    .await;
    poll_fn(|cx| {
        let server = &mut *shared.borrow_mut();
        loop {
            server.read.clear();
            match server.poll_read(cx) {
                Poll::Ready(Ok(read)) if read > 0 && dropped < LINGER_BYTES_MAX => dropped += read,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return server.timer.poll_expired(cx),
            }
        }
    })
    .await;
}

async fn run_tunnel<IO: AsyncRead + AsyncWrite + Unpin>(
    shared: Shared<IO>,
    upgraded: Upgraded,
    options: &ServerOptions,
    mut outcome: Outcome,
) -> Outcome {
    // The request is over, so nobody else can hold the connection; if one did, there is no tunnel.
    let Ok(server) = Rc::try_unwrap(shared) else {
        outcome.end = End::ClientGone;
        return outcome;
    };
    let ServerIo { mut io, read, .. } = server.into_inner();
    let idle = options.tunnel_idle_timeout;
    let carried = tunnel(&mut io, read, upgraded, idle).await;
    let _ = io.shutdown().await;
    outcome.end = End::Upgraded;
    outcome.body_bytes_received = carried.from_client;
    outcome.body_bytes_sent = carried.to_client;
    outcome.finished = Instant::now();
    outcome
}
