//! The database's part of `/metrics`: Trilith's own view of it, and the basics of PostgreSQL under the names
//! that `postgres_exporter` uses, so that dashboards made for it work here.

use std::fmt::Write;

use crate::api::{DatabaseLocal, DatabasePart, ServerStatus};

/// Label names and values of one series.
pub type Labels = Vec<(&'static str, String)>;

/// One family of series.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The whole name, `pg_stat_database_xact_commit`.
    pub name: &'static str,
    pub help: &'static str,
    pub series: Vec<(Labels, f64)>,
}

const END: &str = "# EOF\n";

/// Puts them into an OpenMetrics text, before its end.
pub(crate) fn insert(text: &mut String, server: &ServerStatus, readings: &[Reading]) {
    let Some(part) = &server.database else {
        return;
    };
    // Without its end the text was cut short, and stays so.
    if !text.ends_with(END) {
        return;
    }
    text.truncate(text.len() - END.len());
    for (kind, reading) in own(server, part) {
        push(text, kind, &reading);
    }
    for reading in readings {
        // Counters have names in OpenMetrics that the exporter does not use.
        push(text, "unknown", reading);
    }
    text.push_str(END);
}

fn push(text: &mut String, kind: &str, reading: &Reading) {
    let Reading { name, help, series } = reading;
    if series.is_empty() {
        return;
    }
    // Writing into a String cannot fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    for (labels, value) in series {
        text.push_str(name);
        for (index, (label, word)) in labels.iter().enumerate() {
            let sign = if index == 0 { '{' } else { ',' };
            let word = word.replace('\\', "\\\\").replace('"', "\\\"");
            let word = word.replace('\n', "\\n");
            let _ = write!(text, "{sign}{label}=\"{word}\"");
        }
        if !labels.is_empty() {
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
    }
}

fn own(server: &ServerStatus, part: &DatabasePart) -> Vec<(&'static str, Reading)> {
    let agreed = &part.agreed;
    let mut all = vec![
        one(
            "trilith_database_term",
            "Grants of the primary's lease so far",
            agreed.term as f64,
        ),
        one(
            "trilith_database_paused",
            "Whether failover is paused",
            flag(agreed.paused.is_some()),
        ),
        one(
            "trilith_database_has_primary",
            "Whether there is a primary that lets clients in, by the cluster store",
            flag(agreed.has_open_primary()),
        ),
        one(
            "trilith_database_synchronous_members",
            "Replicas that may have to confirm a commit",
            agreed.synchronous.members.len() as f64,
        ),
        one(
            "trilith_database_synchronous_acks",
            "How many of them must",
            agreed.synchronous.acks as f64,
        ),
    ];
    if let Some(local) = &part.local {
        all.extend(of_local(server, local));
    }
    all.into_iter().map(|reading| ("gauge", reading)).collect()
}

fn of_local(server: &ServerStatus, local: &DatabaseLocal) -> Vec<Reading> {
    let role = |role: &str| {
        let labels = vec![("role", role.to_owned())];
        (labels, flag(local.is_running_as(role)))
    };
    let lag = server
        .database_view
        .iter()
        .find(|d| d.server == server.name);
    let replicas = local.replicas.iter();
    let mut all = vec![
        one(
            "pg_up",
            "Whether the local PostgreSQL answers",
            flag(local.state == "running"),
        ),
        Reading {
            name: "trilith_database_role",
            help: "1 for what PostgreSQL is on this server",
            series: vec![role("primary"), role("replica")],
        },
        one(
            "trilith_database_open",
            "Whether clients can write on this server",
            flag(local.is_open_primary()),
        ),
        one(
            "trilith_database_needs_a_person",
            "Whether nothing goes on here until a person has acted",
            flag(local.plan.stuck.is_some()),
        ),
        one(
            "trilith_database_pending_restart",
            "Settings of PostgreSQL that wait for its restart",
            local.pending_restart.len() as f64,
        ),
        one(
            "trilith_database_asides",
            "Data folders set aside, to be looked at and deleted",
            local.asides.len() as f64,
        ),
        Reading {
            name: "trilith_database_replica_behind_bytes",
            help: "WAL that a replica has not flushed yet, seen from the primary",
            series: replicas
                .filter_map(|r| Some((vec![("replica", r.server.clone())], r.behind_bytes? as f64)))
                .collect(),
        },
        Reading {
            name: "trilith_database_slot_held_bytes",
            help: "WAL kept for a replica",
            series: local
                .slots
                .iter()
                .map(|slot| {
                    (
                        vec![("replica", slot.server.clone())],
                        slot.held_bytes as f64,
                    )
                })
                .collect(),
        },
    ];
    let seconds = |ms: u64| ms as f64 / 1000.0;
    all.extend(local.lease_left_ms.map(|left| {
        one(
            "trilith_database_lease_remaining_seconds",
            "Until the primary here would be stopped for want of a renewal",
            seconds(left),
        )
    }));
    all.extend(local.unreplicated_bytes().map(|bytes| {
        one(
            "trilith_database_unreplicated_bytes",
            "WAL of the primary that no replica has flushed yet",
            bytes as f64,
        )
    }));
    all.extend(lag.and_then(|own| own.lag_bytes).map(|bytes| {
        one(
            "trilith_database_lag_bytes",
            "WAL of the primary that this replica has not replayed yet",
            bytes as f64,
        )
    }));
    all
}

fn one(name: &'static str, help: &'static str, value: f64) -> Reading {
    Reading {
        name,
        help,
        series: vec![(Labels::new(), value)],
    }
}

fn flag(yes: bool) -> f64 {
    if yes { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests;
