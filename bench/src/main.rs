//! Purpose: measures Trilith, HAProxy and nginx side by side and writes `bench/RESULTS.md`.
//! Box in the picture: none; it stands where the client and the application would stand.
//! Invariants: one server at a time, alone on its core; generator and backend on another core; a
//!   wrong response fails the run; every process started here is gone when it ends.
//! Start reading at: [`plan`] for the order of turns, [`load`] for the generator.
//! Tested by: the `tests` modules; every run checks itself (status and length of each response).
#![forbid(unsafe_code)]
// A measuring tool talks to the terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod cpu;
mod load;
mod machine;
mod plan;
mod process;
mod report;
mod section;
mod servers;
mod signals;
mod stub;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;

use crate::plan::{Case, Settings};
use crate::servers::Kind;

/// Trilith, HAProxy and nginx side by side: requests per second, latency, CPU time per request.
#[derive(Parser)]
#[command(name = "trilith-bench", version)]
struct Args {
    /// The `trilith` program to measure
    #[arg(long, default_value = "target/release/trilith")]
    binary: PathBuf,
    /// Rounds; each measures every server once. At least 3 for a result that is written down
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds measured per turn
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Seconds of load before measuring starts
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Keep-alive client connections, each with one request in flight
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Only these cases
    #[arg(long, value_delimiter = ',', value_enum)]
    cases: Vec<Case>,
    /// Only these servers (the result is printed, not written)
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Kind>,
    /// Core of the server under test
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of generator and backend
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Where the result goes
    #[arg(long, default_value = "bench/RESULTS.md")]
    output: PathBuf,
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
    if args.rounds == 0 || args.rounds > 1000 || args.connections == 0 || args.connections > 10_000
    {
        bail!("--rounds must be 1 to 1000 and --connections 1 to 10000");
    }
    if !(0.1..=600.0).contains(&args.seconds) || !(0.0..=600.0).contains(&args.warmup) {
        bail!("--seconds must be 0.1 to 600 and --warmup 0 to 600");
    }
    let settings = Settings {
        binary: args.binary,
        rounds: args.rounds,
        measure: std::time::Duration::from_secs_f64(args.seconds),
        warmup: std::time::Duration::from_secs_f64(args.warmup),
        connections: args.connections,
        cases: if args.cases.is_empty() {
            Case::ALL.to_vec()
        } else {
            args.cases
        },
        servers: if args.only.is_empty() {
            Kind::ALL.to_vec()
        } else {
            args.only
        },
        server_core: args.server_core,
        load_core: args.load_core,
    };
    let signals = signals::Signals::block()?;
    process::kill_children_on_panic();

    let results = plan::run(&settings, &signals)?;
    print!("{}", report::table(&results));
    for warning in report::warnings(&results) {
        eprintln!("warning: {warning}");
    }
    if settings.servers.len() == Kind::ALL.len()
        && settings.cases.len() == Case::ALL.len()
        && settings.rounds >= 3
    {
        let old = std::fs::read_to_string(&args.output).unwrap_or_default();
        let new = section::keep(&old, &report::markdown(&settings, &results)?);
        std::fs::write(&args.output, new)
            .with_context(|| format!("cannot write {}", args.output.display()))?;
        eprintln!("written to {}", args.output.display());
    } else {
        eprintln!("not written to a file: that takes every server, every case and 3 rounds");
    }
    Ok(())
}
