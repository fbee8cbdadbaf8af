//! A packet socket on one interface that sees ARP, or neighbour discovery.

use std::io;

use nix::libc;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockFilter, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::frame::{ADVERTISEMENT, ETHERTYPE_ARP, ETHERTYPE_IPV6, SOLICITATION};
use crate::limits::{FRAME_BYTES_MAX, SOCKET_BUFFER_BYTES};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// ARP.
    V4,
    /// Neighbour discovery.
    V6,
}

pub struct PacketSocket {
    inner: AsyncFd<Socket>,
}

impl PacketSocket {
    /// Needs CAP_NET_RAW.
    #[allow(unsafe_code)]
    pub fn open(interface: u32, family: Family) -> io::Result<Self> {
        let ethertype = match family {
            Family::V4 => ETHERTYPE_ARP,
            Family::V6 => ETHERTYPE_IPV6,
        };
        // Protocol 0: nothing is received before the filter is in place and the interface is known.
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
        socket.set_nonblocking(true)?;
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
        if family == Family::V6 {
            socket.attach_filter(&only_neighbour_discovery())?;
        }
        socket.bind(&link_address(interface, ethertype)?)?;
        // SAFETY: a `Socket` owns its descriptor, which stays the same and open until it is dropped, and
        // `inner` is never taken out.
        let inner = unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)?;
        Ok(Self { inner })
    }

    /// One whole frame.
    pub async fn receive(&self) -> io::Result<Vec<u8>> {
        loop {
            let mut guard = self.inner.readable().await?;
            let read = guard.try_io(|inner| {
                let mut buffer = [0_u8; FRAME_BYTES_MAX];
                let read = rustix::net::recv(
                    inner.get_ref(),
                    &mut buffer,
                    rustix::net::RecvFlags::empty(),
                )?;
                Ok(buffer.get(..read.0).unwrap_or(&buffer).to_vec())
            });
            if let Ok(result) = read {
                return result;
            }
        }
    }

    /// A full queue of the interface loses the frame, as the network may.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.inner.get_ref().send(frame).map(|_| ())
    }
}

/// Neighbour solicitations and advertisements only: an interface sees a lot of other IPv6 traffic.
fn only_neighbour_discovery() -> [SockFilter; 7] {
    const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const NEXT_HEADER_AT: u32 = 14 + 6;
    const ICMP_TYPE_AT: u32 = 14 + 40;
    const WHOLE_FRAME: u32 = u32::MAX;
    // The second and third number: how many instructions to skip when equal, when not.
    [
        SockFilter::new(LOAD_BYTE, 0, 0, NEXT_HEADER_AT),
        SockFilter::new(JUMP_EQUAL, 0, 3, 58),
        SockFilter::new(LOAD_BYTE, 0, 0, ICMP_TYPE_AT),
        SockFilter::new(JUMP_EQUAL, 2, 0, u32::from(SOLICITATION)),
        SockFilter::new(JUMP_EQUAL, 1, 0, u32::from(ADVERTISEMENT)),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, WHOLE_FRAME),
    ]
}

#[allow(unsafe_code)]
fn link_address(interface: u32, ethertype: u16) -> io::Result<SockAddr> {
    let index = i32::try_from(interface).map_err(|_| io::ErrorKind::InvalidInput)?;
    let family = u16::try_from(libc::AF_PACKET).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is the address type of AF_PACKET, see packet(7); it is plain integers, and
    // shorter than the storage, which is zeroed.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = family;
    address.sll_protocol = ethertype.to_be();
    address.sll_ifindex = index;
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>())
        .map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the storage holds an address of `length` bytes, its family set to the one of that type.
    Ok(unsafe { SockAddr::new(storage, length) })
}
