//! The synchronous set: widen, switch, confirm, narrow.
//!
//! Two things must overlap at every moment: who confirms commits at the primary (in force: `a'` of `M'`),
//! and whom a successor hears before it takes over (recorded: all but `a - 1` of `M`). They do when nobody
//! but the primary may succeed (`M` is empty), or when `M'` lies within `M` and `a' >= a`. Every step keeps
//! that so; the record of what was confirmed only follows once everything older has been confirmed too.
//! (field: Patroni's quorum commit keeps the same kind of invariant; losing it lost writes elsewhere,
//! cloudnative-pg issue 8790.)

use std::collections::BTreeSet;

use trilith_base::ServerName;

use crate::limits::{CAUGHT_UP_BYTES, OPEN_PATIENCE, STANDBY_PATIENCE};
use crate::observed::Ready;
use crate::policy::Policy;
use crate::record::{Record, SyncSet};

/// The next move, if one is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// Nothing: recorded and in force are what they should be.
    None,
    /// Nothing yet: replicas have to confirm first.
    Confirm,
    Record(SyncSet),
    Switch {
        set: SyncSet,
        forget: BTreeSet<ServerName>,
        prove: bool,
    },
}

/// Whether whoever is promoted by the record has every write acknowledged under what is in force.
pub(crate) fn is_safe(recorded: &SyncSet, in_force: &SyncSet) -> bool {
    recorded.is_alone()
        || (in_force.members.is_subset(&recorded.members) && in_force.acks >= recorded.acks)
}

/// The set that a primary starts with, before anybody is let in.
pub(crate) fn at_start(record: &Record, policy: &Policy) -> SyncSet {
    if !policy.synchronous {
        return SyncSet::alone();
    }
    if record.open {
        return record.sync.clone();
    }
    SyncSet::majority(policy.others(&record.expected))
}

/// The set that there should be.
pub(crate) fn target(ready: &Ready, record: &Record, policy: &Policy) -> SyncSet {
    if !policy.synchronous {
        return SyncSet::alone();
    }
    let held = &ready.sync.set.members;
    let end = ready.end().lsn;
    let opening = !record.open;
    let wanted = ready.standbys.iter().filter(|standby| {
        let member = held.contains(&standby.name) || record.sync.members.contains(&standby.name);
        if standby.streaming {
            member || end.bytes_since(standby.flushed) <= CAUGHT_UP_BYTES
        } else {
            member && standby.gone_for < STANDBY_PATIENCE
        }
    });
    let mut members: BTreeSet<ServerName> = wanted.map(|standby| standby.name.clone()).collect();
    if opening && ready.since < OPEN_PATIENCE {
        // They were there a moment ago.
        members.extend(record.expected.iter().cloned());
    }
    SyncSet::majority(policy.others(&members))
}

/// Decides. `clients`: whether the application is let in.
pub(crate) fn next(ready: &Ready, recorded: &SyncSet, target: &SyncSet, clients: bool) -> Move {
    let in_force = &ready.sync.set;
    if !is_safe(recorded, in_force) {
        return switch(in_force, recorded.clone(), clients && in_force.is_alone());
    }
    if in_force == target {
        return match recorded == target {
            true => Move::None,
            false if ready.confirmed() => Move::Record(target.clone()),
            false => Move::Confirm,
        };
    }
    if target.is_alone() {
        return match recorded.is_alone() {
            true => switch(in_force, target.clone(), false),
            false => Move::Record(target.clone()),
        };
    }
    if recorded.is_alone() {
        return switch(in_force, target.clone(), clients && in_force.is_alone());
    }
    let widened = SyncSet {
        members: recorded.members.union(&target.members).cloned().collect(),
        acks: recorded.acks.min(target.acks),
    };
    match *recorded == widened {
        true => switch(in_force, target.clone(), false),
        false => Move::Record(widened),
    }
}

/// A replica's connection works with the set that was in force when it last looked, so one that no longer
/// counts is ended; all of them when more confirmations are needed than before.
fn switch(from: &SyncSet, to: SyncSet, prove: bool) -> Move {
    let forget = match to.acks > from.acks && !from.is_alone() {
        true => from.members.union(&to.members).cloned().collect(),
        false => from.members.difference(&to.members).cloned().collect(),
    };
    Move::Switch {
        set: to,
        forget,
        prove,
    }
}

#[cfg(test)]
mod tests;
