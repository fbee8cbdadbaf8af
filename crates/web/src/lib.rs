//! Purpose: the web server role: files of the code base, dispatch to app instances, redirects, fixed responses.
//! Box in the picture: web server, between the edge (in-process or over mTLS) and the app instances.
//! Invariants: nothing outside a route's folder is ever opened, whatever the path or the symlinks;
//!   a request reads one snapshot of sites and code base from start to end; what this server cannot serve
//!   is answered with [`TRY_ANOTHER`], and then the request is intact; a file is sent whole or the
//!   response fails.
//! Start reading at: [`Web`], then `files.rs` and `dispatch.rs`.
//! Tested by: `tests.rs` and the tests beside each file.
#![forbid(unsafe_code)]

mod answer;
mod dispatch;
mod error;
mod event;
mod files;
mod internal;
mod limits;
mod options;
mod run;
mod snapshot;

pub use error::Error;
pub use internal::InternalHandler;
pub use options::{Action, InstanceAddr, Options, RouteOptions, SiteOptions};
pub use run::{AppTrace, RouteId, Web, WebWorker};
pub use trilith_route::PathPattern;

/// Response field (value `1`) that says: this server cannot serve this now, another may. The request
/// was not acted upon. Edges take it out of what clients see.
pub const TRY_ANOTHER: &str = "trilith-try-another";
/// The `Host` of requests that servers ask each other on behalf of no site. No client request with
/// this host may be passed on by an edge.
pub const INTERNAL_HOST: &str = "trilith.internal";
/// `GET /.trilith/health?app=NAME` with [`INTERNAL_HOST`]: 200 or 503.
pub const HEALTH_PATH: &str = "/.trilith/health";
