//! Checks of the database for load balancers: 200 or 503, with a body for people. Paths, parameters and the
//! body's shape are those of Patroni's REST API (its documentation, `rest_api`), so that what asks Patroni
//! today may ask here.

use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Map, Value, json};

use crate::api::{ClusterStatus, DatabaseLocal, DatabasePart, ServerState, ServerStatus};
use crate::limits::{LIVENESS_MAX_MS, LOOK_MAX_MS, READINESS_LAG_MAX};
use crate::run::Source;

/// One check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    Primary,
    Replica,
    ReadOnly,
    Sync,
    ReadOnlySync,
    Async,
    Health,
    Liveness,
    Readiness,
    /// Always 200.
    Status,
}

/// Every path, and what it checks.
pub(crate) const PATHS: &[(&str, Check)] = &[
    ("/primary", Check::Primary),
    ("/master", Check::Primary),
    ("/leader", Check::Primary),
    ("/read-write", Check::Primary),
    ("/replica", Check::Replica),
    ("/read-only", Check::ReadOnly),
    ("/sync", Check::Sync),
    ("/synchronous", Check::Sync),
    ("/quorum", Check::Sync),
    ("/read-only-sync", Check::ReadOnlySync),
    ("/read-only-synchronous", Check::ReadOnlySync),
    ("/read-only-quorum", Check::ReadOnlySync),
    ("/async", Check::Async),
    ("/asynchronous", Check::Async),
    ("/health", Check::Health),
    ("/liveness", Check::Liveness),
    ("/readiness", Check::Readiness),
    ("/patroni", Check::Status),
];

/// The checks, and `/cluster`. HEAD and OPTIONS answer with the same status and no body.
pub(crate) fn router<S: Source>(source: Arc<S>) -> Router {
    let mut router = Router::new();
    for &(path, check) in PATHS {
        let full = async move |State(source): State<Arc<S>>, RawQuery(query): RawQuery| {
            answer(check, query.as_deref(), &source.server())
        };
        let code_only = async move |State(source): State<Arc<S>>, RawQuery(query): RawQuery| {
            answer(check, query.as_deref(), &source.server()).status()
        };
        router = router.route(path, get(full).options(code_only));
    }
    router
        .route(
            "/cluster",
            get(cluster::<S>).options(async || StatusCode::OK),
        )
        .with_state(source)
}

async fn cluster<S: Source>(State(source): State<Arc<S>>) -> Response {
    json_answer(StatusCode::OK, &members(&source.cluster().await))
}

fn answer(check: Check, query: Option<&str>, server: &ServerStatus) -> Response {
    let wanted = match Wanted::read(query.unwrap_or_default()) {
        Ok(wanted) => wanted,
        Err(why) => return (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    };
    let code = match holds(check, &wanted, server) {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    json_answer(code, &own(server))
}

fn json_answer(code: StatusCode, body: &Value) -> Response {
    let headers = [("content-type", "application/json")];
    (code, headers, format!("{body}\n")).into_response()
}

/// What the query asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Bytes that a replica may be behind.
    lag: Option<u64>,
    streaming: bool,
}

impl Wanted {
    /// Parameters that are not known are left alone, as Patroni does with what it does not know.
    pub(crate) fn read(query: &str) -> Result<Self, String> {
        let mut wanted = Self::default();
        for pair in query.split('&') {
            match pair.split_once('=') {
                Some(("lag", text)) => {
                    wanted.lag = Some(bytes(text).ok_or_else(|| {
                        format!("`lag={text}` is no size: write bytes, or 16kB, 64MB, 1GB")
                    })?);
                }
                Some(("replication_state", "streaming")) => wanted.streaming = true,
                Some((name, _)) if name.starts_with("tag_") => {
                    return Err(format!("`{name}`: servers have no tags here"));
                }
                _ => {}
            }
        }
        Ok(wanted)
    }
}

/// `1048576`, `1024kB`, `10MB`, `1GB`: as PostgreSQL counts, in powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1 << 10,
        "mb" => 1 << 20,
        "gb" => 1 << 30,
        "tb" => 1_u64 << 40,
        _ => return None,
    };
    number.checked_mul(unit)
}

