//! The leader's clock for leases: when one ends, and whether it may be extended.
//!
//! Grant, return and expiry are entries of the log. An extension is not: it would cost an fsync on
//! a majority five times a second and lease, and a stalled disk would take the floating address
//! away from a healthy server. The leader keeps the deadline of every lease in memory instead.
//!
//! Why that is sound. A renewal that arrived at `a` is acknowledged by the leader of term T only if
//!
//! 1. it leads T and has applied an entry of its own leadership, so that it knows every grant and
//!    every expiry that any earlier leader put into the log;
//! 2. the lease is held under that epoch, and no expiry of it was proposed in this leadership;
//! 3. in a round that began after `a`, a majority of the voters said that the highest vote they
//!    ever *began* to save is this leader's;
//! 4. (2) still holds after the round.
//!
//! Any later leader was voted for by a majority that shares a voter with the one of (3), which had
//! not begun to save that vote when it answered. So it was elected after `a`; it starts every timer
//! at full length after that; its timer ends after `a + ttl`. This leader's own timer is moved to
//! `a + ttl`. An expiry counts only in the leadership that proposed it (`disk/machine.rs`), so no
//! timer of an earlier one can end the lease. The holder counts from before it sent the renewal,
//! hence from before `a`.

mod keep;
mod rounds;

use std::collections::BTreeMap;
use std::time::Duration;

use trilith_base::BootTime;
use trilith_consensus::{Epoch, Key, View};

pub(crate) use keep::keep;
pub(crate) use rounds::{Rounds, is_majority};

/// One leadership of this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Term(pub u64);

/// The deadlines, while this server leads. Pure: time and state are arguments.
#[derive(Debug, Default)]
pub(crate) struct LeaseTable {
    /// The leadership the timers belong to.
    term: Option<Term>,
    /// Whether it lasts, as far as this server knows.
    leads: bool,
    timers: BTreeMap<Key, Timer>,
}

#[derive(Debug)]
struct Timer {
    epoch: Epoch,
    ttl: Duration,
    deadline: BootTime,
    ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Not,
    /// Its expiry is on its way into the log. From the first attempt on it is never renewed again:
    /// even an attempt that seemed to fail may have succeeded.
    Proposed,
    /// The last attempt failed: try again.
    Failed,
}

/// Why a lease is not extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotRenewed {
    /// This server does not lead that term, or has not applied an entry of it yet.
    NotLeading,
    /// It is not held under that epoch.
    Lost,
    /// It is about to end; the log will say so, or another leader will extend it.
    Ending,
}

impl LeaseTable {
    /// This server leads `term` and has applied an entry of it: every timer starts at full length.
    /// Nothing happens when that was known.
    pub(crate) fn lead(&mut self, term: Term, view: &View, now: BootTime) {
        if self.term != Some(term) {
            self.term = Some(term);
            self.timers.clear();
        }
        self.leads = true;
        self.observe(view, now);
    }

    /// The timers stay: should it turn out that the leadership was not lost, an expiry that was
    /// proposed in it must not be forgotten.
    pub(crate) fn step_down(&mut self) {
        self.leads = false;
    }

    /// Follows what was applied: starts timers of new grants, forgets leases that are gone.
    fn observe(&mut self, view: &View, now: BootTime) {
        self.timers.retain(|key, timer| {
            let lease = view.leases.get(key);
            lease.is_some_and(|lease| lease.epoch == timer.epoch)
        });
        for (key, lease) in &view.leases {
            self.timers.entry(key.clone()).or_insert_with(|| Timer {
                epoch: lease.epoch,
                ttl: lease.ttl,
                deadline: now + lease.ttl,
                ending: Ending::Not,
            });
        }
    }

    /// Whether a renewal would be granted: before the round.
    pub(crate) fn check(&self, term: Term, lease: &Key, epoch: Epoch) -> Result<(), NotRenewed> {
        if !self.leads || self.term != Some(term) {
            return Err(NotRenewed::NotLeading);
        }
        match self.timers.get(lease) {
            Some(timer) if timer.epoch != epoch => Err(NotRenewed::Lost),
            Some(timer) if timer.ending != Ending::Not => Err(NotRenewed::Ending),
            Some(_) => Ok(()),
            None => Err(NotRenewed::Lost),
        }
    }

    /// Grants a renewal that arrived at `arrived`, after a round that began later has confirmed
    /// `term`.
    pub(crate) fn renew(
        &mut self,
        term: Term,
        lease: &Key,
        epoch: Epoch,
        arrived: BootTime,
    ) -> Result<(), NotRenewed> {
        self.check(term, lease, epoch)?;
        if let Some(timer) = self.timers.get_mut(lease) {
            timer.deadline = timer.deadline.max(arrived + timer.ttl);
        }
        Ok(())
    }

    /// The leases that are over at `now`: their expiry is to be proposed. From here on they are not
    /// renewed.
    pub(crate) fn due(&mut self, now: BootTime) -> Vec<(Key, Epoch)> {
        let mut due = Vec::new();
        if !self.leads {
            return due;
        }
        for (key, timer) in &mut self.timers {
            let over = timer.ending == Ending::Not && timer.deadline <= now;
            if over || timer.ending == Ending::Failed {
                timer.ending = Ending::Proposed;
                due.push((key.clone(), timer.epoch));
            }
        }
        due
    }

    /// The proposal of an expiry failed, or nobody knows.
    pub(crate) fn proposal_failed(&mut self, term: Term, lease: &Key, epoch: Epoch) {
        if self.term != Some(term) {
            return;
        }
        if let Some(timer) = self.timers.get_mut(lease)
            && timer.epoch == epoch
            && timer.ending == Ending::Proposed
        {
            timer.ending = Ending::Failed;
        }
    }

    /// The leadership that lasts.
    pub(crate) fn term(&self) -> Option<Term> {
        self.term.filter(|_| self.leads)
    }

    /// When the next lease ends.
    pub(crate) fn next(&self) -> Option<BootTime> {
        let running = self.timers.values().filter(|t| t.ending == Ending::Not);
        running.map(|timer| timer.deadline).min()
    }
}

#[cfg(test)]
mod tests;
