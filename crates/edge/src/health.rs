//! Active checks, and the other things about servers that may take their time.
//!
//! They run on a thread of their own: a busy worker must not make servers look slow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use trilith_balance::{Health, HealthChange, HealthMachine, Standing};
use trilith_http::{ClientOptions, Pool, Request, SendTiming};
use trilith_net::Drain;
use trilith_telemetry::Telemetry;

use crate::event::{ServerEjected, ServerHealthChanged, ServerReadmitted};
use crate::limits::{CHECK_GAP_MIN, GAUGE_INTERVAL, LOCAL_POLICY};
use crate::pool::{Backend, CheckResult, CheckSpec, ServerPool};
use crate::snapshot::Snapshot;
use crate::view::endpoint;
use crate::worker::{Ejected, Shared};

/// Checks the servers of every snapshot until dropped.
pub(crate) async fn run(
    shared: Arc<Shared>,
    telemetry: Telemetry,
    drain: Drain,
    mut replaced: watch::Receiver<()>,
    mut ejections: UnboundedReceiver<Ejected>,
    seed: u64,
) {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut gauges = interval(GAUGE_INTERVAL);
    gauges.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let snapshot = shared.snapshot.load_full();
        // Dropped, and with it ended, when there is another snapshot: the next checks go on from
        // the states that servers keep.
        let mut checks = JoinSet::new();
        for pool in snapshot.pools.iter().filter(|pool| pool.check.is_some()) {
            for server in 0..pool.backends.len() {
                checks.spawn_local(watch_server(Watched {
                    shared: shared.clone(),
                    telemetry: telemetry.clone(),
                    drain: drain.clone(),
                    pool: pool.clone(),
                    server,
                    random: SmallRng::seed_from_u64(random.random()),
                }));
            }
        }
        loop {
            tokio::select! {
                changed = replaced.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Some(ejected) = ejections.recv() => report_ejection(&telemetry, &ejected),
                _ = gauges.tick() => show_gauges(&telemetry, &shared, &snapshot),
            }
        }
    }
}

struct Watched {
    shared: Arc<Shared>,
    telemetry: Telemetry,
    drain: Drain,
    pool: Arc<ServerPool>,
    server: usize,
    random: SmallRng,
}

async fn watch_server(mut watched: Watched) {
    let pool = watched.pool.clone();
    let Some(spec) = &pool.check else { return };
    let backend = &pool.backends[watched.server];
    let state = &pool.members.servers()[watched.server].state;
    let policy = if backend.is_local {
        LOCAL_POLICY
    } else {
        spec.policy
    };
    let mut machine = HealthMachine::resume(policy, state.health(), state.was_up());
    let prober = Prober::new(spec, backend);
    loop {
        let suspected = backend.probe.take_suspicion();
        let at = Instant::now();
        let outcome = watched.check(&prober, spec).await;
        let result = CheckResult {
            at,
            took: at.elapsed(),
            outcome,
        };
        let good = result.outcome.is_ok();
        if let Some(change) = machine.observe(good, suspected) {
            state.set_health(change.to, watched.shared.millis(Instant::now()));
            pool.queue.tell_news();
            watched.report(backend, change, &result);
            if change.to == Health::Up {
                ask_others(&pool);
            }
        } else if machine.is_steadily_good() && state.readmit(watched.shared.millis(Instant::now()))
        {
            pool.queue.tell_news();
            watched.telemetry.emit(&ServerReadmitted {
                pool: pool.id.name(),
                server: &backend.name,
                address: backend.address,
            });
        }
        backend.probe.set_last(result);
        let mut next = machine.next_check_in(watched.random.random());
        if state
            .ejected_until(watched.shared.millis(Instant::now()))
            .is_some()
        {
            // It may be readmitted soon.
            next = next.min(policy.fast_interval);
        }
        sleep(CHECK_GAP_MIN.min(next)).await;
        // Over either way: the time has come, or a request has told us something.
        let _ = timeout(
            next.saturating_sub(CHECK_GAP_MIN),
            backend.probe.wait_until_asked(),
        )
        .await;
    }
}

