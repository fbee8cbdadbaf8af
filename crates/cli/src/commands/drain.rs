//! `trilith drain` and `trilith undrain`.

use std::thread;
use std::time::{Duration, Instant};

use trilith_monitor::api::{ClusterStatus, DrainRequest, ServerState};

use crate::admin;
use crate::args::DrainArgs;
use crate::commands::ask_cluster;
use crate::failure::{Failure, Outcome};
use crate::terminal;

const PATIENCE: Duration = Duration::from_secs(15);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

pub fn run(args: &DrainArgs, drain: bool) -> Outcome {
    let local = admin::local(&args.place)?;
    let request = DrainRequest {
        server: args.server.clone(),
        drain,
    };
    let body = serde_json::to_value(&request).map_err(Failure::failed)?;
    let changed = local.call("POST", "/v1/drain", Some(&body))?["changed"] == true;
    let begin = Instant::now();
    while !followed(&ask_cluster(&local.config), &args.server, drain) {
        if begin.elapsed() >= PATIENCE {
            return Err(Failure::failed(format!(
                "{} was told, but has not followed within {} s",
                args.server,
                PATIENCE.as_secs()
            ))
            .next("trilith status"));
        }
        thread::sleep(POLL_INTERVAL);
    }
    if args.json {
        let done = serde_json::json!({
            "schema": 1, "server": args.server, "drained": drain, "changed": changed,
        });
        terminal::data(&format!("{done}\n"));
    } else {
        let what = match (drain, changed) {
            (true, true) => "holds no address and gets no requests any more",
            (true, false) => "was drained already",
            (false, true) => "is in use again",
            (false, false) => "was not drained",
        };
        terminal::data(&format!("{} {what}\n", args.server));
    }
    Ok(())
}

/// A server that does not answer follows when it is back.
fn followed(status: &Result<ClusterStatus, String>, server: &str, drain: bool) -> bool {
    let Ok(status) = status else {
        return false;
    };
    status.server(server).is_some_and(|server| {
        let holds = server.addresses.iter().any(|address| address.is_up());
        match server.state {
            ServerState::Down => true,
            state => (state == ServerState::Draining) == drain && !(drain && holds),
        }
    })
}
