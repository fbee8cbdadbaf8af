//! Counts: written by the workers without locks, read by the control plane.

use std::sync::Arc;

use arc_swap::ArcSwap;
use trilith_base::ServerName;
use trilith_telemetry::{Counter, Gauge, Telemetry};

use crate::targets::Kind;

/// Counts since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sessions accepted on the read/write port.
    pub read_write_total: u64,
    /// Sessions accepted on the read-only port.
    pub read_only_total: u64,
    /// Cancel requests.
    pub cancels_total: u64,
    /// Sessions open now, those that are held included.
    pub open: u64,
    /// Sessions held now, because no server can take them.
    pub held: u64,
    /// Sessions closed because their server's time as the primary was over.
    pub cut_total: u64,
    /// Sessions given up after the hold time.
    pub gave_up_total: u64,
    /// Connections refused because of `connections_max`.
    pub refused_total: u64,
    /// Connections that sent no startup packet.
    pub malformed_total: u64,
    /// Each server that was ever tried.
    pub targets: Vec<TargetStats>,
}

/// What went to one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStats {
    pub name: ServerName,
    /// Sessions it took.
    pub sessions_total: u64,
    /// Sessions open now.
    pub open: u64,
    /// Bytes from clients to it, and back.
    pub bytes_sent_total: u64,
    pub bytes_received_total: u64,
    /// Tries that failed: no connection, no answer, "not ready", or nobody let in.
    pub failures_total: u64,
}

pub(crate) struct Counters {
    telemetry: Telemetry,
    read_write: Counter,
    read_only: Counter,
    pub cancels: Counter,
    pub open: Gauge,
    pub held: Gauge,
    pub cut: Counter,
    pub gave_up: Counter,
    pub refused: Counter,
    pub malformed: Counter,
    targets: ArcSwap<Vec<Arc<TargetCounters>>>,
}

pub(crate) struct TargetCounters {
    name: ServerName,
    pub sessions: Counter,
    pub open: Gauge,
    pub bytes_sent: Counter,
    pub bytes_received: Counter,
    pub failures: Counter,
}

impl Counters {
    pub fn new(telemetry: &Telemetry) -> Self {
        let counter = |name, help| telemetry.counter(name, help, Vec::new());
        let gauge = |name, help| telemetry.gauge(name, help, Vec::new());
        let sessions = |port: &str| {
            telemetry.counter(
                "sql_sessions",
                "Sessions accepted by the sql entry",
                vec![("port", port.to_owned())],
            )
        };
        Self {
            telemetry: telemetry.clone(),
            read_write: sessions("read_write"),
            read_only: sessions("read_only"),
            cancels: counter("sql_cancels", "Cancel requests to the sql entry"),
            open: gauge("sql_open", "Sessions of the sql entry, held ones included"),
            held: gauge("sql_held", "Sessions that wait for a server to take them"),
            cut: counter(
                "sql_cut",
                "Sessions closed because their server's time as the primary was over",
            ),
            gave_up: counter("sql_gave_up", "Sessions that waited for a server in vain"),
            refused: counter(
                "sql_refused",
                "Connections to the sql entry refused because there were too many",
            ),
            malformed: counter(
                "sql_malformed",
                "Connections to the sql entry that sent no startup packet",
            ),
            targets: ArcSwap::default(),
        }
    }

    pub fn accepted(&self, kind: Kind) {
        match kind {
            Kind::ReadWrite => self.read_write.inc(),
            Kind::ReadOnly => self.read_only.inc(),
        };
    }

    /// The counters of one server, made when it is first met.
    pub fn target(&self, name: &ServerName) -> Arc<TargetCounters> {
        let find = |all: &[Arc<TargetCounters>]| {
            all.iter().find(|counters| counters.name == *name).cloned()
        };
        if let Some(found) = find(&self.targets.load()) {
            return found;
        }
        let new = Arc::new(TargetCounters::new(name, &self.telemetry));
        // Another worker may add the same one meanwhile; `rcu` then runs this again and finds it.
        self.targets.rcu(|all| {
            let mut all = Vec::clone(all);
            if find(&all).is_none() {
                all.push(new.clone());
            }
            all
        });
        find(&self.targets.load()).unwrap_or(new)
    }

    pub fn snapshot(&self) -> Stats {
        let targets = self.targets.load();
        Stats {
            read_write_total: self.read_write.get(),
            read_only_total: self.read_only.get(),
            cancels_total: self.cancels.get(),
            open: level(&self.open),
            held: level(&self.held),
            cut_total: self.cut.get(),
            gave_up_total: self.gave_up.get(),
            refused_total: self.refused.get(),
            malformed_total: self.malformed.get(),
            targets: targets
                .iter()
                .map(|counters| TargetStats {
                    name: counters.name.clone(),
                    sessions_total: counters.sessions.get(),
                    open: level(&counters.open),
                    bytes_sent_total: counters.bytes_sent.get(),
                    bytes_received_total: counters.bytes_received.get(),
                    failures_total: counters.failures.get(),
                })
                .collect(),
        }
    }
}

impl TargetCounters {
    fn new(name: &ServerName, telemetry: &Telemetry) -> Self {
        let labels = || vec![("server", name.to_string())];
        let counter = |name, help| telemetry.counter(name, help, labels());
        Self {
            name: name.clone(),
            sessions: counter("sql_server_sessions", "Sessions that a server took"),
            open: telemetry.gauge("sql_server_open", "Sessions of a server", labels()),
            bytes_sent: counter("sql_server_bytes_sent", "Bytes from clients to a server"),
            bytes_received: counter(
                "sql_server_bytes_received",
                "Bytes from a server to clients",
            ),
            failures: counter(
                "sql_server_failures",
                "Tries of a server that failed: no connection, no answer, not ready or not open",
            ),
        }
    }
}

/// Each that was counted up is counted down once: never below 0.
fn level(gauge: &Gauge) -> u64 {
    gauge.get().unsigned_abs()
}

/// One more while it lives.
pub(crate) struct Counted<'a>(&'a Gauge);

impl<'a> Counted<'a> {
    pub fn one(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