pub(crate) fn holds(check: Check, wanted: &Wanted, server: &ServerStatus) -> bool {
    let Some(part) = &server.database else {
        return check == Check::Status;
    };
    let Some(local) = &part.local else {
        return check == Check::Status;
    };
    let fresh = local.looked_ms_ago <= LOOK_MAX_MS;
    let primary = local.is_open_primary();
    // A server that is drained takes no new readers.
    let listed = server.state != ServerState::Draining;
    let running = fresh && local.is_running_as("replica");
    let replica = running && listed && close_enough(wanted, server, local);
    let member = part.agreed.is_member(&server.name);
    match check {
        Check::Primary => primary,
        Check::Replica => replica,
        Check::ReadOnly => primary || replica,
        Check::Sync => replica && member,
        Check::ReadOnlySync => primary || (replica && member),
        Check::Async => replica && !member,
        Check::Health => fresh && local.state == "running",
        Check::Liveness => alive(local),
        Check::Readiness => primary || (running && close_enough(&ready(wanted), server, local)),
        Check::Status => true,
    }
}

/// Ready means streaming, and not too far behind.
fn ready(wanted: &Wanted) -> Wanted {
    Wanted {
        lag: wanted.lag.or(Some(READINESS_LAG_MAX)),
        streaming: true,
    }
}

/// A lag that nobody knows is no small one.
fn close_enough(wanted: &Wanted, server: &ServerStatus, local: &DatabaseLocal) -> bool {
    let near = wanted
        .lag
        .is_none_or(|max| lag(server).is_some_and(|lag| lag <= max));
    near && (!wanted.streaming || streams(local))
}

fn streams(local: &DatabaseLocal) -> bool {
    local.follows.is_some() && local.not_streaming_ms == 0
}

/// Bytes that this server has not replayed yet.
fn lag(server: &ServerStatus) -> Option<u64> {
    let own = server
        .database_view
        .iter()
        .find(|d| d.server == server.name);
    own.and_then(|own| own.lag_bytes)
}

/// Whether the agent goes round. One step may take long: a copy takes hours.
fn alive(local: &DatabaseLocal) -> bool {
    match local.lease.as_str() {
        "mine" => local.lease_left_ms.is_some_and(|left| left > 0),
        _ => local.looked_ms_ago <= LIVENESS_MAX_MS || !local.plan.steps.is_empty(),
    }
}

/// The body of a check: this server, in the shape of Patroni's `/patroni`.
pub(crate) fn own(server: &ServerStatus) -> Value {
    let mut body = Map::new();
    let part = server.database.as_ref();
    let local = part.and_then(|part| part.local.as_ref());
    let agreed = part.map(|part| &part.agreed);
    body.insert("state".into(), state(local).into());
    if let Some(local) = local {
        let role = local.role.as_deref().or(match local.data.as_str() {
            "primary" | "replica" => Some(local.data.as_str()),
            _ => None,
        });
        body.insert("role".into(), role.unwrap_or("uninitialized").into());
        if let Some(timeline) = local.timeline {
            body.insert("timeline".into(), timeline.into());
        }
        body.insert("xlog".into(), xlog(server, local));
        if !local.replicas.is_empty() {
            body.insert("replication".into(), replication(part, local));
        }
        if !local.pending_restart.is_empty() {
            body.insert("pending_restart".into(), true.into());
        }
    }
    let version = server.postgres.as_ref().and_then(|p| p.version.as_deref());
    if let Some(number) = version.and_then(version_number) {
        body.insert("server_version".into(), number.into());
    }
    if let Some(agreed) = agreed {
        if agreed.holder.is_none() {
            body.insert("cluster_unlocked".into(), true.into());
        }
        if agreed.paused.is_some() {
            body.insert("pause".into(), true.into());
        }
        if let Some(id) = &agreed.system_id {
            body.insert("database_system_identifier".into(), id.as_str().into());
        }
    }
    let scope = part.map_or("", |part| part.cluster.as_str());
    let names = json!({ "scope": scope, "name": server.name });
    body.insert("patroni".into(), names);
    let own = json!({ "version": server.version, "state": server.state.as_str() });
    body.insert("trilith".into(), own);
    Value::Object(body)
}

