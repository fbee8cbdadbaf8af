//! Purpose: breaks Trilith and Patroni in the same ways under the same load, and writes the section
//!   about failover of `bench/RESULTS.md`.
//! Box in the picture: none; it stands where the applications and bad luck would stand.
//! Invariants: the load is that of `trilith drill --url` for all of them; the faults are injected by
//!   the same code; only processes inside of namespaces made here are ever signalled; nothing of it is
//!   left when it ends.
//! Start reading at: [`course`] for the order of turns, [`cluster`] for what is measured.
//! Tested by: the `tests` modules; every turn checks that all is well before and after.
#![forbid(unsafe_code)]
// A measuring tool talks to the terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod cluster;
mod course;
mod drill;
mod fault;
mod http;
mod lab;
#[path = "../machine.rs"]
#[allow(dead_code)]
mod machine;
mod patroni;
mod report;
#[path = "../section.rs"]
mod section;
#[path = "../signals.rs"]
mod signals;
mod trilith;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use crate::course::Settings;
use crate::fault::Fault;
use crate::report::System;

/// Trilith and Patroni under the same faults: time without writes, writes lost, two primaries at once.
#[derive(Parser)]
#[command(name = "trilith-bench-failover", version)]
struct Args {
    /// The `trilith` program to measure; its `drill --url` is the load for all
    #[arg(long, default_value = "target/release/trilith")]
    binary: PathBuf,
    /// A virtual environment of Python with Patroni in it
    #[arg(long, default_value = "target/bench/patroni")]
    venv: PathBuf,
    /// Rounds; each injects every fault once into every system
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Only these systems (the result is printed, not written)
    #[arg(long, value_delimiter = ',', value_enum)]
    systems: Vec<System>,
    /// Only these faults (the result is printed, not written)
    #[arg(long, value_delimiter = ',', value_enum)]
    faults: Vec<Fault>,
    /// Where the section goes
    #[arg(long, default_value = "bench/RESULTS.md")]
    output: PathBuf,
    /// Every turn, one JSON object a line, as soon as it is over
    #[arg(long, default_value = "target/bench/failover.jsonl")]
    journal: PathBuf,
    /// No turns: the table of the turns in these journals. Several are those of benches that ran at the
    /// same time
    #[arg(long, value_name = "JOURNAL", value_delimiter = ',')]
    report_of: Vec<PathBuf>,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("\nerror: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    ensure!(
        (1..=1_000).contains(&args.rounds),
        "--rounds must be 1 to 1000"
    );
    let everything = args.systems.is_empty() && args.faults.is_empty();
    let settings = Settings {
        binary: args.binary,
        venv: args.venv,
        rounds: args.rounds,
        systems: match args.systems.is_empty() {
            true => System::ALL.to_vec(),
            false => args.systems,
        },
        faults: match args.faults.is_empty() {
            true => Fault::ALL.to_vec(),
            false => args.faults,
        },
        journal: args.journal,
    };
    let at_once = args.report_of.len() > 1;
    let turns = match args.report_of.as_slice() {
        journals @ [_, ..] => report::read(journals)?,
        [] => {
            if !nix::unistd::Uid::effective().is_root() {
                bail!("the servers are network namespaces, and making those needs root");
            }
            let signals = signals::Signals::block()?;
            lab::remove_on_panic();
            course::run(&settings, &signals)?
        }
    };
    print!("{}", report::table(&turns));
    if !everything {
        eprintln!("not written to a file: that takes every system and every fault");
        return Ok(());
    }
    let old = std::fs::read_to_string(&args.output).unwrap_or_default();
    let section = report::markdown(&turns, &settings, at_once)?;
    std::fs::write(&args.output, section::replace(&old, &section))
        .with_context(|| format!("cannot write {}", args.output.display()))?;
    eprintln!("written to {}", args.output.display());
    Ok(())
}
