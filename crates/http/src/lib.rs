//! Purpose: the HTTP engine over sockets: server connections, client connections, pools.
//! Box in the picture: the arrows: client to edge, edge to web server, web server to app instance.
//! Invariants: one thread owns a connection for its whole life (nothing here is `Send` once running);
//!   a pooled connection is closed unless proven idle; every buffer is bounded and a slow reader slows
//!   its writer; every wait has a deadline.
//! Start reading at: [`serve_connection`], [`Pool`], [`Body`].
//! Tested by: `tests/` (real sockets on loopback), `e2e`.
#![forbid(unsafe_code)]

mod body;
mod buffers;
mod client;
mod date;
mod error;
mod input;
mod limits;
mod message;
mod options;
mod out;
mod pool;
mod server;
mod timer;
mod tunnel;
mod upstream_io;

pub use body::{Body, BodyError, BodyStream, Duplex, Frame, Upgraded};
pub use client::SendTiming;
pub use error::{SendError, SendErrorKind};
pub use message::{ConnInfo, Request, Response, Target, TlsInfo};
pub use options::{ClientOptions, ServerOptions};
pub use pool::Pool;
pub use server::{End, Handler, Outcome, serve_connection};
pub use trilith_http1::{HeadLimits, Headers, Method, StatusCode, Version};
pub use upstream_io::{Endpoint, EndpointTls};
