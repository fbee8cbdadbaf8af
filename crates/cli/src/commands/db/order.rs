//! What changes something: asked for through the admin socket of a server on this machine, then waited for.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use trilith_monitor::api::{
    Agreed, ClusterStatus, DATABASE_SCHEMA, DatabaseAnswer, DatabaseOrder, ServerStatus,
};

use super::args::How;
use crate::admin::{self, Local};
use crate::commands::ask_cluster;
use crate::failure::{Failure, Outcome};
use crate::terminal;

/// It takes one to a few seconds; a checkpoint may come before it.
const PATIENCE: Duration = Duration::from_secs(90);
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(100);

pub fn switchover(to: Option<&str>, how: &How) -> Outcome {
    let order = DatabaseOrder {
        server: to.map(str::to_owned),
        ..DatabaseOrder::default()
    };
    take_over("switchover", order, how)
}

pub fn failover(to: &str, accept_loss: bool, how: &How) -> Outcome {
    let order = DatabaseOrder {
        server: Some(to.to_owned()),
        accept_loss,
        ..DatabaseOrder::default()
    };
    take_over("failover", order, how)
}

pub fn reinit(server: &str, how: &How) -> Outcome {
    let order = DatabaseOrder {
        server: Some(server.to_owned()),
        ..DatabaseOrder::default()
    };
    let (_, answer) = send("reinit", order, how)?;
    tell(&answer, how);
    if answer.changed && !how.json {
        terminal::say("how far it is: trilith db status");
    }
    Ok(())
}

pub fn pause(how: &How) -> Outcome {
    let user = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER"));
    let host = nix::unistd::gethostname().unwrap_or_default();
    let order = DatabaseOrder {
        by: format!(
            "{}@{}",
            user.unwrap_or_else(|_| "root".to_owned()),
            host.to_string_lossy()
        ),
        ..DatabaseOrder::default()
    };
    let (_, answer) = send("pause", order, how)?;
    tell(&answer, how);
    Ok(())
}

pub fn resume(how: &How) -> Outcome {
    let (_, answer) = send("resume", DatabaseOrder::default(), how)?;
    tell(&answer, how);
    Ok(())
}

pub(super) fn send(
    what: &str,
    mut order: DatabaseOrder,
    how: &How,
) -> Outcome<(Local, DatabaseAnswer)> {
    let local = admin::local(&how.place)?;
    order.dry_run = how.dry_run;
    let body = serde_json::to_value(&order).map_err(Failure::failed)?;
    let answer = local.call("POST", &format!("/v1/db/{what}"), Some(&body))?;
    let answer: DatabaseAnswer = serde_json::from_value(answer).map_err(|error| {
        Failure::failed(format!(
            "the server's answer is none that this program knows: {error}"
        ))
        .next("trilith version")
    })?;
    if !how.json {
        for warning in &answer.warnings {
            terminal::say(&format!("note: {warning}"));
        }
    }
    Ok((local, answer))
}

pub(super) fn tell(answer: &DatabaseAnswer, how: &How) {
    if how.json {
        let text = serde_json::to_string(answer).unwrap_or_default();
        return terminal::data(&format!("{text}\n"));
    }
    match answer.dry_run && !answer.says.is_empty() {
        true => terminal::data(&format!("would: {}\n", answer.says)),
        false => terminal::data(&format!("{}\n", answer.says)),
    }
}

fn take_over(what: &str, order: DatabaseOrder, how: &How) -> Outcome {
    let (local, answer) = send(what, order, how)?;
    if !answer.changed {
        tell(&answer, how);
        return Ok(());
    }
    if !how.json {
        terminal::say(&answer.says);
    }
    let began = Instant::now();
    let mut told = String::new();
    loop {
        let status = ask_cluster(&local.config);
        match status.as_ref().map(|status| progress(&answer, status)) {
            Ok(Progress::Done { primary, term }) => {
                let took = began.elapsed();
                done(&answer, &primary, term, took, how);
                return Ok(());
            }
            Ok(Progress::GivenUp { why }) => {
                return Err(Failure::failed(format!("the {what} was given up: {why}"))
                    .next("trilith db status"));
            }
            Ok(Progress::Elsewhere { primary }) => {
                return Err(
                    Failure::failed(format!("{primary} has become the primary instead"))
                        .next("trilith db status"),
                );
            }
            Ok(Progress::Under { step }) if step != told && !how.json => {
                terminal::say(&format!("  {step}"));
                told = step;
            }
            Ok(Progress::Under { .. }) | Err(_) => {}
        }
        if began.elapsed() >= PATIENCE {
            return Err(Failure::failed(format!(
                "the {what} is not done after {} s; it goes on as soon as it can",
                PATIENCE.as_secs()
            ))
            .next("trilith db status"));
        }
        thread::sleep(POLL_INTERVAL);
    }
}

