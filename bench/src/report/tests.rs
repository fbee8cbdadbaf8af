use std::time::Duration;

use super::*;
use crate::load::Measured;

fn turn(case: Case, kind: Kind, cpu_us: u64) -> Turn {
    turn_in(0, case, kind, cpu_us)
}

fn turn_in(round: usize, case: Case, kind: Kind, cpu_us: u64) -> Turn {
    Turn {
        round,
        case,
        kind,
        measured: Measured {
            requests: 1000,
            wall: Duration::from_millis(20),
            server_cpu: Duration::from_micros(cpu_us * 1000),
            load_cpu: Duration::from_millis(10),
            latencies_ns: (1..=1000).map(|i| i * 1000).collect(),
        },
    }
}

fn results(turns: Vec<Turn>) -> Results {
    Results {
        programs: Vec::new(),
        turns,
    }
}

#[test]
fn the_ratio_is_the_median_of_the_rounds_and_against_the_best_peer() {
    let case = Case::Proxy128;
    let mut turns = Vec::new();
    // The machine was slow in the second round, and disturbed nginx in the third.
    let rounds = [(10, 20, 16), (30, 66, 48), (11, 21, 99)];
    for (round, (ours, haproxy, nginx)) in rounds.into_iter().enumerate() {
        turns.push(turn_in(round, case, Kind::Trilith, ours));
        turns.push(turn_in(round, case, Kind::Haproxy, haproxy));
        turns.push(turn_in(round, case, Kind::Nginx, nginx));
    }
    let results = results(turns);
    let verdicts = verdicts(&rows(&results));
    assert_eq!(verdicts.len(), 1);
    assert_eq!(verdicts[0].1, Kind::Nginx);
    assert!((verdicts[0].2 - 10.0 / 16.0).abs() < 1e-9);
    let table = table(&results);
    assert!(table.contains("10.00..30.00"), "{table}");
    assert!(table.contains("proxy 128 B: Trilith needs 0.62"), "{table}");
}

#[test]
fn without_trilith_there_is_no_ratio() {
    let results = results(vec![turn(Case::Static1k, Kind::Nginx, 12)]);
    assert!(verdicts(&rows(&results)).is_empty());
    assert!(table(&results).contains("12.00"));
}

#[test]
fn medians_and_percentiles() {
    assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
    assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
    let turn = turn(Case::Static1k, Kind::Nginx, 12);
    assert_eq!(turn.measured.latency_us(0.0), 1.0);
    assert_eq!(turn.measured.latency_us(0.99), 990.0);
    assert_eq!(turn.measured.latency_us(1.0), 1000.0);
}

#[test]
fn a_turn_limited_by_the_generator_is_told() {
    let mut limited = turn(Case::Static100k, Kind::Nginx, 12);
    limited.measured.load_cpu = Duration::from_millis(20);
    assert_eq!(warnings(&results(vec![limited])).len(), 1);
    assert!(warnings(&results(vec![turn(Case::Static1k, Kind::Nginx, 20)])).is_empty());
}

#[test]
fn a_busy_machine_is_told() {
    let turns = vec![
        turn(Case::Static1k, Kind::Nginx, 10),
        turn(Case::Static1k, Kind::Nginx, 20),
    ];
    let warnings = warnings(&results(turns));
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].starts_with("in 1 of 2 turns, of nginx (static 1 KiB)"),
        "{warnings:?}"
    );
}
