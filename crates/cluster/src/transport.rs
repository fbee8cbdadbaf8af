//! The way to other servers.

use std::net::SocketAddr;

use trilith_base::ServerName;
use trilith_consensus::BoxFuture;

use crate::msg;

/// Whom to call: the name must be in the certificate it shows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    pub name: ServerName,
    pub address: SocketAddr,
}

/// Carries a request to a server and its reply back. Calls to one peer run side by side: a
/// heartbeat does not wait behind a snapshot. The caller sets the time limit and may drop the call
/// at any await.
pub trait Transport: Send + Sync + 'static {
    fn call<'a>(
        &'a self,
        to: &'a Peer,
        request: msg::Request,
    ) -> BoxFuture<'a, Result<msg::Reply, CallError>>;
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It was certainly not received.
    #[error("not sent: {0}")]
    NotSent(String),
    /// Perhaps it was received, and perhaps acted on.
    #[error("no answer: {0}")]
    Lost(String),
}
