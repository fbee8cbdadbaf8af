//! Who the client is, and what servers behind us are told of it.
//!
//! From a stranger nothing is believed: what it says of itself is taken out and replaced. From a
//! proxy in `trusted_proxies` the chain is kept and extended.

use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;
use trilith_http::{Headers, Request};

use crate::limits::{FORWARDED_HOPS_MAX, REQUEST_ID_BYTES_MAX};
use crate::snapshot::is_trusted;

const FOR: &str = "X-Forwarded-For";
const PROTO: &str = "X-Forwarded-Proto";
const HOST: &str = "X-Forwarded-Host";
const REQUEST_ID: &str = "X-Request-Id";

/// Where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub client: IpAddr,
    /// The client spoke HTTPS, with us or with a trusted proxy.
    pub is_https: bool,
}

/// Finds out where a request came from, and sets its fields for the servers behind us.
/// `random` makes a request id where there is none to keep.
pub(crate) fn settle(
    request: &mut Request,
    trusted: &[IpNet],
    random: impl FnOnce() -> [u64; 2],
) -> Origin {
    let peer = request.conn.remote.ip().to_canonical();
    let is_tls = request.conn.tls.is_some();
    if is_trusted(trusted, peer) {
        return extend(request, peer, is_tls, trusted, random);
    }
    request.headers.retain(|name, _| !is_claim(name));
    let headers = &mut request.headers;
    headers.append(FOR, IpText::new(peer).as_bytes());
    headers.append(PROTO, proto(is_tls));
    if !request.host.is_empty() {
        headers.append(HOST, &request.host);
    }
    headers.append(REQUEST_ID, hex(random()));
    Origin {
        client: peer,
        is_https: is_tls,
    }
}

/// The request id of a settled request.
pub(crate) fn request_id(headers: &Headers) -> &str {
    headers.get_str(REQUEST_ID).unwrap_or_default()
}

fn extend(
    request: &mut Request,
    peer: IpAddr,
    is_tls: bool,
    trusted: &[IpNet],
    random: impl FnOnce() -> [u64; 2],
) -> Origin {
    let headers = &mut request.headers;
    let client = client_of_chain(headers, peer, trusted);
    let mut chain = Vec::new();
    for value in headers.get_all(FOR).filter(|value| !value.is_empty()) {
        chain.extend_from_slice(value);
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(IpText::new(peer).as_bytes());
    headers.set(FOR, chain);
    // The first of a list is what the client spoke with the outermost proxy.
    let claimed = headers
        .get_str(PROTO)
        .and_then(|value| value.split(',').next())
        .map(str::trim);
    let is_https = match claimed {
        Some(proto) if proto.eq_ignore_ascii_case("https") => true,
        Some(proto) if proto.eq_ignore_ascii_case("http") => false,
        _ => is_tls,
    };
    headers.set(PROTO, proto(is_https));
    if !headers.contains(HOST) && !request.host.is_empty() {
        headers.append(HOST, &request.host);
    }
    if !headers.get(REQUEST_ID).is_some_and(is_usable_id) {
        headers.set(REQUEST_ID, hex(random()));
    }
    Origin { client, is_https }
}

/// The right-most address that is no trusted proxy: everything left of it may be invented. When all
/// are trusted, the left-most.
fn client_of_chain(headers: &Headers, peer: IpAddr, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer;
    let lines: Vec<&[u8]> = headers.get_all(FOR).collect();
    let hops = lines
        .iter()
        .rev()
        .flat_map(|line| line.rsplit(|b| *b == b','));
    for hop in hops.take(FORWARDED_HOPS_MAX) {
        let Some(ip) = parse_hop(hop) else {
            // Whoever wrote it, what is left of it is no address of ours to believe.
            break;
        };
        client = ip;
        if !is_trusted(trusted, ip) {
            break;
        }
    }
    client
}

/// An address, perhaps with a port, an IPv6 one perhaps in brackets.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop.trim_ascii()).ok()?;
    let ip = match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?.parse().ok()?,
        None => match text.parse() {
            Ok(ip) => ip,
            Err(_) => text.rsplit_once(':')?.0.parse().ok()?,
        },
    };
    Some(IpAddr::to_canonical(&ip))
}

/// Whether a field claims something that only a proxy can know.
fn is_claim(name: &[u8]) -> bool {
    match name.first() {
        Some(b'x' | b'X') => {
            has_prefix(name, b"x-forwarded-")
                || name.eq_ignore_ascii_case(b"x-request-id")
                || name.eq_ignore_ascii_case(b"x-real-ip")
        }
        Some(b'f' | b'F') => name.eq_ignore_ascii_case(b"forwarded"),
        _ => false,
    }
}

fn has_prefix(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn is_usable_id(id: &[u8]) -> bool {
    (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

fn proto(is_https: bool) -> &'static str {
    if is_https { "https" } else { "http" }
}

fn hex(random: [u64; 2]) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = [0; 32];
    for (half, number) in out.chunks_exact_mut(16).zip(random) {
        for (pair, byte) in half.chunks_exact_mut(2).zip(number.to_be_bytes()) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
    }
    out
}

/// An address as text, on the stack.
struct IpText {
    text: [u8; 45],
    len: usize,
}

impl IpText {
    fn new(ip: IpAddr) -> Self {
        let mut out = Self {
            text: [0; 45],
            len: 0,
        };
        match ip {
            IpAddr::V4(v4) => out.push_v4(v4.octets()),
            // 45 bytes hold every address; a longer text would only be cut.
            IpAddr::V6(v6) => drop(write!(out, "{v6}")),
        }
        out
    }

    /// By hand: every request needs one, and `fmt` is several times slower.
    fn push_v4(&mut self, octets: [u8; 4]) {
        for (i, octet) in octets.into_iter().enumerate() {
            if i > 0 {
                self.push(b'.');
            }
            if octet >= 100 {
                self.push(b'0' + octet / 100);
            }
            if octet >= 10 {
                self.push(b'0' + octet / 10 % 10);
            }
            self.push(b'0' + octet % 10);
        }
    }

    fn push(&mut self, byte: u8) {
        self.text[self.len] = byte;
        self.len += 1;
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

impl std::fmt::Write for IpText {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        let room = self.text.get_mut(self.len..end).ok_or(std::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
