//! What must hold of the databases.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use trilith_base::ServerName;
use trilith_consensus::{Revision, View};
use trilith_ha::{StoreView, SyncSet};

use super::{Confirm, State};
use crate::executor::executor;
use crate::limits::{AFTER_SUSPEND, GUARD_ACTS};
use crate::plant::Plant;
use crate::world::{World, lock, name_of, server_name};

/// So many entries behind the primary counts as having caught up.
const CLOSE: usize = 20;
/// States of the store that are kept as they were read.
const VIEWS_KEPT: usize = 32;

/// What the servers showed of the store's part of it.
#[derive(Default)]
pub struct Seen {
    /// As the store's states were read: at one revision all servers have the same one.
    views: BTreeMap<Revision, Arc<StoreView>>,
    /// The term and the primary of each record.
    records: BTreeMap<Revision, (u64, ServerName)>,
}

impl Seen {
    /// How often there was another primary than before.
    pub fn failovers(&self) -> u64 {
        let primaries: Vec<&ServerName> = self.records.values().map(|(_, name)| name).collect();
        let moves = primaries.windows(2).filter(|pair| pair[0] != pair[1]);
        moves.count() as u64
    }

    /// Terms only grow, and each has one primary.
    fn note(&mut self, version: Revision, term: u64, primary: &ServerName) -> Result<(), String> {
        if self.records.contains_key(&version) {
            return Ok(());
        }
        let before = self.records.range(..version).next_back();
        let after = self.records.range(version..).next();
        let bad = |(older, older_name): (u64, &ServerName),
                   (newer, newer_name): (u64, &ServerName)| {
            newer < older || (newer == older && older_name != newer_name)
        };
        let now = (term, primary);
        let wrong = before.is_some_and(|(_, (term, name))| bad((*term, name), now))
            || after.is_some_and(|(_, (term, name))| bad(now, (*term, name)));
        self.records.insert(version, (term, primary.clone()));
        match wrong {
            true => Err(format!("term {term} of {primary} comes after another one")),
            false => Ok(()),
        }
    }
}

impl World {
    /// What the store says of the database at that state.
    pub fn store_view(&self, view: &View) -> Arc<StoreView> {
        let mut seen = lock(&self.seen);
        if let Some(known) = seen.views.get(&view.revision) {
            return known.clone();
        }
        let read = Arc::new(StoreView::read(view));
        seen.views.insert(view.revision, read.clone());
        if seen.views.len() > VIEWS_KEPT {
            seen.views.pop_first();
        }
        read
    }

    /// The newest state of the store that any server shows, or showed before it was killed.
    pub fn newest_store_view(&self) -> Arc<StoreView> {
        let seen = lock(&self.seen);
        let newest = seen.views.last_key_value();
        newest.map_or_else(Arc::default, |(_, view)| view.clone())
    }

    /// Called with every state that any server shows.
    pub fn check_record(&self, view: &View) {
        if self.shape.database.is_none() {
            return;
        }
        if let Some((record, version)) = &self.store_view(view).record {
            let noted = lock(&self.seen).note(*version, record.term, &record.primary);
            if let Err(text) = noted {
                self.violate(text);
            }
        }
    }

    /// Called at every step: never two that are writable, but for a moment after a suspend.
    pub fn check_primaries(&self) {
        let two = self.shape.plant.is_some_and(Plant::has_two_primaries);
        if two || self.shape.database.is_none() {
            return;
        }
        let primaries: Vec<usize> = {
            let databases = lock(&self.databases);
            let primaries = || {
                let all = databases.servers.iter().enumerate();
                all.filter(|(_, database)| database.is_primary())
            };
            if primaries().count() < 2 {
                return;
            }
            primaries().map(|(server, _)| server).collect()
        };
        let now = executor().now();
        let grace = crate::environment::nanos(AFTER_SUSPEND + GUARD_ACTS);
        let counts = |server: &usize| {
            let kernel = lock(&self.kernel);
            !kernel.sleeps(*server) && !kernel.woke_within(*server, now, grace)
        };
        let awake: Vec<&str> = primaries
            .iter()
            .filter(|server| counts(server))
            .map(|server| name_of(*server))
            .collect();
        if awake.len() > 1 {
            self.violate(format!("two primaries: {}", awake.join(" and ")));
        }
    }

