//! `trilith status`.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use trilith_config::{Config, Server};
use trilith_monitor::api::{ClusterStatus, SCHEMA};

use crate::admin;
use crate::args::{Status, Where};
use crate::config_file::{self, Warnings};
use crate::failure::{Failure, Outcome, UNHEALTHY};
use crate::reach::Reach;
use crate::render;
use crate::terminal::{self, InPlace};

const REFRESH: Duration = Duration::from_secs(1);

pub fn run(args: &Status) -> Outcome {
    let place = Where {
        dir: args.dir.clone(),
        config: args.config.clone(),
    };
    let path = admin::config_path(&place)?;
    let config = config_file::load(&path, Warnings::Hide)?;
    if args.watch {
        show_forever(&config, args.json, || false);
        return Ok(());
    }
    let status = ask_cluster(&config).map_err(|reason| {
        let failure = Failure::failed(format!("no server of this cluster answers here: {reason}"));
        match &args.dir {
            Some(dir) => failure.next(format!("trilith demo --dir {}", dir.display())),
            None => failure.next(format!(
                "trilith run --config {} --server NAME",
                path.display()
            )),
        }
    })?;
    show(&status, args.json);
    if status.is_healthy() {
        Ok(())
    } else {
        Err(Failure::silent(UNHEALTHY))
    }
}

fn show(status: &ClusterStatus, json: bool) {
    if json {
        // The types hold nothing that JSON could not.
        let text = serde_json::to_string_pretty(status).unwrap_or_default();
        terminal::data(&format!("{text}\n"));
    } else {
        // The stream takes the colours out where there is no terminal.
        terminal::data(&render::status(status, true));
    }
}

/// Shows the status every second until `stop` says so: in place on a terminal, else a line whenever
/// something changes.
pub fn show_forever(config: &Config, json: bool, mut stop: impl FnMut() -> bool) {
    let in_place = terminal::stdout_is_terminal() && !json;
    let mut block = InPlace::default();
    let mut last = String::new();
    while !stop() {
        let status = ask_cluster(config);
        match (&status, in_place) {
            (Ok(status), _) if json => {
                let text = serde_json::to_string(status).unwrap_or_default();
                terminal::data(&format!("{text}\n"));
            }
            (Ok(status), true) => block.show(&render::status(status, true)),
            (Err(reason), true) => block.show(&format!("no server answers: {reason}\n")),
            (status, false) => {
                let line = match status {
                    Ok(status) => render::one_line(status),
                    Err(reason) => format!("no server answers: {reason}"),
                };
                if line != last {
                    terminal::data(&format!("{line}\n"));
                    last = line;
                }
            }
        }
        let mut waited = Duration::ZERO;
        while waited < REFRESH && !stop() {
            thread::sleep(REFRESH / 10);
            waited += REFRESH / 10;
        }
    }
}

/// Asks the servers that can be reached from here, the first that answers wins. `Err` says why none
/// did.
pub fn ask_cluster(config: &Config) -> Result<ClusterStatus, String> {
    let reach = Reach::of(config);
    let mut reason = String::new();
    for (server, address) in reach.admin_ports(config) {
        match ask(&reach, server, address) {
            Ok(status) if status.cluster == config.cluster.name.as_str() => return Ok(status),
            Ok(status) => reason = format!("{address} belongs to the cluster {}", status.cluster),
            Err(error) if reason.is_empty() => reason = format!("{address}: {error}"),
            Err(_) => {}
        }
    }
    Err(reason)
}

fn ask(reach: &Reach, server: &Server, address: SocketAddr) -> Result<ClusterStatus, String> {
    let answer = reach
        .get_admin(server, address, "/api/v1/status")
        .map_err(|error| error.to_string())?;
    let status: ClusterStatus = serde_json::from_slice(&answer.body)
        .map_err(|_| format!("an answer that is no status (HTTP {})", answer.status))?;
    if status.schema > SCHEMA {
        return Err(format!(
            "it speaks schema {}, this program {SCHEMA}: use its version of trilith",
            status.schema
        ));
    }
    Ok(status)
}
