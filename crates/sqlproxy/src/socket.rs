//! Options of TCP sockets.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::limits::{
    CLIENT_KEEPALIVE, CLIENT_USER_TIMEOUT, Keepalive, UPSTREAM_KEEPALIVE, UPSTREAM_USER_TIMEOUT,
};

pub(crate) fn tune_client(stream: &TcpStream) -> io::Result<()> {
    tune(stream, CLIENT_KEEPALIVE, CLIENT_USER_TIMEOUT)
}

/// For both ends of the way between a sql entry and PostgreSQL: no delays, and no waiting for ever for
/// a server that is gone (11 s while nothing is being sent, 60 s otherwise).
pub fn tune_upstream(stream: &TcpStream) -> io::Result<()> {
    tune(stream, UPSTREAM_KEEPALIVE, UPSTREAM_USER_TIMEOUT)
}

/// Makes the coming close a reset: what is still to be sent is thrown away, and nothing of the connection
/// stays behind in the kernel.
pub fn reset_on_close(stream: &TcpStream) {
    // It fails on a socket that is dead already.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

fn tune(stream: &TcpStream, keepalive: Keepalive, user_timeout: Duration) -> io::Result<()> {
    let socket = SockRef::from(stream);
    let probing = TcpKeepalive::new()
        .with_time(keepalive.idle)
        .with_interval(keepalive.interval)
        .with_retries(keepalive.probes);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&probing)?;
    socket.set_tcp_user_timeout(Some(user_timeout))
}
