//! The order of turns: round by round, so that what changes on the machine changes for all.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::fcntl::{Flock, FlockArg};

use crate::cluster::Cluster;
use crate::drill::{Drill, now_unix_ms};
use crate::fault::Fault;
use crate::lab;
use crate::patroni::Patroni;
use crate::report::{System, Turn};
use crate::signals::Signals;
use crate::trilith::Trilith;

/// Load without a fault, before it and after everything is well again.
const QUIET: Duration = Duration::from_secs(2);
/// For everything to be well again after the repair.
pub const RECOVERY_PATIENCE: Duration = Duration::from_secs(180);

pub struct Settings {
    pub binary: PathBuf,
    pub venv: PathBuf,
    pub rounds: usize,
    pub systems: Vec<System>,
    pub faults: Vec<Fault>,
    pub journal: PathBuf,
}

pub fn run(settings: &Settings, signals: &Signals) -> Result<Vec<Turn>> {
    if let Some(folder) = settings.journal.parent() {
        fs::create_dir_all(folder)?;
    }
    let journal = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&settings.journal)
        .with_context(|| settings.journal.display().to_string())?;
    // Whoever has it runs; what another one left is only removed when that one is dead.
    let mut journal = Flock::lock(journal, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, errno)| errno)
        .context("another bench of failover runs")?;
    journal.set_len(0)?;
    lab::remove_left_behind(&settings.journal.with_extension("namespaces"))?;
    let mut turns = Vec::new();
    for round in 0..settings.rounds {
        let mut order = settings.systems.clone();
        let first = round % order.len();
        order.rotate_left(first);
        let mut faults = settings.faults.clone();
        let first = round % faults.len();
        faults.rotate_left(first);
        for system in order {
            // One cluster at a time: an idle one would cost the other its time.
            let mut cluster: Option<Box<dyn Cluster>> = None;
            for fault in &faults {
                signals.check()?;
                let mut running = match cluster.take() {
                    Some(cluster) => cluster,
                    None => {
                        eprintln!("round {}: starting {}", round + 1, system.as_str());
                        start(settings, system)?
                    }
                };
                let turn = turn(settings, signals, &mut *running, system, *fault, round)?;
                eprintln!("  {}", turn.line());
                writeln!(journal, "{}", turn.json())?;
                // After a turn that did not end well, the next one begins with another cluster.
                if turn.problem.is_none() {
                    cluster = Some(running);
                }
                turns.push(turn);
            }
        }
    }
    Ok(turns)
}

fn start(settings: &Settings, system: System) -> Result<Box<dyn Cluster>> {
    Ok(match system {
        System::Trilith => Box::new(Trilith::start(&settings.binary)?),
        variant => Box::new(Patroni::start(&settings.venv, variant)?),
    })
}

/// One fault. What goes wrong is told in the turn; an error ends the run.
fn turn(
    settings: &Settings,
    signals: &Signals,
    cluster: &mut dyn Cluster,
    system: System,
    fault: Fault,
    round: usize,
) -> Result<Turn> {
    let mut turn = Turn::new(system, fault, round);
    match attempt(settings, signals, cluster, &mut turn) {
        Ok(()) => {}
        Err(error) => {
            // A Ctrl-C is no result.
            signals.check()?;
            turn.problem = Some(format!("{error:#}"));
        }
    }
    Ok(turn)
}

fn attempt(
    settings: &Settings,
    signals: &Signals,
    cluster: &mut dyn Cluster,
    turn: &mut Turn,
) -> Result<()> {
    let (system, fault) = (turn.system, turn.fault);
    wait_until_ready(cluster, signals).context("before the fault")?;
    let primary = cluster.primary()?;
    let mut drill = Drill::start(&settings.binary, &cluster.entries()?, &cluster.direct()?)?;
    pause(signals, QUIET)?;
    let injected = now_unix_ms()?;
    let broken = fault.inject(cluster, &primary);
    let waited = pause(signals, fault.lasts(system));
    // Whatever happened: it is mended.
    fault.mend(cluster, &primary)?;
    broken?;
    waited?;
    let recovered = wait_until_ready(cluster, signals);
    pause(signals, QUIET)?;
    ensure!(!drill.has_ended(), "the load ended by itself");
    turn.seen = Some(drill.finish(injected)?);
    recovered.context("after the repair")
}

fn wait_until_ready(cluster: &mut dyn Cluster, signals: &Signals) -> Result<()> {
    let begin = Instant::now();
    loop {
        signals.check()?;
        match cluster.ready() {
            Ok(()) => return Ok(()),
            Err(error) if begin.elapsed() > RECOVERY_PATIENCE => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(200)),
        }
    }
}

fn pause(signals: &Signals, time: Duration) -> Result<()> {
    let begin = Instant::now();
    while begin.elapsed() < time {
        signals.check()?;
        thread::sleep(Duration::from_millis(20).min(time));
    }
    Ok(())
}
