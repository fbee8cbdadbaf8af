//! The floating addresses as the servers' kernels have them, and the guard of `loopback` mode.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::environment::nanos;
use crate::executor::{Nanos, executor};
use crate::limits::{AFTER_SUSPEND, ORPHAN_STAYS_MAX};
use crate::world::name_of;

/// Who has which address.
pub struct Kernel {
    servers: Vec<Machine>,
    /// Since when an orphan and a holder under a lease have the address and hear each other: address,
    /// orphan, holder.
    beside: BTreeMap<(IpAddr, usize, usize), Nanos>,
    /// The same of two under a lease, which is to be but for a moment after a suspend.
    both: BTreeMap<(IpAddr, usize, usize), Nanos>,
    /// The longest that two had an address under a lease.
    longest: Nanos,
}

#[derive(Default)]
struct Machine {
    addresses: Vec<Address>,
    suspended: Option<Nanos>,
    woke_at: Option<Nanos>,
}

#[derive(Clone, Debug)]
struct Address {
    ip: IpAddr,
    /// True time at which the kernel removes it.
    expires: Option<Nanos>,
    /// Without a lease.
    orphan: bool,
    /// Removed by nothing any more: a planted mistake.
    immortal: bool,
    /// By a process that was killed.
    left: bool,
}

/// By what right an address is on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    Lease,
    Orphan,
}

impl Kernel {
    pub fn new(servers: usize) -> Self {
        Self {
            servers: (0..servers).map(|_| Machine::default()).collect(),
            beside: BTreeMap::new(),
            both: BTreeMap::new(),
            longest: 0,
        }
    }

    pub fn set(&mut self, server: usize, ip: IpAddr, expires: Option<Nanos>, orphan: bool) {
        let addresses = &mut self.servers[server].addresses;
        addresses.retain(|address| address.ip != ip);
        addresses.push(Address {
            ip,
            expires,
            orphan,
            immortal: false,
            left: false,
        });
    }

    /// Sets the lifetime anew; whether the address was there.
    pub fn refresh(&mut self, server: usize, ip: IpAddr, expires: Nanos) -> bool {
        let address = self.servers[server]
            .addresses
            .iter_mut()
            .find(|a| a.ip == ip);
        address.is_some_and(|address| {
            address.expires = Some(expires);
            true
        })
    }

    /// Whether it is held without a lease. One that was stays so until it is gone, or its lease granted.
    pub fn set_orphan(&mut self, server: usize, ip: IpAddr, orphan: bool) {
        for address in &mut self.servers[server].addresses {
            if address.ip == ip {
                address.orphan = orphan;
            }
        }
    }

    pub fn remove(&mut self, server: usize, ip: IpAddr) {
        self.servers[server]
            .addresses
            .retain(|address| address.ip != ip);
    }

    /// Whether the machine sleeps.
    pub fn sleeps(&self, server: usize) -> bool {
        self.servers[server].suspended.is_some()
    }

    /// Whether the machine woke from a suspend so lately.
    pub fn woke_within(&self, server: usize, now: Nanos, time: Nanos) -> bool {
        let woke_at = self.servers[server].woke_at;
        woke_at.is_some_and(|at| now < at + time)
    }

    /// Whether the server has it now.
    pub fn has(&self, server: usize, ip: IpAddr, now: Nanos) -> bool {
        self.address(server, ip, now).is_some()
    }

    fn address(&self, server: usize, ip: IpAddr, now: Nanos) -> Option<&Address> {
        let machine = &self.servers[server];
        machine.addresses.iter().find(|address| {
            let in_time = match (address.expires, machine.suspended) {
                _ if address.immortal => true,
                (None, _) => true,
                // The kernel counts a lifetime in ticks, which stand still with the machine.
                (Some(at), Some(since)) => at > since,
                (Some(at), None) => at > now,
            };
            address.ip == ip && in_time
        })
    }

    /// Those of `among` that have it now and answer.
    pub fn holders(&self, ip: IpAddr, now: Nanos) -> Vec<usize> {
        (0..self.servers.len())
            .filter(|server| {
                self.servers[*server].suspended.is_none() && self.has(*server, ip, now)
            })
            .collect()
    }

