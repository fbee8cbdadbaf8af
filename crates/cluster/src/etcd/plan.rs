//! One transaction of ours as one of etcd's: what to compare, what to write, and what its answer means.
//! No I/O here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use trilith_base::ServerName;
use trilith_consensus::{Condition, Entry, Epoch, Key, Lease, Outcome, Revision, Txn, View, Write};

use super::wire::{self, Change, Pair};

/// Where in etcd a cluster's things are.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// `/trilith/<cluster>/`
    pub prefix: String,
}

/// What a key of etcd stands for.
enum Name {
    Entry(Key),
    Lease(Key),
}

impl Place {
    pub fn new(cluster: &str) -> Self {
        Self {
            prefix: format!("/trilith/{cluster}/"),
        }
    }

    pub fn entry(&self, key: &Key) -> String {
        format!("{}kv/{key}", self.prefix)
    }

    pub fn lease(&self, name: &Key) -> String {
        format!("{}lease/{name}", self.prefix)
    }

    fn name(&self, key: &str) -> Option<Name> {
        let (kind, name) = key.strip_prefix(&self.prefix)?.split_once('/')?;
        let name = Key::new(name).ok()?;
        match kind {
            "kv" => Some(Name::Entry(name)),
            "lease" => Some(Name::Lease(name)),
            _ => None,
        }
    }

    /// The lease that such a key stands for.
    pub fn lease_name(&self, key: &str) -> Option<Key> {
        match self.name(key)? {
            Name::Lease(name) => Some(name),
            Name::Entry(_) => None,
        }
    }

    /// Puts what etcd has into a view. What is not ours, or not readable, is left out: a lease like that
    /// still cannot be granted, as its key is there.
    pub fn insert(&self, view: &mut View, pair: &Pair) {
        match self.name(&pair.key) {
            Some(Name::Entry(key)) => {
                let entry = Entry {
                    value: pair.value.as_slice().into(),
                    version: Revision(pair.modified),
                };
                view.entries.insert(key, entry);
            }
            Some(Name::Lease(name)) => match lease_from(pair) {
                Some(lease) => {
                    view.leases.insert(name, lease);
                }
                None => {
                    view.leases.remove(&name);
                }
            },
            None => {}
        }
    }

    fn remove(&self, view: &mut View, key: &str) {
        match self.name(key) {
            Some(Name::Entry(key)) => {
                view.entries.remove(&key);
            }
            Some(Name::Lease(name)) => {
                view.leases.remove(&name);
            }
            None => {}
        }
    }

    /// Applies what a watch reports to an exact state. What that state already contains is skipped. Says
    /// whether anything was new.
    pub fn apply(&self, view: &mut View, changes: &[Change]) -> bool {
        let known = view.revision.0;
        for change in changes.iter().filter(|change| change.at() > known) {
            match change {
                Change::Put(pair) => self.insert(view, pair),
                Change::Delete { key, .. } => self.remove(view, key),
            }
            view.revision = view.revision.max(Revision(change.at()));
        }
        view.revision.0 > known
    }

    /// Whether the view holds just these keys, at these revisions.
    pub fn same(&self, view: &View, keys: &[Pair]) -> bool {
        let mut found = 0;
        for pair in keys {
            let at = Some(pair.modified);
            let same = match self.name(&pair.key) {
                Some(Name::Entry(key)) => view.get(key.as_str()).map(|e| e.version.0) == at,
                Some(Name::Lease(name)) => view.lease(name.as_str()).map(|l| l.epoch.0) == at,
                None => continue,
            };
            if !same {
                return false;
            }
            found += 1;
        }
        found == view.entries.len() + view.leases.len()
    }
}

/// A lease as it is kept: the key is written once, when it is granted, so its revision is the epoch.
fn lease_from(pair: &Pair) -> Option<Lease> {
    let value: Value = serde_json::from_slice(&pair.value).ok()?;
    Some(Lease {
        holder: ServerName::new(value["holder"].as_str()?).ok()?,
        epoch: Epoch(pair.modified),
        ttl: Duration::from_millis(value["ttl_ms"].as_u64()?),
    })
}

/// A lease of etcd's, for a lease of ours that is about to be granted.
#[derive(Clone, Debug)]
pub(super) struct Backing {
    pub id: i64,
    /// What etcd made of the time that was asked for.
    pub ttl: Duration,
}

/// A lease that a transaction grants in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Granting {
    pub lease: Key,
    pub holder: ServerName,
    pub ttl: Duration,
}

/// What must hold of one key of etcd's.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Check {
    Absent(String),
    /// Last written at that revision, which is not 0.
    Written(String, u64),
    /// Follows from what the same transaction did before.
    Decided(bool),
}

/// One transaction of ours, as etcd understands it.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    checks: Vec<Check>,
    puts: BTreeMap<String, std::sync::Arc<[u8]>>,
    deletes: BTreeSet<String>,
    pub grants: Vec<Granting>,
    /// Leases that end, whose backing in etcd can go.
    pub revokes: Vec<(Key, Epoch)>,
}

/// What earlier writes of the same transaction did to a lease.
enum Done {
    Granted,
    Revoked,
}

