//! Which port an instance is told to listen on.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use trilith_base::ServerName;

use crate::InstanceId;

#[cfg(test)]
mod tests;

/// Hands out ports, no port twice at a time.
#[derive(Clone, Debug)]
pub(crate) struct Ports {
    host: IpAddr,
    range: RangeInclusive<u16>,
    taken: Arc<Mutex<BTreeSet<u16>>>,
}

/// A port that no other instance gets while this is alive.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    taken: Arc<Mutex<BTreeSet<u16>>>,
}

impl Ports {
    pub(crate) fn new(host: IpAddr, range: RangeInclusive<u16>) -> Self {
        Self {
            host,
            range,
            taken: Arc::default(),
        }
    }

    /// A port on which nothing listens now. The search starts at a place of the instance's own, so
    /// that several servers on one machine do not race for the same ports, and one further with
    /// every `start`, so that a port some stranger took between our test and the app's bind is not
    /// tried forever.
    ///
    /// Binds and closes sockets: microseconds as long as most ports are free.
    pub(crate) fn choose(&self, server: &ServerName, id: &InstanceId, start: u32) -> Option<Port> {
        let count = u32::from(*self.range.end()).checked_sub(u32::from(*self.range.start()))? + 1;
        let first = (offset(server, id) % count).wrapping_add(start % count);
        (0..count)
            .filter_map(|step| u16::try_from((first + step) % count).ok())
            .map(|step| self.range.start() + step)
            .find_map(|number| self.take(number))
    }

    fn take(&self, number: u16) -> Option<Port> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.contains(&number) || !is_free(self.host, number) {
            return None;
        }
        taken.insert(number);
        Some(Port {
            number,
            taken: Arc::clone(&self.taken),
        })
    }
}

impl Port {
    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.number);
    }
}

/// Apps are told to listen on `HOST`, and some listen on 0.0.0.0 whatever they are told: both must
/// be free.
fn is_free(host: IpAddr, port: u16) -> bool {
    let free = |address: IpAddr| TcpListener::bind(SocketAddr::new(address, port)).is_ok();
    free(host) && free(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

fn offset(server: &ServerName, id: &InstanceId) -> u32 {
    let digest = Sha256::digest(format!("{server}/{id}"));
    u32::from_be_bytes([0, digest[0], digest[1], digest[2]])
}
