//! A worker's side of a snapshot: what is too busy to be shared.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use trilith_http::{ClientOptions, Endpoint, EndpointTls, HeadLimits, Pool, ServerOptions};

use trilith_telemetry::{HotCounter, HotHistogram, Labels, WorkerMetrics};
use trilith_web::RouteId;

use crate::options::ClientSide;
use crate::pool::{Backend, ServerPool};
use crate::snapshot::Snapshot;

/// One snapshot with this worker's connections and counters for it.
pub(crate) struct View {
    pub generation: u64,
    pub snapshot: Arc<Snapshot>,
    pub server_options: ServerOptions,
    /// By pool and server. Pools of one endpoint are one.
    pub connections: Vec<Vec<Pool>>,
    pub counters: Counters,
}

/// The connections of a worker, by endpoint, whatever snapshots come and go.
#[derive(Default)]
pub(crate) struct Connections {
    pools: RefCell<HashMap<EndpointKey, Pool>>,
}

/// What makes two endpoints the same. The TLS configuration counts by identity: a new one may hold
/// another certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct EndpointKey {
    address: std::net::SocketAddr,
    tls: Option<(usize, String)>,
    connect_timeout: Duration,
    response_timeout: Duration,
}

pub(crate) struct Counters {
    /// By site and route.
    routes: Vec<Vec<RouteCounters>>,
    /// Of requests that no route was found for.
    unrouted: RouteCounters,
    durations: Vec<HotHistogram>,
    /// By pool.
    pub pools: Vec<PoolCounters>,
    pub rejected: HotCounter,
    pub tls_failed: HotCounter,
    pub refused: HotCounter,
}

/// Responses by class: 1xx, 2xx, ... 5xx.
struct RouteCounters([HotCounter; 5]);

pub(crate) struct PoolCounters {
    pub retries: HotCounter,
    pub queued: HotCounter,
    pub queue_timeouts: HotCounter,
    pub queue_full: HotCounter,
}

impl View {
    pub fn new(
        generation: u64,
        snapshot: Arc<Snapshot>,
        connections: &Connections,
        metrics: &WorkerMetrics,
    ) -> Rc<Self> {
        Rc::new(Self {
            generation,
            server_options: server_options(&snapshot.options.client),
            connections: connections.take_over(&snapshot),
            counters: Counters::new(&snapshot, metrics),
            snapshot,
        })
    }
}

impl Connections {
    /// The connection pools for a snapshot: those there are, new ones where there are none. The
    /// others close once their requests are done.
    fn take_over(&self, snapshot: &Snapshot) -> Vec<Vec<Pool>> {
        let mut before = self.pools.take();
        let mut now = HashMap::new();
        let by_pool = snapshot
            .pools
            .iter()
            .map(|pool| {
                let backends = pool.backends.iter();
                backends
                    .map(|backend| {
                        let key = EndpointKey::of(pool, backend);
                        now.entry(key)
                            .or_insert_with_key(|key| {
                                let known = before.remove(key);
                                known.unwrap_or_else(|| connect(pool, backend))
                            })
                            .clone()
                    })
                    .collect()
            })
            .collect();
        for pool in before.into_values() {
            pool.close();
        }
        self.pools.replace(now);
        by_pool
    }

    /// Closes connections that have been idle for too long.
    pub fn reap(&self) {
        for pool in self.pools.borrow().values() {
            pool.reap();
        }
    }
}

impl EndpointKey {
    fn of(pool: &ServerPool, backend: &Backend) -> Self {
        let tls = backend.tls.as_ref().map(|tls| {
            let identity = Arc::as_ptr(&tls.config) as usize;
            (identity, tls.server_name.to_str().into_owned())
        });
        Self {
            address: backend.address,
            tls,
            connect_timeout: pool.connect_timeout,
            response_timeout: pool.response_timeout,
        }
    }
}

fn connect(pool: &ServerPool, backend: &Backend) -> Pool {
    let options = ClientOptions {
        connect_timeout: pool.connect_timeout,
        response_timeout: pool.response_timeout,
        ..ClientOptions::default()
    };
    Pool::new(endpoint(backend), options)
}

pub(crate) fn endpoint(backend: &Backend) -> Endpoint {
    Endpoint {
        address: backend.address,
        tls: backend.tls.as_ref().map(|tls| EndpointTls {
            config: tls.config.clone(),
            server_name: tls.server_name.clone(),
        }),
    }
}

fn server_options(client: &ClientSide) -> ServerOptions {
    ServerOptions {
        header_timeout: client.header_timeout,
        keep_alive_timeout: client.keep_alive_timeout,
        body_idle_timeout: client.body_idle_timeout,
        body_rate_min: client.body_rate_min,
        write_idle_timeout: client.body_idle_timeout,
        limits: HeadLimits {
            head_bytes_max: client.header_bytes_max,
            fields_max: client.headers_max,
            target_bytes_max: client.target_bytes_max,
        },
        ..ServerOptions::default()
    }
}

impl Counters {
    fn new(snapshot: &Snapshot, metrics: &WorkerMetrics) -> Self {
        let sites = || snapshot.sites.iter();
        let routes = sites().map(|site| {
            let patterns = site.patterns.iter();
            patterns
                .map(|pattern| RouteCounters::new(metrics, &site.host, &pattern.to_string()))
                .collect()
        });
        let durations = sites().map(|site| {
            metrics.histogram(
                "edge_request_duration_seconds",
                "Time from a complete request head to the last byte of the response",
                vec![("site", site.host.clone())],
            )
        });
        let none = Labels::new;
        Self {
            routes: routes.collect(),
            unrouted: RouteCounters::new(metrics, "", ""),
            durations: durations.collect(),
            pools: snapshot
                .pools
                .iter()
                .map(|pool| PoolCounters::new(metrics, pool.id.name()))
                .collect(),
            rejected: metrics.counter(
                "edge_requests_rejected",
                "What came over a connection and was no request",
                none(),
            ),
            tls_failed: metrics.counter(
                "edge_tls_handshakes_failed",
                "TLS handshakes that did not succeed",
                none(),
            ),
            refused: metrics.counter(
                "edge_connections_refused",
                "Connections closed at once: their address had as many as it may",
                none(),
            ),
        }
    }

    pub fn count(&self, route: Option<RouteId>, status: u16, took: Duration) {
        let counters = match route {
            Some(id) => {
                self.durations[id.site].observe(took);
                &self.routes[id.site][id.route]
            }
            None => &self.unrouted,
        };
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        counters.0[class].inc();
    }
}

impl RouteCounters {
    fn new(metrics: &WorkerMetrics, site: &str, route: &str) -> Self {
        Self(["1xx", "2xx", "3xx", "4xx", "5xx"].map(|class| {
            metrics.counter(
                "edge_requests",
                "Requests answered, by site, route and class of the status",
                vec![
                    ("site", site.to_owned()),
                    ("route", route.to_owned()),
                    ("status", class.to_owned()),
                ],
            )
        }))
    }
}

impl PoolCounters {
    fn new(metrics: &WorkerMetrics, pool: &str) -> Self {
        let counter = |name, help| metrics.counter(name, help, vec![("pool", pool.to_owned())]);
        Self {
            retries: counter("edge_retries", "Tries of requests after their first"),
            queued: counter(
                "edge_queued",
                "Requests that waited for a server to become usable",
            ),
            queue_timeouts: counter(
                "edge_queue_timeouts",
                "Requests that waited for a server in vain",
            ),
            queue_full: counter(
                "edge_queue_full",
                "Requests refused because too many were waiting for a server",
            ),
        }
    }
}
