//! The course of a drill.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use trilith_config::Config;
use trilith_monitor::api::{ServerState, ServerStatus};

use super::args::Arguments;
use super::fault::{Fault, Standing};
use super::load::{self, Load};
use super::report::{Facts, Report};
use super::watch::Watch;
use super::{QUIET, RECOVERY, sql_run};
use crate::commands::ask_cluster;
use crate::config_file::{self, Warnings};
use crate::demo::{CONFIG_FILE, DEMO_MARK, Place, Signals, spawn_one};
use crate::failure::{FAILED, Failure, Outcome};
use crate::reach::Reach;
use crate::terminal;

const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// A server that dies again and again is not started for ever.
const STARTS_MAX: usize = 5;

/// Holds a drill and prints its report.
pub fn run(args: &Arguments) -> Outcome {
    if !args.url.is_empty() {
        return sql_run::without_fault(args);
    }
    if args.lasts > Arguments::FAULT_MAX {
        return Err(Failure::usage("a fault lasts up to 60s").next("--for 60s"));
    }
    if args.primary {
        return sql_run::with_fault(args);
    }
    let signals = Signals::listen().map_err(Failure::failed)?;
    let (state, config) = demo_of(&args.dir)?;
    let reach = Reach::of_folder(&state);
    let address = config
        .floating_address()
        .ok_or_else(|| Failure::failed("this demo has no floating address"))?;
    ready_before(&config, &args.dir)?;

    let begin = Instant::now();
    let watch = Watch::start(&config, &reach, address, begin)?;
    let standing = Standing {
        holder: Some(holder(&watch, &config)?),
        primary: primary_of(&config),
    };
    let fault = Fault::new(args, &config, &reach, &standing)?;
    let load = Load::start(load_options(args, &config, &reach, address, begin)?)?;
    let pause = |time: Duration| sleep(&signals, time);

    terminal::say(&format!("{} requests a second to {address}", args.rate));
    pause(QUIET)?;
    if load.failed() > 0 {
        let failed = load.failed();
        return Err(Failure::failed(format!(
            "{failed} requests failed before anything was broken"
        ))
        .next(format!("trilith status --dir {}", args.dir.display())));
    }
    let what = fault.describe(&standing);
    let injected = begin.elapsed();
    let injury = fault.inject(&state)?;
    terminal::say(&format!("now: {what}"));
    let waited = pause(args.lasts);
    // Whatever happened: first of all it is undone.
    let undone = injury.undo();
    let healed = begin.elapsed();
    let mut again = Again::new(&state, &config, &reach);
    again.start_the_dead()?;
    undone?;
    waited?;
    terminal::say("repaired; waiting until every server is ready again");
    let recovered = wait_until_ready(&mut again, &signals, begin)?;
    pause(QUIET)?;

    let ended = begin.elapsed();
    let requests = load.stop()?;
    let report = Report::new(Facts {
        fault: what,
        servers: config.servers.iter().map(|s| s.name.to_string()).collect(),
        rate: args.rate,
        injected,
        healed,
        recovered,
        ended,
        requests,
        changes: watch.stop()?,
        out_of_reach: fault
            .out_of_reach()
            .and_then(|name| config.servers.iter().position(|s| s.name.as_str() == name)),
    });
    match args.json {
        true => terminal::data(&format!("{:#}\n", report.json())),
        false => terminal::data(&report.text()),
    }
    match report.broken.is_empty() {
        true => Ok(()),
        false => Err(Failure::silent(FAILED)),
    }
}

/// The folder's state and config. Nothing but a demo is ever drilled.
pub(super) fn demo_of(dir: &Path) -> Outcome<(std::path::PathBuf, Config)> {
    let start = format!("trilith demo --dir {} --detach", dir.display());
    let no_demo = || {
        Failure::usage(format!(
            "{} is not the folder of a demo, and only demos are drilled now",
            dir.display()
        ))
        .next(&start)
    };
    let place = Place::existing(dir)?.ok_or_else(no_demo)?;
    let path = place.state.join(CONFIG_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) if text.starts_with(DEMO_MARK) => {}
        _ => return Err(no_demo()),
    }
    let config = config_file::load(&path, Warnings::Hide)?;
    Ok((place.state, config))
}

