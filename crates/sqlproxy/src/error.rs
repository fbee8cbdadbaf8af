//! Errors. Each says where, what, and what to do.

use std::io;
use std::net::SocketAddr;

/// The sql entry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "cannot listen on {address} (sql entry, ports.{key}): {source}; stop what uses the port, or choose another"
    )]
    Bind {
        address: SocketAddr,
        key: &'static str,
        source: io::Error,
    },
}

/// Why a session ended before it had begun. The client has been told what is its to know.
#[derive(Debug)]
pub(crate) enum SessionError {
    /// The client went away, or sent nothing in time.
    ClientGone,
    /// What it sent is no startup packet.
    Malformed,
    /// No server took it within the hold time.
    GaveUp,
}
