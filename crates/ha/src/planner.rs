//! The planner: from what a server sees to what it does next.

mod first;
mod holder;
mod replica;
mod restart;
mod vacancy;

use trilith_base::ServerName;
use trilith_consensus::Revision;

use crate::limits::SILENT_MAX;
use crate::observed::{Changes, Data, LeaseSeen, Observed, PrimarySeen, Process};
use crate::plan::{Plan, Step, StopMode};
use crate::policy::Policy;
use crate::record::Record;

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
            LeaseSeen::Mine { .. } if !self.view_shows_lease() => Plan::wait(
                "the lease is ours",
                "what the cluster store told this server so far is older than that",
            ),
            LeaseSeen::Mine { .. } if self.o.changes == Changes::Unseen && !self.o.leaving => {
                Plan::wait(
                    "the lease is ours",
                    "the cluster store has not shown this server yet what it changed last",
                )
            }
            LeaseSeen::Mine { .. } => self.as_holder(),
            LeaseSeen::Unproven { .. } => {
                Plan::wait("the lease is ours", "a renewal has to prove that it lasts")
            }
            LeaseSeen::Other => self.as_replica(),
            LeaseSeen::Free { since } => self.without_primary(*since),
        }
    }

    /// Why a PostgreSQL that may be writable has to be stopped, if so. That failover is paused is no
    /// excuse: whether it still is cannot be known without the store's majority.
    fn why_fence(&self) -> Option<&'static str> {
        if !self.o.local.may_be_primary() {
            return None;
        }
        match self.o.lease {
            LeaseSeen::Mine { epoch } => {
                // A grant has the revision that is its epoch.
                let ended = self.o.store.revision.0 >= epoch.0 && !self.view_shows_lease();
                ended.then_some("the cluster store says that its lease ended")
            }
            LeaseSeen::Unproven { expired: false, .. } => None,
            LeaseSeen::Unproven { .. } => Some("the lease was not renewed in time"),
            LeaseSeen::Other => Some("another server holds the lease"),
            LeaseSeen::Free { .. } => Some("this server does not hold the lease"),
        }
    }

    /// Whether the view of the store has the lease as ours.
    fn view_shows_lease(&self) -> bool {
        let LeaseSeen::Mine { epoch } = self.o.lease else {
            return false;
        };
        let seen = self.o.store.lease.as_ref();
        seen.is_some_and(|(holder, its)| *holder == self.policy.me && *its == epoch)
    }

    fn record(&self) -> Option<(&Record, Revision)> {
        let (record, version) = self.o.store.record.as_ref()?;
        Some((record, *version))
    }

    fn give_up(&self, why: impl Into<String>) -> Plan {
        let step = Step::GiveUpLease {
            record: None,
            over: self.record().map(|(_, version)| version),
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
        let ours = self.cluster()?;
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

    /// System identifier of the cluster's database, once it has been founded.
    fn cluster(&self) -> Option<u64> {
        let cluster = self.o.store.cluster.as_ref()?;
        Some(cluster.system_id)
    }

    fn reinit_wanted(&self) -> bool {
        self.o.store.reinit.contains(&self.policy.me)
    }

    /// A new database that this server made, while another one made the cluster's.
    fn is_lost_bootstrap(&self) -> bool {
        let cluster = self.cluster();
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

    /// A PostgreSQL that has stopped answering.
    fn silent(&self, since: std::time::Duration) -> Plan {
        if since < SILENT_MAX {
            return Plan::wait(
                "PostgreSQL does not answer",
                format!(
                    "{} s so far; at {} s it is stopped",
                    since.as_secs(),
                    SILENT_MAX.as_secs()
                ),
            );
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

    /// The primary's answer, if it is one.
    fn seen(&self, primary: &ServerName) -> Option<&PrimarySeen> {
        let seen = self.o.primary.as_ref();
        seen.filter(|seen| seen.server == *primary && seen.is_primary)
    }
}
