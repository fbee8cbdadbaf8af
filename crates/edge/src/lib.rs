//! Purpose: the load balancer: listeners, TLS termination, sites and routes, balancing, retries,
//!   checks, access log.
//! Box in the picture: edge, between the floating address and the web servers or upstreams.
//! Invariants: a request reads one immutable snapshot from start to end, and takes no lock that
//!   another worker or the control plane holds; a request is sent again only if nothing of it was
//!   sent, or it is idempotent and no byte of an answer came; a replaced configuration closes no
//!   connection and forgets no server's health; the word by which web servers decline a
//!   request never reaches a client.
//! Start reading at: [`Edge`], then `worker.rs` (a request's way), `forward.rs` (balance and
//!   retry), `health.rs`.
//! Tested by: the tests beside each file, and `tests/` (real sockets, stub servers on loopback).
#![forbid(unsafe_code)]

mod body_limit;
mod error;
mod event;
mod floating;
mod forward;
mod forwarded;
mod health;
pub mod limits;
mod options;
mod page;
mod pool;
mod record;
mod run;
mod snapshot;
mod status;
mod view;
mod worker;

pub use error::Error;
pub use floating::Floating;
pub use options::{
    Action, ClientSide, Listener, Options, PeerTls, Route, Site, Upstream, UpstreamHealth,
    UpstreamServer, WebServer,
};
pub use record::Termination;
pub use run::{Drained, Edge, Replaced, Running};
pub use status::{CheckStatus, PoolKind, PoolStatus, ServerStatus};
pub use trilith_balance::{Algorithm, Health, HealthPolicy, Mode};
