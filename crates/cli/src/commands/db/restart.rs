//! `trilith db restart`: asks for it, and tells of each server that is done.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use trilith_monitor::api::{ClusterStatus, DATABASE_SCHEMA, DatabaseAnswer, DatabaseOrder};

use super::args::How;
use super::no_answer;
use super::order::{POLL_INTERVAL, send, step_of, tell};
use crate::admin;
use crate::commands::ask_cluster;
use crate::failure::{Failure, Outcome};
use crate::terminal;

/// Without any server being done. A dead one is waited for for a minute, and each may take one to recover.
const PATIENCE: Duration = Duration::from_secs(180);

pub fn restart(servers: &[String], pending: bool, how: &How) -> Outcome {
    let servers = match pending {
        false => servers.to_vec(),
        true => match pending_servers(how)? {
            none if none.is_empty() => {
                let answer = DatabaseAnswer {
                    schema: DATABASE_SCHEMA,
                    dry_run: how.dry_run,
                    says: "no setting waits for a restart".to_owned(),
                    ..DatabaseAnswer::default()
                };
                tell(&answer, how);
                return Ok(());
            }
            servers => servers,
        },
    };
    let order = DatabaseOrder {
        servers,
        ..DatabaseOrder::default()
    };
    let (local, answer) = send("restart", order, how)?;
    if !answer.changed {
        tell(&answer, how);
        return Ok(());
    }
    if !how.json {
        terminal::say(&answer.says);
    }
    let (began, mut moved) = (Instant::now(), Instant::now());
    let mut left: BTreeSet<String> = answer.servers.iter().cloned().collect();
    let mut told = String::new();
    while !left.is_empty() {
        if let Ok(status) = ask_cluster(&local.config) {
            for server in done(&answer, &left, &status) {
                left.remove(&server);
                moved = Instant::now();
                if !how.json {
                    terminal::say(&format!("{server}: restarted"));
                }
            }
            let step = step(&left, &status);
            if let Some(step) = step
                && step != told
                && !how.json
            {
                terminal::say(&format!("  {step}"));
                told = step;
            }
        }
        if !left.is_empty() {
            if moved.elapsed() >= PATIENCE {
                let left: Vec<String> = left.into_iter().collect();
                return Err(Failure::failed(format!(
                    "not restarted so far: {}; it goes on as soon as it can",
                    left.join(", ")
                ))
                .next("trilith db status"));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
    let took = began.elapsed();
    if how.json {
        let done = json!({
            "schema": DATABASE_SCHEMA, "changed": true, "dry_run": false,
            "servers": answer.servers, "took_ms": took.as_millis() as u64,
            "warnings": answer.warnings,
        });
        terminal::data(&format!("{done}\n"));
    } else {
        let servers = answer.servers.join(", ");
        let took = took.as_secs_f64();
        terminal::data(&format!("restarted: {servers}, within {took:.1} s\n"));
    }
    Ok(())
}

/// Where settings wait for a restart.
fn pending_servers(how: &How) -> Outcome<Vec<String>> {
    let local = admin::local(&how.place)?;
    let status = ask_cluster(&local.config).map_err(no_answer)?;
    let (pending, silent) = pending(&status);
    if !how.json {
        for server in silent {
            terminal::say(&format!(
                "note: {server} does not answer; it starts with the settings of the file anyway"
            ));
        }
    }
    Ok(pending)
}

/// Servers with settings that wait for a restart, and those that do not say.
fn pending(status: &ClusterStatus) -> (Vec<String>, Vec<String>) {
    let (mut pending, mut silent) = (Vec::new(), Vec::new());
    for server in status.servers.iter().filter(|server| server.has_role("db")) {
        let local = server
            .database
            .as_ref()
            .and_then(|part| part.local.as_ref());
        match local {
            Some(local) if local.pending_restart.is_empty() => {}
            Some(_) => pending.push(server.name.clone()),
            None => silent.push(server.name.clone()),
        }
    }
    (pending, silent)
}

/// Which of those left are done.
fn done(answer: &DatabaseAnswer, left: &BTreeSet<String>, status: &ClusterStatus) -> Vec<String> {
    let database = status.database.as_ref();
    let agreed = database.and_then(|database| database.agreed.as_ref());
    // An older view does not show the request yet.
    let Some(agreed) = agreed.filter(|agreed| answer.request <= Some(agreed.revision)) else {
        return Vec::new();
    };
    let marked = |server: &&String| agreed.restart.iter().any(|mark| mark.server == **server);
    let done = left.iter().filter(|server| !marked(server));
    done.cloned().collect()
}

/// What is being done now: by the server whose turn it is, or by the primary.
fn step(left: &BTreeSet<String>, status: &ClusterStatus) -> Option<String> {
    let agreed = status.database.as_ref()?.agreed.as_ref()?;
    let mut marks = agreed.restart.iter();
    let turn = marks.find(|mark| left.contains(&mark.server) && mark.state != "asked");
    let actor = turn.map(|mark| &mark.server).or(agreed.holder.as_ref())?;
    (!left.is_empty()).then(|| step_of(actor, &status.servers))
}

#[cfg(test)]
mod tests {
    use trilith_monitor::api::{
        Agreed, DatabaseLocal, DatabasePart, DatabaseStatus, RestartStatus,
    };

    use super::*;

    fn status(revision: u64, marks: &[(&str, &str)]) -> ClusterStatus {
        let text = include_str!("../../../tests/fixtures/status.json");
        let mut status: ClusterStatus = serde_json::from_str(text).unwrap();
        let marks = marks.iter().map(|(server, state)| RestartStatus {
            server: (*server).to_owned(),
            state: (*state).to_owned(),
        });
        status.database = Some(DatabaseStatus {
            agreed: Some(Agreed {
                revision,
                holder: Some("one".to_owned()),
                restart: marks.collect(),
                ..Agreed::default()
            }),
            ..DatabaseStatus::default()
        });
        status
    }

    #[test]
    fn a_server_is_done_when_its_mark_is_gone() {
        let answer = DatabaseAnswer {
            request: Some(90),
            ..DatabaseAnswer::default()
        };
        let left: BTreeSet<String> = ["one", "two"].map(str::to_owned).into();
        let done = |status: &ClusterStatus| done(&answer, &left, status);
        assert!(done(&status(89, &[])).is_empty(), "it is not there yet");
        assert!(done(&status(90, &[("one", "asked"), ("two", "turn")])).is_empty());
        assert_eq!(done(&status(95, &[("one", "asked")])), ["two"]);
        let step = |marks| step(&left, &status(90, marks)).unwrap();
        assert!(step(&[("one", "asked"), ("two", "begun")]).starts_with("two"));
        assert!(step(&[("one", "asked"), ("two", "asked")]).starts_with("one"));
    }

    #[test]
    fn pending_is_where_settings_wait() {
        let mut status = status(1, &[]);
        let waits = [Some(vec!["max_connections".to_owned()]), Some(vec![]), None];
        for (server, waits) in status.servers.iter_mut().zip(waits) {
            server.roles = vec!["db".into()];
            server.database = Some(DatabasePart {
                local: waits.map(|pending_restart| DatabaseLocal {
                    pending_restart,
                    ..DatabaseLocal::default()
                }),
                ..DatabasePart::default()
            });
        }
        let (pending, silent) = pending(&status);
        assert_eq!((pending.len(), silent.len()), (1, 1));
        assert_eq!(pending[0], status.servers[0].name);
    }
}
