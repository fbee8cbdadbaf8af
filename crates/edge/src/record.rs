//! What is remembered of a request until its response is written, for the access log and metrics.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use trilith_http::{BodyError, ConnInfo, End, Outcome, Request, SendErrorKind, StatusCode, Target};
use trilith_telemetry::AccessRecord;
use trilith_web::RouteId;

use crate::forward::InFlight;
use crate::forwarded::request_id;
use crate::view::View;

/// Why a request ended the way it did: `end` in the access log.
///
/// | word | HAProxy's code | meaning |
/// |---|---|---|
/// | `complete` | `--` | the whole response was written; also one of the edge's own |
/// | `upgraded` | `--` | became a tunnel (WebSocket), which has ended |
/// | `client-gone` | `CD` | the client closed before it had the whole response |
/// | `client-timeout` | `cD` | the client took no byte for too long |
/// | `client-body` | `CH` | the request's body broke off or was malformed |
/// | `client-body-timeout` | `cH` | the request's body stalled or came too slowly |
/// | `client-body-too-large` | `PR` | the request's body is longer than its route allows |
/// | `bad-request` | `PR` | what came was no request |
/// | `queue-timeout` | `sQ` | no server was usable within the queue time-out |
/// | `queue-full` | `PQ` | no server was usable and too many requests were waiting |
/// | `upstream-connect` | `SC` | no connection to the last server tried |
/// | `upstream-connect-timeout` | `sC` | the same, for it took too long |
/// | `upstream-closed` | `SH` | the server closed before an answer; it may have taken effect |
/// | `upstream-timeout` | `sH` | the server did not answer in time |
/// | `upstream-invalid` | `PH` | what the server answered is not HTTP |
/// | `upstream-declined` | `SC` | no web server had a live instance of the app for it |
/// | `upstream-body` | `SD` | the response broke off; the client got part of it |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Termination {
    #[default]
    Complete,
    Upgraded,
    ClientGone,
    ClientTimeout,
    ClientBody,
    ClientBodyTimeout,
    ClientBodyTooLarge,
    BadRequest,
    QueueTimeout,
    QueueFull,
    UpstreamConnect,
    UpstreamConnectTimeout,
    UpstreamClosed,
    UpstreamTimeout,
    UpstreamInvalid,
    UpstreamDeclined,
    UpstreamBody,
}

impl Termination {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Upgraded => "upgraded",
            Self::ClientGone => "client-gone",
            Self::ClientTimeout => "client-timeout",
            Self::ClientBody => "client-body",
            Self::ClientBodyTimeout => "client-body-timeout",
            Self::ClientBodyTooLarge => "client-body-too-large",
            Self::BadRequest => "bad-request",
            Self::QueueTimeout => "queue-timeout",
            Self::QueueFull => "queue-full",
            Self::UpstreamConnect => "upstream-connect",
            Self::UpstreamConnectTimeout => "upstream-connect-timeout",
            Self::UpstreamClosed => "upstream-closed",
            Self::UpstreamTimeout => "upstream-timeout",
            Self::UpstreamInvalid => "upstream-invalid",
            Self::UpstreamDeclined => "upstream-declined",
            Self::UpstreamBody => "upstream-body",
        }
    }

    /// Of a request that got no response from a server.
    pub(crate) fn of_send(error: &SendErrorKind) -> Self {
        match error {
            SendErrorKind::Connect(_) | SendErrorKind::Tls(_) => Self::UpstreamConnect,
            SendErrorKind::ConnectTimeout => Self::UpstreamConnectTimeout,
            SendErrorKind::ClosedEarly => Self::UpstreamClosed,
            SendErrorKind::Timeout => Self::UpstreamTimeout,
            SendErrorKind::Malformed(_) => Self::UpstreamInvalid,
            SendErrorKind::RequestBody(error) => Self::of_client_body(*error),
        }
    }

    fn of_client_body(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::ClientBodyTooLarge,
            BodyError::Idle | BodyError::TooSlow => Self::ClientBodyTimeout,
            BodyError::Truncated | BodyError::Malformed | BodyError::Io => Self::ClientBody,
        }
    }

    /// What the edge found out while it looked for an answer (`self`), and how writing it ended.
    pub(crate) fn with_end(self, end: &End) -> Self {
        match end {
            End::Complete => self,
            End::Upgraded => Self::Upgraded,
            End::ClientGone => Self::ClientGone,
            End::ClientTimeout => Self::ClientTimeout,
            // The rest of a request body is read while the response is written.
            End::UpstreamFailed(BodyError::TooLarge) => Self::ClientBodyTooLarge,
            End::UpstreamFailed(BodyError::TooSlow) => Self::ClientBodyTimeout,
            End::UpstreamFailed(_) => Self::UpstreamBody,
        }
    }
}

