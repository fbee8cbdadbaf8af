//! Two hundred clusters under faults, and the same one twice.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use trilith_sim::{Settings, run};

#[test]
fn two_hundred_seeds() {
    const SEEDS: u64 = 200;
    let next = AtomicU64::new(1);
    let failed = Mutex::new(Vec::new());
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > SEEDS {
                        return;
                    }
                    if let Some(text) = run(seed, Settings::default()).violation {
                        let line = format!(
                            "seed {seed}: {text}\n  again: cargo run -p trilith-sim --bin trilith-sim \
                             -- --seed {seed} --trace"
                        );
                        failed.lock().unwrap().push(line);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn equal_seeds_give_equal_traces() {
    for seed in [1, 2, 3, 4, 5] {
        let settings = Settings {
            trace: true,
            ..Settings::default()
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
            (first.polls, first.messages),
            (second.polls, second.messages)
        );
    }
}

#[test]
fn different_seeds_are_different_clusters() {
    let settings = Settings {
        trace: true,
        ..Settings::default()
    };
    assert_ne!(run(6, settings).trace, run(7, settings).trace);
}
