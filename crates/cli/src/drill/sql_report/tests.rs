use super::*;

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn by(server: &str, timeline: u32) -> Answer {
    let server = server.to_owned();
    Answer::Acknowledged(Arc::new(Tenure { server, timeline }))
}

fn write(id: i64, sent: u64, done: u64, answer: Answer) -> Write {
    Write {
        id,
        sent: at(sent),
        done: at(done),
        answer,
    }
}

/// A row every 50 ms for ten seconds: until 1,500 on one, from `back` on two, and nothing in between.
fn failover(back: u64) -> Log {
    let writes = (0..200).map(|i| {
        let sent = i * 50;
        let answer = match sent {
            0..1_500 => by("one", 1),
            1_500 => Answer::Unknown("connection reset".to_owned()),
            sent if sent < back => Answer::Failed("25006 read-only".to_owned()),
            _ => by("two", 2),
        };
        write(i as i64, sent, sent + 4, answer)
    });
    Log {
        writes: writes.collect(),
        reads: 17,
        reads_missing: 0,
        connects_failed: 3,
    }
}

fn facts(load: Log) -> Facts {
    let present: BTreeSet<i64> = acknowledged(&load).collect();
    Facts {
        disturbance: Some(Disturbance {
            what: "power failure of one, the database primary".to_owned(),
            injected: at(1_500),
            healed: at(6_500),
            recovered: Some(at(8_000)),
            gap_goal: at(8_000),
            primary_before: "one".to_owned(),
            primary_after: Some("two".to_owned()),
        }),
        connections: 8,
        rate: 20,
        began_unix_ms: 1_700_000_000_000,
        ended: at(10_000),
        load,
        direct: Log::default(),
        running: vec![
            Running {
                server: "one".to_owned(),
                spans: vec![(at(5), at(1_480))],
            },
            Running {
                server: "two".to_owned(),
                spans: vec![(at(4_400), at(9_990))],
            },
        ],
        verified: Verified {
            primary: Ok(present.clone()),
            replicas: vec![("three".to_owned(), Ok(present))],
        },
    }
}

#[test]
fn a_promise_kept() {
    let report = Report::new(facts(failover(4_500)));
    assert_eq!(report.longest_gap, at(3_050));
    assert_eq!(report.gap_from, at(1_454));
    assert_eq!((report.unknown, report.failed), (1, 59));
    assert_eq!((report.writable_max, report.running_max), (1, 1));
    assert!(report.broken.is_empty(), "{:?}", report.broken);
    insta::assert_snapshot!(format!("{}\n{:#}", report.text(), report.json()));
}

#[test]
fn promises_broken() {
    let mut facts = facts(failover(9_800));
    facts.verified.primary = Ok((1..1_000).collect());
    facts.verified.replicas = vec![
        ("three".to_owned(), Ok((3..1_000).collect())),
        ("four".to_owned(), Err("connection refused".to_owned())),
    ];
    facts.load.reads_missing = 2;
    facts.direct.writes = vec![
        write(-1, 9_700, 9_990, by("one", 1)),
        write(-2, 9_950, 9_960, by("one", 1)),
    ];
    if let Some(disturbance) = &mut facts.disturbance {
        disturbance.recovered = None;
    }
    let report = Report::new(facts);
    assert_eq!(report.lost, Some(vec![0]));
    assert_eq!(report.direct_lost, Some(vec![-1, -2]));
    assert_eq!(report.broken.len(), 8, "{:#?}", report.broken);
    insta::assert_snapshot!(report.text());
}

#[test]
fn a_load_without_a_fault_has_no_goal_for_the_gap() {
    let mut facts = facts(failover(9_800));
    facts.disturbance = None;
    let report = Report::new(facts);
    assert!(report.broken.is_empty(), "{:?}", report.broken);
    insta::assert_snapshot!(report.text());
}