/// What the handler hands to [`trilith_http::Handler::finished`].
pub struct Record {
    /// The request, without its body.
    pub(crate) request: Request,
    /// As the client sent it, where it was rewritten.
    pub(crate) original_target: Option<Target>,
    pub(crate) client: IpAddr,
    pub(crate) is_https: bool,
    pub(crate) status: StatusCode,
    pub(crate) route: Option<RouteId>,
    pub(crate) trip: Trip,
    /// What the numbers in `route` and `trip` refer to.
    pub(crate) view: Rc<View>,
}

/// The part of a request's way that leads to a server.
#[derive(Default)]
pub(crate) struct Trip {
    /// Position in [`crate::snapshot::Snapshot::pools`].
    pub pool: Option<usize>,
    /// The server tried last, by its position in the pool.
    pub server: Option<usize>,
    pub tries: u32,
    /// Spent waiting for a server to become usable.
    pub queued: Duration,
    /// When the last try began.
    pub tried: Option<Instant>,
    pub connected: Option<Instant>,
    pub first_byte: Option<Instant>,
    pub termination: Termination,
    /// Counts the request on its server until the response is written.
    pub in_flight: Option<InFlight>,
}

impl Record {
    /// The status that the client got: of a response that broke off before a byte of it was
    /// written, the engine has made an error.
    pub(crate) fn status_told(&self, outcome: &Outcome) -> StatusCode {
        match outcome.end {
            End::UpstreamFailed(_) if outcome.first_byte.is_none() => StatusCode::BAD_GATEWAY,
            _ => self.status,
        }
    }

    pub(crate) fn access<'a>(&'a self, status: StatusCode, outcome: &Outcome) -> AccessRecord<'a> {
        let headers = &self.request.headers;
        let trip = &self.trip;
        let since =
            |from: Option<Instant>, to: Option<Instant>| Some(to?.saturating_duration_since(from?));
        let tls = self.request.conn.tls.as_ref();
        let pool = trip.pool.map(|pool| &self.view.snapshot.pools[pool]);
        let server = pool
            .zip(trip.server)
            .map(|(pool, server)| &pool.backends[server]);
        AccessRecord {
            request_id: request_id(headers),
            client: Some(self.client),
            scheme: if self.is_https { "https" } else { "http" },
            tls: tls.and_then(|tls| tls.version),
            method: self.request.method.as_str(),
            host: &self.request.host,
            path: self
                .original_target
                .as_ref()
                .unwrap_or(&self.request.target)
                .as_str(),
            status: status.as_u16(),
            bytes_in: outcome.body_bytes_received,
            bytes_out: outcome.body_bytes_sent,
            pool: pool.map(|pool| pool.id.name()),
            upstream: server.map(|server| &*server.name),
            tries: trip.tries,
            t_queue: pool.map(|_| trip.queued),
            t_connect: since(trip.tried, trip.connected),
            t_first_byte: since(
                Some(outcome.started),
                trip.first_byte.or(outcome.first_byte),
            ),
            t_total: outcome.finished.saturating_duration_since(outcome.started),
            end: trip.termination.with_end(&outcome.end).as_str(),
            user_agent: headers.get("user-agent"),
            referer: headers.get("referer"),
        }
    }
}

/// The line for what was no request.
pub(crate) fn access_of_rejected(conn: &ConnInfo, status: StatusCode) -> AccessRecord<'static> {
    AccessRecord {
        request_id: "",
        client: Some(conn.remote.ip().to_canonical()),
        scheme: if conn.tls.is_some() { "https" } else { "http" },
        tls: conn.tls.as_ref().and_then(|tls| tls.version),
        method: "",
        host: "",
        path: "",
        status: status.as_u16(),
        bytes_in: 0,
        bytes_out: 0,
        pool: None,
        upstream: None,
        tries: 0,
        t_queue: None,
        t_connect: None,
        t_first_byte: None,
        t_total: Duration::ZERO,
        end: Termination::BadRequest.as_str(),
        user_agent: None,
        referer: None,
    }
}

#[cfg(test)]
mod tests;
