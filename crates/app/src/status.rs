//! What the rest of the server sees of an instance.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use crate::{AppKind, ReleaseId};

/// An instance's name: `web.1`. Unique within one release on one server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId {
    pub app: Arc<str>,
    /// Counts from 1.
    pub number: u16,
}

impl InstanceId {
    pub fn new(app: &str, number: u16) -> Self {
        Self {
            app: app.into(),
            number,
        }
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.app, self.number)
    }
}

/// One instance, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceStatus {
    pub id: InstanceId,
    pub release: ReleaseId,
    pub kind: AppKind,
    pub state: InstanceState,
    /// When it came into `state`.
    pub since: SystemTime,
    /// Of the running process; `None` when there is none.
    pub pid: Option<u32>,
    /// Where it listens; `None` for workers and while no process runs. Requests may be sent there
    /// only in [`InstanceState::Live`].
    pub address: Option<SocketAddr>,
    /// Processes started after the first, since the supervisor started.
    pub restarts: u32,
    /// How the last process ended or why it was stopped, with nothing of its output: `exit code 3`.
    pub last_failure: Option<String>,
}

impl InstanceStatus {
    /// True when requests may be sent to it (or, for a worker, when it does its work).
    pub fn is_live(&self) -> bool {
        self.state == InstanceState::Live
    }
}

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceState {
    /// The process runs, but is not ready.
    Starting,
    /// In rotation.
    Live,
    /// The process runs, but fails its health checks: out of rotation.
    Unhealthy,
    /// No process: it failed `attempt` times in a row and is started again at `until`.
    Backoff { until: SystemTime, attempt: u32 },
    /// Still serves what it was given, and gets nothing new.
    Draining,
    /// No process, and none will be started.
    Stopped,
}

impl InstanceState {
    /// A word for tables, JSON and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Live => "live",
            Self::Unhealthy => "unhealthy",
            Self::Backoff { .. } => "backoff",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }

    /// True for an instance that fails again and again right after its start.
    pub fn is_crash_loop(self) -> bool {
        matches!(self, Self::Backoff { attempt, .. } if attempt >= crate::limits::CRASH_LOOP_FROM)
    }
}
