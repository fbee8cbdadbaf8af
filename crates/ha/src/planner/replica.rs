//! Another server holds the lease.

use trilith_base::ServerName;

use super::Planner;
use crate::history::Position;
use crate::limits::{ASIDES_MAX, NOT_STREAMING_MAX};
use crate::lsn::Lsn;
use crate::observed::{Data, Kind, PrimarySeen, Process, Ready, SlotSeen};
use crate::plan::{Plan, StartAs, Step, StopMode};

const CALM: &str = "be a replica";
const COPY: &str = "copy the primary";

impl Planner<'_> {
    pub(super) fn as_replica(&self) -> Plan {
        let Some((record, _)) = self.record() else {
            return Plan::wait(CALM, "there is no record of the lease");
        };
        let primary = &record.primary;
        if self.o.leaving {
            return self.leave();
        }
        if let Some(plan) = self.foreign() {
            return plan;
        }
        if let Process::Silent { since } = &self.o.local.process {
            return self.silent(*since);
        }
        // A view from before the last start of this program may show a primary that this server has long
        // promised, by its report, to receive nothing from any more.
        if !self.o.quorum && !self.follows(primary) {
            return Plan::wait(
                CALM,
                format!("no majority of the cluster store confirms that {primary} is the primary"),
            );
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
            Process::Stopped => self.started_anew(self.start_replica(primary)),
            Process::Starting { .. } => Plan::wait(CALM, "PostgreSQL is starting"),
            Process::Silent { since } => self.silent(*since),
            Process::Ready(ready) => self.run_replica(ready, primary),
        }
    }

    fn follows(&self, primary: &ServerName) -> bool {
        match &self.o.local.process {
            Process::Ready(ready) => ready.follows.as_ref() == Some(primary),
            _ => false,
        }
    }

    pub(super) fn leave(&self) -> Plan {
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

    fn start_replica(&self, primary: &ServerName) -> Plan {
        let Data::Ready {
            kind,
            clean,
            history,
            ..
        } = &self.o.local.data
        else {
            return Plan::wait(CALM, "there are no data");
        };
        let start = |why: &str| {
            let how = StartAs::Replica {
                follow: Some(primary.clone()),
            };
            Plan::one(CALM, Step::Start { how }, why)
        };
        if *kind == Kind::Replica {
            // What it has is compared before it follows anybody, and known once it runs.
            let how = StartAs::Replica { follow: None };
            return match self.o.local.failures {
                0..=2 => Plan::one(CALM, Step::Start { how }, "it is not running"),
                _ => self.copy(
                    primary,
                    "PostgreSQL does not start with the data here",
                    None,
                ),
            };
        }
        let Some(seen) = self.seen(primary) else {
            return self.no_answer(CALM, primary);
        };
        // The end is where the checkpoint of the shutdown begins, and PostgreSQL does not start when the
        // histories part right there: the checkpoint itself has to be in the new one's as well.
        let checkpoint = Position {
            lsn: Lsn(history.end.lsn.0.saturating_add(1)),
            ..history.end
        };
        if *clean && seen.history.has(history) && seen.history.contains(checkpoint) {
            return start("it was the primary, and wrote nothing that the new one lacks");
        }
        self.rewind(
            primary,
            seen,
            "it was the primary, and may have written what the new one lacks",
        )
    }

    fn no_answer(&self, reason: &str, primary: &ServerName) -> Plan {
        Plan::wait(reason, format!("{primary} does not answer as a primary"))
    }

    fn rewind(&self, primary: &ServerName, seen: &PrimarySeen, why: &str) -> Plan {
        if self.o.local.failures > 1 {
            return self.copy(primary, "rewinding failed", None);
        }
        if seen.checkpoint_timeline != seen.history.end.timeline {
            return Plan::wait(
                "rejoin",
                format!(
                    "{primary} has not made a checkpoint on timeline {} yet",
                    seen.history.end.timeline
                ),
            );
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
            return self.no_answer(COPY, primary);
        };
        if self.cluster() != Some(seen.system_id) {
            return Plan::wait(COPY, format!("{primary} has another database"));
        }
        if matches!(seen.slot, SlotSeen::Missing | SlotSeen::Lost) {
            return Plan::wait(COPY, format!("{primary} has no slot for this server yet"));
        }
        if self.o.local.data != Data::Missing && self.o.local.asides >= ASIDES_MAX {
            return Plan::fail(
                format!("it must be copied anew ({why}), and too many folders lie aside"),
                "look at the folders beside the data directory, and delete those not needed",
            );
        }
        let mut plan = Plan::idle(COPY);
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

    /// Histories are compared first. PostgreSQL itself would let a replica connect that has more of an older
    /// timeline than this primary took over, and count what it has flushed there as confirmation of commits
    /// that it never received: the walreceiver begins at the start of a segment, and reports its own end.
    fn follow(&self, ready: &Ready, primary: &ServerName) -> Plan {
        if ready.follows.is_some() || ready.receiving {
            let step = Step::Follow { server: None };
            return Plan::one(CALM, step, "it may still receive from a former primary");
        }
        if !ready.settled {
            return Plan::wait(CALM, "the WAL here is still being read");
        }
        let Some(seen) = self.seen(primary) else {
            return self.no_answer(CALM, primary);
        };
        if !seen.history.continues(&ready.history) {
            return self.parted(ready, primary, seen);
        }
        let step = Step::Follow {
            server: Some(primary.clone()),
        };
        Plan::one(CALM, step, format!("{primary} is the primary"))
    }

    fn parted(&self, ready: &Ready, primary: &ServerName, seen: &PrimarySeen) -> Plan {
        let end = ready.end();
        let why = format!("it has WAL up to {end} that {primary} never wrote");
        self.rewind(primary, seen, &why)
    }

    fn run_replica(&self, ready: &Ready, primary: &ServerName) -> Plan {
        if ready.follows.as_ref() != Some(primary) {
            return self.follow(ready, primary);
        }
        if ready.not_streaming < NOT_STREAMING_MAX {
            return self
                .restart_replica(ready)
                .unwrap_or_else(|| Plan::idle(CALM));
        }
        let Some(seen) = self.seen(primary) else {
            return self.no_answer(CALM, primary);
        };
        let end = ready.end();
        // What the primary said may be a moment old: on its own timeline nobody is ahead of it.
        // While it tries to receive it is not settled, but what it has of an older one grows no more.
        let ended = ready.settled || end.timeline < seen.history.end.timeline;
        if !seen.history.continues(&ready.history) && ended {
            return self.parted(ready, primary, seen);
        }
        if seen.slot == SlotSeen::Lost || end.lsn < seen.oldest {
            let why = format!("{primary} no longer has the WAL that comes after {end}");
            return self.copy(primary, &why, None);
        }
        Plan::wait(CALM, format!("nothing comes in from {primary}"))
    }
}
