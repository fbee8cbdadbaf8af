//! From each service's own status to the API's types, and to what is missing. Pure.

use std::net::SocketAddr;
use std::time::Duration;

use trilith_app::InstanceStatus;
use trilith_base::BootTime;
use trilith_config::{Config, Server};
use trilith_edge::{Health, PoolStatus};
use trilith_monitor::api;
use trilith_postgres::{ClusterView, CurrentRole, Phase, ServerState, Status as PostgresStatus};
use trilith_sqlproxy::Targets;

use crate::board::unix_ms;

pub(crate) fn postgres_problem(status: Option<PostgresStatus>) -> Option<String> {
    let Some(status) = status else {
        return Some("the database is not started yet".to_owned());
    };
    if status.phase != Phase::Running {
        return Some(format!("database: {}", status.phase.describe()));
    }
    if status.role == Some(CurrentRole::Replica) && status.streaming != Some(true) {
        return Some("the database receives nothing from the primary".to_owned());
    }
    None
}

/// `has_replicas`: whether the cluster is to have any.
pub(crate) fn sql_problem(
    targets: Option<impl std::ops::Deref<Target = std::sync::Arc<Targets>>>,
    has_replicas: bool,
) -> Option<String> {
    let Some(targets) = targets else {
        return Some("the sql entry is not started yet".to_owned());
    };
    if targets.primary.is_none() {
        return Some("the database primary is not reachable".to_owned());
    }
    if has_replicas && targets.replicas.is_empty() {
        return Some("no database replica is usable".to_owned());
    }
    None
}

/// Every app should have an instance that works.
pub(crate) fn instances_problem(instances: &[InstanceStatus]) -> Option<String> {
    let mut without: Vec<&str> = instances.iter().map(|i| &*i.id.app).collect();
    without.sort_unstable();
    without.dedup();
    without.retain(|app| !instances.iter().any(|i| &*i.id.app == *app && i.is_live()));
    if without.is_empty() {
        return None;
    }
    let failures = instances.iter().filter(|i| without.contains(&&*i.id.app));
    let failure = failures.filter_map(|i| i.last_failure.as_deref()).next();
    let why = failure.map(|why| format!(" ({why})")).unwrap_or_default();
    Some(format!("no live instance of {}{why}", without.join(", ")))
}

/// An instance that ends right after every start.
pub(crate) fn crash_loop(instances: &[InstanceStatus]) -> Option<String> {
    let looping = instances.iter().find(|i| i.state.is_crash_loop())?;
    let how = looping.last_failure.as_deref().unwrap_or("it ends");
    Some(format!("{} fails again and again: {how}", looping.id))
}

pub(crate) fn instances(instances: &[InstanceStatus]) -> Vec<api::InstanceStatus> {
    let instance = |i: &InstanceStatus| api::InstanceStatus {
        name: i.id.to_string(),
        app: i.id.app.to_string(),
        state: i.state.name().to_owned(),
        since_unix_ms: unix_ms(i.since),
        release: i.release.to_string(),
        pid: i.pid,
        address: i.address.map(|address| address.to_string()),
        restarts: i.restarts,
        last_failure: i.last_failure.clone(),
    };
    instances.iter().map(instance).collect()
}

pub(crate) fn postgres(status: &PostgresStatus) -> api::PostgresStatus {
    api::PostgresStatus {
        phase: status.phase.word().to_owned(),
        detail: status.phase.describe(),
        role: status.role.map(|role| match role {
            CurrentRole::Primary => "primary".to_owned(),
            CurrentRole::Replica => "replica".to_owned(),
        }),
        pid: status.pid,
        version: status.version.clone(),
        timeline: status.timeline,
        lsn: status.lsn.map(|lsn| lsn.to_string()),
        streaming: status.streaming,
        restarts: status.restarts,
    }
}

pub(crate) fn databases(view: &ClusterView) -> Vec<api::DatabaseServer> {
    let server = |server: &trilith_postgres::ServerView| {
        let (role, error) = match &server.state {
            ServerState::Primary => (Some("primary".to_owned()), None),
            ServerState::Replica => (Some("replica".to_owned()), None),
            ServerState::Down { why } => (None, Some(why.clone())),
        };
        api::DatabaseServer {
            server: server.name.to_string(),
            reachable: error.is_none(),
            role,
            lsn: server.lsn.map(|lsn| lsn.to_string()),
            lag_bytes: server.lag_bytes,
            error,
        }
    };
    view.servers.iter().map(server).collect()
}

pub(crate) fn sql_entry(config: &Config, server: &Server, targets: &Targets) -> api::SqlEntry {
    let address = |port| SocketAddr::new(server.loopback(), port).to_string();
    let local = targets.replicas.iter().find(|target| target.local);
    let reads = local
        .or(targets.replicas.first())
        .or(targets.primary.as_ref());
    api::SqlEntry {
        address: address(config.ports.sql),
        replica_address: address(config.ports.sql_replica),
        writes_to: targets
            .primary
            .as_ref()
            .map(|target| target.name.to_string()),
        reads_from: reads.map(|target| target.name.to_string()),
    }
}

pub(crate) fn pools(pools: &[PoolStatus]) -> Vec<api::PoolStatus> {
    let pool = |pool: &PoolStatus| {
        let mut balance: Vec<String> = Vec::new();
        let mut mode: Vec<String> = Vec::new();
        for (algorithm, way) in &pool.balance {
            push_new(&mut balance, algorithm_name(*algorithm));
            push_new(&mut mode, mode_name(*way));
        }
        api::PoolStatus {
            name: pool.name.clone(),
            balance: balance.join(" "),
            mode: mode.join(" "),
            members: pool.servers.iter().map(member).collect(),
        }
    };
    pools.iter().map(pool).collect()
}

fn member(server: &trilith_edge::ServerStatus) -> api::PoolMember {
    let health = match (server.health, server.ejected_for) {
        (Health::Up, Some(_)) => "ejected",
        (Health::Up, None) => "up",
        (Health::Down, _) => "down",
        (Health::Checking, _) => "checking",
    };
    api::PoolMember {
        name: server.name.clone(),
        address: server.address.to_string(),
        health: health.to_owned(),
        backup: server.backup,
        active: server.in_flight.into(),
    }
}

fn push_new(list: &mut Vec<String>, name: &str) {
    if !list.iter().any(|known| known == name) {
        list.push(name.to_owned());
    }
}

fn algorithm_name(algorithm: trilith_edge::Algorithm) -> &'static str {
    match algorithm {
        trilith_edge::Algorithm::RoundRobin => "round-robin",
        trilith_edge::Algorithm::LeastConnections => "least-connections",
        trilith_edge::Algorithm::IpHash => "ip-hash",
    }
}

fn mode_name(mode: trilith_edge::Mode) -> &'static str {
    match mode {
        trilith_edge::Mode::ActiveActive => "active-active",
        trilith_edge::Mode::ActivePassive => "active-passive",
    }
}

/// This server's part in the floating addresses.
pub(crate) fn addresses(
    status: &[trilith_vip::AddressStatus],
    now: BootTime,
    now_unix_ms: u64,
) -> Vec<api::AddressStatus> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let address = |status: &trilith_vip::AddressStatus| api::AddressStatus {
        address: status.ip.to_string(),
        state: status.state.to_string(),
        epoch: status.epoch.map(|epoch| epoch.0),
        lease_left_ms: status.lease_remaining(now).map(millis),
        since_unix_ms: status
            .changed_at
            .map(|at| now_unix_ms.saturating_sub(millis(now.since(at)))),
        problem: status.problem.clone(),
    };
    status.iter().map(address).collect()
}