    /// Two servers with the same address under a lease, if there are and should not be. To be called at
    /// every step: it counts since when.
    pub fn two_holders(&mut self, now: Nanos) -> Option<String> {
        let mut found = BTreeMap::new();
        for (first, machine) in self.servers.iter().enumerate() {
            for ip in machine.addresses.iter().map(|address| address.ip) {
                for second in first + 1..self.servers.len() {
                    let both = [first, second];
                    if both.map(|s| self.serves(s, ip, now)) == [Some(Right::Lease); 2] {
                        let pair = (ip, first, second);
                        let since = self.both.get(&pair).copied();
                        found.insert(pair, since.unwrap_or(now));
                    }
                }
            }
        }
        self.both = found;
        let lengths = self.both.values().map(|since| now - since);
        self.longest = lengths.fold(self.longest, Nanos::max);
        let just_woke = |server: usize| {
            let woke_at = self.servers[server].woke_at;
            woke_at.is_some_and(|at| now < at + nanos(AFTER_SUSPEND))
        };
        let mut pairs = self.both.keys();
        let wrong = pairs.find(|(_, first, second)| !just_woke(*first) && !just_woke(*second));
        wrong.map(|(ip, first, second)| {
            let (first, second) = (name_of(*first), name_of(*second));
            format!("{first} and {second} both hold {ip}")
        })
    }

    /// The longest that two servers had an address under a lease, as far as [`Kernel::two_holders`] saw.
    pub fn longest_with_two(&self) -> Duration {
        Duration::from_nanos(self.longest)
    }

    fn serves(&self, server: usize, ip: IpAddr, now: Nanos) -> Option<Right> {
        let awake = self.servers[server].suspended.is_none();
        let address = self.address(server, ip, now).filter(|_| awake)?;
        Some(match address.orphan {
            true => Right::Orphan,
            false => Right::Lease,
        })
    }

    /// An orphan that did not make way for the holder under a lease, though each hears the other. To be
    /// called at every step: it counts since when.
    pub fn orphan_that_stays(
        &mut self,
        now: Nanos,
        reach: impl Fn(usize, usize) -> bool,
    ) -> Option<String> {
        let mut found = BTreeMap::new();
        for (orphan, machine) in self.servers.iter().enumerate() {
            for ip in machine.addresses.iter().filter(|a| a.orphan).map(|a| a.ip) {
                if self.serves(orphan, ip, now).is_none() {
                    continue;
                }
                for holder in 0..self.servers.len() {
                    if self.serves(holder, ip, now) == Some(Right::Lease) && reach(orphan, holder) {
                        let pair = (ip, orphan, holder);
                        let since = self.beside.get(&pair).copied();
                        found.insert(pair, since.unwrap_or(now));
                    }
                }
            }
        }
        self.beside = found;
        let mut pairs = self.beside.iter();
        let late = pairs.find(|(_, since)| now > *since + nanos(ORPHAN_STAYS_MAX));
        late.map(|((ip, orphan, holder), _)| {
            let (orphan, holder) = (name_of(*orphan), name_of(*holder));
            format!("{orphan} keeps {ip} without a lease beside {holder}, which holds it")
        })
    }

    /// What a dead process leaves behind: listeners are gone, addresses stay until the kernel ends them.
    pub fn process_ended(&mut self, server: usize, kernel_ends: bool, immortal: bool) {
        // What ends a process while its machine sleeps is the end of the machine.
        if self.servers[server].suspended.is_some() {
            return self.machine_ended(server);
        }
        let addresses = &mut self.servers[server].addresses;
        if immortal {
            addresses
                .iter_mut()
                .for_each(|address| address.immortal = true);
        } else if !kernel_ends {
            addresses.clear();
        }
        addresses.iter_mut().for_each(|address| address.left = true);
    }

    pub fn machine_ended(&mut self, server: usize) {
        self.servers[server] = Machine::default();
    }

    pub fn suspend(&mut self, server: usize, suspended: bool, now: Nanos) {
        let machine = &mut self.servers[server];
        if suspended {
            machine.suspended.get_or_insert(now);
            // The guard has removed what a process left when it was killed. Without a guard it is there for
            // the rest of its second after the machine wakes.
            machine
                .addresses
                .retain(|address| !address.left || address.immortal);
        } else if let Some(since) = machine.suspended.take() {
            machine.woke_at = Some(now);
            for address in &mut machine.addresses {
                if let Some(at) = &mut address.expires {
                    *at += now - since;
                }
            }
        }
    }
}

/// When the kernel of a server removes an address that it was told to keep for `seconds`: that long to a
/// tenth longer.
pub fn expires_in(seconds: u32, late: u64) -> Nanos {
    let seconds = Nanos::from(seconds) * 1_000_000_000;
    executor().now() + seconds + seconds / 10 * late / 1_000
}

#[cfg(test)]
mod tests;
