//! `trilith db`: what is with the database, and what an operator can do about it.

mod args;
mod order;
mod psql;
mod restart;
mod url;

use trilith_config::{Config, Database};
use trilith_monitor::api::{ClusterStatus, DATABASE_SCHEMA};

use crate::admin;
use crate::commands::ask_cluster;
use crate::config_file::{self, Warnings};
use crate::failure::{Failure, Outcome, UNHEALTHY};
use crate::render;
use crate::terminal;

pub use args::Arguments;
use args::Command;

pub fn run(args: &Arguments) -> Outcome {
    match &args.command {
        Command::Status { place, json } => status(place, *json),
        Command::Switchover { to, how } => order::switchover(to.as_deref(), how),
        Command::Failover {
            to,
            accept_loss,
            how,
        } => order::failover(to, *accept_loss, how),
        Command::Reinit { server, how } => order::reinit(server, how),
        Command::Restart {
            servers,
            pending,
            how,
        } => restart::restart(servers, *pending, how),
        Command::Pause { how } => order::pause(how),
        Command::Resume { how } => order::resume(how),
        Command::Psql(args) => psql::run(args),
        Command::Url(args) => url::run(args),
    }
}

fn status(place: &crate::args::Where, json: bool) -> Outcome {
    let path = admin::config_path(place)?;
    let config = config_file::load(&path, Warnings::Hide)?;
    database(&config)?;
    let status = ask_cluster(&config).map_err(no_answer)?;
    if json {
        terminal::data(&format!("{:#}\n", as_json(&status)));
    } else {
        terminal::data(&render::database_status(&status, true));
    }
    match render::database_is_healthy(&status) {
        true => Ok(()),
        false => Err(Failure::silent(UNHEALTHY)),
    }
}

fn database(config: &Config) -> Outcome<&Database> {
    let database = config.database.as_ref();
    database.ok_or_else(|| {
        Failure::failed("this cluster has no [database]").next("trilith explain database")
    })
}

fn as_json(status: &ClusterStatus) -> serde_json::Value {
    let database = status.database.clone().unwrap_or_default();
    let servers = status.servers.iter().filter(|server| server.has_role("db"));
    let servers: Vec<_> = servers
        .map(|server| {
            let seen = database.servers.iter().find(|s| s.server == server.name);
            serde_json::json!({
                "name": server.name,
                "state": server.state,
                "postgres": server.postgres,
                "lag_bytes": seen.and_then(|seen| seen.lag_bytes),
                "local": server.database.as_ref().and_then(|part| part.local.as_ref()),
            })
        })
        .collect();
    serde_json::json!({
        "schema": DATABASE_SCHEMA,
        "healthy": render::database_is_healthy(status),
        "asked": status.asked,
        "agreed": database.agreed,
        "servers": servers,
    })
}

fn no_answer(reason: String) -> Failure {
    Failure::failed(format!("no server of this cluster answers here: {reason}"))
        .next("trilith status")
}
