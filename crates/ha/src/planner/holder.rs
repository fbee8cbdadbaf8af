//! This server holds the lease.

use std::collections::BTreeSet;
use std::time::Duration;

use trilith_base::ServerName;
use trilith_consensus::Revision;

use super::Planner;
use crate::history::Position;
use crate::limits::{CAUGHT_UP_BYTES, START_BUDGET, START_BUDGET_DOUBLINGS, SWITCHOVER_PATIENCE};
use crate::observed::{Changes, Data, Kind, Process, Ready};
use crate::plan::{Plan, StartAs, Step, StopMode};
use crate::record::{Record, Request, SyncSet};
use crate::sync::{self, Move};
use crate::txn::Written;

/// What a primary does when nothing is to be done.
const CALM: &str = "be the primary";

impl Planner<'_> {
    pub(super) fn as_holder(&self) -> Plan {
        let Some((record, version)) = self.record() else {
            return self.give_up("there is no record of this lease");
        };
        if record.primary != self.policy.me {
            return self.give_up(format!(
                "the record names {} as the primary",
                record.primary
            ));
        }
        if self.o.changes == Changes::Unknown && !self.o.leaving {
            let written = Written {
                value: record.clone(),
                over: Some(version),
            };
            let why = "an earlier change may be on its way: after this one it comes to nothing";
            return Plan::one(CALM, Step::WriteRecord(Box::new(written)), why);
        }
        if let Some(plan) = self.foreign() {
            return plan;
        }
        if let Some(plan) = self.failover_asked(record) {
            return plan;
        }
        if let Some(why) = self.no_data() {
            return match self.cluster() {
                Some(_) => self.give_up(why),
                None if self.o.leaving => self.give_up("this server stops"),
                None => Plan::one("make the database", Step::Initdb, why),
            };
        }
        if self.cluster().is_none()
            && let Some(system_id) = self.o.local.system_id()
        {
            return Plan::one(
                "make the database",
                Step::Found { system_id },
                "it is there: from now on it is the cluster's",
            );
        }
        match &self.o.local.process {
            Process::Stopped => self.started_anew(self.start_primary(record, version)),
            Process::Starting { since } => self.starting_primary(*since, record),
            Process::Silent { since } => self.silent(*since),
            Process::Ready(ready) if ready.in_recovery => self.promote(ready, record, version),
            Process::Ready(ready) => self.run_primary(ready, record, version),
        }
    }

    fn start_primary(&self, record: &Record, version: Revision) -> Plan {
        let Data::Ready {
            clean,
            kind,
            history,
            ..
        } = &self.o.local.data
        else {
            return self.give_up("there are no data");
        };
        if self.o.leaving || self.switchover_to(record).is_some() {
            if *clean && *kind == Kind::Primary {
                return self.hand_over(record, version, history.end);
            }
            if self.o.leaving {
                return self.give_up("this server stops");
            }
        }
        let failures = self.o.local.failures;
        // Each time that nobody else came although there was room, it is tried once more.
        let others = self.others_may_succeed(record);
        if others && failures > self.o.failures_before {
            return self.give_up("PostgreSQL does not start here");
        }
        let how = match kind {
            Kind::Primary => StartAs::Primary {
                sync: sync::at_start(record, self.policy),
            },
            Kind::Replica => StartAs::Replica { follow: None },
        };
        let why = match failures {
            0 => "this server holds the lease".to_owned(),
            _ if others => "it failed before, and nobody else took over".to_owned(),
            _ => format!("it failed {failures} times, and nobody else may take over"),
        };
        Plan::one(CALM, Step::Start { how }, why)
    }

    /// Stopped in good order: everything is on disk up to `end`.
    fn hand_over(&self, record: &Record, version: Revision, end: Position) -> Plan {
        let (next, fulfils) = match &self.o.store.request {
            Some((Request::Switchover { .. }, request)) => {
                (self.switchover_to(record), Some(*request))
            }
            _ => (None, None),
        };
        // Nobody was let in since the base: whoever has that is as good as this server.
        let (base, mut expected) = match record.open {
            true => (Some(end), record.sync.members.clone()),
            false => (record.base.or(Some(end)), record.expected.clone()),
        };
        if let Some(next) = &next {
            expected.remove(next);
        }
        // The set stays: if nobody received the last of it, its members still have all that was acknowledged.
        let value = Record {
            open: false,
            base,
            expected,
            next,
            ..record.clone()
        };
        let step = Step::GiveUpLease {
            record: Some(Box::new(value)),
            over: Some(version),
            fulfils,
        };
        let why = format!("PostgreSQL was stopped in good order at {end}");
        Plan::one("hand over", step, why)
    }

    /// Whether anybody else could be granted the lease if this server gave it up.
    fn others_may_succeed(&self, record: &Record) -> bool {
        let others = self
            .policy
            .servers
            .iter()
            .any(|server| *server != self.policy.me);
        let complete = match record.open {
            true => !record.sync.is_alone() || record.asynchronous,
            false => record.base.is_some(),
        };
        others && complete && !self.o.store.paused
    }

    fn starting_primary(&self, since: Duration, record: &Record) -> Plan {
        if self.o.leaving {
            return self.give_up("this server stops");
        }
        // Longer each time that nobody else came: recovery must be able to end.
        let budget = START_BUDGET * (1 << record.retaken.min(START_BUDGET_DOUBLINGS));
        if since > budget && self.others_may_succeed(record) {
            return self.give_up(format!(
                "PostgreSQL takes longer than {} s to start",
                budget.as_secs()
            ));
        }
        Plan::wait(CALM, "PostgreSQL is starting")
    }

    fn promote(&self, ready: &Ready, record: &Record, version: Revision) -> Plan {
        if self.o.leaving {
            return self.give_up("this server stops");
        }
        let reason = "become the primary";
        if ready.receiving || ready.follows.is_some() {
            let step = Step::Follow { server: None };
            return Plan::one(reason, step, "a primary receives from nobody");
        }
        let begun = ready.end().timeline;
        if record.timeline <= begun {
            // The number is taken before it is used: nobody who does not know of it may use it again.
            let timeline = begun + 1;
            let value = Record {
                timeline,
                ..record.clone()
            };
            let over = Some(version);
            let step = Step::WriteRecord(Box::new(Written { value, over }));
            let why = format!("timeline {begun} has been begun: the next one is {timeline}");
            return Plan::one(reason, step, why);
        }
        let step = Step::Promote {
            sync: sync::at_start(record, self.policy),
            timeline: record.timeline,
        };
        Plan::one(reason, step, "this server holds the lease")
    }

    fn run_primary(&self, ready: &Ready, record: &Record, version: Revision) -> Plan {
        if self.o.leaving {
            return self.stop_in_good_order(ready, "this server stops");
        }
        if let Some(plan) = self.switchover_asked(ready, record) {
            return plan;
        }
        if let Some(plan) = self.open(ready, record, version) {
            return plan;
        }
        if let Some(plan) = self.keep_sync(ready, record, version) {
            return plan;
        }
        if !ready.set_up {
            return Plan::one(CALM, Step::SetUp, "something of it is missing");
        }
        if !ready.checkpointed {
            return Plan::one(
                CALM,
                Step::Checkpoint,
                "without it no former primary can be rewound to this timeline",
            );
        }
        if self.reinit_wanted() {
            return Plan::one(
                CALM,
                Step::ForgetReinit,
                "the primary's data cannot be made anew from anybody",
            );
        }
        if record.open
            && ready.open
            && let Some(plan) = self.restart_one_by_one(ready, record, version)
        {
            return plan;
        }
        if record.open && !ready.open {
            return Plan::wait(
                CALM,
                format!(
                    "before anybody is let in again, everything up to {} has to be on {}",
                    ready.sync.since, record.sync
                ),
            );
        }
        Plan::idle(CALM)
    }

    /// Lets the application in, once nothing that it can see may go away again.
    fn open(&self, ready: &Ready, record: &Record, version: Revision) -> Option<Plan> {
        if record.open {
            if ready.open {
                return None;
            }
            let safe = sync::is_safe(&record.sync, &ready.sync.set);
            let confirmed = record.sync.is_alone() || ready.confirmed();
            return (safe && confirmed).then(|| {
                let why = match record.sync.is_alone() {
                    true => "nobody else has to confirm anything".to_owned(),
                    false => format!(
                        "everything up to {} is on {}",
                        ready.sync.since, record.sync
                    ),
                };
                Plan::one(CALM, Step::Open, why)
            });
        }
        if !ready.set_up && record.base.is_none() {
            return Some(Plan::one(CALM, Step::SetUp, "the database is new"));
        }
        let target = sync::target(ready, record, self.policy);
        let reason = "open the new primary";
        match sync::next(ready, &SyncSet::alone(), &target, false) {
            Move::Confirm => Some(Plan::wait(
                reason,
                format!(
                    "everything up to {} has to be on {target}",
                    ready.sync.since
                ),
            )),
            Move::Switch { set, forget, prove } => Some(Plan::one(
                reason,
                Step::Sync { set, forget, prove },
                "before anybody is let in",
            )),
            Move::None | Move::Record(_) => {
                let asynchronous = !self.policy.synchronous;
                let value = Record {
                    sync: target.clone(),
                    open: true,
                    base: asynchronous.then(|| ready.end()),
                    expected: BTreeSet::new(),
                    next: None,
                    asynchronous,
                    ..record.clone()
                };
                let why = match target.is_alone() {
                    true => "nobody else has to confirm anything".to_owned(),
                    false => format!("everything up to {} is on {target}", ready.sync.since),
                };
                let written = Written {
                    value,
                    over: Some(version),
                };
                Some(Plan::one(reason, Step::WriteRecord(Box::new(written)), why))
            }
        }
    }

    fn keep_sync(&self, ready: &Ready, record: &Record, version: Revision) -> Option<Plan> {
        let reason = "keep the synchronous set";
        let write = |value: Record, why: String| {
            let written = Written {
                value,
                over: Some(version),
            };
            Plan::one(reason, Step::WriteRecord(Box::new(written)), why)
        };
        let target = sync::target(ready, record, self.policy);
        match sync::next(ready, &record.sync, &target, ready.open) {
            Move::Confirm => None,
            Move::Record(set) => {
                let why = match ready.sync.set == target {
                    true => format!("everything up to {} is on {target}", ready.sync.since),
                    false => format!("on the way from {} to {target}", ready.sync.set),
                };
                let asynchronous =
                    record.asynchronous && set.is_alone() && !self.policy.synchronous;
                let value = Record {
                    sync: set,
                    asynchronous,
                    base: if asynchronous { record.base } else { None },
                    ..record.clone()
                };
                Some(write(value, why))
            }
            Move::Switch { set, forget, prove } => {
                let why = match ready.sync.set.is_alone() {
                    true => "replicas are there".to_owned(),
                    false => format!("so far they wait for {}", ready.sync.set),
                };
                Some(Plan::one(reason, Step::Sync { set, forget, prove }, why))
            }
            // Alone and asynchronous are different promises.
            Move::None if record.asynchronous == self.policy.synchronous => {
                let asynchronous = !self.policy.synchronous;
                let value = Record {
                    asynchronous,
                    base: asynchronous.then(|| ready.end()),
                    ..record.clone()
                };
                let why = match asynchronous {
                    true => "the configuration says that commits wait for nobody",
                    false => "the configuration says that commits wait for replicas",
                };
                Some(write(value, why.to_owned()))
            }
            Move::None if record.retaken > 0 && ready.open && ready.since > START_BUDGET => {
                let value = Record {
                    retaken: 0,
                    ..record.clone()
                };
                Some(write(value, "PostgreSQL runs well here again".to_owned()))
            }
            Move::None => None,
        }
    }

    pub(super) fn stop_in_good_order(&self, ready: &Ready, why: impl Into<String>) -> Plan {
        let mut plan = Plan::idle("hand over");
        // Once new sessions are kept out, it goes on with the stop and does not begin anew.
        if ready.open {
            plan = plan
                .then(Step::Checkpoint, "the one at the end is then a short one")
                .then(Step::Close, "new sessions wait for the next primary");
        }
        let mode = StopMode::Fast;
        plan.then(Step::Stop { mode }, why)
    }

    // ---- What the operator asked for.

    fn end_request(&self, version: Revision, why: String) -> Plan {
        Plan::one("end a request", Step::ForgetRequest { version }, why)
    }

    /// In every state of PostgreSQL: that it does not start may be the reason.
    fn failover_asked(&self, record: &Record) -> Option<Plan> {
        let (request, version) = self.o.store.request.as_ref()?;
        if request.term() != record.term {
            return Some(self.end_request(*version, "there was another primary since".to_owned()));
        }
        let Request::Failover {
            to, accept_loss, ..
        } = request
        else {
            return None;
        };
        if *to == self.policy.me {
            return Some(self.end_request(*version, "this server is the primary".to_owned()));
        }
        if !self.policy.servers.contains(to) {
            let why = format!("{to} is not a database server of this cluster");
            return Some(self.end_request(*version, why));
        }
        if self.o.store.paused {
            return Some(self.end_request(*version, "failover is paused".to_owned()));
        }
        let complete = match record.open {
            true => record.asynchronous || record.sync.members.contains(to),
            false => record.base.is_some(),
        };
        if !complete && !accept_loss {
            let why = format!("{to} is not in the synchronous set: it may lack writes");
            return Some(self.end_request(*version, why));
        }
        Some(self.give_up(format!("the operator named {to}")))
    }

    /// Before anything that would let the application in: the plan would undo itself.
    fn switchover_asked(&self, ready: &Ready, record: &Record) -> Option<Plan> {
        let (request, version) = self.o.store.request.as_ref()?;
        if !matches!(request, Request::Switchover { .. }) || !record.open {
            return None;
        }
        if self.o.store.paused {
            return Some(self.end_request(*version, "failover is paused".to_owned()));
        }
        match self.switchover_to(record) {
            Some(to) if self.is_close(ready, &to) => {
                let why = format!("the operator wants {to} as the primary");
                Some(self.stop_in_good_order(ready, why))
            }
            _ if self.o.request_for > SWITCHOVER_PATIENCE => {
                Some(self.end_request(*version, "no replica can take over".to_owned()))
            }
            _ => None,
        }
    }

    /// Whom a switchover that is asked for goes to.
    fn switchover_to(&self, record: &Record) -> Option<ServerName> {
        let (Request::Switchover { to, term }, _) = self.o.store.request.as_ref()? else {
            return None;
        };
        if *term != record.term || !record.open || self.o.store.paused {
            return None;
        }
        let may = |server: &&ServerName| {
            **server != self.policy.me
                && (record.asynchronous || record.sync.members.contains(*server))
        };
        match to {
            Some(to) => self
                .policy
                .servers
                .iter()
                .filter(may)
                .find(|server| *server == to)
                .cloned(),
            None => self.policy.servers.iter().find(may).cloned(),
        }
    }

    pub(super) fn is_close(&self, ready: &Ready, to: &ServerName) -> bool {
        let end = ready.end().lsn;
        ready.standbys.iter().any(|standby| {
            standby.name == *to
                && standby.streaming
                && end.bytes_since(standby.flushed) <= CAUGHT_UP_BYTES
        })
    }
}