pub(super) fn ready_before(config: &Config, dir: &Path) -> Outcome {
    let status = ask_cluster(config).map_err(|reason| {
        Failure::failed(format!("no server of this demo answers: {reason}"))
            .next(format!("trilith demo --dir {} --detach", dir.display()))
    })?;
    match status.is_healthy() {
        true => Ok(()),
        false => Err(
            Failure::failed("not everything is healthy before anything is broken")
                .next(format!("trilith status --dir {}", dir.display())),
        ),
    }
}

/// The database primary's server, as the first server that answers says.
pub(super) fn primary_of(config: &Config) -> Option<String> {
    ask_cluster(config).ok()?.database?.primary
}

fn holder(watch: &Watch, config: &Config) -> Outcome<String> {
    match watch.holders().as_slice() {
        [one] => Ok(config
            .servers
            .get(*one)
            .map(|server| server.name.to_string())
            .unwrap_or_default()),
        [] => Err(Failure::failed("nobody holds the floating address").next("trilith vip status")),
        _ => {
            Err(Failure::failed("several servers hold the floating address")
                .next("trilith vip status"))
        }
    }
}

fn load_options(
    args: &Arguments,
    config: &Config,
    reach: &Reach,
    address: IpAddr,
    begin: Instant,
) -> Outcome<load::Options> {
    let host = config.sites.first().map(|site| site.host.to_string());
    if !args.path.starts_with('/') || args.path.bytes().any(|byte| byte <= b' ') {
        return Err(Failure::usage(format!("{:?} is not a path", args.path)).next("--path /"));
    }
    Ok(load::Options {
        namespace: reach.namespace(None),
        to: SocketAddr::new(address, config.ports.http),
        host: host.unwrap_or_else(|| address.to_string()),
        path: args.path.clone(),
        rate: args.rate,
        begin,
    })
}

pub(super) fn sleep(signals: &Signals, time: Duration) -> Outcome {
    let begin = Instant::now();
    while begin.elapsed() < time {
        if signals.count() > 0 {
            return Err(Failure::failed("interrupted; what was broken is repaired"));
        }
        thread::sleep((time.saturating_sub(begin.elapsed())).min(POLL_INTERVAL));
    }
    Ok(())
}

/// When every server was ready again; `None` when that took too long.
pub(super) fn wait_until_ready(
    again: &mut Again<'_>,
    signals: &Signals,
    begin: Instant,
) -> Outcome<Option<Duration>> {
    let since = Instant::now();
    while since.elapsed() < RECOVERY {
        if again.all_ready() && ask_cluster(again.config).is_ok_and(|status| status.is_healthy()) {
            return Ok(Some(begin.elapsed()));
        }
        again.start_the_dead()?;
        sleep(signals, POLL_INTERVAL)?;
    }
    Ok(None)
}

/// Starts what is dead, as a service manager does.
pub(super) struct Again<'a> {
    state: &'a Path,
    config: &'a Config,
    reach: &'a Reach,
    started: Vec<(String, Child)>,
}

impl<'a> Again<'a> {
    pub(super) fn new(state: &'a Path, config: &'a Config, reach: &'a Reach) -> Self {
        Self {
            state,
            config,
            reach,
            started: Vec::new(),
        }
    }

    pub(super) fn start_the_dead(&mut self) -> Outcome {
        for server in &self.config.servers {
            let name = server.name.as_str();
            let run_dir = self.state.join(name).join("run");
            let mut ours = self.started.iter_mut().filter(|(n, _)| n == name);
            // One that was just started has no lock yet.
            let begins = ours.any(|(_, child)| matches!(child.try_wait(), Ok(None)));
            if begins || !matches!(trilith_node::pidfile::holder(&run_dir), Ok(None)) {
                continue;
            }
            if self.started.len() >= STARTS_MAX {
                return Err(Failure::failed(format!(
                    "{name} ends again and again; its log is {}",
                    self.state.join(name).join("log/trilith.log").display()
                )));
            }
            terminal::say(&format!("{name} does not run: started again"));
            let child = spawn_one(self.state, self.reach, name)?;
            self.started.push((name.to_owned(), child));
        }
        Ok(())
    }

    fn all_ready(&self) -> bool {
        self.config.servers.iter().all(|server| {
            let admin = SocketAddr::new(server.loopback(), self.config.ports.admin);
            let answer = self.reach.get_admin(server, admin, "/v1/server").ok();
            answer
                .and_then(|answer| serde_json::from_slice::<ServerStatus>(&answer.body).ok())
                .is_some_and(|status| {
                    status.name == server.name.as_str() && status.state == ServerState::Ready
                })
        })
    }
}
