//! Purpose: the sql entry: two local ports that lead to the primary and to a replica, wherever they are.
//! Box in the picture: sql entry.
//! Invariants: bytes of a session are forwarded as they are; whom to forward to is read from a snapshot,
//!   never decided here; a session at the primary lasts no longer than the lease it began under; every
//!   buffer, wait and number of connections is bounded; between servers everything is under mutual TLS.
//! Start reading at: [`SqlProxy`], `session.rs` (one connection), [`Targets`], [`SharedTargets`].
//! Tested by: the tests beside each file; `tests/entry.rs` and `tests/failover.rs` (with stub servers and
//!   a real driver).
#![forbid(unsafe_code)]

mod boundary;
mod connect;
mod error;
mod limits;
mod options;
mod pump;
mod run;
mod session;
mod shared;
mod socket;
mod startup;
mod stats;
mod stream;
mod targets;

pub use error::Error;
pub use options::Options;
pub use run::{Serving, SqlProxy};
pub use shared::SharedTargets;
pub use socket::{reset_on_close, tune_upstream};
pub use stats::{Stats, TargetStats};
pub use stream::Tunnel;
pub use targets::{Kind, Target, Targets, Tenure};
