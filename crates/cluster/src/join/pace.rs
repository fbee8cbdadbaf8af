//! How often strangers may try. Pure: the time is an argument.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use trilith_base::BootTime;

use crate::limits::{
    JOIN_ADDRESSES_MAX, JOIN_BURST, JOIN_BURST_PER_ADDRESS, JOIN_INTERVAL,
    JOIN_INTERVAL_PER_ADDRESS,
};

/// Counts attempts, per address and overall, so that nobody keeps the servers busy with guesses,
/// and one who tries does not keep others out.
pub(crate) struct Pace {
    overall: Bucket,
    by_address: HashMap<IpAddr, Bucket>,
}

/// A bucket that fills with one attempt per interval, up to a burst. Kept as the time at which it
/// will be full again (the "virtual scheduling" of ITU-T I.371).
#[derive(Clone, Copy, Default)]
struct Bucket {
    full_at: BootTime,
}

impl Bucket {
    fn take(&mut self, now: BootTime, interval: Duration, burst: u32) -> bool {
        let full_at = self.full_at.max(now) + interval;
        if full_at.since(now) > interval * burst {
            return false;
        }
        self.full_at = full_at;
        true
    }
}

impl Pace {
    pub fn new() -> Self {
        Self {
            overall: Bucket::default(),
            by_address: HashMap::new(),
        }
    }

    /// Whether one more attempt from there may be made now.
    pub fn admit(&mut self, from: IpAddr, now: BootTime) -> bool {
        let from = network(from);
        if !self.by_address.contains_key(&from) && self.by_address.len() >= JOIN_ADDRESSES_MAX {
            // Those who have been away long enough count as new ones.
            self.by_address.retain(|_, bucket| bucket.full_at > now);
            if self.by_address.len() >= JOIN_ADDRESSES_MAX {
                return false;
            }
        }
        let own = self.by_address.entry(from).or_default();
        // First one's own: who exceeds it takes nothing from the others.
        own.take(now, JOIN_INTERVAL_PER_ADDRESS, JOIN_BURST_PER_ADDRESS)
            && self.overall.take(now, JOIN_INTERVAL, JOIN_BURST)
    }
}

/// An IPv6 host has a whole network of addresses to itself (RFC 4291 section 2.5.4).
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        },
    }
}

#[cfg(test)]
mod tests;
