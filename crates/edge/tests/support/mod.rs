//! A running edge, stub servers that can die, and raw HTTP/1.1 to talk to them.
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "test helpers; each test file uses its part"
)]

mod client;
mod stub;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use trilith_base::ServerName;
use trilith_edge::{
    Action, Algorithm, Drained, Edge, Health, HealthPolicy, Listener, Mode, Options, PoolStatus,
    Route, Running, ServerStatus, Site, Upstream, UpstreamHealth, UpstreamServer,
};
use trilith_net::{DrainTrigger, Workers, drain_pair};
use trilith_telemetry::{AccessLogFile, Telemetry};
use trilith_web::Web;

#[allow(unused_imports, reason = "each test file uses its part")]
pub use client::{Reply, connect, connect_from, exchange, get, get_from, post, read_reply};
#[allow(unused_imports, reason = "each test file uses its part")]
pub use stub::{Behaviour, Stub};

pub const HOST: &str = "www.foobar.com";

/// An edge on a free port of loopback, with three workers.
pub struct Lab {
    pub edge: Arc<Edge>,
    pub running: Running,
    pub telemetry: Telemetry,
    pub address: SocketAddr,
    options: Options,
    workers: Workers,
    drain: DrainTrigger,
}

impl Lab {
    pub fn start(options: Options) -> Self {
        Self::start_with(options, None, None)
    }

    pub fn start_with(
        mut options: Options,
        web: Option<Arc<Web>>,
        access_log: Option<AccessLogFile>,
    ) -> Self {
        if options.listeners.is_empty() {
            options.listeners.push(Listener {
                address: ([127, 0, 0, 1], 0).into(),
                tls: false,
            });
        }
        let telemetry = Telemetry::new("one");
        let edge = Edge::new(options.clone(), web, telemetry.clone(), access_log).unwrap();
        let workers = Workers::start(3, "lab").unwrap();
        let (drain, drained) = drain_pair();
        let running = edge.serve(&workers, drained).unwrap();
        Self {
            edge,
            address: running.listeners()[0].address,
            running,
            telemetry,
            options,
            workers,
            drain,
        }
    }

    /// What it was started with.
    pub fn edge_options(&self) -> Options {
        self.options.clone()
    }

    pub async fn finish(self) -> Drained {
        self.drain.start();
        let drained = self.running.finish().await;
        self.workers.stop().await;
        drained
    }

    /// Waits until the only pool looks as wanted.
    pub async fn until(&self, wanted: impl Fn(&PoolStatus) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let status = self.edge.status();
            if wanted(&status[0]) {
                return;
            }
            assert!(Instant::now() < deadline, "it never happened: {status:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// One site, `/*` to an upstream of these servers.
pub fn options(servers: &[SocketAddr]) -> Options {
    let mut options = Options::new(ServerName::new("one").unwrap());
    options.sites.push(Site {
        host: HOST.to_owned(),
        aliases: Vec::new(),
        https_redirect: false,
        routes: vec![route("/*", Action::Upstream("stubs".to_owned()))],
    });
    options.upstreams.push(upstream(servers));
    options
}

pub fn route(path: &str, action: Action) -> Route {
    Route {
        path: path.parse().unwrap(),
        action,
        strip_prefix: None,
        body_max: 1 << 20,
    }
}

pub fn upstream(servers: &[SocketAddr]) -> Upstream {
    Upstream {
        name: "stubs".to_owned(),
        servers: servers
            .iter()
            .map(|address| UpstreamServer {
                address: *address,
                weight: 1,
                backup: false,
                max_connections: None,
            })
            .collect(),
        balance: Algorithm::RoundRobin,
        mode: Mode::ActiveActive,
        health: None,
        connect_timeout: Duration::from_secs(1),
        response_timeout: Duration::from_secs(5),
    }
}

/// Checks that are quick enough for a test.
pub fn quick_health() -> UpstreamHealth {
    UpstreamHealth {
        path: "/healthz".to_owned(),
        policy: quick_policy(),
    }
}

pub fn quick_policy() -> HealthPolicy {
    HealthPolicy {
        interval: Duration::from_millis(200),
        fast_interval: Duration::from_millis(60),
        timeout: Duration::from_millis(1_000),
        rise: 2,
        fall: 3,
    }
}

/// Three stubs named `a`, `b`, `c`.
pub async fn three() -> [Stub; 3] {
    [
        Stub::start("a").await,
        Stub::start("b").await,
        Stub::start("c").await,
    ]
}

pub fn addresses(stubs: &[Stub]) -> Vec<SocketAddr> {
    stubs.iter().map(|stub| stub.address).collect()
}

pub fn usable(server: &ServerStatus) -> bool {
    server.health == Health::Up && server.ejected_for.is_none()
}

/// An address that nobody listens on: it was free a moment ago.
pub fn nobody() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}
