//! Listening sockets, one per worker and address.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// One non-blocking listener with `SO_REUSEPORT`, so that each worker has its own accept queue and
/// the kernel spreads the connections. `backlog` is the length of that queue (capped by
/// `net.core.somaxconn`).
///
/// Bound before the workers start: an address that cannot be bound is an error at start-up.
pub fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    bind(address, backlog, Whose::Ours)
}

/// Whether an address has to be one of this machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Ours,
    /// Not yet, or seen from outside alone: a floating address that a cloud provider routes here
    /// (`IP_FREEBIND`, ip(7)).
    Anybodys,
}

fn bind(address: SocketAddr, backlog: u32, whose: Whose) -> io::Result<TcpListener> {
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
    if whose == Whose::Anybodys {
        allow_any(&socket, address)?;
    }
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
    listen_each_of(address, count, backlog, Whose::Ours)
}

/// [`listen_each`] for an address that may be anybody's.
pub fn listen_each_of(
    address: SocketAddr,
    count: usize,
    backlog: u32,
    whose: Whose,
) -> io::Result<Vec<TcpListener>> {
    refuse_if_taken(address, whose)?;
    let first = bind(address, backlog, whose)?;
    let address = first.local_addr()?;
    let mut all = vec![first];
    for _ in 1..count {
        all.push(bind(address, backlog, whose)?);
    }
    Ok(all)
}

/// Ends a listener at once, whoever else has a handle of it and whatever its worker is doing: new
/// connections are refused from now on (shutdown(2) of a listening socket, as Linux does it). Its
/// port is free when the last handle is closed.
pub fn stop_listening(listener: &TcpListener) -> io::Result<()> {
    SockRef::from(listener).shutdown(Shutdown::Both)
}

fn allow_any(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true),
        SocketAddr::V6(_) => socket.set_freebind_v6(true),
    }
}

/// `SO_REUSEPORT` would share a port with another process of the same user without a word, and half
/// of the connections would go there. A bind without it fails as it should.
fn refuse_if_taken(address: SocketAddr, whose: Whose) -> io::Result<()> {
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
    if whose == Whose::Anybodys {
        allow_any(&probe, address)?;
    }
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

    #[test]
    fn an_address_of_another_machine_is_possible_when_asked_for() {
        let address = SocketAddr::from(([192, 0, 2, 1], 0));
        assert!(listen(address, 16).is_err());
        assert!(listen_each_of(address, 2, 16, Whose::Anybodys).is_ok());
    }

    #[test]
    fn stops_at_once_though_others_hold_it() {
        let listener = listen(([127, 0, 0, 1], 0).into(), 16).unwrap();
        let address = listener.local_addr().unwrap();
        let handle = listener.try_clone().unwrap();
        assert!(std::net::TcpStream::connect(address).is_ok());
        stop_listening(&handle).unwrap();
        assert!(std::net::TcpStream::connect(address).is_err());
        drop((listener, handle));
        assert!(listen_each(address, 1, 16).is_ok());
    }
}