fn done(answer: &DatabaseAnswer, primary: &str, term: u64, took: Duration, how: &How) {
    if how.json {
        let done = json!({
            "schema": DATABASE_SCHEMA, "changed": true, "dry_run": false, "primary": primary,
            "term": term, "took_ms": took.as_millis() as u64, "warnings": answer.warnings,
        });
        return terminal::data(&format!("{done}\n"));
    }
    terminal::data(&format!(
        "{primary} is the primary now, after {:.1} s\n",
        took.as_secs_f64()
    ));
}

/// How far a request is.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Done { primary: String, term: u64 },
    GivenUp { why: String },
    Elsewhere { primary: String },
    Under { step: String },
}

fn progress(answer: &DatabaseAnswer, status: &ClusterStatus) -> Progress {
    let database = status.database.as_ref();
    let Some(agreed) = database.and_then(|database| database.agreed.as_ref()) else {
        return under("nobody answers");
    };
    if let Some(ended) = &agreed.ended
        && Some(ended.id) == answer.request
    {
        return Progress::GivenUp {
            why: ended.why.clone(),
        };
    }
    let pending = agreed.request.as_ref().map(|request| request.id) == answer.request;
    if agreed.term > answer.term && !pending && agreed.has_open_primary() {
        let primary = agreed.primary.clone().unwrap_or_default();
        return match answer
            .server
            .as_ref()
            .is_none_or(|wanted| *wanted == primary)
        {
            true => Progress::Done {
                primary,
                term: agreed.term,
            },
            false => Progress::Elsewhere { primary },
        };
    }
    under(&step(answer, agreed, &status.servers))
}

/// What is being done, by the server that has to do it.
fn step(answer: &DatabaseAnswer, agreed: &Agreed, servers: &[ServerStatus]) -> String {
    let actor = agreed.holder.as_ref().or(answer.server.as_ref());
    match actor {
        Some(actor) => step_of(actor, servers),
        None => "nobody holds the lease".to_owned(),
    }
}

/// What that server is doing.
pub(super) fn step_of(actor: &str, servers: &[ServerStatus]) -> String {
    let server = servers.iter().find(|server| server.name == actor);
    let local = server.and_then(|server| server.database.as_ref()?.local.as_ref());
    let Some(local) = local else {
        return format!("{actor} does not answer");
    };
    match local.plan.steps.first() {
        Some(step) if step.step == "wait" => format!("{actor}: waits: {}", step.why),
        Some(step) => format!("{actor}: {}", step.step),
        None => format!("{actor}: {}", local.plan.reason),
    }
}

fn under(step: &str) -> Progress {
    Progress::Under {
        step: step.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use trilith_monitor::api::{DatabaseStatus, EndedRequest};

    use super::*;

    fn answer() -> DatabaseAnswer {
        DatabaseAnswer {
            changed: true,
            server: Some("two".to_owned()),
            term: 4,
            request: Some(90),
            ..DatabaseAnswer::default()
        }
    }

    fn status(agreed: Agreed) -> ClusterStatus {
        let text = include_str!("../../../tests/fixtures/status.json");
        let mut status: ClusterStatus = serde_json::from_str(text).unwrap();
        status.database = Some(DatabaseStatus {
            agreed: Some(agreed),
            ..DatabaseStatus::default()
        });
        status
    }

    fn held(holder: &str, term: u64, open: bool) -> Agreed {
        Agreed {
            holder: Some(holder.to_owned()),
            primary: Some(holder.to_owned()),
            term,
            open,
            ..Agreed::default()
        }
    }

    #[test]
    fn it_is_done_when_the_next_primary_is_open() {
        let before = progress(&answer(), &status(held("one", 4, true)));
        assert!(matches!(before, Progress::Under { .. }), "{before:?}");
        let closed = progress(&answer(), &status(held("two", 5, false)));
        assert!(matches!(closed, Progress::Under { .. }), "{closed:?}");
        let done = Progress::Done {
            primary: "two".to_owned(),
            term: 5,
        };
        assert_eq!(progress(&answer(), &status(held("two", 5, true))), done);
        let other = Progress::Elsewhere {
            primary: "three".to_owned(),
        };
        assert_eq!(progress(&answer(), &status(held("three", 5, true))), other);
    }

    #[test]
    fn what_was_given_up_says_why() {
        let ended = |id| {
            let mut agreed = held("one", 4, true);
            let why = "no replica can take over".to_owned();
            agreed.ended = Some(EndedRequest { id, why });
            progress(&answer(), &status(agreed))
        };
        let why = "no replica can take over".to_owned();
        assert_eq!(ended(90), Progress::GivenUp { why });
        // That was an earlier one.
        assert!(matches!(ended(80), Progress::Under { .. }));
    }
}
