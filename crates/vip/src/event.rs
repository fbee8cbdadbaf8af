//! What this crate tells operators.

use std::net::IpAddr;
use std::time::Duration;

use trilith_telemetry::{Event, Labels};

use crate::fsm::LeaveReason;

pub(crate) struct Taken {
    pub ip: IpAddr,
    pub epoch: u64,
}

impl Event for Taken {
    const NAME: &'static str = "vip_taken";
    const HELP: &'static str = "Times this server took a floating address";
    fn log(&self) {
        tracing::info!(ip = %self.ip, epoch = self.epoch, "floating address taken");
    }
}

/// Without quorum, and nobody answered for it.
pub(crate) struct TakenAsOrphan {
    pub ip: IpAddr,
}

impl Event for TakenAsOrphan {
    const NAME: &'static str = "vip_taken_as_orphan";
    const HELP: &'static str = "Times this server took a floating address without a lease";
    fn log(&self) {
        tracing::warn!(
            ip = %self.ip,
            "no majority of the servers is reachable and nobody answers for the floating address: \
             taken without a lease, until somebody else has it"
        );
    }
}

pub(crate) struct Released {
    pub ip: IpAddr,
    pub why: LeaveReason,
}

impl Event for Released {
    const NAME: &'static str = "vip_released";
    const HELP: &'static str = "Times this server gave a floating address away on purpose";
    fn labels(&self) -> Labels {
        vec![("reason", self.why.as_str().to_owned())]
    }
    fn log(&self) {
        tracing::info!(ip = %self.ip, why = self.why.as_str(), "floating address released");
    }
}

pub(crate) struct Lost {
    pub ip: IpAddr,
}

impl Event for Lost {
    const NAME: &'static str = "vip_lost";
    const HELP: &'static str =
        "Times a floating address was released because its lease ran out or was lost";
    fn log(&self) {
        tracing::warn!(
            ip = %self.ip,
            "floating address released: its lease could not be renewed in time"
        );
    }
}

pub(crate) struct Yielded {
    pub ip: IpAddr,
}

impl Event for Yielded {
    const NAME: &'static str = "vip_yielded";
    const HELP: &'static str =
        "Times an address that was held without a lease was given up to somebody else";
    fn log(&self) {
        tracing::info!(ip = %self.ip, "somebody else has the floating address: given up");
    }
}

pub(crate) struct Conflict {
    pub ip: IpAddr,
}

impl Event for Conflict {
    const NAME: &'static str = "vip_conflicts";
    const HELP: &'static str =
        "Times somebody else claimed a floating address that this server holds";
    fn log(&self) {
        tracing::warn!(
            ip = %self.ip,
            "somebody else claims the floating address while its lease is ours; announced anew"
        );
    }
}

pub(crate) struct SomebodyAnswers<'a> {
    pub ip: IpAddr,
    pub problem: &'a str,
}

impl Event for SomebodyAnswers<'_> {
    const NAME: &'static str = "vip_probe_answered";
    const HELP: &'static str =
        "Times somebody still answered for a floating address that was to be taken";
    fn log(&self) {
        tracing::info!(
            ip = %self.ip,
            problem = self.problem,
            "the lease of the floating address is ours, but somebody still answers for it: waiting"
        );
    }
}

pub(crate) struct ProbeFailed<'a> {
    pub ip: IpAddr,
    pub problem: &'a str,
}

impl Event for ProbeFailed<'_> {
    const NAME: &'static str = "vip_probe_failures";
    const HELP: &'static str =
        "Times the network could not be asked whether somebody has a floating address";
    fn log(&self) {
        tracing::warn!(
            ip = %self.ip,
            problem = self.problem,
            "cannot ask the network about the floating address: the program needs CAP_NET_RAW, and the \
             interface has to be up"
        );
    }
}

pub(crate) struct TakeFailed<'a> {
    pub ip: IpAddr,
    pub problem: &'a str,
}

impl Event for TakeFailed<'_> {
    const NAME: &'static str = "vip_take_failures";
    const HELP: &'static str = "Times a floating address could not be brought up";
    fn log(&self) {
        tracing::warn!(ip = %self.ip, problem = self.problem, "cannot bring the floating address up");
    }
}

pub(crate) struct ReleaseFailed<'a> {
    pub ip: IpAddr,
    pub problem: &'a str,
}

impl Event for ReleaseFailed<'_> {
    const NAME: &'static str = "vip_release_failures";
    const HELP: &'static str = "Times a floating address could not be taken down";
    fn log(&self) {
        tracing::error!(
            ip = %self.ip,
            problem = self.problem,
            "cannot take the floating address down, trying again"
        );
    }
}

/// The loop woke up late: the machine is overloaded, or the process was stopped.
pub(crate) struct LoopDelayed {
    pub late: Duration,
}

impl Event for LoopDelayed {
    const NAME: &'static str = "vip_loop_delays";
    const HELP: &'static str =
        "Times the loop that looks after the floating addresses woke up late";
    fn log(&self) {
        let late_ms = u64::try_from(self.late.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(late_ms, "the floating addresses were looked after late");
    }
}

/// An address that an earlier process of this server left behind.
pub(crate) struct LeftoverRemoved {
    pub ip: IpAddr,
}

impl Event for LeftoverRemoved {
    const NAME: &'static str = "vip_leftovers_removed";
    const HELP: &'static str = "Floating addresses that a killed predecessor left on an interface";
    fn log(&self) {
        tracing::info!(ip = %self.ip, "removed a floating address that a killed predecessor left behind");
    }
}
