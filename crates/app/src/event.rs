//! What this crate tells operators.

use std::path::Path;
use std::time::Duration;

use trilith_base::format_duration;
use trilith_telemetry::{Event, Labels};

fn app_label(app: &str) -> Labels {
    vec![("app", app.to_owned())]
}

/// An instance answers and goes into rotation.
pub(crate) struct InstanceReady<'a> {
    pub app: &'a str,
    pub instance: &'a str,
    pub pid: u32,
    pub took: Duration,
}

impl Event for InstanceReady<'_> {
    const NAME: &'static str = "app_instance_ready";
    const HELP: &'static str = "Instances that became ready";
    fn labels(&self) -> Labels {
        app_label(self.app)
    }
    fn log(&self) {
        let took_ms = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            instance = self.instance,
            pid = self.pid,
            took_ms,
            "instance is ready"
        );
    }
}

/// An instance fails its health checks and leaves the rotation.
pub(crate) struct InstanceUnhealthy<'a> {
    pub app: &'a str,
    pub instance: &'a str,
    pub problem: &'a str,
}

impl Event for InstanceUnhealthy<'_> {
    const NAME: &'static str = "app_instance_unhealthy";
    const HELP: &'static str = "Times an instance left the rotation for failing its health checks";
    fn labels(&self) -> Labels {
        app_label(self.app)
    }
    fn log(&self) {
        tracing::warn!(
            instance = self.instance,
            problem = self.problem,
            "instance fails its health checks, out of rotation"
        );
    }
}

/// An instance failed: it ended, could not be started, was not ready in time, or was restarted for
/// its health.
pub(crate) struct InstanceFailed<'a> {
    pub app: &'a str,
    pub instance: &'a str,
    /// `exit code 3`, `signal 9 (SIGKILL)`, ...
    pub problem: &'a str,
    /// What it wrote last.
    pub output: &'a [String],
    /// In a row.
    pub failures: u32,
    pub next_start_in: Duration,
}

impl Event for InstanceFailed<'_> {
    const NAME: &'static str = "app_instance_failures";
    const HELP: &'static str =
        "Instances that ended by themselves, did not start, or were restarted";
    fn labels(&self) -> Labels {
        app_label(self.app)
    }
    fn log(&self) {
        tracing::warn!(
            instance = self.instance,
            problem = self.problem,
            failures = self.failures,
            next_start_in = format_duration(self.next_start_in),
            output = self.output.join("\n"),
            "instance failed"
        );
    }
}

/// An instance fails again and again; logged once per series.
pub(crate) struct CrashLoop<'a> {
    pub app: &'a str,
    pub instance: &'a str,
    pub failures: u32,
    pub log_file: &'a Path,
}

impl Event for CrashLoop<'_> {
    const NAME: &'static str = "app_crash_loops";
    const HELP: &'static str = "Instances that failed several times in a row";
    fn labels(&self) -> Labels {
        app_label(self.app)
    }
    fn log(&self) {
        tracing::error!(
            instance = self.instance,
            failures = self.failures,
            log_file = %self.log_file.display(),
            "instance fails again and again: see its log"
        );
    }
}

/// An instance ended because it was told to.
pub(crate) struct InstanceStopped<'a> {
    pub app: &'a str,
    pub instance: &'a str,
    /// `exit code 0`, `signal 15 (SIGTERM)`, ...
    pub end: &'a str,
    /// It did not end within its grace time.
    pub killed: bool,
}

impl Event for InstanceStopped<'_> {
    const NAME: &'static str = "app_instance_stops";
    const HELP: &'static str = "Instances stopped on purpose";
    fn labels(&self) -> Labels {
        app_label(self.app)
    }
    fn log(&self) {
        if self.killed {
            tracing::warn!(
                instance = self.instance,
                "instance did not end within its stop_grace, killed"
            );
        } else {
            tracing::info!(instance = self.instance, end = self.end, "instance stopped");
        }
    }
}

/// A process that not even SIGKILL ends.
pub(crate) struct InstanceAbandoned<'a> {
    pub app: &'a str,
    pub instance: &'a str,
    pub pid: u32,
}

impl Event for InstanceAbandoned<'_> {
    const NAME: &'static str = "app_instances_abandoned";
    const HELP: &'static str =
        "Processes that outlived SIGKILL, for example in a hung file system call";
    fn labels(&self) -> Labels {
        app_label(self.app)
    }
    fn log(&self) {
        tracing::error!(
            instance = self.instance,
            pid = self.pid,
            "process does not end even on SIGKILL, given up: look at its state with `ps`"
        );
    }
}

/// Output that was not written, because the disk was slow or full.
pub(crate) struct LogLinesDropped<'a> {
    pub app: &'a str,
    pub lines: u64,
}

impl Event for LogLinesDropped<'_> {
    const NAME: &'static str = "app_log_drops";
    const HELP: &'static str =
        "Times lines of an app's output were dropped because the disk did not keep up";
    fn labels(&self) -> Labels {
        app_label(self.app)
    }
    fn log(&self) {
        tracing::warn!(
            app = self.app,
            lines = self.lines,
            "output of the app dropped: slow disk"
        );
    }
}

/// A process of a predecessor that was killed, ended before its replacement starts.
pub(crate) struct LeftoverEnded<'a> {
    pub instance: &'a str,
    pub pid: u32,
    pub killed: bool,
}

impl Event for LeftoverEnded<'_> {
    const NAME: &'static str = "app_leftovers_ended";
    const HELP: &'static str = "Processes left behind by a killed predecessor and ended at start";
    fn log(&self) {
        tracing::info!(
            instance = self.instance,
            pid = self.pid,
            killed = self.killed,
            "ended what a killed predecessor left behind"
        );
    }
}
