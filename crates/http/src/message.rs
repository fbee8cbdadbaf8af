//! One request and one response type for every protocol version and both directions.

use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use trilith_http1::{Headers, Method, StatusCode, Version};

use crate::body::Body;

/// A request, from a client or to an upstream.
#[derive(Debug)]
pub struct Request {
    pub method: Method,
    pub target: Target,
    pub version: Version,
    /// The authority the request is for, as sent (`Host`, or the absolute-form target, which wins
    /// and must agree with `Host`). Empty only for HTTP/1.0 without `Host`. `headers` holds the same
    /// value under `Host`.
    pub host: String,
    /// End-to-end fields. The engine has taken out what belongs to the connection
    /// (`Connection`, what it nominates, `Transfer-Encoding`, `Keep-Alive`, ...); `Content-Length`
    /// and `Transfer-Encoding` are written anew from [`Body::size`].
    pub headers: Headers,
    pub body: Body,
    /// The protocol asked for by `Connection: upgrade` (`websocket`), if any.
    pub upgrade: Option<String>,
    pub conn: Rc<ConnInfo>,
}

impl Request {
    /// A bodyless `GET` with a `Host` header, as health checks send it.
    pub fn get(host: &str, path: &str) -> Self {
        let mut headers = Headers::new();
        headers.append("Host", host);
        Self {
            method: Method::GET,
            target: Target::new(path),
            version: Version::HTTP_11,
            host: host.to_owned(),
            headers,
            body: Body::empty(),
            upgrade: None,
            conn: Rc::new(ConnInfo::unknown()),
        }
    }

    /// Idempotent by RFC 9110 section 9.2.2: safe to send again when no response came.
    pub fn is_idempotent(&self) -> bool {
        self.method.is_idempotent()
    }
}

/// A request target in origin form (`/path?query`), or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    raw: String,
    path_len: usize,
}

impl Target {
    pub fn new(raw: impl Into<String>) -> Self {
        let raw = raw.into();
        let path_len = raw.find('?').unwrap_or(raw.len());
        Self { raw, path_len }
    }

    pub fn as_str(&self) -> &str {
        &self.raw
    }

    /// The path as sent: still percent-encoded, not normalised.
    pub fn path(&self) -> &str {
        &self.raw[..self.path_len]
    }

    /// What follows the first `?`, without it.
    pub fn query(&self) -> Option<&str> {
        self.raw.get(self.path_len + 1..)
    }
}

/// What is known of the connection a request came over.
#[derive(Clone, Debug)]
pub struct ConnInfo {
    /// The peer of the socket (not of any `X-Forwarded-For`).
    pub remote: SocketAddr,
    pub local: SocketAddr,
    pub tls: Option<TlsInfo>,
}

impl ConnInfo {
    /// For requests that no connection brought (health checks, tests).
    pub fn unknown() -> Self {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Self {
            remote: nowhere,
            local: nowhere,
            tls: None,
        }
    }
}

/// What the TLS handshake agreed.
#[derive(Clone, Debug, Default)]
pub struct TlsInfo {
    pub server_name: Option<String>,
    /// Such as `TLSv1.3`.
    pub version: Option<&'static str>,
}

/// A response, to a client or from an upstream.
#[derive(Debug)]
pub struct Response {
    pub status: StatusCode,
    /// End-to-end fields, as in [`Request::headers`]. The server adds `Date` where it is missing.
    pub headers: Headers,
    pub body: Body,
    /// Close the client connection after this response.
    pub close: bool,
}

impl Response {
    pub fn new(status: StatusCode) -> Self {
        Self {
            status,
            headers: Headers::new(),
            body: Body::empty(),
            close: false,
        }
    }

    /// A response with a body held in memory.
    pub fn with_body(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Self {
        let mut response = Self::new(status);
        response.headers.append("Content-Type", content_type);
        response.body = Body::full(body);
        response
    }

    /// Plain text, one line.
    pub fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self::with_body(status, "text/plain; charset=utf-8", text.into())
    }

    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.append(name, value);
        self
    }
}
