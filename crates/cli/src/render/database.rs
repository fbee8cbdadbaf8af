//! What `trilith db status` shows.

use trilith_monitor::api::{
    Agreed, ClusterStatus, DatabaseLocal, DatabaseStatus, ReplicaStatus, ServerStatus, SlotStatus,
};

use super::paint::{self, Paint, bad, faint, good, warn};
use super::{age, table};

/// All about the database; `colour` adds ANSI colours. No line ends in a space.
pub fn database(status: &ClusterStatus, colour: bool) -> String {
    let Some(database) = &status.database else {
        return "this cluster has no [database]\n".to_owned();
    };
    let agreed = database.agreed.clone().unwrap_or_default();
    let mut text = heading(status, &agreed);
    text.push('\n');
    for line in servers(status, database, &agreed).lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let plans: Vec<String> = database_servers(status).filter_map(plan).collect();
    if !plans.is_empty() {
        text.push('\n');
        text.push_str(&plans.concat());
    }
    let leftovers: Vec<String> = database_servers(status).filter_map(leftovers).collect();
    if !leftovers.is_empty() {
        text.push('\n');
        text.push_str(&leftovers.concat());
    }
    paint::finish(&text, if colour { Paint::Colour } else { Paint::Plain })
}

/// A primary that lets clients in, every database server up, every replica receiving, nobody waiting for a
/// person.
pub fn database_is_healthy(status: &ClusterStatus) -> bool {
    let agreed = status.database.as_ref().and_then(|d| d.agreed.as_ref());
    let open = agreed.is_some_and(Agreed::has_open_primary);
    let well = |server: &ServerStatus| {
        local(server).is_some_and(|local| {
            let follows = local.role.as_deref() == Some("primary") || is_streaming(local);
            local.state == "running" && follows && local.plan.stuck.is_none()
        })
    };
    open && database_servers(status).all(well)
}

fn database_servers(status: &ClusterStatus) -> impl Iterator<Item = &ServerStatus> {
    status.servers.iter().filter(|server| server.has_role("db"))
}

fn local(server: &ServerStatus) -> Option<&DatabaseLocal> {
    server.database.as_ref()?.local.as_ref()
}

fn is_streaming(local: &DatabaseLocal) -> bool {
    local.follows.is_some() && local.not_streaming_ms == 0
}

/// What was agreed on, a line each.
fn heading(status: &ClusterStatus, agreed: &Agreed) -> String {
    let mut lines = vec![primary_line(status, agreed)];
    if agreed.has_open_primary() {
        lines.push(promise(status, agreed));
    }
    if agreed.forced {
        lines.push(warn(
            "an operator forced this term: acknowledged writes may be missing",
        ));
    }
    if let Some(paused) = &agreed.paused {
        let mut line = "failover is paused".to_owned();
        if !paused.by.is_empty() {
            line.push_str(&format!(" by {}", paused.by));
        }
        if paused.since_unix_ms > 0 {
            let since = status.time_unix_ms.saturating_sub(paused.since_unix_ms);
            line.push_str(&format!(", for {}", age(since)));
        }
        line.push_str("; `trilith db resume` ends that");
        lines.push(warn(&line));
    }
    if let Some(request) = &agreed.request {
        lines.push(format!("asked for: {request}"));
    }
    if !agreed.reinit.is_empty() {
        lines.push(format!("to be copied anew: {}", agreed.reinit.join(", ")));
    }
    if let Some(what) = &agreed.unreadable {
        lines.push(bad(&format!("a newer version of Trilith decides: {what}")));
    }
    if agreed.holder.is_none() {
        for report in agreed.reports.iter().filter(|r| r.term == agreed.term) {
            lines.push(format!("{} has {}", report.server, report.has));
        }
    }
    lines.join("\n") + "\n"
}

fn primary_line(status: &ClusterStatus, agreed: &Agreed) -> String {
    let term = format!("term {}", agreed.term);
    match (&agreed.holder, &agreed.primary) {
        (Some(holder), _) => {
            let open = match agreed.has_open_primary() {
                true => good("open"),
                false => warn("not open yet"),
            };
            let epoch = agreed.epoch.unwrap_or_default();
            let server = database_servers(status).find(|server| server.name == *holder);
            let left = server.and_then(local).and_then(|local| local.lease_left_ms);
            let left = match left {
                Some(left) => format!(", {} left", seconds(left)),
                None => String::new(),
            };
            format!("primary {holder}, {open}, {term}, lease {epoch}{left}")
        }
        (None, Some(last)) => format!("{}, {term}, the last one was {last}", bad("no primary")),
        (None, None) => format!("{}: there never was one", bad("no primary")),
    }
}

/// Where the acknowledged writes are.
fn promise(status: &ClusterStatus, agreed: &Agreed) -> String {
    let primary = agreed.primary.as_deref().unwrap_or_default();
    let server = database_servers(status).find(|server| server.name == primary);
    let local = server.and_then(local);
    if agreed.asynchronous {
        let loss = match local.and_then(DatabaseLocal::unreplicated_bytes) {
            Some(bytes) => format!("{} of WAL would be lost with {primary} now", size(bytes)),
            None => format!("all that no other server has is lost with {primary}"),
        };
        return warn(&format!("commits wait for nobody: {loss}"));
    }
    let mut line = match agreed.synchronous.members.is_empty() {
        true => warn(&format!("every commit is on {primary} alone")),
        false => format!("every commit is on {primary} and {}", agreed.synchronous),
    };
    if let Some(local) = local
        && local.in_force != agreed.synchronous
    {
        line.push_str(&format!("; PostgreSQL waits for {}", local.in_force));
    }
    line
}

