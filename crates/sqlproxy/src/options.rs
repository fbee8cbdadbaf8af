//! What `node` tells the sql entry.

use std::net::SocketAddr;
use std::time::Duration;

use crate::limits;
use crate::stream::Tunnel;

/// The two ports, and how patient to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Leads to the primary. A loopback address: what arrives here is not encrypted.
    pub primary_listen: SocketAddr,
    /// Leads to a replica, or to the primary when there is none.
    pub replica_listen: SocketAddr,
    /// To the PostgreSQL of other servers. `None`: in the clear, straight to their PostgreSQL.
    pub tunnel: Option<Tunnel>,
    /// For the connection to one server, the TLS handshake included.
    pub connect_timeout: Duration,
    /// For that server's first byte, once it has the client's startup packet.
    pub answer_timeout: Duration,
    /// How long a client is held while no server can take it. Then it gets an error.
    pub hold_timeout: Duration,
    /// For a client to say what it wants (its startup packet).
    pub startup_timeout: Duration,
    /// Open sessions on both ports together. More are told so (SQLSTATE 53300).
    pub connections_max: usize,
    /// Sessions may go on for this long after the drain began. Then they are closed.
    pub drain_timeout: Duration,
}

impl Options {
    pub fn new(primary_listen: SocketAddr, replica_listen: SocketAddr) -> Self {
        Self {
            primary_listen,
            replica_listen,
            tunnel: None,
            connect_timeout: limits::CONNECT_TIMEOUT,
            answer_timeout: limits::ANSWER_TIMEOUT,
            hold_timeout: limits::HOLD_TIMEOUT,
            startup_timeout: limits::STARTUP_TIMEOUT,
            connections_max: limits::CONNECTIONS_MAX,
            drain_timeout: limits::DRAIN_TIMEOUT,
        }
    }
}
