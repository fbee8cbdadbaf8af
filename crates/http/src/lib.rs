//! Purpose: the HTTP engine over sockets: server connections, client connections, pools.
//! Box in the picture: the arrows: client to edge, edge to web server, web server to app instance.
//! Invariants: one thread owns a connection for its whole life (nothing here is `Send` once running);
//!   a pooled connection is closed unless proven idle; every buffer is bounded and a slow reader slows
//!   its writer; every wait has a deadline.
//! Start reading at: [`serve_connection`], [`Pool`], [`Body`].
//! Tested by: `tests/` (real sockets on loopback), `e2e`.
#![forbid(unsafe_code)]

mod body;
mod message;

pub use body::{Body, BodyError, BodyStream, Duplex, Frame, Upgraded};
pub use message::{ConnInfo, Request, Response, Target, TlsInfo};
pub use trilith_http1::{Headers, Method, StatusCode, Version};
