//! Whether an interface hears anything at all. That nobody answers for an address says something only to
//! those who would hear the answer: a line that is cut one way leaves a server that asks and is deaf.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use trilith_base::BootTime;

use super::socket::Family;
use crate::limits::{GATEWAYS_MAX, HEARING_VALID, ROUTES_BYTES_MAX};

/// What one interface has received.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hearing {
    frames: Option<u64>,
    last: Option<BootTime>,
}

impl Hearing {
    /// The interface's counter of received frames, as read at `now`. Whether it grew lately.
    pub fn heard(&mut self, frames: u64, now: BootTime) -> bool {
        // A counter that begins anew belongs to another interface.
        if self.frames.is_some_and(|before| frames > before) {
            self.last = Some(now);
        }
        self.frames = Some(frames);
        self.last
            .is_some_and(|last| now.since(last) <= HEARING_VALID)
    }

    /// For how long nothing was heard, for people.
    pub fn silence(&self, now: BootTime) -> Option<Duration> {
        self.last.map(|last| now.since(last))
    }
}

/// The gateways of the default routes over that interface: whoever else is silent, they answer, and with
/// them the way to most users is there. None when the system does not say.
pub fn gateways(interface: &str, family: Family) -> Vec<IpAddr> {
    let path = match family {
        Family::V4 => "/proc/self/net/route",
        Family::V6 => "/proc/self/net/ipv6_route",
    };
    let mut text = String::new();
    // A router may have a million routes; the shortest prefix comes first.
    let read =
        File::open(path).and_then(|file| (file.take(ROUTES_BYTES_MAX)).read_to_string(&mut text));
    match (read, family) {
        (Err(_), _) => Vec::new(),
        (Ok(_), Family::V4) => listed(&text, interface, v4),
        (Ok(_), Family::V6) => listed(&text, interface, v6),
    }
}

fn listed(
    text: &str,
    interface: &str,
    gateway: fn(&[&str], &str) -> Option<IpAddr>,
) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let Some(ip) = gateway(&fields, interface)
            && !found.contains(&ip)
            && found.len() < GATEWAYS_MAX
        {
            found.push(ip);
        }
    }
    found
}

/// Interface, destination, gateway, flags, ..., mask as the eighth; numbers as the machine has them in memory
/// (net/ipv4/fib_trie.c, fib_route_seq_show).
fn v4(fields: &[&str], interface: &str) -> Option<IpAddr> {
    let [name, "00000000", gateway, _, _, _, _, "00000000", ..] = fields else {
        return None;
    };
    let gateway = u32::from_str_radix(gateway, 16).ok()?;
    let gateway = Ipv4Addr::from(gateway.to_ne_bytes());
    (*name == interface && !gateway.is_unspecified()).then_some(IpAddr::V4(gateway))
}

/// Destination, its length, source, its length, gateway, ..., interface as the tenth (net/ipv6/route.c,
/// ipv6_route_native_seq_show).
fn v6(fields: &[&str], interface: &str) -> Option<IpAddr> {
    let [_, "00", _, _, gateway, _, _, _, _, name] = fields else {
        return None;
    };
    let gateway = Ipv6Addr::from(u128::from_str_radix(gateway, 16).ok()?);
    (*name == interface && !gateway.is_unspecified()).then_some(IpAddr::V6(gateway))
}

#[cfg(test)]
mod tests;
