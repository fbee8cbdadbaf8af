//! Listening sockets, one per worker and address.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// One non-blocking listener with `SO_REUSEPORT`, so that each worker has its own accept queue and
/// the kernel spreads the connections. `backlog` is the length of that queue (capped by
/// `net.core.somaxconn`).
///
/// Bound before the workers start: an address that cannot be bound is an error at start-up.
pub fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// [`listen`], `count` times on one address. Port 0 gives all of them the port that the first got.
pub fn listen_each(
    address: SocketAddr,
    count: usize,
    backlog: u32,
) -> io::Result<Vec<TcpListener>> {
    refuse_if_taken(address)?;
    let first = listen(address, backlog)?;
    let address = first.local_addr()?;
    let mut all = vec![first];
    for _ in 1..count {
        all.push(listen(address, backlog)?);
    }
    Ok(all)
}

/// `SO_REUSEPORT` would share a port with another process of the same user without a word, and half
/// of the connections would go there. A bind without it fails as it should.
fn refuse_if_taken(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let probe = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        probe.set_only_v6(true)?;
    }
    probe.set_reuse_address(true)?;
    probe.bind(&address.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_one_port_among_its_own() {
        let listeners = listen_each(([127, 0, 0, 1], 0).into(), 3, 16).unwrap();
        let port = listeners[0].local_addr().unwrap().port();
        assert!(
            listeners
                .iter()
                .all(|l| l.local_addr().unwrap().port() == port)
        );
    }

    #[test]
    fn refuses_a_port_that_somebody_has() {
        let other = listen(([127, 0, 0, 1], 0).into(), 16).unwrap();
        let taken = other.local_addr().unwrap();
        let error = listen_each(taken, 2, 16).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
