//! Effects and states as text: for logs and scenario files.

use std::fmt;

use trilith_base::BootTime;

use super::{Effect, LeaveReason, Notice, State};

/// Milliseconds.
struct At(BootTime);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.0.as_micros() as f64 / 1_000.0)
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Effect::Grant { forget: None } => f.write_str("grant"),
            Effect::Grant {
                forget: Some(version),
            } => write!(f, "grant, and forget the wish of {version}"),
            Effect::Renew { epoch } => write!(f, "renew {epoch}"),
            Effect::Revoke { epoch } => write!(f, "revoke {epoch}"),
            Effect::Forget { epoch, version } => {
                write!(f, "forget the wish of {version} under {epoch}")
            }
            Effect::Probe { marked: true } => f.write_str("probe under the lease"),
            Effect::Probe { marked: false } => f.write_str("probe"),
            Effect::CancelProbe => f.write_str("cancel probe"),
            Effect::Take {
                epoch,
                until,
                seconds,
            } => {
                f.write_str("take")?;
                match epoch {
                    Some(epoch) => write!(f, " under {epoch}")?,
                    None => f.write_str(" as orphan")?,
                }
                write!(f, " until {}", At(*until))?;
                match seconds {
                    Some(seconds) => write!(f, " for {seconds} s"),
                    None => Ok(()),
                }
            }
            Effect::Refresh { until, seconds } => {
                write!(f, "refresh until {} for {seconds} s", At(*until))
            }
            Effect::Release => f.write_str("release"),
            Effect::Announce => f.write_str("announce"),
            Effect::Tell(notice) => write!(f, "tell: {notice}"),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Taken { epoch } => write!(f, "taken under {epoch}"),
            Notice::TakenAsOrphan => f.write_str("taken as orphan"),
            Notice::Released { why } => write!(f, "released, {}", why.as_str()),
            Notice::Lost => f.write_str("lost"),
            Notice::Yielded => f.write_str("yielded"),
            Notice::Conflict => f.write_str("conflict"),
            Notice::SomebodyAnswers => f.write_str("somebody answers"),
            Notice::ProbeFailed => f.write_str("probe failed"),
            Notice::TakeFailed => f.write_str("take failed"),
            Notice::ReleaseFailed => f.write_str("release failed"),
        }
    }
}

impl LeaveReason {
    /// As metric label and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            LeaveReason::Unhealthy => "unhealthy",
            LeaveReason::LinkDown => "link-down",
            LeaveReason::Draining => "draining",
            LeaveReason::Moved => "moved",
            LeaveReason::Unusable => "unusable",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Idle => "idle",
            State::Asking => "asking",
            State::Taking => "taking",
            State::Held => "held",
            State::Leaving => "leaving",
            State::Watching => "watching",
            State::Orphan => "orphan",
        })
    }
}
