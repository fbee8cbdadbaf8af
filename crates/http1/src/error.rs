//! Why bytes are not a message.

use http::StatusCode;

/// A message that cannot be parsed. The connection it came on has lost its framing: close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ParseError {
    /// What a server answers: 400, 414, 417, 431 or 505.
    pub status: StatusCode,
    /// For the log; says nothing of the sender's bytes.
    pub reason: &'static str,
}

impl ParseError {
    pub(crate) const fn bad(reason: &'static str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            reason,
        }
    }

    pub(crate) const fn with_status(status: StatusCode, reason: &'static str) -> Self {
        Self { status, reason }
    }
}

impl From<httparse::Error> for ParseError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::HeaderName => Self::bad("invalid field name"),
            httparse::Error::HeaderValue => Self::bad("invalid field value"),
            httparse::Error::NewLine => Self::bad("invalid line end"),
            httparse::Error::Status => Self::bad("invalid status line"),
            httparse::Error::Token => Self::bad("invalid start line"),
            httparse::Error::TooManyHeaders => Self::with_status(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "too many fields",
            ),
            httparse::Error::Version => Self::with_status(
                StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                "not HTTP/1.0 or HTTP/1.1",
            ),
        }
    }
}
