//! What happens to the lease of the primary, and what the agent decides.

use trilith_consensus::Epoch;
use trilith_ha::{Plan, Step};
use trilith_telemetry::{Event, Labels};

use crate::error::Error;

/// The planner made up its mind.
pub(crate) struct Planned<'a> {
    pub plan: &'a Plan,
    pub generation: u64,
}

impl Event for Planned<'_> {
    const NAME: &'static str = "database_plans";
    const HELP: &'static str = "Plans made for the database on this server";
    fn log(&self) {
        let generation = self.generation;
        let steps: Vec<String> = self
            .plan
            .steps
            .iter()
            .map(|act| match act.step {
                // What for is all there is to say.
                Step::Wait => format!("wait: {}", act.why),
                _ => act.step.to_string(),
            })
            .collect();
        tracing::info!(
            plan = generation,
            reason = self.plan.reason,
            steps = steps.join("; "),
            "database plan"
        );
    }
}

/// This server may run the primary from now on.
pub(crate) struct LeaseTaken {
    pub epoch: Epoch,
    pub term: u64,
}

impl Event for LeaseTaken {
    const NAME: &'static str = "database_lease_grants";
    const HELP: &'static str = "Times this server was granted the primary's lease";
    fn log(&self) {
        let (epoch, term) = (self.epoch.0, self.term);
        tracing::info!(epoch, term, "this server holds the primary's lease");
    }
}

/// It gave that up.
pub(crate) struct LeaseGivenUp {
    pub epoch: Epoch,
    /// With everything on disk and nothing open, so that another server goes on from there.
    pub in_order: bool,
}

impl Event for LeaseGivenUp {
    const NAME: &'static str = "database_lease_returns";
    const HELP: &'static str = "Times this server gave the primary's lease back";
    fn labels(&self) -> Labels {
        vec![("in_order", self.in_order.to_string())]
    }
    fn log(&self) {
        let epoch = self.epoch.0;
        tracing::info!(
            epoch,
            in_order = self.in_order,
            "this server gave the primary's lease back"
        );
    }
}

/// A step of a plan was not carried out. It is planned anew.
pub(crate) struct StepFailed<'a> {
    pub step: &'a str,
    pub error: &'a Error,
}

impl Event for StepFailed<'_> {
    const NAME: &'static str = "database_step_failures";
    const HELP: &'static str = "Steps of plans for the database that failed";
    fn log(&self) {
        tracing::warn!(step = self.step, error = %self.error, "a step for the database failed");
    }
}

/// The guard cannot be told what it needs to know.
pub(crate) struct FenceFailed<'a> {
    pub why: &'a str,
}

impl Event for FenceFailed<'_> {
    const NAME: &'static str = "database_guard_failures";
    const HELP: &'static str = "Times the guard of the database could not be told the deadline";
    fn log(&self) {
        tracing::warn!(why = self.why, "the guard of the database cannot be told");
    }
}
