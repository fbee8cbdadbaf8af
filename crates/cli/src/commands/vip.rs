//! `trilith vip`.

use std::thread;
use std::time::{Duration, Instant};

use trilith_monitor::api::{ClusterStatus, FloatingAddress, MoveRequest};

use crate::admin;
use crate::args::VipCommand;
use crate::commands::ask_cluster;
use crate::config_file::{self, Warnings};
use crate::failure::{Failure, Outcome, UNHEALTHY};
use crate::render;
use crate::terminal;

/// How long the address may take to arrive; it takes about a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(15);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

pub fn run(command: VipCommand) -> Outcome {
    match command {
        VipCommand::Status { place, json } => {
            let path = admin::config_path(&place)?;
            let config = config_file::load(&path, Warnings::Hide)?;
            let status = ask_cluster(&config).map_err(no_answer)?;
            show(&status, json);
            let missing = |address: &FloatingAddress| {
                address.mode != "none" && (address.holder.is_none() || address.orphan)
            };
            match status.floating_addresses.iter().any(missing) {
                true => Err(Failure::silent(UNHEALTHY)),
                false => Ok(()),
            }
        }
        VipCommand::Move {
            server,
            address,
            place,
            json,
        } => move_to(&admin::local(&place)?, server, address, json),
    }
}

fn show(status: &ClusterStatus, json: bool) {
    if !json {
        return terminal::data(&render::addresses(status, true));
    }
    let parts: Vec<_> = status
        .servers
        .iter()
        .map(|server| serde_json::json!({ "server": server.name, "addresses": server.addresses }))
        .collect();
    let all = serde_json::json!({
        "schema": 1, "addresses": status.floating_addresses, "servers": parts,
    });
    terminal::data(&format!("{all:#}\n"));
}

fn move_to(local: &admin::Local, server: String, address: Option<String>, json: bool) -> Outcome {
    let request = MoveRequest {
        address: address.clone(),
        server: server.clone(),
    };
    let body = serde_json::to_value(&request).map_err(Failure::failed)?;
    let begin = Instant::now();
    let changed = local.call("POST", "/v1/vip/move", Some(&body))?["changed"] == true;
    loop {
        let status = ask_cluster(&local.config).map_err(no_answer)?;
        if holds(&status, address.as_deref(), &server) {
            break;
        }
        if begin.elapsed() >= PATIENCE {
            return Err(Failure::failed(format!(
                "{server} has not taken it within {} s; it does as soon as it can",
                PATIENCE.as_secs()
            ))
            .next("trilith vip status"));
        }
        thread::sleep(POLL_INTERVAL);
    }
    if json {
        let done = serde_json::json!({ "schema": 1, "holder": server, "changed": changed });
        terminal::data(&format!("{done}\n"));
    } else if changed {
        terminal::data(&format!("{server} holds it now\n"));
    } else {
        terminal::data(&format!("{server} held it already\n"));
    }
    Ok(())
}

fn holds(status: &ClusterStatus, address: Option<&str>, server: &str) -> bool {
    let mut asked = status
        .floating_addresses
        .iter()
        .filter(|floating| address.is_none_or(|address| floating.address == address));
    asked.any(|floating| floating.holder.as_deref() == Some(server))
}

fn no_answer(reason: String) -> Failure {
    Failure::failed(format!("no server of this cluster answers here: {reason}"))
        .next("trilith status")
}
