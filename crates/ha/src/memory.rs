//! What has to be remembered between two looks, and the lease as it may be counted on. Pure: both the agent
//! and the simulation use it.

use std::collections::BTreeMap;
use std::time::Duration;

use trilith_base::{BootTime, ServerName};
use trilith_consensus::{Epoch, Revision};

use crate::limits::{NOT_STREAMING_MAX, YIELD_FOR};
use crate::observed::{Changes, Data, Kind, LeaseSeen, Local, Observed, PrimarySeen, Process};
use crate::policy::Policy;
use crate::record::StoreView;

/// A lease that is proven to be this server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenure {
    pub epoch: Epoch,
    /// PostgreSQL is gone by then, unless a renewal extends it.
    pub deadline: BootTime,
}

impl Tenure {
    pub fn is_valid(&self, now: BootTime) -> bool {
        now < self.deadline
    }
}

/// Between the looks of one agent.
#[derive(Clone, Debug)]
pub struct Memory {
    started_at: BootTime,
    /// A guard was there when the agent started: it knows the deadline of a lease from before.
    guarded: bool,
    /// Since when the lease is free.
    free_since: Option<BootTime>,
    /// The operator's request, and since when it is there.
    request: Option<(Revision, BootTime)>,
    /// The marks of servers to be restarted, and since when they are as they are.
    restarts: BTreeMap<ServerName, (Revision, BootTime)>,
    yield_until: BootTime,
    /// The lease, and how often PostgreSQL had failed when it was first seen.
    lease: Option<(Epoch, u32)>,
    /// What this server wrote last.
    wrote: Revision,
    asked: Asked,
}

/// A change of the record or the lease that may still be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    None,
    /// On the condition that the record is that of this revision, or that there is none.
    Over(Option<Revision>),
    /// By an earlier life of this agent, if any.
    Before,
}

impl Memory {
    /// `guarded`: whether a guard was running when this agent started.
    pub fn new(now: BootTime, guarded: bool) -> Self {
        Self {
            started_at: now,
            guarded,
            free_since: None,
            request: None,
            restarts: BTreeMap::new(),
            yield_until: BootTime::default(),
            lease: None,
            wrote: Revision::default(),
            asked: Asked::Before,
        }
    }

    /// This server gave the lease up because of its own trouble: others come first for a while, or until it
    /// follows one of them.
    pub fn gave_up(&mut self, now: BootTime) {
        self.yield_until = now + YIELD_FOR;
    }

    /// The record or the lease is about to be changed, on the condition that the record is that of this
    /// revision. Whatever was asked for before has the same condition, or comes to nothing.
    pub fn asks(&mut self, over: Option<Revision>) {
        self.asked = Asked::Over(over);
    }

    /// What was asked for last is done.
    pub fn done(&mut self) {
        self.asked = Asked::None;
    }

    /// Something was written.
    pub fn wrote(&mut self, revision: Revision) {
        self.wrote = self.wrote.max(revision);
    }

    /// What the store has to show before anything is planned from it.
    pub fn last_written(&self) -> Revision {
        self.wrote
    }

    fn changes(&self, store: &StoreView) -> Changes {
        match self.asked {
            _ if store.revision < self.wrote => Changes::Unseen,
            Asked::None => Changes::Seen,
            Asked::Over(_) | Asked::Before => Changes::Unknown,
        }
    }