impl Plan {
    /// The transaction is within its bounds ([`Txn::check`]).
    pub fn new(place: &Place, txn: &Txn) -> Self {
        let mut plan = Self {
            checks: Vec::new(),
            puts: BTreeMap::new(),
            deletes: BTreeSet::new(),
            grants: Vec::new(),
            revokes: Vec::new(),
        };
        let written = |key: String, revision: u64| {
            // etcd takes "at revision 0" for "absent", and knows nothing above i64.
            let possible = revision > 0 && i64::try_from(revision).is_ok();
            match possible {
                true => Check::Written(key, revision),
                false => Check::Decided(false),
            }
        };
        for condition in &txn.conditions {
            plan.checks.push(match condition {
                Condition::Absent { key } => Check::Absent(place.entry(key)),
                Condition::Unchanged { key, version } => written(place.entry(key), version.0),
                Condition::Free { lease } => Check::Absent(place.lease(lease)),
                Condition::Held { lease, epoch } => written(place.lease(lease), epoch.0),
            });
        }
        // etcd refuses two writes to one key in one transaction: the last one counts.
        let mut leases: BTreeMap<&Key, Done> = BTreeMap::new();
        for write in &txn.writes {
            let check = match write {
                Write::Put { key, value } => {
                    let key = place.entry(key);
                    plan.deletes.remove(&key);
                    plan.puts.insert(key, value.clone());
                    Check::Decided(true)
                }
                Write::Delete { key } => {
                    let key = place.entry(key);
                    plan.puts.remove(&key);
                    plan.deletes.insert(key);
                    Check::Decided(true)
                }
                Write::Grant { lease, holder, ttl } => {
                    let key = place.lease(lease);
                    plan.deletes.remove(&key);
                    plan.grants.push(Granting {
                        lease: lease.clone(),
                        holder: holder.clone(),
                        ttl: *ttl,
                    });
                    match leases.insert(lease, Done::Granted) {
                        None => Check::Absent(key),
                        Some(Done::Revoked) => Check::Decided(true),
                        Some(Done::Granted) => Check::Decided(false),
                    }
                }
                Write::Revoke { lease, epoch } => {
                    let key = place.lease(lease);
                    plan.deletes.insert(key.clone());
                    plan.revokes.push((lease.clone(), *epoch));
                    match leases.insert(lease, Done::Revoked) {
                        None => written(key, epoch.0),
                        // Nobody knows an epoch before it is granted.
                        Some(_) => Check::Decided(false),
                    }
                }
            };
            plan.checks.push(check);
        }
        plan
    }

    /// Whether it cannot succeed, whatever the state: then nothing is to be granted for it.
    pub fn is_hopeless(&self) -> bool {
        self.checks.contains(&Check::Decided(false))
    }

    /// The body for `/v3/kv/txn`. `backings` are for `grants`, in that order.
    pub fn request(&self, place: &Place, backings: &[Backing]) -> Value {
        let looks: Vec<_> = self.keys().map(look).collect();
        if self.is_hopeless() {
            // Only to see which condition is the first that does not hold.
            return json!({ "success": looks });
        }
        let compares: Vec<_> = self.checks.iter().filter_map(compare).collect();
        let mut writes = Vec::new();
        for (key, value) in &self.puts {
            writes.push(put(key, value, 0));
        }
        for key in &self.deletes {
            let key = wire::encode(key.as_bytes());
            writes.push(json!({ "request_delete_range": { "key": key } }));
        }
        for (grant, backing) in self.grants.iter().zip(backings) {
            let millis = u64::try_from(backing.ttl.as_millis()).unwrap_or(u64::MAX);
            let value = json!({ "holder": grant.holder.as_str(), "ttl_ms": millis });
            let value = value.to_string();
            writes.push(put(
                &place.lease(&grant.lease),
                value.as_bytes(),
                backing.id,
            ));
        }
        json!({ "compare": compares, "success": writes, "failure": looks })
    }

    /// What the answer of `/v3/kv/txn` means. `None` when it contradicts itself.
    pub fn outcome(&self, answer: &Value) -> Option<Outcome> {
        let succeeded = answer["succeeded"].as_bool().unwrap_or_default();
        if succeeded && !self.is_hopeless() {
            let revision = Revision(wire::header(answer).revision);
            return Some(Outcome::Done { revision });
        }
        let mut written = BTreeMap::new();
        for response in wire::list(&answer["responses"]) {
            for pair in wire::pairs(&response["response_range"]) {
                written.insert(pair.key, pair.modified);
            }
        }
        let fails = |check: &Check| match check {
            Check::Absent(key) => written.contains_key(key),
            Check::Written(key, revision) => written.get(key) != Some(revision),
            Check::Decided(holds) => !holds,
        };
        let index = self.checks.iter().position(fails)?;
        Some(Outcome::Refused { index })
    }

    /// The keys of all checks, each once.
    fn keys(&self) -> impl Iterator<Item = &str> {
        let keys: BTreeSet<_> = self
            .checks
            .iter()
            .filter_map(|check| match check {
                Check::Absent(key) | Check::Written(key, _) => Some(key.as_str()),
                Check::Decided(_) => None,
            })
            .collect();
        keys.into_iter()
    }
}

fn compare(check: &Check) -> Option<Value> {
    let (key, target, field, revision) = match check {
        Check::Absent(key) => (key, "CREATE", "create_revision", 0),
        Check::Written(key, revision) => (key, "MOD", "mod_revision", *revision),
        Check::Decided(_) => return None,
    };
    Some(json!({
        "key": wire::encode(key.as_bytes()),
        "target": target,
        "result": "EQUAL",
        field: revision.to_string(),
    }))
}

fn look(key: &str) -> Value {
    json!({ "request_range": { "key": wire::encode(key.as_bytes()), "keys_only": true } })
}

fn put(key: &str, value: &[u8], lease: i64) -> Value {
    json!({ "request_put": {
        "key": wire::encode(key.as_bytes()),
        "value": wire::encode(value),
        "lease": lease.to_string(),
    } })
}

#[cfg(test)]
mod tests;
