//! Transactions go on while the primary fails over again and again, and nobody sees more than one
//! PostgreSQL that nothing happens to would show: Elle's list-append workload.
//!
//! `TRILITH_FAILOVERS`: how many of them, 3 unless given. `TRILITH_SEED`: which faults, in which order,
//! with which pauses, and what the transactions do.

#![allow(clippy::print_stderr)]

use std::collections::BTreeMap;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use trilith_e2e::lists::{Clients, History, Isolation, Options, Stage, read_all};
use trilith_e2e::{Demo, DemoOptions, Kill, Process, Random, Sql, eventually};

/// Until everything is whole again after a fault.
const PATIENCE: Duration = Duration::from_secs(90);
const CLIENTS: [(Isolation, usize); 2] =
    [(Isolation::ReadCommitted, 6), (Isolation::Serializable, 4)];
/// Not every fault ends in a failover: a PostgreSQL that hangs is started again where it is.
const FAULTS_PER_FAILOVER_MAX: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    KillPostgres,
    KillAgent,
    KillServer,
    Hang,
    HangPostgres,
    Switchover,
}

const FAULTS: [Fault; 6] = [
    Fault::KillPostgres,
    Fault::KillAgent,
    Fault::KillServer,
    Fault::Hang,
    Fault::HangPostgres,
    Fault::Switchover,
];

#[test]
fn failovers_show_no_anomaly() -> Result<()> {
    let number = |name: &str, default: u64| {
        let given = std::env::var(name).ok();
        given.and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let failovers = usize::try_from(number("TRILITH_FAILOVERS", 3))?.clamp(1, 1_000);
    let seed = number("TRILITH_SEED", 1);
    eprintln!("{failovers} failovers, TRILITH_SEED={seed}");

    let mut demo = Demo::start(DemoOptions::default())?;
    demo.await_standing(PATIENCE)?;
    let servers = demo.servers()?;
    let places = servers.iter().map(|server| demo.entry(server));
    let places: Vec<String> = places.collect::<Result<_>>()?;
    let start = |(isolation, clients)| {
        Clients::start(Options {
            isolation,
            places: places.clone(),
            clients,
            seed,
        })
    };
    let clients: Vec<Clients> = CLIENTS.into_iter().map(start).collect::<Result<_>>()?;
    let work_is_done = |clients: &[Clients], transactions: usize| {
        let goals: Vec<usize> = clients
            .iter()
            .map(|c| c.committed() + transactions)
            .collect();
        eventually("transactions are committed", PATIENCE, || {
            let enough = clients
                .iter()
                .zip(&goals)
                .all(|(c, goal)| c.committed() >= *goal);
            ensure!(enough, "not so many");
            Ok(())
        })
    };

    work_is_done(&clients, 20)?;
    let mut random = Random::new(seed);
    let mut bag = Vec::new();
    let mut done = 0;
    let mut faults: BTreeMap<String, usize> = BTreeMap::new();
    let began = Instant::now();
    while done < failovers {
        let held: usize = faults.values().sum();
        ensure!(
            held < failovers * FAULTS_PER_FAILOVER_MAX,
            "{held} faults, and only {done} failovers: {faults:?}"
        );
        if bag.is_empty() {
            bag = FAULTS.to_vec();
        }
        let fault = bag.swap_remove(usize::try_from(random.below(bag.len() as u64))?);
        let before = reign(&demo)?;
        fault
            .strike(&mut demo, &before.0, &mut random)
            .with_context(|| format!("{fault} at {}", before.0))?;
        demo.await_standing(PATIENCE)
            .with_context(|| format!("after {fault} at {}", before.0))?;
        done += usize::from(reign(&demo)? != before);
        *faults.entry(fault.to_string()).or_default() += 1;
        work_is_done(&clients, 5)?;
    }
    eprintln!("{done} failovers in {:.0?} by {faults:?}", began.elapsed());

    for (clients, (isolation, _)) in clients.into_iter().zip(CLIENTS) {
        let (history, lists) = clients.stop()?;
        demo.await_standing(PATIENCE)?;
        let count = |stage| history.count(stage);
        eprintln!(
            "{isolation:?}: {} transactions, {} committed, {} refused or lost before their commit, {} unknown",
            count(Stage::Invoked),
            count(Stage::Committed),
            count(Stage::Aborted),
            count(Stage::Unknown),
        );
        for server in &servers {
            let there = read_all(&Sql::connect(&demo.postgres(server)?)?, isolation)?;
            ensure!(there == lists, "{server} has other lists than the primary");
        }
        let faults = history.faults(isolation, &lists);
        ensure!(
            faults.is_empty(),
            "{isolation:?}, TRILITH_SEED={seed}: {} faults, the first: {}\nthe history is {}",
            faults.len(),
            faults[0],
            kept(&history)?
        );
    }
    demo.stop()
}

/// The primary, and the timeline it writes on.
fn reign(demo: &Demo) -> Result<(String, String)> {
    eventually("there is a primary", PATIENCE, || {
        let file = demo
            .sql()?
            .value("SELECT pg_walfile_name(pg_current_wal_lsn())")?;
        let timeline = file.get(..8).context("no timeline")?;
        Ok((demo.primary()?, timeline.to_owned()))
    })
}

/// Writes it where somebody can look at it, for `adya check`.
fn kept(history: &History) -> Result<String> {
    let name = format!("trilith-history-{}.jsonl", std::process::id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, history.json_lines())?;
    Ok(file.display().to_string())
}

impl Fault {
    /// Breaks it and mends it.
    fn strike(self, demo: &mut Demo, primary: &str, random: &mut Random) -> Result<()> {
        let mut wait = |from_ms: u64, to_ms: u64| {
            let time = from_ms + random.below(to_ms - from_ms);
            thread::sleep(Duration::from_millis(time));
        };
        match self {
            Self::KillPostgres => demo.kill_postgres(primary),
            Self::KillAgent | Self::KillServer => {
                let what = match self {
                    Self::KillAgent => Kill::Agent,
                    _ => Kill::Everything,
                };
                demo.kill(primary, what)?;
                wait(100, 5_000);
                demo.run_server(primary)
            }
            Self::Hang => {
                let pid = demo.pid(primary)?;
                Process::signal(pid, Signal::SIGSTOP)?;
                wait(1_500, 5_000);
                Process::signal(pid, Signal::SIGCONT)
            }
            Self::HangPostgres => {
                let processes = demo.postgres_processes(primary)?;
                for &pid in &processes {
                    Process::signal(pid, Signal::SIGSTOP)?;
                }
                wait(1_500, 7_000);
                for &pid in &processes {
                    Process::signal(pid, Signal::SIGCONT)?;
                }
                Ok(())
            }
            Self::Switchover => {
                let done = demo.db(&["switchover"])?;
                if done.code != Some(0) {
                    // Somebody else may have trouble right now; that it works is shown elsewhere.
                    eprintln!("a switchover came to nothing: {}", done.stderr.trim_end());
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KillPostgres => "kill -9 of PostgreSQL",
            Self::KillAgent => "kill -9 of the agent",
            Self::KillServer => "kill -9 of everything",
            Self::Hang => "SIGSTOP of the agent",
            Self::HangPostgres => "SIGSTOP of PostgreSQL",
            Self::Switchover => "switchover",
        })
    }
}
