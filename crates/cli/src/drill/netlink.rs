//! Two questions to the kernel (netlink(7)): which addresses are there, and which sockets listen.
//!
//! A socket belongs to the namespace it was opened in, wherever it is used from.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};

const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;
const MESSAGE_ERROR: u16 = 2;
const MESSAGE_DONE: u16 = 3;
/// `RTM_NEWADDR`, `RTM_GETADDR` (rtnetlink(7)).
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const ADDRESS_ATTRIBUTE: u16 = 1;
const LOCAL_ATTRIBUTE: u16 = 2;
/// `SOCK_DIAG_BY_FAMILY` (sock_diag(7)).
const BY_FAMILY: u16 = 20;
const TCP: u8 = 6;
const TCP_LISTEN: u32 = 10;
const HEADER: usize = 16;
const BUFFER_BYTES: usize = 64 * 1024;
/// Messages of one answer, should the kernel never end it.
const PARTS_MAX: usize = 10_000;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Asks about addresses.
pub struct Addresses(OwnedFd);

/// Asks about listening sockets.
pub struct Listeners(OwnedFd);

impl Addresses {
    /// Of the namespace that this thread is in.
    pub fn open() -> io::Result<Self> {
        // NETLINK_ROUTE is protocol 0, which socket(2) takes for "the usual one".
        open(None).map(Self)
    }

    /// Whether an interface has this address.
    pub fn has(&self, wanted: IpAddr) -> io::Result<bool> {
        let mut found = false;
        let body = [family(wanted), 0, 0, 0, 0, 0, 0, 0];
        dump(&self.0, GET_ADDRESS, &body, |kind, message| {
            found |= kind == NEW_ADDRESS && address_in(message) == Some(wanted);
        })?;
        Ok(found)
    }
}

impl Listeners {
    pub fn open() -> io::Result<Self> {
        open(Some(netlink::SOCK_DIAG)).map(Self)
    }

    /// Inodes of the sockets that listen on exactly this address.
    pub fn on(&self, address: IpAddr, port: u16) -> io::Result<Vec<u32>> {
        // struct inet_diag_req_v2: family, protocol, extensions, padding, states, socket id.
        let mut body = vec![family(address), TCP, 0, 0];
        body.extend((1u32 << TCP_LISTEN).to_ne_bytes());
        body.resize(56, 0);
        let mut inodes = Vec::new();
        dump(&self.0, BY_FAMILY, &body, |_, message| {
            if let Some((at, inode)) = listener_in(message)
                && at == (address, port)
            {
                inodes.push(inode);
            }
        })?;
        Ok(inodes)
    }
}

fn family(address: IpAddr) -> u8 {
    // AF_INET and AF_INET6 of Linux.
    if address.is_ipv4() { 2 } else { 10 }
}

/// `struct ifaddrmsg` (8 bytes), then attributes. On a point-to-point link only the local one is
/// ours.
fn address_in(message: &[u8]) -> Option<IpAddr> {
    let (mut address, mut local) = (None, None);
    let mut rest = message.get(8..)?;
    while let (Some(length), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let value = rest.get(4..usize::from(length))?;
        match kind {
            ADDRESS_ATTRIBUTE => address = ip(value),
            LOCAL_ATTRIBUTE => local = ip(value),
            _ => {}
        }
        let Some(next) = rest.get(align(usize::from(length).max(4))..) else {
            break;
        };
        rest = next;
    }
    local.or(address)
}

/// `struct inet_diag_msg`: the socket's address and port, and its inode.
fn listener_in(message: &[u8]) -> Option<((IpAddr, u16), u32)> {
    let bytes = match message.first()? {
        2 => message.get(8..12)?,
        10 => message.get(8..24)?,
        _ => return None,
    };
    let port = u16::from_be_bytes(message.get(4..6)?.try_into().ok()?);
    Some(((ip(bytes)?, port), u32_at(message, 68)?))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(four).into());
    }
    let sixteen = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Ipv6Addr::from(sixteen).into())
}

fn open(protocol: Option<rustix::net::Protocol>) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        protocol,
    )?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ANSWER_TIMEOUT))?;
    Ok(socket)
}

/// Asks for all there is, and hands over each message of the answer: its type and its body.
fn dump(
    socket: &OwnedFd,
    kind: u16,
    body: &[u8],
    mut each: impl FnMut(u16, &[u8]),
) -> io::Result<()> {
    let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
    let mut request = Vec::with_capacity(HEADER + body.len());
    request.extend(length.to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend((REQUEST | DUMP).to_ne_bytes());
    // Sequence number and sender: one question at a time needs neither.
    request.extend([0; 8]);
    request.extend(body);
    rustix::net::send(socket, &request, SendFlags::empty())?;
    let mut buffer = vec![0; BUFFER_BYTES];
    for _ in 0..PARTS_MAX {
        let (received, _) = rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty())?;
        let mut rest = buffer.get(..received).unwrap_or_default();
        while let (Some(length), Some(kind)) = (u32_at(rest, 0), u16_at(rest, 4)) {
            let length = length as usize;
            let Some(message) = rest.get(HEADER..length) else {
                return Err(io::Error::other("netlink: a message that is cut off"));
            };
            match kind {
                MESSAGE_DONE => return Ok(()),
                MESSAGE_ERROR => {
                    let code = u32_at(message, 0).unwrap_or_default().cast_signed();
                    return Err(io::Error::from_raw_os_error(-code));
                }
                kind => each(kind, message),
            }
            rest = rest.get(align(length)..).unwrap_or_default();
        }
    }
    Err(io::Error::other("netlink: an answer without an end"))
}

fn align(length: usize) -> usize {
    length.div_ceil(4) * 4
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn listeners_come_and_go() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let eyes = Listeners::open().unwrap();
        assert_eq!(eyes.on(address.ip(), address.port()).unwrap().len(), 1);
        let other = IpAddr::from([127, 0, 0, 2]);
        assert!(eyes.on(other, address.port()).unwrap().is_empty());
        drop(listener);
        assert!(eyes.on(address.ip(), address.port()).unwrap().is_empty());
    }

    #[test]
    fn addresses_of_this_machine() {
        let eyes = Addresses::open().unwrap();
        // TEST-NET-3 (RFC 5737) is nobody's.
        assert!(!eyes.has(IpAddr::from([203, 0, 113, 1])).unwrap());
        // A network namespace may have its loopback interface down and without addresses.
        let up = std::fs::read_to_string("/proc/net/fib_trie").unwrap();
        assert_eq!(
            eyes.has(IpAddr::from([127, 0, 0, 1])).unwrap(),
            up.contains("127.0.0.1")
        );
    }

    #[test]
    fn garbage_is_no_answer() {
        assert_eq!(address_in(&[0; 3]), None);
        assert_eq!(address_in(&[0; 40]), None);
        assert_eq!(address_in(&[0xff; 40]), None);
        assert_eq!(listener_in(&[2; 20]), None);
        assert_eq!(listener_in(&[]), None);
    }
}
