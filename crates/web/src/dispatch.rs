//! Requests for apps: pick an instance, send, try another where that is safe.

mod instances;
mod pools;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use trilith_http::{
    Body, BodyError, BodyStream, Duplex, Frame, Method, Request, Response, SendError,
    SendErrorKind, SendTiming, StatusCode, Target, Upgraded,
};

use crate::TRY_ANOTHER;
use crate::limits::APP_TRIES_MAX;
use crate::run::AppTrace;

pub use instances::{App, Apps, InFlight};
pub use pools::{AppPools, Tried, WorkerPools};

/// Why an app did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 503, and the request is as it was.
    TryAnother,
    /// For the client; the connection is closed where the request was not read to its end.
    Status { status: StatusCode, close: bool },
}

/// Sends `request` to one instance after the other until one answers.
///
/// `target` takes the place of the request's own; after [`Refusal::TryAnother`] the request has its
/// own again.
pub async fn dispatch(
    request: &mut Request,
    target: Option<Target>,
    body_max: u64,
    pools: &AppPools,
    trace: &mut AppTrace,
) -> Result<Response, Refusal> {
    limit_body(request, body_max)?;
    let own_target = target.map(|target| std::mem::replace(&mut request.target, target));
    let result = send(request, pools, trace).await;
    if let Some(target) = own_target {
        request.target = target;
    }
    if matches!(result, Err(Refusal::TryAnother)) {
        pools.counters.try_another.inc();
    }
    result
}

async fn send(
    request: &mut Request,
    pools: &AppPools,
    trace: &mut AppTrace,
) -> Result<Response, Refusal> {
    let mut tried = Tried::default();
    while tried.count < APP_TRIES_MAX {
        let Some((instance, pool)) = pools.pick(&mut tried) else {
            break;
        };
        if tried.count == 1 {
            pools.counters.requests.inc();
        } else {
            pools.counters.retries.inc();
        }
        trace.tries = tried.count;
        trace.instance = Some(instance.id.clone());
        let in_flight = InFlight::new(instance);
        let mut timing = SendTiming::default();
        let sent = pool.send(request, &mut timing).await;
        trace.connected = timing.connected;
        trace.first_byte = timing.first_byte;
        match sent {
            Ok(response) => return Ok(accept(response, in_flight)),
            Err(error) => {
                pools.counters.failed(error.kind.label());
                judge(&error, &request.method)?;
            }
        }
    }
    Err(Refusal::TryAnother)
}

/// `Ok`: another instance may get the request.
fn judge(error: &SendError, method: &Method) -> Result<(), Refusal> {
    let refuse = |status, close| Err(Refusal::Status { status, close });
    match error.kind {
        SendErrorKind::Connect(_)
        | SendErrorKind::ConnectTimeout
        | SendErrorKind::Tls(_)
        | SendErrorKind::ClosedEarly
            if error.body_intact && (error.nothing_sent || method.is_idempotent()) =>
        {
            Ok(())
        }
        // An instance that is this slow makes the next one slow too; the client has waited enough.
        SendErrorKind::Timeout => refuse(StatusCode::GATEWAY_TIMEOUT, false),
        SendErrorKind::RequestBody(cause) => refuse(body_status(cause), true),
        _ => refuse(StatusCode::BAD_GATEWAY, false),
    }
}

/// The status for a request whose own body failed.
fn body_status(cause: BodyError) -> StatusCode {
    match cause {
        BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::Idle | BodyError::TooSlow => StatusCode::REQUEST_TIMEOUT,
        BodyError::Truncated | BodyError::Malformed | BodyError::Io => StatusCode::BAD_REQUEST,
    }
}

/// What an app answers is passed on, except what would speak to an edge in our name.
fn accept(mut response: Response, in_flight: InFlight) -> Response {
    response.headers.remove(TRY_ANOTHER);
    if response.body.is_replayable() {
        // All of it is here: the instance is done.
        return response;
    }
    response.body = match response.body.take_upgrade() {
        Some(upgraded) => Body::upgrade(guard_upgrade(upgraded, in_flight)),
        None => Body::stream(Guarded {
            inner: response.body,
            _in_flight: in_flight,
        }),
    };
    response
}

/// A body that keeps its request counted until it is dropped.
struct Guarded {
    inner: Body,
    _in_flight: InFlight,
}

impl BodyStream for Guarded {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.inner.poll_frame(cx)
    }

    fn size(&self) -> Option<u64> {
        self.inner.size()
    }
}

/// Refuses a request body that is longer than `body_max` bytes: at once where it says so.
fn limit_body(request: &mut Request, body_max: u64) -> Result<(), Refusal> {
    match request.body.size() {
        Some(size) if size > body_max => Err(Refusal::Status {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            close: true,
        }),
        Some(_) => Ok(()),
        None => {
            let inner = std::mem::take(&mut request.body);
            request.body = Body::stream(Limited {
                inner,
                left: body_max,
            });
            Ok(())
        }
    }
}

/// A body of unknown length that may not become longer than its limit.
struct Limited {
    inner: Body,
    left: u64,
}

impl BodyStream for Limited {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let frame = ready!(self.inner.poll_frame(cx));
        if let Some(Ok(Frame::Data(data))) = &frame {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => return Poll::Ready(Some(Err(BodyError::TooLarge))),
            }
        }
        Poll::Ready(frame)
    }

    fn size(&self) -> Option<u64> {
        None
    }
}

fn guard_upgrade(upgraded: Upgraded, in_flight: InFlight) -> Upgraded {
    let io = Box::pin(GuardedIo {
        inner: upgraded.io,
        _in_flight: in_flight,
    });
    Upgraded { io, ..upgraded }
}

/// An upgraded connection that keeps its request counted until it is closed.
struct GuardedIo {
    inner: Pin<Box<dyn Duplex>>,
    _in_flight: InFlight,
}

impl AsyncRead for GuardedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.inner.as_mut().poll_read(cx, buf)
    }
}

impl AsyncWrite for GuardedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.as_mut().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
