//! The few frames of ARP and neighbour discovery that floating addresses need, as bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    const BROADCAST: Self = Self([0xff; 6]);
    const ALL_NODES: Self = Self([0x33, 0x33, 0, 0, 0, 1]);
}

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl std::fmt::Debug for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// What a probe under a lease carries, so that an orphan gives way: in the target's hardware address of
/// an ARP request, which receivers ignore (RFC 5227, 2.1.1), or as the nonce of a neighbour solicitation
/// (RFC 7527).
pub const MARK: [u8; 6] = *b"\x02TRLTH";

/// What somebody said about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    pub ip: IpAddr,
    pub mac: Mac,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// That it is theirs.
    Claim,
    /// Whether somebody has it.
    Probe { marked: bool },
}

/// Asks whether anybody has the address, without claiming it (RFC 5227, 2.1.1; RFC 4862, 5.4.2).
pub fn probe(from: Mac, ip: IpAddr, marked: bool) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => {
            let target = if marked { Mac(MARK) } else { Mac([0; 6]) };
            arp(REQUEST, from, Ipv4Addr::UNSPECIFIED, target, ip)
        }
        IpAddr::V6(ip) => solicitation(from, ip, marked),
    }
}

/// Tells everybody that the address is here now: both forms of gratuitous ARP, because some equipment
/// heeds only one of them; or an unsolicited neighbour advertisement (RFC 4861, 7.2.6).
pub fn announcements(from: Mac, ip: IpAddr) -> Vec<Vec<u8>> {
    match ip {
        IpAddr::V4(ip) => vec![
            arp(REQUEST, from, ip, Mac([0; 6]), ip),
            arp(REPLY, from, ip, from, ip),
        ],
        IpAddr::V6(ip) => vec![advertisement(from, ip)],
    }
}

/// Reads one frame; `None` when it says nothing about who has an address.
pub fn read(frame: &[u8]) -> Option<Sighting> {
    match u16::from_be_bytes(bytes(frame, 12)?) {
        ETHERTYPE_ARP => read_arp(frame),
        ETHERTYPE_IPV6 => read_neighbour(frame),
        _ => None,
    }
}

pub const ETHERTYPE_ARP: u16 = 0x0806;
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

// ARP over Ethernet (RFC 826): 14 bytes of Ethernet, 28 bytes of ARP, padded to the shortest frame.

const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const FRAME_BYTES_MIN: usize = 60;

fn arp(operation: u16, from: Mac, sender: Ipv4Addr, target_mac: Mac, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(Mac::BROADCAST, from, ETHERTYPE_ARP);
    // Ethernet, IPv4, lengths of their addresses.
    frame.extend_from_slice(&[0, 1, 8, 0, 6, 4]);
    frame.extend_from_slice(&operation.to_be_bytes());
    frame.extend_from_slice(&from.0);
    frame.extend_from_slice(&sender.octets());
    frame.extend_from_slice(&target_mac.0);
    frame.extend_from_slice(&target.octets());
    frame.resize(FRAME_BYTES_MIN, 0);
    frame
}

fn read_arp(frame: &[u8]) -> Option<Sighting> {
    if bytes(frame, 14)? != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let operation = u16::from_be_bytes(bytes(frame, 20)?);
    let mac = Mac(bytes(frame, 22)?);
    let sender = Ipv4Addr::from(bytes::<4>(frame, 28)?);
    let target_mac: [u8; 6] = bytes(frame, 32)?;
    let target = Ipv4Addr::from(bytes::<4>(frame, 38)?);
    let (ip, kind) = if sender.is_unspecified() {
        let marked = target_mac == MARK;
        (operation == REQUEST).then_some((target, Kind::Probe { marked }))?
    } else {
        (sender, Kind::Claim)
    };
    Some(Sighting {
        ip: IpAddr::V4(ip),
        mac,
        kind,
    })
}

// Neighbour discovery (RFC 4861): 14 bytes of Ethernet, 40 of IPv6, then ICMPv6.

const ICMPV6: u8 = 58;
pub const SOLICITATION: u8 = 135;
pub const ADVERTISEMENT: u8 = 136;
const HOP_LIMIT: u8 = 255;
const OPTION_SOURCE_MAC: u8 = 1;
const OPTION_TARGET_MAC: u8 = 2;
const OPTION_NONCE: u8 = 14;
const FLAG_OVERRIDE: u8 = 0x20;
const ICMP_AT: usize = 14 + 40;
/// Options of one packet that are looked at.
const OPTIONS_MAX: usize = 16;

