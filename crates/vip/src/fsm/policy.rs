//! What does not change while an address is looked after, and the store's side of it.

use std::net::IpAddr;
use std::time::Duration;

use trilith_base::{BootTime, ServerName};
use trilith_consensus::{Condition, Epoch, Key, Revision, Txn, Write};

use crate::limits::{
    DRIFT_DIVISOR, HELD_DELAY, KERNEL_LIFETIME_PERCENT, KERNEL_LIFETIME_SECONDS_MAX, ORDER_DELAY,
    RENEW_EVERY, STOP_BUDGET, TTL,
};

/// How one address is looked after on one server.
#[derive(Clone, Debug)]
pub struct Policy {
    pub me: ServerName,
    pub ip: IpAddr,
    /// `vip/<ip>`.
    pub lease: Key,
    /// `vip/<ip>/wanted`.
    pub wanted: Key,
    /// Servers that may hold it, in file order.
    pub edges: Vec<ServerName>,
    /// Whose it is when nobody ever held it.
    pub preferred: Option<ServerName>,
    pub ttl: Duration,
    pub renew_every: Duration,
    pub stop_budget: Duration,
    /// The kernel gives the address a lifetime, which has to be set anew.
    pub lifetime: bool,
    /// Ask the network before taking.
    pub probe: bool,
    /// Take it without quorum when nobody answers for it. Of use only with `probe`.
    pub orphan: bool,
}

impl Policy {
    /// With the intervals of [`crate::limits`], no lifetime, no probes. `index` is the address's place
    /// among all: the addresses are spread over the edges in file order.
    pub fn new(ip: IpAddr, index: usize, me: ServerName, edges: Vec<ServerName>) -> Self {
        let preferred = edges.get(index % edges.len().max(1)).cloned();
        Self {
            me,
            ip,
            lease: lease_key(ip),
            wanted: wanted_key(ip),
            edges,
            preferred,
            ttl: TTL,
            renew_every: RENEW_EVERY,
            stop_budget: STOP_BUDGET,
            lifetime: false,
            probe: false,
            orphan: false,
        }
    }

    /// As in mode `l2`.
    pub fn with_network(mut self, orphan: bool) -> Self {
        self.lifetime = true;
        self.probe = true;
        self.orphan = orphan;
        self
    }

    /// Until when an address may be held whose lease was asked for at that time.
    pub(crate) fn deadline(&self, asked_at: BootTime) -> BootTime {
        let lasts = self
            .ttl
            .saturating_sub(self.stop_budget)
            .saturating_sub(self.ttl / DRIFT_DIVISOR);
        asked_at + lasts
    }

    /// The next of this machine's times to renew. They are the same for all addresses, so that the
    /// kernel's lifetimes are set at about the same moment: setting one puts off looking at the others by
    /// a second (`check_lifetime`).
    pub(crate) fn next_renewal(&self, now: BootTime) -> BootTime {
        let every = self.renew_every.as_nanos().max(1);
        let next = (now.0.as_nanos() / every + 1) * every;
        BootTime(Duration::from_nanos(
            u64::try_from(next).unwrap_or(u64::MAX),
        ))
    }

    /// The longest lifetime that the kernel surely ends before `until`.
    pub(crate) fn seconds(&self, now: BootTime, until: BootTime) -> u32 {
        let seconds =
            until.since(now).as_millis() * 100 / 1_000 / u128::from(KERNEL_LIFETIME_PERCENT);
        u32::try_from(seconds)
            .unwrap_or(u32::MAX)
            .min(KERNEL_LIFETIME_SECONDS_MAX)
    }

    /// Place of this server in the file.
    pub(crate) fn order(&self) -> u32 {
        let order = self.edges.iter().position(|edge| *edge == self.me);
        u32::try_from(order.unwrap_or(self.edges.len())).unwrap_or(u32::MAX)
    }

    /// Who has fewer addresses comes first, then who is first in the file.
    pub(crate) fn small_delay(&self, held: u32) -> Duration {
        HELD_DELAY * held.min(1_000) + ORDER_DELAY * self.order().min(1_000)
    }
}

/// The lease of an address.
#[allow(clippy::expect_used)]
pub fn lease_key(ip: IpAddr) -> Key {
    // Digits, hex digits, dots and colons: always a key.
    Key::new(&format!("vip/{ip}")).expect("an address is a part of a key")
}

/// Where an operator says who shall hold an address: the name of a server.
#[allow(clippy::expect_used)]
pub fn wanted_key(ip: IpAddr) -> Key {
    Key::new(&format!("vip/{ip}/wanted")).expect("an address is a part of a key")
}

/// What [`crate::Effect::Grant`] commits: the lease, and with it the operator's wish is fulfilled or has
/// passed. A wish that was written meanwhile is not lost: then the grant is refused.
pub fn grant_txn(policy: &Policy, forget: Option<Revision>) -> Txn {
    let txn = Txn::grant(policy.lease.clone(), policy.me.clone(), policy.ttl);
    let key = policy.wanted.clone();
    match forget {
        None => txn,
        Some(version) => txn
            .when(Condition::Unchanged {
                key: key.clone(),
                version,
            })
            .then(Write::Delete { key }),
    }
}

/// What [`crate::Effect::Revoke`] commits.
pub fn revoke_txn(policy: &Policy, epoch: Epoch) -> Txn {
    Txn::revoke(policy.lease.clone(), epoch)
}

/// What [`crate::Effect::Forget`] commits.
pub fn forget_txn(policy: &Policy, epoch: Epoch, version: Revision) -> Txn {
    let key = policy.wanted.clone();
    Txn::new()
        .when(Condition::Held {
            lease: policy.lease.clone(),
            epoch,
        })
        .when(Condition::Unchanged {
            key: key.clone(),
            version,
        })
        .then(Write::Delete { key })
}
