//! What can be asked of the state, all or nothing.

use std::sync::Arc;
use std::time::Duration;

use trilith_base::ServerName;

use crate::name::Key;
use crate::view::{Epoch, Revision};

/// Writes that happen together, if every condition holds at that moment; otherwise nothing happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub conditions: Vec<Condition>,
    /// Done in this order; a later one sees what an earlier one did.
    pub writes: Vec<Write>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// There is no entry of that name.
    Absent { key: Key },
    /// The entry is there and was last written at that revision.
    Unchanged { key: Key, version: Revision },
    /// Nobody holds the lease.
    Free { lease: Key },
    /// The lease is held under that epoch.
    Held { lease: Key, epoch: Epoch },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    Put {
        key: Key,
        value: Arc<[u8]>,
    },
    /// Nothing happens when it is not there.
    Delete {
        key: Key,
    },
    /// Grants a lease. It implies [`Condition::Free`]. The epoch is the revision of this transaction.
    Grant {
        lease: Key,
        holder: ServerName,
        /// How long it lasts without renewal. 100 ms to 1 h.
        ttl: Duration,
    },
    /// Gives a lease back before its end. It implies [`Condition::Held`].
    Revoke {
        lease: Key,
        epoch: Epoch,
    },
}

/// What the replicated log carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Txn(Txn),
    /// A lease ran out: proposed by whoever keeps its time (the leader). Nothing happens when it is no
    /// longer held under that epoch.
    Expire {
        lease: Key,
        epoch: Epoch,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was done, at that revision.
    Done { revision: Revision },
    /// Nothing was done: condition number `index` did not hold (counted over `conditions`, then over
    /// `writes`, whose own conditions count too).
    Refused { index: usize },
}

impl Txn {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn when(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }

    pub fn then(mut self, write: Write) -> Self {
        self.writes.push(write);
        self
    }

    /// Takes a lease if nobody holds it.
    pub fn grant(lease: Key, holder: ServerName, ttl: Duration) -> Self {
        Self::new().then(Write::Grant { lease, holder, ttl })
    }

    /// Gives a lease back.
    pub fn revoke(lease: Key, epoch: Epoch) -> Self {
        Self::new().then(Write::Revoke { lease, epoch })
    }

    /// Writes an entry that is still as it was when read: `version` is `None` when it was not there.
    pub fn compare_and_set(
        key: Key,
        version: Option<Revision>,
        value: impl Into<Arc<[u8]>>,
    ) -> Self {
        let condition = match version {
            None => Condition::Absent { key: key.clone() },
            Some(version) => Condition::Unchanged {
                key: key.clone(),
                version,
            },
        };
        Self::new().when(condition).then(Write::Put {
            key,
            value: value.into(),
        })
    }
}