    /// Takes in what the store shows now, and how PostgreSQL is here.
    pub fn remember(&mut self, now: BootTime, store: &StoreView, local: &Local) {
        let lease = store.lease.as_ref().map(|(_, epoch)| *epoch);
        if self.lease.map(|(epoch, _)| epoch) != lease {
            self.lease = lease.map(|epoch| (epoch, local.failures));
        }
        // Another one has come first, and what keeps PostgreSQL from starting here is over.
        if let (Process::Ready(ready), Some(holder)) = (&local.process, store.holder())
            && ready.follows.as_ref() == Some(holder)
        {
            self.yield_until = BootTime::default();
        }
        let record = store.record.as_ref().map(|(_, version)| *version);
        if matches!(self.asked, Asked::Over(over) if over != record) {
            self.asked = Asked::None;
        }
        if store.lease.is_some() {
            self.free_since = None;
        } else if self.free_since.is_none() {
            self.free_since = Some(now);
        }
        let request = store.request.as_ref().map(|(_, version)| *version);
        if self.request.map(|(version, _)| version) != request {
            self.request = request.map(|version| (version, now));
        }
        let known = std::mem::take(&mut self.restarts);
        let restarts = store.restart.iter().map(|(server, (_, version))| {
            let same = known.get(server).filter(|(known, _)| known == version);
            let since = same.map_or(now, |(_, since)| *since);
            (server.clone(), (*version, since))
        });
        self.restarts = restarts.collect();
    }

    /// The lease, as far as this server may count on it.
    pub fn lease(
        &self,
        now: BootTime,
        store: &StoreView,
        policy: &Policy,
        tenure: Option<Tenure>,
    ) -> LeaseSeen {
        // The answer to a grant may come before the view that shows it.
        if let Some(Tenure { epoch, .. }) = tenure
            && tenure.is_some_and(|tenure| tenure.is_valid(now))
            && epoch.0 > store.revision.0
        {
            return LeaseSeen::Mine { epoch };
        }
        let Some((holder, epoch)) = &store.lease else {
            let since = self.free_since.map_or(Duration::ZERO, |at| now.since(at));
            return LeaseSeen::Free { since };
        };
        let epoch = *epoch;
        if *holder != policy.me {
            return LeaseSeen::Other;
        }
        match tenure.filter(|tenure| tenure.epoch == epoch) {
            Some(tenure) if tenure.is_valid(now) => LeaseSeen::Mine { epoch },
            Some(_) => LeaseSeen::Unproven {
                epoch,
                expired: true,
            },
            None => LeaseSeen::Unproven {
                epoch,
                expired: !self.guarded || now.since(self.started_at) > policy.ttl,
            },
        }
    }

    /// Everything that a plan is made from.
    pub fn observed(&self, now: BootTime, parts: Parts, policy: &Policy) -> Observed {
        let Parts {
            store,
            quorum,
            tenure,
            local,
            primary,
            leaving,
        } = parts;
        Observed {
            lease: self.lease(now, &store, policy, tenure),
            quorum,
            changes: self.changes(&store),
            yielding: now < self.yield_until,
            // What has been forgotten meanwhile does not count either.
            failures_before: self
                .lease
                .map_or(0, |(_, failures)| failures.min(local.failures)),
            request_for: self
                .request
                .map_or(Duration::ZERO, |(_, since)| now.since(since)),
            restart_for: self
                .restarts
                .iter()
                .map(|(server, (_, since))| (server.clone(), now.since(*since)))
                .collect(),
            store,
            local,
            primary,
            leaving,
        }
    }
}

/// What [`Memory::observed`] puts together. The store's part has been given to [`Memory::remember`].
#[derive(Clone, Debug)]
pub struct Parts {
    pub store: StoreView,
    pub quorum: bool,
    pub tenure: Option<Tenure>,
    pub local: Local,
    pub primary: Option<PrimarySeen>,
    pub leaving: bool,
}

/// Whether a replica has to know something of the primary before it can go on.
pub fn needs_primary(store: &StoreView, local: &Local, me: &ServerName) -> bool {
    if store.reinit.contains(me) {
        return true;
    }
    match (&local.process, &local.data) {
        (Process::Ready(ready), _) if ready.in_recovery => {
            ready.follows.as_ref() != store.holder() || ready.not_streaming >= NOT_STREAMING_MAX
        }
        (Process::Ready(_), _) => false,
        (
            _,
            Data::Ready {
                kind: Kind::Replica,
                unfounded: false,
                ..
            },
        ) => local.failures > 2,
        (Process::Stopped, _) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
