//! Purpose: tells what is: metrics for Prometheus, checks for load balancers, the state of this
//!   server and of the whole cluster as JSON.
//! Box in the picture: "beside it, on every server": monitor.
//! Invariants: reads only; never on the way of a site's request; the admin port listens on
//!   loopback; the JSON types live in [`api`] and nowhere else, with a schema number that grows
//!   when a reader would break.
//! Start reading at: [`api::ClusterStatus`], [`admin_router`].
//! Tested by: `run/tests.rs`, `checks/tests.rs`, `metrics/tests.rs`, `api/tests.rs`.
#![forbid(unsafe_code)]

pub mod api;
mod checks;
mod limits;
mod metrics;
mod run;

pub use metrics::{Labels, Reading};
pub use run::{Source, admin_router, peer_router, serve_admin, serve_connection};
