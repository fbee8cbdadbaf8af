//! One event = one type = one log line + one metric.

use crate::registry::Labels;

/// Something that happened and that an operator may want to know.
///
/// A crate lists its events in its `event.rs` and hands them to
/// [`Telemetry::emit`](crate::Telemetry::emit), which logs and counts. Events belong to the control
/// plane: what happens per request is counted by [`WorkerMetrics`](crate::WorkerMetrics) and
/// written by [`AccessLog`](crate::AccessLog).
///
/// ```
/// use trilith_telemetry::{Event, Labels, Telemetry};
///
/// struct InstanceExited<'a> { app: &'a str, instance: &'a str, code: i32 }
///
/// impl Event for InstanceExited<'_> {
///     const NAME: &'static str = "app_instance_exits";
///     const HELP: &'static str = "App instances that ended by themselves";
///     fn labels(&self) -> Labels { vec![("app", self.app.to_owned())] }
///     fn log(&self) {
///         tracing::warn!(instance = self.instance, code = self.code, "instance exited");
///     }
/// }
/// let telemetry = Telemetry::new("one");
/// telemetry.emit(&InstanceExited { app: "web", instance: "web.1", code: 3 });
/// let text = telemetry.metrics_text().encode();
/// assert!(text.contains("trilith_app_instance_exits_total{app=\"web\"} 1"));
/// ```
pub trait Event {
    /// The metric without prefix and suffix: `x_y` is counted as `trilith_x_y_total`.
    const NAME: &'static str;
    /// What is counted, as a phrase without a full stop.
    const HELP: &'static str;

    /// Labels of the metric. Few values each: names of apps and servers, never ids or addresses.
    fn labels(&self) -> Labels {
        Labels::new()
    }

    /// Writes the line with `tracing`, values in fields.
    fn log(&self);
}
