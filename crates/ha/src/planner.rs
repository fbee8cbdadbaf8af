//! The planner: from what a server sees to what it does next.

use std::collections::BTreeSet;
use std::time::Duration;

use trilith_base::ServerName;
use trilith_consensus::Revision;

use crate::history::{History, Position};
use crate::limits::{
    ASIDES_MAX, NEXT_PATIENCE, NOT_STREAMING_MAX, SILENT_MAX, START_BUDGET, SWITCHOVER_PATIENCE,
};
use crate::observed::{Data, Kind, LeaseSeen, Observed, PrimarySeen, Process, Ready, SlotSeen};
use crate::plan::{Plan, StartAs, Step, StopMode};
use crate::policy::Policy;
use crate::record::{Record, Report, ReportedData, Request, SyncSet};
use crate::succession::{self, Verdict};
use crate::sync::{self, Move};
use crate::txn::{TakeLease, Written};

/// Between the servers, when all of them may make the new database.
const FIRST_DELAY: Duration = Duration::from_secs(3);

/// What this server does next. The same input gives the same plan.
pub fn plan(observed: &Observed, policy: &Policy) -> Plan {
    let planner = Planner {
        o: observed,
        policy,
    };
    planner.plan()
}

struct Planner<'a> {
    o: &'a Observed,
    policy: &'a Policy,
}

