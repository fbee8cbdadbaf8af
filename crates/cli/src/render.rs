//! The status of a cluster as text for people.

use comfy_table::{ContentArrangement, Table, presets};
use trilith_monitor::api::{
    ClusterStatus, DatabaseServer, PoolMember, ServerState, ServerStatus, SiteStatus, StoreStatus,
};

mod database;
mod paint;

pub use database::{database as database_status, database_is_healthy};
use paint::{Paint, bad, faint, good, warn};

/// The whole status; `colour` adds ANSI colours. No line ends in a space.
pub fn status(status: &ClusterStatus, colour: bool) -> String {
    let mut text = heading(status);
    let tables = [
        servers(status),
        sites(status),
        instances(status),
        pools(status),
    ];
    for table in tables.into_iter().flatten() {
        text.push('\n');
        for line in table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text.push('\n');
    text.push_str(&survival(status));
    paint::finish(&text, if colour { Paint::Colour } else { Paint::Plain })
}

fn heading(status: &ClusterStatus) -> String {
    let mut text = format!("cluster {}", status.cluster);
    for floating in &status.floating_addresses {
        let held = match (&floating.holder, floating.orphan) {
            (Some(holder), false) => format!("on {holder}"),
            (Some(holder), true) => warn(&format!("on {holder}, without a majority")),
            (None, _) if floating.mode == "none" => "left to you".to_owned(),
            (None, _) => bad("held by nobody"),
        };
        text.push_str(&format!(", floating address {} {held}", floating.address));
    }
    text.push('\n');
    if let Some(store) = &status.store {
        text.push_str(&store_line(store));
    }
    text
}

/// Who votes, and whether that is enough.
fn store_line(store: &StoreStatus) -> String {
    let names = |voter: bool| {
        let members = store.members.iter().filter(|member| member.voter == voter);
        let names: Vec<&str> = members.map(|member| member.name.as_str()).collect();
        names.join(" ")
    };
    let leader = match (&store.leader, store.has_quorum) {
        (Some(leader), true) => format!("led by {leader}"),
        _ => bad("no majority answers"),
    };
    let mut text = format!("store {}, {leader}, votes: {}", store.kind, names(true));
    if !names(false).is_empty() {
        text.push_str(&format!(", learns: {}", names(false)));
    }
    text.push('\n');
    text
}

/// The status in one line, for logs and pipes.
pub fn one_line(status: &ClusterStatus) -> String {
    let mut parts: Vec<String> = Vec::new();
    for server in &status.servers {
        let mut part = format!("{} {}", server.name, server.state.as_str());
        if !server.instances.is_empty() {
            let live = server
                .instances
                .iter()
                .filter(|i| i.state == "live")
                .count();
            part.push_str(&format!(", {live} of {} live", server.instances.len()));
        }
        if let Some(postgres) = &server.postgres {
            let text = match (postgres.phase.as_str(), &postgres.role) {
                ("running", Some(role)) => role,
                _ => &postgres.detail,
            };
            part.push_str(&format!(", database {text}"));
        }
        parts.push(part);
    }
    for site in &status.sites {
        parts.push(format!("{} {}", site.host, site.state.as_str()));
    }
    parts.join(" | ")
}

/// The last line: the promise, or why it does not hold.
pub fn survival(status: &ClusterStatus) -> String {
    let survival = &status.survives_one_loss;
    if survival.yes {
        return format!("survives the loss of any one server: {}\n", good("yes"));
    }
    format!(
        "survives the loss of any one server: {}, because {}\n",
        bad("no"),
        survival.reasons.join("; ")
    )
}

/// The floating addresses, and each edge's part in them.
pub fn addresses(status: &ClusterStatus, colour: bool) -> String {
    if status.floating_addresses.is_empty() {
        return "there is no floating address: give `vip` in [cluster] one\n".to_owned();
    }
    let mut table = table(&[
        "ADDRESS", "MODE", "SERVER", "STATE", "FOR", "LEASE", "EPOCH",
    ]);
    for floating in &status.floating_addresses {
        for server in &status.servers {
            let part = server
                .addresses
                .iter()
                .find(|a| a.address == floating.address);
            let Some(part) = part else {
                continue;
            };
            let state = match (part.is_up(), &part.problem) {
                (true, _) => good(&part.state),
                (false, None) => faint(&part.state),
                (false, Some(problem)) => format!("{}: {problem}", warn(&part.state)),
            };
            let since = part.since_unix_ms.filter(|_| part.is_up());
            table.add_row([
                floating.address.clone(),
                floating.mode.clone(),
                server.name.clone(),
                state,
                since.map_or_else(
                    || faint("-"),
                    |since| age(status.time_unix_ms.saturating_sub(since)),
                ),
                part.lease_left_ms
                    .map_or_else(|| faint("-"), |left| format!("{left} ms")),
                part.epoch
                    .map_or_else(|| faint("-"), |epoch| epoch.to_string()),
            ]);
        }
    }
    let mut text = heading(status);
    text.push('\n');
    for line in table.to_string().lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    paint::finish(&text, if colour { Paint::Colour } else { Paint::Plain })
}

fn servers(status: &ClusterStatus) -> Option<String> {
    let mut table = table(&[
        "SERVER",
        "ADDRESS",
        "ROLES",
        "STATE",
        "UP",
        "INSTANCES",
        "DATABASE",
    ]);
    for server in &status.servers {
        let roles = match server.roles.as_slice() {
            [] => "witness".to_owned(),
            roles => roles.join(" "),
        };
        table.add_row([
            server.name.clone(),
            server.address.clone(),
            roles,
            server_state(server),
            uptime(server, status.time_unix_ms),
            live_of_all(server),
            database(status, server),
        ]);
    }
    Some(table.to_string())
}

fn server_state(server: &ServerStatus) -> String {
    let word = server.state.as_str();
    let word = match server.state {
        ServerState::Ready => good(word),
        ServerState::Down => bad(word),
        _ => warn(word),
    };
    match server.problems.as_slice() {
        [] => word,
        problems => format!("{word}: {}", problems.join("; ")),
    }
}

fn uptime(server: &ServerStatus, now_unix_ms: u64) -> String {
    match server.started_unix_ms {
        Some(started) if server.state.is_up() => age(now_unix_ms.saturating_sub(started)),
        _ => faint("-"),
    }
}

fn live_of_all(server: &ServerStatus) -> String {
    if server.instances.is_empty() {
        return faint("-");
    }
    let live = server
        .instances
        .iter()
        .filter(|i| i.state == "live")
        .count();
    let text = format!("{live} of {}", server.instances.len());
    if live == server.instances.len() {
        text
    } else {
        warn(&text)
    }
}

fn database(status: &ClusterStatus, server: &ServerStatus) -> String {
    if !server.has_role("db") {
        return faint("-");
    }
    let view = status
        .database
        .iter()
        .flat_map(|database| &database.servers)
        .find(|database| database.server == server.name);
    match (view, &server.postgres) {
        (Some(view), _) if view.reachable => database_role(view),
        // Nobody reaches it; its own manager may know why.
        (_, Some(postgres)) if postgres.phase != "running" => warn(&postgres.detail),
        (
            Some(DatabaseServer {
                error: Some(error), ..
            }),
            _,
        ) => {
            format!("{}: {error}", bad("unreachable"))
        }
        (Some(_), _) => bad("unreachable"),
        (None, _) => faint("-"),
    }
}

fn database_role(view: &DatabaseServer) -> String {
    let lsn = view.lsn.as_deref().unwrap_or("?");
    match (view.role.as_deref(), view.lag_bytes) {
        (Some("primary"), _) => format!("primary at {lsn}"),
        (Some(role), Some(lag)) => format!("{role}, {lag} bytes behind"),
        (Some(role), None) => format!("{role} at {lsn}"),
        (None, _) => warn("unknown role"),
    }
}

fn sites(status: &ClusterStatus) -> Option<String> {
    if status.sites.is_empty() {
        return None;
    }
    let mut table = table(&["SITE", "STATE", "TLS", "APPS", "URL"]);
    for site in &status.sites {
        let state = match site.state.as_str() {
            "healthy" => good("healthy"),
            "down" => bad("down"),
            other => warn(other),
        };
        table.add_row([
            site.host.clone(),
            state,
            site.tls.clone(),
            site_apps(site),
            site.urls.join(" "),
        ]);
    }
    Some(table.to_string())
}

fn site_apps(site: &SiteStatus) -> String {
    if site.apps.is_empty() {
        return faint("-");
    }
    let apps = site.apps.iter().map(|app| {
        let servers = if app.servers_live == 1 {
            "server"
        } else {
            "servers"
        };
        format!(
            "{} {} of {} on {} {servers}",
            app.app, app.instances_live, app.instances_wanted, app.servers_live
        )
    });
    apps.collect::<Vec<_>>().join(", ")
}

fn instances(status: &ClusterStatus) -> Option<String> {
    let mut table = table(&[
        "INSTANCE", "SERVER", "STATE", "FOR", "PID", "ADDRESS", "RELEASE", "RESTARTS",
    ]);
    for server in &status.servers {
        for instance in &server.instances {
            let state = match instance.state.as_str() {
                "live" => good("live"),
                "unhealthy" | "backoff" => bad(&instance.state),
                other => warn(other),
            };
            let state = match &instance.last_failure {
                Some(failure) if instance.state != "live" => format!("{state}: {failure}"),
                _ => state,
            };
            table.add_row([
                instance.name.clone(),
                server.name.clone(),
                state,
                age(status.time_unix_ms.saturating_sub(instance.since_unix_ms)),
                instance
                    .pid
                    .map_or_else(|| faint("-"), |pid| pid.to_string()),
                instance.address.clone().unwrap_or_else(|| faint("-")),
                instance.release.chars().take(12).collect(),
                instance.restarts.to_string(),
            ]);
        }
    }
    (!table.is_empty()).then(|| table.to_string())
}

/// One row per pool and edge: what each edge thinks of its servers.
fn pools(status: &ClusterStatus) -> Option<String> {
    let mut table = table(&["POOL", "EDGE", "BALANCE", "MODE", "SERVERS"]);
    for server in &status.servers {
        for pool in &server.pools {
            table.add_row([
                pool.name.clone(),
                server.name.clone(),
                pool.balance.clone(),
                pool.mode.clone(),
                pool.members
                    .iter()
                    .map(member)
                    .collect::<Vec<_>>()
                    .join("  "),
            ]);
        }
    }
    (!table.is_empty()).then(|| table.to_string())
}

fn member(member: &PoolMember) -> String {
    let health = match member.health.as_str() {
        "up" => good("up"),
        "down" => bad("down"),
        other => warn(other),
    };
    let backup = if member.backup { " (backup)" } else { "" };
    format!("{} {health}{backup}", member.name)
}

fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(columns.iter().map(|column| faint(column)));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// `7s`, `5m`, `3h`, `2d`: the largest unit alone.
pub fn age(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests;
