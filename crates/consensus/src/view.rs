//! The replicated state.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use trilith_base::ServerName;

use crate::error::StoreError;
use crate::limits::{
    ENTRIES_MAX, LEASE_TTL_MAX, LEASE_TTL_MIN, LEASES_MAX, STATE_BYTES_MAX, TXN_STEPS_MAX,
    VALUE_BYTES_MAX,
};
use crate::name::Key;
use crate::txn::{Command, Condition, Outcome, Txn, Write};

/// A position in the replicated log. It only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// The fencing token of a lease: the revision of its grant, so no two grants have the same and a later
/// one has a larger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub value: Arc<[u8]>,
    /// Of the last write.
    pub version: Revision,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub holder: ServerName,
    pub epoch: Epoch,
    /// How long it lasts without renewal.
    pub ttl: Duration,
}

/// The whole state at one revision. Cloning is cheap enough to do at every change: values are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Of the last command applied, whether it changed anything or not.
    pub revision: Revision,
    pub entries: BTreeMap<Key, Entry>,
    pub leases: BTreeMap<Key, Lease>,
}

impl View {
    /// Applies one command of the log. `at` is its position there, larger than any before.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] and [`StoreError::Invalid`] for what is out of bounds; then nothing has
    /// changed but the revision.
    pub fn apply(&mut self, at: Revision, command: &Command) -> Result<Outcome, StoreError> {
        debug_assert!(at > self.revision, "positions of the log only grow");
        self.revision = at;
        match command {
            Command::Txn(txn) => self.apply_txn(at, txn),
            Command::Expire { lease, epoch } => {
                if self.held(lease, *epoch) {
                    self.leases.remove(lease);
                }
                Ok(Outcome::Done { revision: at })
            }
        }
    }

    /// The value of an entry.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub fn lease(&self, name: &str) -> Option<&Lease> {
        self.leases.get(name)
    }

    /// Entries whose key begins with `prefix`, in order.
    pub fn prefixed<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a Key, &'a Entry)> {
        self.entries
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(move |(key, _)| key.as_str().starts_with(prefix))
    }

    fn held(&self, lease: &Key, epoch: Epoch) -> bool {
        self.leases.get(lease).is_some_and(|l| l.epoch == epoch)
    }

    fn holds(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Absent { key } => !self.entries.contains_key(key),
            Condition::Unchanged { key, version } => {
                self.entries.get(key).is_some_and(|e| e.version == *version)
            }
            Condition::Free { lease } => !self.leases.contains_key(lease),
            Condition::Held { lease, epoch } => self.held(lease, *epoch),
        }
    }

    fn apply_txn(&mut self, at: Revision, txn: &Txn) -> Result<Outcome, StoreError> {
        txn.check()?;
        if let Some(index) = txn.conditions.iter().position(|c| !self.holds(c)) {
            return Ok(Outcome::Refused { index });
        }
        let before = (self.entries.clone(), self.leases.clone());
        for (index, write) in txn.writes.iter().enumerate() {
            if !self.write(at, write) {
                (self.entries, self.leases) = before;
                let index = txn.conditions.len() + index;
                return Ok(Outcome::Refused { index });
            }
        }
        if let Err(error) = self.check_bounds() {
            (self.entries, self.leases) = before;
            return Err(error);
        }
        Ok(Outcome::Done { revision: at })
    }

    /// Whether the write's own condition held.
    fn write(&mut self, at: Revision, write: &Write) -> bool {
        match write {
            Write::Put { key, value } => {
                let entry = Entry {
                    value: value.clone(),
                    version: at,
                };
                self.entries.insert(key.clone(), entry);
            }
            Write::Delete { key } => {
                self.entries.remove(key);
            }
            Write::Grant { lease, holder, ttl } => {
                if self.leases.contains_key(lease) {
                    return false;
                }
                let granted = Lease {
                    holder: holder.clone(),
                    epoch: Epoch(at.0),
                    ttl: *ttl,
                };
                self.leases.insert(lease.clone(), granted);
            }
            Write::Revoke { lease, epoch } => {
                if !self.held(lease, *epoch) {
                    return false;
                }
                self.leases.remove(lease);
            }
        }
        true
    }

    fn check_bounds(&self) -> Result<(), StoreError> {
        let bytes: usize = self
            .entries
            .iter()
            .map(|(key, entry)| key.as_str().len() + entry.value.len())
            .sum();
        for (what, is, max) in [
            ("entries", self.entries.len(), ENTRIES_MAX),
            ("leases", self.leases.len(), LEASES_MAX),
            ("bytes of all entries", bytes, STATE_BYTES_MAX),
        ] {
            if is > max {
                return Err(StoreError::TooLarge { what, is, max });
            }
        }
        Ok(())
    }
}

impl Txn {
    /// Whether it is within bounds by itself, whatever the state.
    pub fn check(&self) -> Result<(), StoreError> {
        let steps = self.conditions.len() + self.writes.len();
        if steps > TXN_STEPS_MAX {
            return Err(StoreError::TooLarge {
                what: "conditions and writes of a transaction",
                is: steps,
                max: TXN_STEPS_MAX,
            });
        }
        for write in &self.writes {
            match write {
                Write::Put { value, .. } if value.len() > VALUE_BYTES_MAX => {
                    return Err(StoreError::TooLarge {
                        what: "bytes of a value",
                        is: value.len(),
                        max: VALUE_BYTES_MAX,
                    });
                }
                Write::Grant { lease, ttl, .. }
                    if !(LEASE_TTL_MIN..=LEASE_TTL_MAX).contains(ttl) =>
                {
                    return Err(StoreError::Invalid {
                        reason: format!("the lease {lease} would last {ttl:?}: 100 ms to 1 h"),
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests;