#[test]
fn what_cannot_be_seen_is_not_kept() {
    let mut nothing = facts(Log::default());
    let mut facts = facts(failover(4_500));
    facts.verified.primary = Err("one: connection refused".to_owned());
    let report = Report::new(facts);
    assert_eq!(report.lost, None);
    assert_eq!(report.broken.len(), 1, "{:?}", report.broken);
    assert!(report.json()["writes_lost"].is_null());

    nothing.disturbance = None;
    let report = Report::new(nothing);
    assert_eq!((report.longest_gap, report.gap_from), (at(10_000), at(0)));
    assert_eq!(report.broken, ["nothing was written"]);
}

#[test]
fn gaps_are_between_acknowledgements_of_any_connection() {
    let log = Log {
        writes: vec![
            write(1, 0, 100, by("one", 1)),
            // Long under way, and meanwhile another one is served.
            write(2, 110, 900, by("one", 1)),
            write(3, 300, 400, by("one", 1)),
            write(4, 350, 850, Answer::Unknown("no answer in time".to_owned())),
        ],
        ..Log::default()
    };
    assert_eq!(
        gaps(&log, at(1_000)),
        [
            (at(0), at(100)),
            (at(100), at(400)),
            (at(400), at(900)),
            (at(900), at(1_000))
        ]
    );
}

/// The reigns of rows given as (server, timeline, sent, done).
fn reigns_of(rows: &[(&str, u32, u64, u64)]) -> Vec<Reign> {
    let rows = rows.iter().zip(0..);
    let writes = rows
        .map(|((server, timeline, sent, done), id)| write(id, *sent, *done, by(server, *timeline)));
    let log = Log {
        writes: writes.collect(),
        ..Log::default()
    };
    reigns(&facts(log))
}

#[test]
fn two_at_once_is_what_no_order_explains() {
    let at_once = |rows: &[(&str, u32, u64, u64)]| most_at_once(&reigns_of(rows));
    let one_after_the_other = [("one", 1, 0, 10), ("one", 1, 20, 30), ("two", 2, 40, 50)];
    assert_eq!(at_once(&one_after_the_other), 1);
    // Its answer came late; it may have been taken before the other's first one.
    let late = [
        ("one", 1, 0, 10),
        ("one", 1, 20, 90),
        ("two", 2, 30, 40),
        ("two", 2, 50, 60),
    ];
    assert_eq!(at_once(&late), 1);
    // Sent after the other's first acknowledgement had arrived.
    let both = [
        ("one", 1, 0, 10),
        ("two", 2, 20, 30),
        ("one", 1, 40, 50),
        ("two", 2, 60, 70),
    ];
    assert_eq!(at_once(&both), 2);
    let overlaps = overlaps(&reigns_of(&both));
    assert_eq!((overlaps[0].from, overlaps[0].to), (at(30), at(40)));
    // A single row in the middle of another's reign.
    let one_row = [("one", 1, 0, 10), ("two", 2, 20, 30), ("one", 1, 40, 50)];
    assert_eq!(at_once(&one_row), 2);
    // There and back again, on timelines of their own.
    let back = [("one", 1, 0, 10), ("two", 2, 20, 30), ("one", 3, 40, 50)];
    assert_eq!(at_once(&back), 1);
    // Two pairs are not three at once.
    let pairs = [
        ("one", 1, 0, 10),
        ("two", 2, 20, 30),
        ("one", 1, 40, 50),
        ("two", 2, 60, 70),
        ("three", 3, 62, 65),
        ("two", 2, 66, 75),
        ("three", 3, 80, 90),
    ];
    assert_eq!(at_once(&pairs), 2);
    assert_eq!(at_once(&[]), 0);
}

#[test]
fn out_of_recovery_at_once() {
    let running = |spans: &[(u64, u64)]| Running {
        server: "any".to_owned(),
        spans: spans
            .iter()
            .map(|(from, to)| (at(*from), at(*to)))
            .collect(),
    };
    assert_eq!(most_running(&[]), 0);
    let apart = [running(&[(0, 10), (50, 60)]), running(&[(20, 40)])];
    assert_eq!(most_running(&apart), 1);
    let together = [
        running(&[(0, 30)]),
        running(&[(20, 40)]),
        running(&[(29, 29)]),
    ];
    assert_eq!(most_running(&together), 3);
}
