//! `trilith-sim`: many seeds, or one with everything that happened.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use tracing_subscriber::EnvFilter;
use trilith_sim::{LogTime, Plant, Report, Settings, run};

/// Simulates clusters under faults. Every seed is another cluster with other faults; a seed that fails
/// fails again in the same way.
#[derive(Parser)]
struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Run this one alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Print what happened, line by line; RUST_LOG adds the servers' own log.
    #[arg(long)]
    trace: bool,
    /// The store and the floating addresses alone.
    #[arg(long)]
    without_database: bool,
    /// Put this mistake in, to see whether it is noticed.
    #[arg(long)]
    plant: Option<Plant>,
    /// Seeds run side by side; one per processor unless given.
    #[arg(long)]
    jobs: Option<usize>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    // Faults are what happens here all the time: nothing is logged unless somebody asks.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_timer(LogTime)
        .with_writer(std::io::stderr)
        .init();
    let settings = Settings {
        plant: args.plant,
        database: match args.plant {
            Some(plant) => plant.is_of_the_database(),
            None => !args.without_database,
        },
        trace: args.trace,
    };
    let (first, count) = args.seed.map_or((args.first, args.seeds), |seed| (seed, 1));
    let began = Instant::now();
    let reports = run_all(first, count, args.jobs.unwrap_or(0), settings);
    let failed: Vec<&Report> = reports.iter().filter(|r| r.violation.is_some()).collect();
    summary(&reports, began.elapsed(), settings.database);
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run_all(first: u64, count: u64, jobs: usize, settings: Settings) -> Vec<Report> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = if jobs == 0 { processors } else { jobs };
    let next = AtomicU64::new(0);
    let reports = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let offset = next.fetch_add(1, Ordering::Relaxed);
                    if offset >= count {
                        return;
                    }
                    let report = run(first + offset, settings);
                    tell(&report, settings);
                    let mut reports = reports.lock().unwrap_or_else(|e| e.into_inner());
                    reports.push(Report {
                        trace: String::new(),
                        ..report
                    });
                }
            });
        }
    });
    reports.into_inner().unwrap_or_else(|e| e.into_inner())
}

/// The trace, and what failed, with the command that shows it again.
fn tell(report: &Report, settings: Settings) {
    let mut out = std::io::stdout().lock();
    // A closed pipe ends nothing here.
    let _ = out.write_all(report.trace.as_bytes());
    if let Some(violation) = &report.violation {
        let how = match settings.plant {
            Some(plant) => format!(" --plant {plant}"),
            None if settings.database => String::new(),
            None => " --without-database".to_owned(),
        };
        let _ = writeln!(
            out,
            "seed {} failed: {violation}\n  again: cargo run -p trilith-sim --bin trilith-sim -- --seed {}{how} --trace",
            report.seed, report.seed
        );
    }
}

fn summary(reports: &[Report], took: Duration, database: bool) {
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    let failed = reports.iter().filter(|r| r.violation.is_some()).count();
    let slowest = reports.iter().map(|r| r.healed_after).max();
    let longest = reports.iter().map(|r| r.two_holders_for).max();
    let mut out = std::io::stdout().lock();
    let _ = writeln!(
        out,
        "{} seeds, {failed} failed, in {took:.1?}: {} faults, {} messages, {} calls answered, {} not, \
         {} elections, {} grants, {} syncs, {} polls; works again at most {:.1?} after the last fault; \
         after a suspend two had an address for at most {:.1?}",
        reports.len(),
        sum(|r| r.faults as u64),
        sum(|r| r.messages),
        sum(|r| r.calls as u64),
        sum(|r| r.unanswered as u64),
        sum(|r| r.terms as u64),
        sum(|r| r.grants),
        sum(|r| r.syncs),
        sum(|r| r.polls),
        slowest.unwrap_or_default(),
        longest.unwrap_or_default(),
    );
    if database {
        let fewest = reports.iter().map(|r| r.writes).min();
        let _ = writeln!(
            out,
            "the database: {} writes acknowledged, at least {} in each seed, {} reads; {} faults of its own and \
             orders, {} promotions, {} failovers to another server; stopped {} times by the guard",
            sum(|r| r.writes),
            fewest.unwrap_or_default(),
            sum(|r| r.reads),
            sum(|r| r.database_faults as u64),
            sum(|r| r.promotions),
            sum(|r| r.failovers),
            sum(|r| r.fenced),
        );
    }
}
