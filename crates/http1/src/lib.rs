//! Purpose: the HTTP/1.1 codec without I/O: parse, frame, serialise.
//! Box in the picture: every place where HTTP crosses a socket (edge, web server, upstreams).
//! Invariants: no I/O, no clock; the result is the same whatever the split of the bytes over reads;
//!   an ambiguous message is an error, never a guess (RFC 9112 section 11.2); what is forwarded is
//!   always serialised anew.
//! Start reading at: [`RequestParser`], [`BodyDecoder`], [`encode`].
//! Tested by: unit tests beside each file, property tests in `tests/`, the fuzz targets in `fuzz/`.
#![forbid(unsafe_code)]

mod body;
mod connection;
pub mod encode;
mod error;
mod grammar;
mod headers;
pub mod limits;
mod request;
mod response;
mod scan;

pub use body::{BodyDecoder, BodyLength, Decoded};
pub use error::ParseError;
pub use headers::{Headers, tokens};
pub use http::{Method, StatusCode, Version};
pub use limits::HeadLimits;
pub use request::{RequestHead, RequestParser};
pub use response::{ResponseHead, ResponseParser};