impl Planner<'_> {
    fn plan(&self) -> Plan {
        if let Some(why) = self.why_fence() {
            let stop = Step::Stop {
                mode: StopMode::Immediate,
            };
            return Plan::one("PostgreSQL must not be a primary here", stop, why);
        }
        if let Some(what) = &self.o.store.unreadable {
            return Plan::wait("a newer version of Trilith decides", what.clone());
        }
        if let Data::Unusable { what, hint } = &self.o.local.data {
            return match self.o.lease {
                LeaseSeen::Mine { .. } => self.give_up(what.clone()),
                _ => Plan::fail(what.clone(), hint.clone()),
            };
        }
        match &self.o.lease {
            LeaseSeen::Mine { .. } => self.as_holder(),
            LeaseSeen::Unproven { .. } => {
                Plan::wait("the lease is ours", "a renewal has to prove that it lasts")
            }
            LeaseSeen::Other => self.as_replica(),
            LeaseSeen::Free { since } => self.without_primary(*since),
        }
    }

    /// Why a PostgreSQL that may be writable has to be stopped, if so.
    fn why_fence(&self) -> Option<&'static str> {
        if !self.o.local.may_be_primary() {
            return None;
        }
        match self.o.lease {
            LeaseSeen::Mine { .. } | LeaseSeen::Unproven { expired: false, .. } => None,
            LeaseSeen::Other => Some("another server holds the lease"),
            // Nobody takes the lease while failover is paused: the store refuses it.
            LeaseSeen::Unproven { .. } | LeaseSeen::Free { .. } if self.o.store.paused => None,
            LeaseSeen::Unproven { .. } => Some("the lease was not renewed in time"),
            LeaseSeen::Free { .. } => Some("this server does not hold the lease"),
        }
    }

    fn record(&self) -> Option<(&Record, Revision)> {
        let (record, version) = self.o.store.record.as_ref()?;
        Some((record, *version))
    }

    fn give_up(&self, why: impl Into<String>) -> Plan {
        let step = Step::GiveUpLease {
            record: None,
            fulfils: None,
        };
        let mut plan = Plan::idle("make room for another primary");
        if self.o.local.process != Process::Stopped {
            let stop = Step::Stop {
                mode: StopMode::Immediate,
            };
            plan = plan.then(stop, "it must not run without the lease");
        }
        plan.then(step, why)
    }

    /// Data of another database than the cluster's.
    fn foreign(&self) -> Option<Plan> {
        let ours = self.o.store.cluster.as_ref()?.system_id;
        let its = self.o.local.system_id()?;
        if its == ours || self.is_lost_bootstrap() {
            return None;
        }
        let why = format!(
            "the data here are of another database (system identifier {its}, the cluster's is {ours})"
        );
        if matches!(self.o.lease, LeaseSeen::Mine { .. }) {
            return Some(self.give_up(why));
        }
        if self.reinit_wanted() {
            return None;
        }
        Some(Plan::fail(
            why,
            format!(
                "to set them aside and copy the cluster's: `trilith db reinit {}`",
                self.policy.me
            ),
        ))
    }

    fn reinit_wanted(&self) -> bool {
        self.o.store.reinit.contains(&self.policy.me)
    }

    /// A new database that this server made, while another one made the cluster's.
    fn is_lost_bootstrap(&self) -> bool {
        let cluster = self
            .o
            .store
            .cluster
            .as_ref()
            .map(|cluster| cluster.system_id);
        matches!(
            &self.o.local.data,
            Data::Ready { unfounded: true, system_id, .. } if cluster.is_some_and(|id| id != *system_id)
        )
    }

    /// Why the data have to be replaced as a whole, if that is plain from looking at them.
    fn no_data(&self) -> Option<String> {
        match &self.o.local.data {
            Data::Missing => Some("there are no data yet".to_owned()),
            Data::HalfMade { what } => Some(what.clone()),
            Data::Ready { .. } if self.is_lost_bootstrap() => {
                Some("another server made the database of the cluster".to_owned())
            }
            _ => None,
        }
    }

    // ---- This server holds the lease.

    fn as_holder(&self) -> Plan {
        let Some((record, version)) = self.record() else {
            return self.give_up("there is no record of this lease");
        };
        if record.primary != self.policy.me {
            return self.give_up(format!(
                "the record names {} as the primary",
                record.primary
            ));
        }
        if let Some(plan) = self.foreign() {
            return plan;
        }
        if let Some(why) = self.no_data() {
            return match self.o.store.cluster {
                Some(_) => self.give_up(why),
                None => Plan::one("make the database", Step::Initdb, why),
            };
        }
        if self.o.store.cluster.is_none()
            && let Some(system_id) = self.o.local.system_id()
        {
            return Plan::one(
                "make the database",
                Step::Found { system_id },
                "it is there: from now on it is the cluster's",
            );
        }
        match &self.o.local.process {
            Process::Stopped => self.start_primary(record, version),
            Process::Starting { since } => self.starting_primary(*since, record),
            Process::Silent { since } => self.silent(*since),
            Process::Ready(ready) if ready.in_recovery => self.promote(ready, record),
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
        if self.o.local.failures > 0 && self.others_may_succeed(record) {
            return self.give_up("PostgreSQL does not start here");
        }
        let how = match kind {
            Kind::Primary => StartAs::Primary {
                sync: sync::at_start(record, self.policy),
            },
            Kind::Replica => StartAs::Replica { follow: None },
        };
        Plan::one(
            "be the primary",
            Step::Start { how },
            "this server holds the lease",
        )
    }

    /// Stopped in good order: everything is on disk up to `end`.
    fn hand_over(&self, record: &Record, version: Revision, end: Position) -> Plan {
        let (next, fulfils) = match &self.o.store.request {
            Some((Request::Switchover { .. }, request)) => {
                (self.switchover_to(record), Some(*request))
            }
            _ => (None, None),
        };
        let mut expected = record.sync.members.clone();
        if let Some(next) = &next {
            expected.remove(next);
        }
        let value = Record {
            sync: SyncSet::alone(),
            open: false,
            base: Some(end),
            expected,
            next,
            ..record.clone()
        };
        let record = Some(Box::new(Written {
            value,
            over: Some(version),
        }));
        Plan::one(
            "hand over",
            Step::GiveUpLease { record, fulfils },
            format!("PostgreSQL was stopped in good order at {end}"),
        )
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
        if since > START_BUDGET && self.others_may_succeed(record) {
            return self.give_up("PostgreSQL takes too long to start");
        }
        Plan::wait("be the primary", "PostgreSQL is starting")
    }

    fn silent(&self, since: Duration) -> Plan {
        if since < SILENT_MAX {
            return Plan::wait("PostgreSQL does not answer", "it may come to itself");
        }
        let stop = Step::Stop {
            mode: StopMode::Immediate,
        };
        Plan::one(
            "PostgreSQL hangs",
            stop,
            format!("it has not answered for {} s", since.as_secs()),
        )
    }

    fn promote(&self, ready: &Ready, record: &Record) -> Plan {
        if ready.receiving || ready.follows.is_some() {
            let step = Step::Follow { server: None };
            return Plan::one("become the primary", step, "a primary receives from nobody");
        }
        let sync = sync::at_start(record, self.policy);
        Plan::one(
            "become the primary",
            Step::Promote { sync },
            "this server holds the lease",
        )
    }

    fn run_primary(&self, ready: &Ready, record: &Record, version: Revision) -> Plan {
        if self.o.leaving {
            return self.stop_in_good_order("this server stops");
        }
        if let Some(plan) = self.open(ready, record, version) {
            return plan;
        }
        if let Some(plan) = self.keep_sync(ready, record, version) {
            return plan;
        }
        if !ready.set_up {
            return Plan::one("be the primary", Step::SetUp, "something of it is missing");
        }
        if !ready.checkpointed {
            return Plan::one(
                "be the primary",
                Step::Checkpoint,
                "without it no former primary can be rewound to this timeline",
            );
        }
        if self.reinit_wanted() {
            return Plan::one(
                "be the primary",
                Step::ForgetReinit,
                "the primary's data cannot be made anew from anybody",
            );
        }
        self.requests(ready, record)
            .unwrap_or_else(|| Plan::idle("be the primary"))
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
                let why = format!("everything here is confirmed by {}", record.sync);
                Plan::one("be the primary", Step::Open, why)
            });
        }
        if !ready.set_up && record.base.is_none() {
            return Some(Plan::one(
                "be the primary",
                Step::SetUp,
                "the database is new",
            ));
        }
        let target = sync::target(ready, record, self.policy);
        let reason = "open the new primary";
        match sync::next(ready, &SyncSet::alone(), &target, false) {
            Move::Confirm => Some(Plan::wait(
                reason,
                format!(
                    "{target} have to have everything up to {}",
                    ready.sync.since
                ),
            )),
            Move::Switch { set, forget, prove } => Some(Plan::one(
                reason,
                Step::Sync { set, forget, prove },
                "before anybody is let in",
            )),
            Move::None | Move::Record(_) => {
                let value = Record {
                    sync: target.clone(),
                    open: true,
                    base: None,
                    expected: BTreeSet::new(),
                    next: None,
                    asynchronous: !self.policy.synchronous,
                    ..record.clone()
                };
                let why = match target.is_alone() {
                    true => "nobody else has to confirm anything".to_owned(),
                    false => format!("{target} have everything up to {}", ready.sync.since),
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
                let why = format!("it shall be {target}; now {}", ready.sync.set);
                let asynchronous =
                    record.asynchronous && set.is_alone() && !self.policy.synchronous;
                let value = Record {
                    sync: set,
                    asynchronous,
                    ..record.clone()
                };
                Some(write(value, why))
            }
            Move::Switch { set, forget, prove } => {
                let why = format!("it shall be {target}; recorded is {}", record.sync);
                Some(Plan::one(reason, Step::Sync { set, forget, prove }, why))
            }
            // Alone and asynchronous are different promises.
            Move::None if record.asynchronous == self.policy.synchronous => {
                let asynchronous = !self.policy.synchronous;
                let value = Record {
                    asynchronous,
                    ..record.clone()
                };
                Some(write(value, "the configuration changed".to_owned()))
            }
            Move::None => None,
        }
    }

    fn stop_in_good_order(&self, why: impl Into<String>) -> Plan {
        Plan::idle("hand over")
            .then(Step::Checkpoint, "the one at the end is then a short one")
            .then(Step::Close, "new sessions wait for the next primary")
            .then(
                Step::Stop {
                    mode: StopMode::Fast,
                },
                why,
            )
    }

    fn requests(&self, ready: &Ready, record: &Record) -> Option<Plan> {
        let (request, version) = self.o.store.request.as_ref()?;
        let version = *version;
        let forget = |why: String| Plan::one("end a request", Step::ForgetRequest { version }, why);
        if request.term() != record.term {
            return Some(forget("there is another primary since".to_owned()));
        }
        match request {
            Request::Failover { to, .. } if *to == self.policy.me => {
                Some(forget("this server is the primary".to_owned()))
            }
            Request::Failover { to, .. } => {
                let record = None;
                Some(
                    Plan::idle("make room for another primary")
                        .then(
                            Step::Stop {
                                mode: StopMode::Immediate,
                            },
                            format!("the operator named {to}"),
                        )
                        .then(
                            Step::GiveUpLease {
                                record,
                                fulfils: None,
                            },
                            format!("the operator named {to}"),
                        ),
                )
            }
            Request::Switchover { .. } => match self.switchover_to(record) {
                Some(to) if self.is_close(ready, &to) => {
                    Some(self.stop_in_good_order(format!("the operator wants {to} as the primary")))
                }
                _ if self.o.request_for > SWITCHOVER_PATIENCE => {
                    Some(forget("no replica can take over".to_owned()))
                }
                _ => None,
            },
        }
    }

    /// Whom a switchover that is asked for goes to.
    fn switchover_to(&self, record: &Record) -> Option<ServerName> {
        let (Request::Switchover { to, term }, _) = self.o.store.request.as_ref()? else {
            return None;
        };
        if *term != record.term || !record.open {
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

    fn is_close(&self, ready: &Ready, to: &ServerName) -> bool {
        let end = ready.end().lsn;
        ready.standbys.iter().any(|standby| {
            standby.name == *to
                && standby.streaming
                && end.bytes_since(standby.flushed) <= crate::limits::CAUGHT_UP_BYTES
        })
    }

    // ---- Another server holds it.

    fn as_replica(&self) -> Plan {
        let Some((record, _)) = self.record() else {
            return Plan::wait("be a replica", "there is no record of the lease");
        };
        let primary = &record.primary;
        if self.o.leaving {
            return self.leave();
        }
        if let Some(plan) = self.foreign() {
            return plan;
        }
        if self.reinit_wanted() {
            return self.copy(
                primary,
                "the operator asked for it",
                Some(Step::ForgetReinit),
            );
        }
        if let Some(why) = self.no_data() {
            return self.copy(primary, &why, None);
        }
        match &self.o.local.process {
            Process::Stopped => self.start_replica(primary),
            Process::Starting { .. } => Plan::wait("be a replica", "PostgreSQL is starting"),
            Process::Silent { since } => self.silent(*since),
            Process::Ready(ready) => self.run_replica(ready, primary),
        }
    }

    fn leave(&self) -> Plan {
        match self.o.local.process {
            Process::Stopped => Plan::idle("this server stops"),
            _ => {
                let stop = Step::Stop {
                    mode: StopMode::Fast,
                };
                Plan::one("this server stops", stop, "as asked")
            }
        }
    }

    /// The primary's answer, if it is one.
    fn seen(&self, primary: &ServerName) -> Option<&PrimarySeen> {
        let seen = self.o.primary.as_ref();
        seen.filter(|seen| seen.server == *primary && seen.is_primary)
    }

    fn start_replica(&self, primary: &ServerName) -> Plan {
        let Data::Ready {
            kind,
            clean,
            history,
            ..
        } = &self.o.local.data
        else {
            return Plan::wait("be a replica", "there are no data");
        };
        let start = |why: &str| {
            let how = StartAs::Replica {
                follow: Some(primary.clone()),
            };
            Plan::one("be a replica", Step::Start { how }, why)
        };
        if *kind == Kind::Replica {
            return match self.o.local.failures {
                0..=2 => start("it is not running"),
                _ => self.copy(
                    primary,
                    "PostgreSQL does not start with the data here",
                    None,
                ),
            };
        }
        let Some(seen) = self.seen(primary) else {
            return Plan::wait("be a replica", format!("{primary} is not a primary yet"));
        };
        if *clean && seen.history.contains(history.end) {
            return start("it was the primary, and wrote nothing that the new one lacks");
        }
        self.rewind(
            primary,
            seen,
            "it was the primary, and may have written more than the new one has",
        )
    }

    fn rewind(&self, primary: &ServerName, seen: &PrimarySeen, why: &str) -> Plan {
        if self.o.local.failures > 1 {
            return self.copy(primary, "rewinding failed", None);
        }
        if seen.checkpoint_timeline != seen.history.end.timeline {
            return Plan::wait("rejoin", format!("{primary} has not made a checkpoint yet"));
        }
        let mut plan = Plan::idle("rejoin");
        if self.o.local.process != Process::Stopped {
            plan = plan.then(
                Step::Stop {
                    mode: StopMode::Fast,
                },
                "before its files are changed",
            );
        }
        let how = StartAs::Replica {
            follow: Some(primary.clone()),
        };
        plan.then(
            Step::Rewind {
                from: primary.clone(),
            },
            why,
        )
        .then(Step::Start { how }, "it can follow now")
    }

    fn copy(&self, primary: &ServerName, why: &str, after: Option<Step>) -> Plan {
        let Some(seen) = self.seen(primary) else {
            return Plan::wait(
                "copy the primary",
                format!("{primary} is not a primary yet"),
            );
        };
        let ours = self
            .o
            .store
            .cluster
            .as_ref()
            .map(|cluster| cluster.system_id);
        if ours != Some(seen.system_id) {
            return Plan::wait(
                "copy the primary",
                format!("{primary} has another database"),
            );
        }
        if matches!(seen.slot, SlotSeen::Missing | SlotSeen::Lost) {
            return Plan::wait(
                "copy the primary",
                format!("{primary} has no slot for it yet"),
            );
        }
        if self.o.local.data != Data::Missing && self.o.local.asides >= ASIDES_MAX {
            return Plan::fail(
                format!("it must be copied anew ({why}), and too many folders lie aside"),
                "look at the folders beside the data directory, and delete those not needed",
            );
        }
        let mut plan = Plan::idle("copy the primary");
        if self.o.local.process != Process::Stopped {
            plan = plan.then(
                Step::Stop {
                    mode: StopMode::Fast,
                },
                "its data are of no use",
            );
        }
        let how = StartAs::Replica {
            follow: Some(primary.clone()),
        };
        plan = plan
            .then(
                Step::Copy {
                    from: primary.clone(),
                },
                why,
            )
            .then(Step::Start { how }, "the copy is complete");
        match after {
            Some(step) => plan.then(step, "it is done"),
            None => plan,
        }
    }

    fn run_replica(&self, ready: &Ready, primary: &ServerName) -> Plan {
        if ready.follows.as_ref() != Some(primary) {
            let step = Step::Follow {
                server: Some(primary.clone()),
            };
            return Plan::one("be a replica", step, format!("{primary} is the primary"));
        }
        if ready.not_streaming < NOT_STREAMING_MAX {
            return Plan::idle("be a replica");
        }
        let Some(seen) = self.seen(primary) else {
            return Plan::wait(
                "be a replica",
                format!("{primary} does not answer as a primary"),
            );
        };
        let end = ready.end();
        let parted = !seen.history.contains(end);
        if parted && ready.settled {
            let why = format!("it has WAL up to {end} that {primary} never wrote");
            return self.rewind(primary, seen, &why);
        }
        if seen.slot == SlotSeen::Lost || end.lsn < seen.oldest {
            let why = format!("{primary} no longer has the WAL that comes after {end}");
            return self.copy(primary, &why, None);
        }
        Plan::wait("be a replica", format!("nothing comes in from {primary}"))
    }

    // ---- Nobody holds it.

    fn without_primary(&self, since: Duration) -> Plan {
        if self.o.leaving {
            return self.leave();
        }
        if self.o.store.paused {
            return Plan::wait("wait for a primary", "failover is paused");
        }
        let Some((record, version)) = self.record() else {
            return self.first(since);
        };
        if let Some(plan) = self.foreign() {
            return plan;
        }
        if self.no_data().is_some() {
            return match self.o.store.cluster {
                Some(_) => Plan::wait("wait for a primary", "there are no data here"),
                None => self.bootstrap_again(record, version, since),
            };
        }
        let Data::Ready { kind, .. } = &self.o.local.data else {
            return Plan::wait("wait for a primary", "there are no data here");
        };
        match &self.o.local.process {
            Process::Starting { .. } => Plan::wait("wait for a primary", "PostgreSQL is starting"),
            Process::Silent { since } => self.silent(*since),
            Process::Stopped => match kind {
                Kind::Primary if record.primary == self.policy.me => {
                    self.succeed(record, version, *kind, since)
                }
                Kind::Primary => Plan::wait(
                    "wait for a primary",
                    "these were a primary's data; they have to be compared with the next one's",
                ),
                Kind::Replica => {
                    let how = StartAs::Replica { follow: None };
                    Plan::one(
                        "wait for a primary",
                        Step::Start { how },
                        "to find out how much of the WAL is here",
                    )
                }
            },
            Process::Ready(ready) => {
                if ready.follows.is_some() || ready.receiving {
                    return Plan::one(
                        "wait for a primary",
                        Step::Follow { server: None },
                        "a former primary shall find nobody who confirms its commits",
                    );
                }
                if !ready.settled {
                    return Plan::wait("wait for a primary", "the WAL here is still being read");
                }
                self.succeed(record, version, *kind, since)
            }
        }
    }

    fn succeed(&self, record: &Record, version: Revision, kind: Kind, since: Duration) -> Plan {
        let (Some(system_id), Some(history)) = (self.o.local.system_id(), self.o.local.history())
        else {
            return Plan::wait("wait for a primary", "there are no data here");
        };
        if let Some(plan) = self.report(record.term, kind, history) {
            return plan;
        }
        let mine = (kind, history);
        match succession::decide(self.o, self.policy, record, version, system_id, mine, since) {
            Verdict::Take { take, why } => {
                Plan::one("become the primary", Step::TakeLease(take), why)
            }
            Verdict::Not { why } => Plan::wait("wait for a primary", why),
        }
    }

    /// Tells the others what is here, if they do not know.
    fn report(&self, term: u64, kind: Kind, history: &History) -> Option<Plan> {
        // A primary that comes back needs no votes, and after a crash cannot tell where its WAL ends.
        if kind == Kind::Primary {
            return None;
        }
        let data = ReportedData::Database {
            system_id: self.o.local.system_id()?,
            history: history.clone(),
            primary: false,
        };
        self.report_data(term, data)
    }

    fn report_data(&self, term: u64, data: ReportedData) -> Option<Plan> {
        let report = Report { term, data };
        let known = self.o.store.reports.get(&self.policy.me);
        if known.is_some_and(|(known, _)| *known == report) {
            return None;
        }
        let why = "it has stopped receiving";
        Some(Plan::one("wait for a primary", Step::Report(report), why))
    }

    // ---- There never was one.

    /// Everybody tells what there is; then one of them makes the database, or goes on with what is found.
    fn first(&self, since: Duration) -> Plan {
        if self.o.local.process != Process::Stopped {
            let stop = Step::Stop {
                mode: StopMode::Fast,
            };
            return Plan::one(
                "find out who has data",
                stop,
                "the cluster store knows no database",
            );
        }
        let data = match &self.o.local.data {
            Data::Missing | Data::HalfMade { .. } => ReportedData::Nothing,
            Data::Unusable { what, .. } => ReportedData::Unusable { what: what.clone() },
            Data::Ready {
                system_id,
                kind,
                history,
                ..
            } => ReportedData::Database {
                system_id: *system_id,
                history: history.clone(),
                primary: *kind == Kind::Primary,
            },
        };
        if let Some(plan) = self.report_data(0, data) {
            return plan;
        }
        let forced = match &self.o.store.request {
            Some((
                Request::Failover {
                    to,
                    accept_loss: true,
                    term: 0,
                },
                version,
            )) => Some((to, *version)),
            _ => None,
        };
        if let Some((to, version)) = forced {
            return match *to == self.policy.me {
                true => self.take_first("the operator named this server", Some(version)),
                false => Plan::wait("make the database", format!("the operator named {to}")),
            };
        }
        let missing: Vec<&str> = self
            .policy
            .servers
            .iter()
            .filter(|server| !self.o.store.reports.contains_key(*server))
            .map(ServerName::as_str)
            .collect();
        if !missing.is_empty() {
            return Plan::wait(
                "find out who has data",
                format!(
                    "{} have not told yet whether they have a database",
                    missing.join(", ")
                ),
            );
        }
        self.choose_first(since)
    }

    fn choose_first(&self, since: Duration) -> Plan {
        let reports = self.policy.servers.iter().filter_map(|server| {
            let (report, _) = self.o.store.reports.get(server)?;
            Some((server, &report.data))
        });
        let (mut found, mut unusable) = (Vec::new(), None);
        for (server, data) in reports {
            match data {
                ReportedData::Nothing => {}
                ReportedData::Unusable { what } => unusable = Some((server, what)),
                ReportedData::Database {
                    system_id,
                    history,
                    primary,
                } => {
                    found.push((server, *system_id, history, *primary));
                }
            }
        }
        if let Some((server, what)) = unusable {
            return Plan::fail(
                format!("{server} has data that cannot be used: {what}"),
                "mend or move them, or name a server: `trilith db failover --to SERVER --accept-loss`",
            );
        }
        if found.is_empty() {
            let turn = FIRST_DELAY * self.policy.order();
            return match since >= turn {
                true => self.take_first("nobody has a database yet", None),
                false => Plan::wait("make the database", "another server comes first"),
            };
        }
        let best = found.iter().find(|(_, system_id, history, primary)| {
            *primary
                && found
                    .iter()
                    .all(|(_, its, other, _)| its == system_id && history.contains(other.end))
        });
        match best {
            Some((server, ..)) if **server == self.policy.me => {
                self.take_first("this server has the database", None)
            }
            Some((server, ..)) => Plan::wait("go on with the database", format!("{server} has it")),
            None => Plan::fail(
                "there are databases, and the cluster store does not know which of them is the newest",
                "look at `trilith db status`, then name a server: `trilith db failover --to SERVER --accept-loss`",
            ),
        }
    }

    fn take_first(&self, why: &str, fulfils: Option<Revision>) -> Plan {
        let record = Record {
            term: 1,
            primary: self.policy.me.clone(),
            sync: SyncSet::alone(),
            open: false,
            base: None,
            expected: BTreeSet::new(),
            next: None,
            asynchronous: !self.policy.synchronous,
            forced: false,
        };
        let counted = match fulfils {
            Some(_) => Vec::new(),
            None => self
                .o
                .store
                .reports
                .iter()
                .map(|(server, (_, version))| (server.clone(), *version))
                .collect(),
        };
        let take = TakeLease {
            record,
            over: None,
            reports: counted,
            fulfils,
        };
        Plan::one("make the database", Step::TakeLease(Box::new(take)), why)
    }

    /// Whoever was to make the database has gone before it was there.
    fn bootstrap_again(&self, record: &Record, version: Revision, since: Duration) -> Plan {
        let turn = match record.primary == self.policy.me {
            true => Duration::ZERO,
            false => NEXT_PATIENCE * 2 + FIRST_DELAY * self.policy.order(),
        };
        if since < turn || record.open {
            return Plan::wait(
                "make the database",
                format!("{} is making it", record.primary),
            );
        }
        let take = TakeLease {
            record: Record {
                term: record.term + 1,
                primary: self.policy.me.clone(),
                ..record.clone()
            },
            over: Some(version),
            reports: Vec::new(),
            fulfils: None,
        };
        let why = format!("{} did not make it", record.primary);
        Plan::one("make the database", Step::TakeLease(Box::new(take)), why)
    }
}