fn solicitation(from: Mac, ip: Ipv6Addr, marked: bool) -> Vec<u8> {
    let [.., a, b, c] = ip.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    let option = marked.then_some((OPTION_NONCE, MARK));
    let to = Mac([0x33, 0x33, 0xff, a, b, c]);
    neighbour(
        to,
        from,
        Ipv6Addr::UNSPECIFIED,
        group,
        SOLICITATION,
        0,
        ip,
        option,
    )
}

fn advertisement(from: Mac, ip: Ipv6Addr) -> Vec<u8> {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let option = Some((OPTION_TARGET_MAC, from.0));
    neighbour(
        Mac::ALL_NODES,
        from,
        ip,
        all_nodes,
        ADVERTISEMENT,
        FLAG_OVERRIDE,
        ip,
        option,
    )
}

#[allow(clippy::too_many_arguments)]
fn neighbour(
    to: Mac,
    from: Mac,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
    option: Option<(u8, [u8; 6])>,
) -> Vec<u8> {
    let mut icmp = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    icmp.extend_from_slice(&target.octets());
    if let Some((kind, value)) = option {
        // The length counts in units of 8 bytes.
        icmp.extend_from_slice(&[kind, 1]);
        icmp.extend_from_slice(&value);
    }
    let length = u16::try_from(icmp.len()).unwrap_or(u16::MAX);
    let sum = checksum(source, destination, &icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut frame = ethernet(to, from, ETHERTYPE_IPV6);
    frame.extend_from_slice(&[0x60, 0, 0, 0]);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&[ICMPV6, HOP_LIMIT]);
    frame.extend_from_slice(&source.octets());
    frame.extend_from_slice(&destination.octets());
    frame.extend_from_slice(&icmp);
    frame
}

/// Of ICMPv6 with its pseudo-header (RFC 4443, 2.3; RFC 8200, 8.1).
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, icmp: &[u8]) -> u16 {
    let length = u32::try_from(icmp.len()).unwrap_or(u32::MAX);
    let mut whole = Vec::with_capacity(40 + icmp.len());
    whole.extend_from_slice(&source.octets());
    whole.extend_from_slice(&destination.octets());
    whole.extend_from_slice(&length.to_be_bytes());
    whole.extend_from_slice(&[0, 0, 0, ICMPV6]);
    whole.extend_from_slice(icmp);
    let mut sum: u32 = whole
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

fn read_neighbour(frame: &[u8]) -> Option<Sighting> {
    // Behind a router the hop limit is smaller: what comes from further away than this network is forged.
    let [next, hops] = bytes(frame, 20)?;
    if next != ICMPV6 || hops != HOP_LIMIT {
        return None;
    }
    let source = Ipv6Addr::from(bytes::<16>(frame, 22)?);
    let destination = Ipv6Addr::from(bytes::<16>(frame, 38)?);
    let length = usize::from(u16::from_be_bytes(bytes(frame, 18)?));
    let icmp = frame.get(ICMP_AT..ICMP_AT.checked_add(length)?)?;
    if checksum(source, destination, icmp) != 0 {
        return None;
    }
    let target = Ipv6Addr::from(bytes::<16>(icmp, 8)?);
    let sender = Mac(bytes(frame, 6)?);
    let sighting = |ip, mac, kind| {
        Some(Sighting {
            ip: IpAddr::V6(ip),
            mac,
            kind,
        })
    };
    match icmp[0] {
        ADVERTISEMENT => {
            let mac = option(icmp, OPTION_TARGET_MAC).map_or(sender, Mac);
            sighting(target, mac, Kind::Claim)
        }
        SOLICITATION if source.is_unspecified() => {
            let marked = option(icmp, OPTION_NONCE) == Some(MARK);
            sighting(target, sender, Kind::Probe { marked })
        }
        SOLICITATION => {
            let mac = option(icmp, OPTION_SOURCE_MAC).map_or(sender, Mac);
            sighting(source, mac, Kind::Claim)
        }
        _ => None,
    }
}

/// The value of the first option of that kind that is 8 bytes long with its head.
fn option(icmp: &[u8], kind: u8) -> Option<[u8; 6]> {
    let mut at = 24;
    for _ in 0..OPTIONS_MAX {
        let [this, units] = bytes(icmp, at)?;
        match (this == kind, units) {
            (_, 0) => return None,
            (true, 1) => return bytes(icmp, at + 2),
            _ => at += usize::from(units) * 8,
        }
    }
    None
}

fn ethernet(to: Mac, from: Mac, ethertype: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(96);
    frame.extend_from_slice(&to.0);
    frame.extend_from_slice(&from.0);
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame
}

fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests;
