//! Purpose: the sql entry: two local ports that lead to the primary and to a replica, wherever they are.
//! Box in the picture: sql entry.
//! Invariants: bytes of a session are forwarded as they are; whom to forward to is read from a snapshot,
//!   never decided here; every buffer, wait and number of connections is bounded; between servers
//!   everything is under mutual TLS.
//! Start reading at: [`SqlProxy`], `session.rs` (one connection), [`Targets`].
//! Tested by: the tests beside each file, `tests/entry.rs` (with stub servers and a real driver).
#![forbid(unsafe_code)]

mod connect;
mod error;
mod limits;
mod options;
mod pump;
mod run;
mod session;
mod startup;
mod stats;
mod stream;
mod targets;

pub use error::Error;
pub use options::Options;
pub use run::{Serving, SqlProxy};
pub use stats::{Stats, TargetStats};
pub use stream::Tunnel;
pub use targets::{Kind, Target, Targets};