    /// Everything that anybody was told or shown is there.
    pub fn check_complete(&self, server: usize, what: &str) {
        if !self.is_synchronous() {
            return;
        }
        let databases = lock(&self.databases);
        let wal = databases.servers[server].wal.iter();
        let there: BTreeSet<u64> = wal.map(|entry| entry.id).collect();
        let told = databases.acknowledged.keys().chain(&databases.shown);
        let lost: Vec<u64> = told.filter(|id| !there.contains(id)).copied().collect();
        drop(databases);
        if !lost.is_empty() {
            let name = name_of(server);
            self.violate(format!("{name} {what} without writes {lost:?}"));
        }
    }

    /// What is missing: one primary, open to everybody, and all others stream from it; commits wait for
    /// half of them. `None`: nothing, or there is no database.
    pub fn database_lacks(&self) -> Option<String> {
        let synchronous = self.shape.database?;
        let servers = self.shape.servers;
        let databases = lock(&self.databases);
        let all = databases.servers.iter();
        let primaries: Vec<usize> = (0..servers)
            .filter(|server| databases.servers[*server].is_primary())
            .collect();
        let [primary] = primaries[..] else {
            let primaries: Vec<&str> = primaries.into_iter().map(name_of).collect();
            return Some(format!("primaries: {primaries:?}"));
        };
        let name = name_of(primary);
        let process = databases.servers[primary].process.as_ref()?;
        if !process.open || process.stopping {
            return Some(format!("{name} is not open"));
        }
        let end = databases.servers[primary].flushed;
        for (server, other) in all.enumerate().filter(|(server, _)| *server != primary) {
            let streams = process.senders.contains_key(&server);
            let close = other.flushed + CLOSE > end;
            if !streams || !close {
                return Some(format!("{} does not follow {name}", name_of(server)));
            }
        }
        let others = (0..servers).filter(|server| *server != primary);
        let target = match synchronous {
            true => SyncSet::majority(others.map(server_name).collect()),
            false => SyncSet::alone(),
        };
        let view = self.newest_store_view();
        if view.request.is_some() || !view.reinit.is_empty() || !view.restart.is_empty() {
            return Some("an operator's order is neither done nor given up".to_owned());
        }
        match &view.record {
            Some((record, _)) if record.open && record.sync == target => None,
            Some((record, _)) => Some(format!("the record is {record}")),
            None => Some("there is no record".to_owned()),
        }
    }

    pub fn is_synchronous(&self) -> bool {
        self.shape.database == Some(true)
    }
}

impl World {
    /// Whether everything that matters is on other servers, and they can go on without this one: the
    /// promise is to survive the loss of one of them, not of the only one that has everything.
    pub fn can_lose_data(&self, server: usize) -> bool {
        let view = self.newest_store_view();
        let Some((record, _)) = view.record.as_ref().filter(|(record, _)| record.open) else {
            return false;
        };
        let databases = lock(&self.databases);
        let others = databases.servers.iter().enumerate();
        let mut others = others.filter(|(other, _)| *other != server);
        if !others.all(|(_, database)| database.state == State::Ready) {
            return false;
        }
        let primary = (0..self.shape.servers).find(|one| server_name(*one) == record.primary);
        let Some(primary) = primary.filter(|one| databases.servers[*one].is_open()) else {
            return false;
        };
        let Some(process) = databases.servers[primary].process() else {
            return false;
        };
        let streams = |name: &ServerName| {
            let mut senders = process.senders.keys();
            senders.any(|replica| server_name(*replica) == *name)
        };
        let set = &record.sync;
        let whole = !set.is_alone()
            && process.conf == Confirm::Set(set.clone())
            && set.members.iter().all(streams);
        server != primary || (whole && self.is_synchronous())
    }
}