fn state(local: Option<&DatabaseLocal>) -> &'static str {
    let Some(local) = local else {
        return "stopped";
    };
    let step = local
        .plan
        .steps
        .first()
        .map_or("", |step| step.step.as_str());
    match local.state.as_str() {
        "running" => "running",
        "starting" => "starting",
        "silent" => "crashed",
        _ if step.starts_with("copy") => "creating replica",
        _ if local.plan.stuck.is_some() => "start failed",
        _ => "stopped",
    }
}

fn xlog(server: &ServerStatus, local: &DatabaseLocal) -> Value {
    let flushed = local.lsn.as_deref().and_then(position);
    let replayed = server.postgres.as_ref().and_then(|p| p.lsn.as_deref());
    match local.role.as_deref() {
        Some("primary") => json!({ "location": flushed }),
        _ => json!({
            "received_location": flushed,
            "replayed_location": replayed.and_then(position),
            "paused": false,
        }),
    }
}

fn replication(part: Option<&DatabasePart>, local: &DatabaseLocal) -> Value {
    let connected = local.replicas.iter().filter(|replica| replica.streaming);
    let rows = connected.map(|replica| {
        let member = part.is_some_and(|part| part.agreed.is_member(&replica.server));
        json!({
            "application_name": replica.server,
            "state": "streaming",
            "sync_state": if member { "quorum" } else { "async" },
        })
    });
    Value::Array(rows.collect())
}

/// `16/B374D848` as a number.
fn position(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let part = |text| u32::from_str_radix(text, 16).ok();
    Some(u64::from(part(high)?) << 32 | u64::from(part(low)?))
}

/// `15.18` is 150018.
fn version_number(text: &str) -> Option<u32> {
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    let number = major.parse::<u32>().ok()?.checked_mul(10_000)?;
    number.checked_add(minor.parse().ok()?)
}

/// `/cluster`: all database servers, in the shape of Patroni's.
pub(crate) fn members(status: &ClusterStatus) -> Value {
    let agreed = status.database.as_ref().and_then(|d| d.agreed.as_ref());
    let databases = status.servers.iter().filter(|server| server.has_role("db"));
    let members: Vec<Value> = databases.map(|server| member(status, server)).collect();
    let mut body = json!({ "members": members, "scope": status.cluster });
    if agreed.is_some_and(|agreed| agreed.paused.is_some()) {
        body["pause"] = true.into();
    }
    body
}

fn member(status: &ClusterStatus, server: &ServerStatus) -> Value {
    let database = status.database.as_ref();
    let agreed = database.and_then(|d| d.agreed.as_ref());
    let local = server
        .database
        .as_ref()
        .and_then(|part| part.local.as_ref());
    let port = status
        .servers
        .iter()
        .find_map(|s| s.database.as_ref().map(|d| d.port));
    let leads = agreed.is_some_and(|agreed| agreed.holder.as_deref() == Some(&server.name));
    let is_member = agreed.is_some_and(|agreed| agreed.is_member(&server.name));
    let role = match (leads, is_member) {
        (true, _) => "leader",
        (false, true) => "sync_standby",
        (false, false) => "replica",
    };
    let state = match local {
        Some(local) if local.is_running_as("replica") && streams(local) => "streaming",
        local => state(local),
    };
    let mut body = json!({
        "name": server.name, "role": role, "state": state, "host": server.address, "port": port,
    });
    if let Some(timeline) = local.and_then(|local| local.timeline) {
        body["timeline"] = timeline.into();
    }
    if !leads {
        let seen = database.and_then(|d| d.servers.iter().find(|d| d.server == server.name));
        body["lag"] = match seen.and_then(|seen| seen.lag_bytes) {
            Some(lag) => lag.into(),
            None => "unknown".into(),
        };
    }
    body
}

#[cfg(test)]
mod tests;
