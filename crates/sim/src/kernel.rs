//! The floating addresses as the servers' kernels have them, and the guard of `loopback` mode.

use std::net::IpAddr;
use std::time::Duration;

use crate::executor::{Nanos, executor};
use crate::world::name_of;

/// After a suspend, the processes that take an expired address down run before anybody is answered, but
/// not in no time: so long two may have it.
const AFTER_SUSPEND: Duration = Duration::from_millis(50);

/// Who has which address.
pub struct Kernel {
    servers: Vec<Machine>,
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
}

impl Kernel {
    pub fn new(servers: usize) -> Self {
        Self {
            servers: (0..servers).map(|_| Machine::default()).collect(),
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

    /// Two servers with the same address under a lease, if there are.
    pub fn two_holders(&self, now: Nanos) -> Option<String> {
        let leased = |server: usize, ip| {
            let machine = &self.servers[server];
            let just_woke = machine
                .woke_at
                .is_some_and(|at| now < at + AFTER_SUSPEND.as_nanos() as Nanos);
            machine.suspended.is_none()
                && !just_woke
                && self.address(server, ip, now).is_some_and(|a| !a.orphan)
        };
        for (first, machine) in self.servers.iter().enumerate() {
            for address in &machine.addresses {
                for second in first + 1..self.servers.len() {
                    if leased(first, address.ip) && leased(second, address.ip) {
                        let (first, second) = (name_of(first), name_of(second));
                        return Some(format!("{first} and {second} both hold {}", address.ip));
                    }
                }
            }
        }
        None
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
    }

    pub fn machine_ended(&mut self, server: usize) {
        self.servers[server] = Machine::default();
    }

    pub fn suspend(&mut self, server: usize, suspended: bool, now: Nanos) {
        let machine = &mut self.servers[server];
        if suspended {
            machine.suspended.get_or_insert(now);
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
