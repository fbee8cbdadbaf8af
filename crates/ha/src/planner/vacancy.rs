//! Nobody holds the lease.

use std::time::Duration;

use trilith_consensus::Revision;

use super::Planner;
use crate::observed::{Data, Kind, Process};
use crate::plan::{Plan, StartAs, Step};
use crate::record::{Record, Report, ReportedData};
use crate::succession::{self, Verdict};

const CALM: &str = "wait for a primary";

impl Planner<'_> {
    pub(super) fn without_primary(&self, since: Duration) -> Plan {
        if self.o.leaving {
            return self.leave();
        }
        let record = self.record();
        let was_primary = record.is_some_and(|(record, _)| record.primary == self.policy.me);
        if self.o.store.paused && !was_primary {
            return Plan::wait(CALM, "failover is paused");
        }
        let Some((record, version)) = record else {
            return self.first(since);
        };
        if let Some(plan) = self.foreign() {
            return plan;
        }
        if self.no_data().is_some() {
            return match self.cluster() {
                Some(_) => Plan::wait(CALM, "there are no data here"),
                None => self.bootstrap_again(record, version, since),
            };
        }
        let Data::Ready {
            kind, unfounded, ..
        } = &self.o.local.data
        else {
            return Plan::wait(CALM, "there are no data here");
        };
        if *unfounded && self.cluster().is_none() && self.o.local.process == Process::Stopped {
            return self.bootstrap_again(record, version, since);
        }
        match &self.o.local.process {
            Process::Starting { .. } => Plan::wait(CALM, "PostgreSQL is starting"),
            Process::Silent { since } => self.silent(*since),
            Process::Stopped if *kind == Kind::Primary && was_primary => {
                self.succeed(record, version, *kind, since)
            }
            Process::Stopped => {
                let how = StartAs::Replica { follow: None };
                let why = match kind {
                    Kind::Replica => "to find out how much of the WAL is here",
                    Kind::Primary => {
                        "these were the data of an earlier primary; to find out how much of the WAL is here"
                    }
                };
                Plan::one(CALM, Step::Start { how }, why)
            }
            Process::Ready(ready) => {
                if ready.follows.is_some() || ready.receiving {
                    return Plan::one(
                        CALM,
                        Step::Follow { server: None },
                        "a former primary shall find nobody who confirms its commits",
                    );
                }
                if !ready.settled {
                    return Plan::wait(CALM, "the WAL here is still being read");
                }
                self.succeed(record, version, Kind::Replica, since)
            }
        }
    }

    fn succeed(&self, record: &Record, version: Revision, kind: Kind, since: Duration) -> Plan {
        let (Some(system_id), Some(history)) = (self.o.local.system_id(), self.o.local.history())
        else {
            return Plan::wait(CALM, "there are no data here");
        };
        // A primary that comes back needs no votes, and after a crash cannot tell where its WAL ends.
        if kind == Kind::Replica {
            let data = ReportedData::Database {
                system_id,
                history: history.clone(),
                primary: false,
            };
            let why = format!("this server has stopped receiving at {}", history.end);
            if let Some(plan) = self.report(CALM, record.term, data, why) {
                return plan;
            }
        }
        let mine = (kind, history);
        match succession::decide(self.o, self.policy, record, version, system_id, mine, since) {
            Verdict::Take { take, why } => {
                Plan::one("become the primary", Step::TakeLease(take), why)
            }
            Verdict::Not { why } => Plan::wait(CALM, why),
        }
    }

    /// Tells the others what is here, if they do not know.
    pub(super) fn report(
        &self,
        reason: &str,
        term: u64,
        data: ReportedData,
        why: String,
    ) -> Option<Plan> {
        let report = Report { term, data };
        let known = self.o.store.reports.get(&self.policy.me);
        if known.is_some_and(|(known, _)| *known == report) {
            return None;
        }
        Some(Plan::one(reason, Step::Report(report), why))
    }
}
