//! The metrics registry of a server process.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Metric, Registry};

use crate::event::Event;
use crate::hot::{HotRegistry, WorkerMetrics};

/// Label names and values of one series.
pub type Labels = Vec<(&'static str, String)>;

/// The handle every box holds. Cloning shares it.
#[derive(Clone)]
pub struct Telemetry {
    inner: Arc<Inner>,
}

struct Inner {
    server: String,
    registry: Mutex<Registry>,
    counters: Mutex<HashMap<&'static str, Family<Labels, Counter>>>,
    gauges: Mutex<HashMap<&'static str, Family<Labels, Gauge>>>,
    hot: Arc<HotRegistry>,
}

impl Telemetry {
    /// `server` is the name of this server; it labels `trilith_build_info`.
    pub fn new(server: &str) -> Self {
        let mut registry = Registry::with_prefix("trilith");
        let build: Family<Labels, ConstGaugeOne> = Family::default();
        let _ = build.get_or_create(&vec![
            ("server", server.to_owned()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ]);
        registry.register("build_info", "The version that runs here", build);
        let hot = Arc::new(HotRegistry::default());
        registry.register_collector(Box::new(Arc::clone(&hot)));
        Self {
            inner: Arc::new(Inner {
                server: server.to_owned(),
                registry: Mutex::new(registry),
                counters: Mutex::default(),
                gauges: Mutex::default(),
                hot,
            }),
        }
    }

    /// The name of this server.
    pub fn server(&self) -> &str {
        &self.inner.server
    }

    /// Logs and counts.
    pub fn emit<E: Event>(&self, event: &E) {
        event.log();
        self.counter(E::NAME, E::HELP, event.labels()).inc();
    }

    /// The counter `trilith_<name>_total`, registered when first asked for.
    pub fn counter(&self, name: &'static str, help: &'static str, labels: Labels) -> Counter {
        family(&self.inner.counters, &self.inner.registry, name, help).get_or_create_owned(&labels)
    }

    /// The gauge `trilith_<name>`, registered when first asked for.
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: Labels) -> Gauge {
        family(&self.inner.gauges, &self.inner.registry, name, help).get_or_create_owned(&labels)
    }

    /// Adds a metric of the caller's own making as `trilith_<name>`.
    pub fn register(&self, name: &'static str, help: &'static str, metric: impl Metric) {
        lock(&self.inner.registry).register(name, help, metric);
    }

    /// The counters of one data-plane thread. Call it once on each.
    pub fn worker(&self) -> WorkerMetrics {
        WorkerMetrics::new(Arc::clone(&self.inner.hot))
    }

    /// What `/metrics` answers.
    pub fn metrics_text(&self) -> MetricsText<'_> {
        MetricsText { telemetry: self }
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Telemetry({})", self.inner.server)
    }
}

/// The metrics of a process in the text form that Prometheus scrapes.
pub struct MetricsText<'a> {
    telemetry: &'a Telemetry,
}

impl MetricsText<'_> {
    /// OpenMetrics 1.0, which Prometheus has read since 2.5.
    pub const CONTENT_TYPE: &'static str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";

    pub fn encode(&self) -> String {
        let mut out = String::new();
        let registry = lock(&self.telemetry.inner.registry);
        // Writing into a String cannot fail; a metric that fails to encode itself cuts the text
        // short, which the missing `# EOF` tells the reader.
        let _ = text::encode(&mut out, &registry);
        out
    }
}

/// A gauge that is always 1: information is in its labels.
#[derive(Debug)]
struct ConstGaugeOne(ConstGauge<i64>);

impl Default for ConstGaugeOne {
    fn default() -> Self {
        Self(ConstGauge::new(1))
    }
}

impl prometheus_client::encoding::EncodeMetric for ConstGaugeOne {
    fn encode(&self, encoder: prometheus_client::encoding::MetricEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> prometheus_client::metrics::MetricType {
        prometheus_client::metrics::MetricType::Gauge
    }
}

impl prometheus_client::metrics::TypedMetric for ConstGaugeOne {
    const TYPE: prometheus_client::metrics::MetricType =
        prometheus_client::metrics::MetricType::Gauge;
}

fn family<M>(
    families: &Mutex<HashMap<&'static str, Family<Labels, M>>>,
    registry: &Mutex<Registry>,
    name: &'static str,
    help: &'static str,
) -> Family<Labels, M>
where
    M: Default,
    Family<Labels, M>: Metric + Clone,
{
    match lock(families).entry(name) {
        Entry::Occupied(entry) => entry.get().clone(),
        Entry::Vacant(entry) => {
            let family = entry.insert(Family::default()).clone();
            lock(registry).register(name, help, family.clone());
            family
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The maps are valid after every statement, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
