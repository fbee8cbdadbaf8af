//! `trilith demo`: a whole cluster on this machine, of real server processes.

mod place;
mod plan;
mod ports;
mod progress;
mod servers;
mod signals;
mod stop;

use std::path::Path;
use std::time::{Duration, Instant};

use trilith_config::Config;

use crate::args::DemoStart;
use crate::commands::show_forever;
use crate::config_file::{self, Warnings};
use crate::failure::{Failure, Outcome, at};
use crate::lab::{self, Lab};
use crate::reach::Reach;
use crate::terminal;
pub use place::Place;
pub use servers::spawn_one;
pub use signals::Signals;

use plan::Plan;
use progress::{Progress, Readiness};
use servers::Servers;

/// The config file in the demo's folder.
pub const CONFIG_FILE: &str = "trilith.toml";
/// What that file begins with.
pub const DEMO_MARK: &str = "# Written by `trilith demo` at each start";
/// With `--detach`, how long the site may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Starts a demo and shows it until Ctrl-C; with `--detach` returns when the site answers.
pub fn start(args: DemoStart) -> Outcome {
    // First of all, so that a Ctrl-C at any time from here on ends in an orderly way.
    let signals = Signals::listen().map_err(Failure::failed)?;
    plan::check(&args)?;
    let place = Place::prepare(&args.dir)?;
    let _lock = place.lock()?;
    if let Some(names) = stop::running(&place.state)? {
        return Err(Failure::failed(format!(
            "a demo is already running in {} ({})",
            args.dir.display(),
            names.join(", ")
        ))
        .next(stop_command(&args.dir)));
    }
    let code = place::code_base(args.code.as_deref())?;
    stop::clean_up_after_last_time(&place.state)?;
    let mut plan = Plan::new(&args, &place, code)?;
    if !plan.lab {
        // The namespaces of a lab are new: nothing listens there.
        ports::settle(&mut plan)?;
    }
    let config = write_config(&place, &plan)?;
    trilith_node::secrets::create(&config).map_err(Failure::failed)?;
    let lab = match plan.lab {
        true => Some(build_lab(&place, &plan)?),
        false => None,
    };
    let reach = Reach {
        lab: lab.as_ref().map(|built| built.lab.clone()),
    };

    terminal::say(&format!(
        "starting {} servers in {} (logs: {}/SERVER/log/)",
        config.servers.len(),
        args.dir.display(),
        args.dir.display(),
    ));
    let mut servers = Servers::spawn(&place, &config, reach.clone())?;
    let timeout = args.detach.then_some(START_TIMEOUT);
    match wait_until_it_answers(&mut servers, &config, &reach, &signals, timeout) {
        Start::Answers => {}
        Start::Interrupted => {
            servers.stop(&config, &signals)?;
            return Err(Failure::failed("interrupted before the site answered"));
        }
        Start::Failed { server, reason } => {
            let log = server
                .map(|name| servers.log_tail(&name))
                .unwrap_or_default();
            servers.stop(&config, &signals)?;
            for line in log {
                terminal::say(&format!("  {line}"));
            }
            return Err(Failure::failed(reason).next(format!(
                "trilith demo --dir {}   (again, when the cause is gone)",
                args.dir.display()
            )));
        }
    }
    print_urls(&plan, &place, &reach);
    if args.detach {
        terminal::say(&format!(
            "it runs in the background; {}",
            stop_hint(&args.dir)
        ));
        servers.leave_running();
        if let Some(lab) = lab {
            lab.keep();
        }
        return Ok(());
    }
    terminal::say("Ctrl-C stops it");
    show_forever(&config, false, || signals.count() > 0);
    servers.stop(&config, &signals)
}

/// Stops the demo of a folder, whoever started it.
pub fn stop(dir: &Path) -> Outcome {
    let signals = Signals::listen().map_err(Failure::failed)?;
    stop::stop(dir, &signals)
}

enum Start {
    Answers,
    Interrupted,
    Failed {
        server: Option<String>,
        reason: String,
    },
}

fn wait_until_it_answers(
    servers: &mut Servers,
    config: &Config,
    reach: &Reach,
    signals: &Signals,
    timeout: Option<Duration>,
) -> Start {
    let begin = Instant::now();
    let mut progress = Progress::new(config);
    loop {
        if signals.count() > 0 {
            return Start::Interrupted;
        }
        if let Some((name, how)) = servers.ended() {
            return Start::Failed {
                reason: format!(
                    "the server {name} ended ({how}); its log ends with the lines above"
                ),
                server: Some(name),
            };
        }
        match progress.poll(config, reach) {
            Readiness::Ready => return Start::Answers,
            Readiness::Failing { server, why } => {
                return Start::Failed {
                    reason: format!("{server}: {why}"),
                    server: Some(server),
                };
            }
            Readiness::Waiting { server, why } => {
                if timeout.is_some_and(|timeout| begin.elapsed() >= timeout) {
                    return Start::Failed {
                        reason: format!(
                            "the site does not answer after {} s: {why}",
                            begin.elapsed().as_secs()
                        ),
                        server: server
                            .or_else(|| config.servers.first().map(|s| s.name.to_string())),
                    };
                }
            }
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn write_config(place: &Place, plan: &Plan) -> Outcome<Config> {
    let path = place.state.join(CONFIG_FILE);
    // Whole or not at all: `status` may be reading it.
    let temporary = path.with_extension("toml.new");
    std::fs::write(&temporary, plan.config_text()).map_err(at(&temporary))?;
    std::fs::rename(&temporary, &path).map_err(at(&path))?;
    config_file::load(&path, Warnings::Show)
}

/// On whatever way this process ends but SIGKILL, the lab goes with it.
fn build_lab(place: &Place, plan: &Plan) -> Outcome<lab::Built> {
    let names = plan.servers.iter().map(|(name, _)| (*name).to_owned());
    let addresses: Vec<_> = plan.servers.iter().map(|(_, address)| *address).collect();
    Lab::of_folder(&place.state, names).build(&place.state, &addresses)
}

fn print_urls(plan: &Plan, place: &Place, reach: &Reach) {
    terminal::say(&format!("{} answers:", plan.host()));
    terminal::data(&format!("{}\n{}\n", plan.http_url(), plan.https_url()));
    if let Some(client) = reach.namespace(None) {
        terminal::say(&format!(
            "its users are in a network namespace: ip netns exec {client} curl {}",
            plan.http_url()
        ));
    }
    terminal::say(&format!(
        "each server answers on its own address too: {}",
        plan.server_urls().join(" ")
    ));
    terminal::say(&format!(
        "HTTPS is signed by the demo's own CA: {}",
        place.dir.join("secrets/ca.crt").display()
    ));
}

fn stop_command(dir: &Path) -> String {
    format!("trilith demo stop --dir {}", dir.display())
}

fn stop_hint(dir: &Path) -> String {
    format!("stop it with: {}", stop_command(dir))
}