/// Where one server comes up, others often do: after a power cut, a deploy, a start of all.
fn ask_others(pool: &ServerPool) {
    let servers = pool.members.servers().iter().zip(&pool.backends);
    for (_, backend) in servers.filter(|(spec, _)| spec.state.health() != Health::Up) {
        backend.probe.ask();
    }
}

impl Watched {
    async fn check(&self, prober: &Prober, spec: &CheckSpec) -> Result<(), String> {
        let backend = &self.pool.backends[self.server];
        if backend.is_local
            && let Some(web) = &self.shared.web
        {
            let healthy = web.is_healthy(self.pool.id.app());
            return healthy
                .then_some(())
                .ok_or_else(|| "no live instance".to_owned());
        }
        prober.probe(spec).await
    }

    fn report(&self, backend: &Backend, change: HealthChange, result: &CheckResult) {
        self.telemetry.emit(&ServerHealthChanged {
            pool: self.pool.id.name(),
            server: &backend.name,
            address: backend.address,
            from: change.from,
            to: change.to,
            reason: result.outcome.as_ref().err().map(String::as_str),
            draining: self.drain.is_draining(),
        });
    }
}

/// Asks one server over HTTP, each time over a new connection: one that has been open since before
/// would not notice that the server takes no new ones.
struct Prober {
    connections: Pool,
    longest: Duration,
}

impl Prober {
    fn new(spec: &CheckSpec, backend: &Backend) -> Self {
        let longest = spec.policy.timeout;
        let options = ClientOptions {
            connect_timeout: longest,
            response_timeout: longest,
            body_idle_timeout: longest,
            idle_max: 0,
            ..ClientOptions::default()
        };
        Self {
            connections: Pool::new(endpoint(backend), options),
            longest,
        }
    }

    async fn probe(&self, spec: &CheckSpec) -> Result<(), String> {
        let mut request = Request::get(&spec.host, &spec.path);
        request.headers.append("User-Agent", "trilith-health");
        let mut timing = SendTiming::default();
        let sent = timeout(
            self.longest,
            self.connections.send(&mut request, &mut timing),
        );
        let status = match sent.await {
            Err(_) => return Err(format!("no answer within {:?}", self.longest)),
            Ok(Err(error)) => return Err(error.to_string()),
            Ok(Ok(response)) => response.status.as_u16(),
        };
        if (200..=spec.status_max).contains(&status) {
            Ok(())
        } else {
            Err(format!("status {status}"))
        }
    }
}

fn report_ejection(telemetry: &Telemetry, ejected: &Ejected) {
    let duration = ejected.ejection.until.0.saturating_sub(ejected.at.0);
    telemetry.emit(&ServerEjected {
        pool: ejected.pool.name(),
        server: &ejected.server,
        address: ejected.address,
        failure: ejected.ejection.failure,
        duration: Duration::from_millis(duration),
    });
}

fn show_gauges(telemetry: &Telemetry, shared: &Shared, snapshot: &Snapshot) {
    let now = shared.millis(Instant::now());
    for pool in &snapshot.pools {
        let name = || pool.id.name().to_owned();
        for (spec, backend) in pool.members.servers().iter().zip(&pool.backends) {
            let labels = || vec![("pool", name()), ("server", backend.name.to_string())];
            let usable = matches!(spec.state.standing(now), Standing::Usable { .. });
            telemetry
                .gauge(
                    "edge_server_in_flight",
                    "Requests under way on a server",
                    labels(),
                )
                .set(i64::from(spec.state.in_flight()));
            telemetry
                .gauge(
                    "edge_server_usable",
                    "Whether a server takes requests",
                    labels(),
                )
                .set(i64::from(usable));
            if pool.check.is_some() {
                telemetry
                    .gauge(
                        "edge_server_up",
                        "Whether a server answers its checks",
                        labels(),
                    )
                    .set(i64::from(spec.state.health() == Health::Up));
            }
        }
        telemetry
            .gauge(
                "edge_requests_waiting",
                "Requests waiting until a server is usable",
                vec![("pool", name())],
            )
            .set(i64::from(pool.queue.waiting()));
    }
}
