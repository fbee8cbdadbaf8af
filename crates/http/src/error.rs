//! Why a request to an upstream failed.

use crate::body::BodyError;

/// A request that got no response. What may be done about it is in the two flags.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct SendError {
    pub kind: SendErrorKind,
    /// Not a byte of the request reached the upstream: any request may be sent again.
    pub nothing_sent: bool,
    /// The request still has its whole body: an idempotent request may be sent again
    /// (RFC 9110 section 9.2.2).
    pub body_intact: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendErrorKind {
    #[error("connecting failed: {0}")]
    Connect(std::io::ErrorKind),
    #[error("connecting took too long")]
    ConnectTimeout,
    #[error("the TLS handshake failed: {0}")]
    Tls(String),
    #[error("the connection closed before a response came")]
    ClosedEarly,
    #[error("no response within the time-out")]
    Timeout,
    #[error("the response is not HTTP/1: {0}")]
    Malformed(&'static str),
    #[error("reading the request body failed: {0}")]
    RequestBody(BodyError),
}

impl SendErrorKind {
    /// A short name for logs and metric labels.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::Tls(_) => "tls",
            Self::ClosedEarly => "closed_early",
            Self::Timeout => "timeout",
            Self::Malformed(_) => "malformed",
            Self::RequestBody(_) => "request_body",
        }
    }
}
