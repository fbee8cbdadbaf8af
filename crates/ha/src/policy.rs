//! What the configuration wants.

use std::collections::BTreeSet;
use std::time::Duration;

use trilith_base::{BootTime, ServerName};

use crate::limits;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub me: ServerName,
    /// All database servers, this one included, in the order of the file.
    pub servers: Vec<ServerName>,
    /// Whether commits wait for replicas.
    pub synchronous: bool,
    /// How long the lease lasts without renewal, 100 ms to 1 h.
    pub ttl: Duration,
    /// So long before the lease ends PostgreSQL is stopped. Less than half of `ttl`.
    pub stop_budget: Duration,
}

impl Policy {
    pub fn new(me: ServerName, servers: Vec<ServerName>, synchronous: bool) -> Self {
        Self {
            me,
            servers,
            synchronous,
            ttl: limits::LEASE_TTL,
            stop_budget: limits::STOP_BUDGET,
        }
    }

    /// Until when a primary may run whose lease was asked for, or renewed, by a call that began then.
    pub fn deadline(&self, asked_at: BootTime) -> BootTime {
        let lasts = self
            .ttl
            .saturating_sub(self.stop_budget)
            .saturating_sub(self.ttl / limits::DRIFT_DIVISOR);
        asked_at + lasts
    }

    /// The place of this server in the file.
    pub(crate) fn order(&self) -> u32 {
        let order = self.servers.iter().position(|server| *server == self.me);
        u32::try_from(order.unwrap_or(self.servers.len())).unwrap_or(u32::MAX)
    }

    /// Of these, those that the file lists as other database servers.
    pub(crate) fn others(&self, names: &BTreeSet<ServerName>) -> BTreeSet<ServerName> {
        let listed = |name: &&ServerName| **name != self.me && self.servers.contains(name);
        names.iter().filter(listed).cloned().collect()
    }
}