fn servers(status: &ClusterStatus, database: &DatabaseStatus, agreed: &Agreed) -> String {
    let mut table = table(&[
        "SERVER", "ROLE", "STATE", "TIMELINE", "POSITION", "BEHIND", "HAS ALL",
    ]);
    let primary = database_servers(status)
        .filter_map(local)
        .find(|local| local.is_running_as("primary"));
    for server in database_servers(status) {
        let local = local(server);
        let has_all = match agreed.primary.as_deref() == Some(&server.name) {
            true => "yes".to_owned(),
            false if agreed.is_member(&server.name) => "yes".to_owned(),
            false if agreed.asynchronous => "-".to_owned(),
            false => warn("no"),
        };
        let replica = primary.and_then(|p| p.replicas.iter().find(|r| r.server == server.name));
        table.add_row([
            server.name.clone(),
            role(server),
            state(server) + restart(agreed, server),
            local
                .and_then(|local| local.timeline)
                .map_or_else(dash, |timeline| timeline.to_string()),
            local
                .and_then(|local| local.lsn.clone())
                .unwrap_or_else(dash),
            behind(database, server, replica),
            has_all,
        ]);
    }
    table.to_string() + "\n"
}

fn role(server: &ServerStatus) -> String {
    let local = local(server);
    match local.and_then(|local| local.role.as_deref()) {
        Some("primary") if local.is_some_and(|local| !local.open) => warn("primary, closed"),
        Some(role) => role.to_owned(),
        None => dash(),
    }
}

/// Beside its state: what it waits for is in its plan, or in the primary's.
fn restart(agreed: &Agreed, server: &ServerStatus) -> &'static str {
    let mark = agreed.restart.iter().find(|r| r.server == server.name);
    match mark.map(|mark| mark.state.as_str()) {
        None => "",
        Some("asked") => ", restart asked for",
        Some(_) => ", restarts",
    }
}

fn state(server: &ServerStatus) -> String {
    let Some(local) = local(server) else {
        return match server.state.is_up() {
            true => warn("looking"),
            false => bad("down"),
        };
    };
    if local.plan.stuck.is_some() {
        return bad("needs you");
    }
    match (local.state.as_str(), local.role.as_deref()) {
        ("running", Some("primary")) => good("running"),
        ("running", _) if is_streaming(local) => good("streaming"),
        ("running", _) => match local.not_streaming_ms {
            0 => warn("waiting"),
            1..1_000 => warn("connecting"),
            ms => warn(&format!("nothing for {}", seconds(ms))),
        },
        ("silent", _) => bad("no answer"),
        (word, _) => match &server.postgres {
            Some(postgres) if postgres.phase == "copying" => warn(&postgres.detail),
            _ => warn(word),
        },
    }
}

/// How far it has flushed by the primary's count; what it has not replayed by the observer's.
fn behind(
    database: &DatabaseStatus,
    server: &ServerStatus,
    replica: Option<&ReplicaStatus>,
) -> String {
    let seen = database.servers.iter().find(|s| s.server == server.name);
    let replay = seen.and_then(|seen| seen.lag_bytes);
    match (replica.and_then(|replica| replica.behind_bytes), replay) {
        (Some(behind), Some(replay)) if replay > behind => {
            format!("{}, {} to replay", size(behind), size(replay))
        }
        (Some(behind), _) => size(behind),
        (None, Some(replay)) => format!("{} to replay", size(replay)),
        (None, None) => dash(),
    }
}

/// What it is about to do, if it is about to do something.
fn plan(server: &ServerStatus) -> Option<String> {
    let plan = &local(server)?.plan;
    if plan.steps.is_empty() {
        return None;
    }
    let mut text = format!("{}: {}\n", server.name, plan.reason);
    for (number, step) in plan.steps.iter().enumerate() {
        text.push_str(&format!("  {}. {}: {}\n", number + 1, step.step, step.why));
    }
    Some(text)
}

/// What a slot may keep without being worth a line.
const HELD_QUIETLY_BYTES: u64 = 64 << 20;

/// Slots that keep much, folders set aside, settings that wait for a restart.
fn leftovers(server: &ServerStatus) -> Option<String> {
    let local = local(server)?;
    let name = &server.name;
    let mut text = String::new();
    let noteworthy = |slot: &&SlotStatus| !slot.active || slot.held_bytes > HELD_QUIETLY_BYTES;
    for slot in local.slots.iter().filter(noteworthy) {
        let active = match slot.active {
            true => "connected",
            false => "not connected",
        };
        let held = size(slot.held_bytes);
        text.push_str(&format!(
            "{name} keeps {held} of WAL for {}, {active}\n",
            slot.server
        ));
    }
    if !local.pending_restart.is_empty() {
        let settings = local.pending_restart.join(", ");
        let line = format!(
            "PostgreSQL on {name} has to be restarted for {settings}: `trilith db restart --pending`\n"
        );
        text.push_str(&warn(&line));
    }
    for aside in &local.asides {
        text.push_str(&faint(&format!("set aside on {name}: {aside}\n")));
    }
    (!text.is_empty()).then_some(text)
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

/// To the nearest unit below, with one digit behind the point.
fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1_024 => return format!("{bytes} B"),
        1_024..1_048_576 => (1_u64 << 10, "KiB"),
        1_048_576..1_073_741_824 => (1 << 20, "MiB"),
        _ => (1 << 30, "GiB"),
    };
    format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit)
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests;
