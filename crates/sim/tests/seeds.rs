//! Many clusters under faults, and the same one twice.

#![allow(clippy::unwrap_used)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use trilith_sim::{Report, Settings, run};

const DATABASE: Settings = Settings {
    plant: None,
    database: true,
    trace: false,
};
const WITHOUT: Settings = Settings {
    plant: None,
    database: false,
    trace: false,
};

/// Runs that many seeds on all processors; none may fail.
fn all_hold(seeds: u64, settings: Settings, again: &str) -> Vec<Report> {
    let next = AtomicU64::new(1);
    let reports = Mutex::new(Vec::new());
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > seeds {
                        return;
                    }
                    let report = run(seed, settings);
                    reports.lock().unwrap().push(report);
                }
            });
        }
    });
    let reports = reports.into_inner().unwrap();
    let failed = reports.iter().filter_map(|report| {
        let (seed, text) = (report.seed, report.violation.as_ref()?);
        Some(format!(
            "seed {seed}: {text}\n  again: cargo run -p trilith-sim --bin trilith-sim -- --seed {seed}{again} --trace"
        ))
    });
    let failed: Vec<String> = failed.collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    reports
}

#[test]
fn seeds_with_a_database() {
    let reports = all_hold(100, DATABASE, "");
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    let (writes, failovers) = (sum(|r| r.writes), sum(|r| r.failovers));
    assert!(writes > 10_000, "only {writes} writes");
    assert!(failovers > 50, "only {failovers} failovers");
    let fenced = sum(|r| r.fenced);
    assert!(fenced > 5, "the guard had to act {fenced} times only");
}

#[test]
fn seeds_of_the_store_and_floating_addresses() {
    all_hold(50, WITHOUT, " --without-database");
}

#[test]
fn equal_seeds_give_equal_traces() {
    let without = [1, 2].map(|seed| (seed, WITHOUT));
    // Some of these differed while not every `select!` was biased.
    let database = [3, 12, 20, 36, 39].map(|seed| (seed, DATABASE));
    for (seed, settings) in without.into_iter().chain(database) {
        let settings = Settings {
            trace: true,
            ..settings
        };
        let (first, second) = (run(seed, settings), run(seed, settings));
        assert!(first.trace.lines().count() > 100, "seed {seed} did nothing");
        let difference = first
            .trace
            .lines()
            .zip(second.trace.lines())
            .find(|(a, b)| a != b);
        assert_eq!(difference, None, "seed {seed}");
        assert_eq!(first.trace.len(), second.trace.len(), "seed {seed}");
        assert_eq!(
            (first.polls, first.messages, first.writes),
            (second.polls, second.messages, second.writes)
        );
    }
}

#[test]
fn different_seeds_are_different_clusters() {
    let settings = Settings {
        trace: true,
        ..WITHOUT
    };
    assert_ne!(run(6, settings).trace, run(7, settings).trace);
}
