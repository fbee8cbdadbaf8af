//! Options of TCP sockets.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::limits::{
    CLIENT_USER_TIMEOUT, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, UPSTREAM_USER_TIMEOUT,
};

pub(crate) fn tune_client(stream: &TcpStream) -> io::Result<()> {
    tune(stream, CLIENT_USER_TIMEOUT)
}

/// For both ends of the way between a sql entry and PostgreSQL: no delays, and no waiting for ever for
/// a server that is gone: it is given up after 60 s, or some 5 s later when nothing was being sent.
pub fn tune_upstream(stream: &TcpStream) -> io::Result<()> {
    tune(stream, UPSTREAM_USER_TIMEOUT)
}

/// Makes the coming close a reset: what is still to be sent is thrown away, and nothing of the connection
/// stays behind in the kernel.
pub fn reset_on_close(stream: &TcpStream) {
    // It fails on a socket that is dead already.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

fn tune(stream: &TcpStream, user_timeout: Duration) -> io::Result<()> {
    let socket = SockRef::from(stream);
    let probing = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&probing)?;
    socket.set_tcp_user_timeout(Some(user_timeout))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_server_that_is_gone_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        tune_upstream(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        let (idle, next) = (
            socket.tcp_keepalive_time().unwrap(),
            socket.tcp_keepalive_interval().unwrap(),
        );
        assert_eq!((idle, next), (KEEPALIVE_IDLE, KEEPALIVE_INTERVAL));
        // Without a probe under way an idle connection would outlive the timeout.
        assert!(idle + next < UPSTREAM_USER_TIMEOUT);
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(UPSTREAM_USER_TIMEOUT)
        );
    }
}
