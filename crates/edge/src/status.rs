//! What `trilith status` shows of the edge.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use trilith_balance::{Algorithm, Health, Mode};

use crate::pool::{PoolId, ServerPool};
use crate::snapshot::Snapshot;
use crate::worker::Shared;

/// Servers that are interchangeable for some routes.
#[derive(Clone, Debug)]
pub struct PoolStatus {
    pub kind: PoolKind,
    /// The app's or upstream's name; `files` for files.
    pub name: String,
    /// How routes balance over it. Usually one way.
    pub balance: Vec<(Algorithm, Mode)>,
    pub servers: Vec<ServerStatus>,
    /// Requests waiting until a server is usable.
    pub waiting: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    Files,
    App,
    Upstream,
}

#[derive(Clone, Debug)]
pub struct ServerStatus {
    /// The server's name; its address for servers outside the cluster.
    pub name: String,
    pub address: SocketAddr,
    /// The web server in this very process.
    pub is_local: bool,
    pub backup: bool,
    pub weight: u32,
    /// Always [`Health::Up`] without active checks.
    pub health: Health,
    /// For how much longer it is taken out for failed requests.
    pub ejected_for: Option<Duration>,
    pub in_flight: u32,
    /// `None` without active checks, and before the first.
    pub last_check: Option<CheckStatus>,
}

#[derive(Clone, Debug)]
pub struct CheckStatus {
    pub ago: Duration,
    pub took: Duration,
    /// What was wrong; `None` when it was good.
    pub problem: Option<String>,
}

pub(crate) fn status(shared: &Shared, now: Instant) -> Vec<PoolStatus> {
    let snapshot = shared.snapshot.load();
    let pools = snapshot.pools.iter().enumerate();
    pools
        .map(|(number, pool)| PoolStatus {
            kind: match pool.id {
                PoolId::Files => PoolKind::Files,
                PoolId::App(_) => PoolKind::App,
                PoolId::Upstream(_) => PoolKind::Upstream,
            },
            name: pool.id.name().to_owned(),
            balance: balance(&snapshot, number),
            servers: servers(shared, pool, now),
            waiting: pool.queue.waiting(),
        })
        .collect()
}

fn balance(snapshot: &Snapshot, pool: usize) -> Vec<(Algorithm, Mode)> {
    let plans = snapshot.balancers.iter().filter(|plan| plan.pool == pool);
    plans.map(|plan| (plan.algorithm, plan.mode)).collect()
}

fn servers(shared: &Shared, pool: &ServerPool, now: Instant) -> Vec<ServerStatus> {
    let millis = shared.millis(now);
    let servers = pool.members.servers().iter().zip(&pool.backends);
    servers
        .map(|(spec, backend)| ServerStatus {
            name: backend.name.to_string(),
            address: backend.address,
            is_local: backend.is_local,
            backup: spec.backup,
            weight: spec.weight,
            health: spec.state.health(),
            ejected_for: spec
                .state
                .ejected_until(millis)
                .map(|until| Duration::from_millis(until.0 - millis.0)),
            in_flight: spec.state.in_flight(),
            last_check: backend.probe.last().map(|check| CheckStatus {
                ago: now.saturating_duration_since(check.at),
                took: check.took,
                problem: check.outcome.err(),
            }),
        })
        .collect()
}
