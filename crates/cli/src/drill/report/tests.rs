use super::*;

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn change(ms: u64, holders: &[usize]) -> Change {
    Change {
        at: at(ms),
        holders: holders.to_vec(),
    }
}

/// A request every 100 ms for ten seconds, of which those begun in `dark` fail.
fn facts(dark: std::ops::Range<u64>, changes: Vec<Change>) -> Facts {
    let requests = (0..100).map(|i| Request {
        begun: at(i * 100),
        took: at(2),
        failure: dark.contains(&(i * 100)).then_some("connection refused"),
    });
    Facts {
        fault: "kill -9 of one, the holder".to_owned(),
        servers: ["one", "two", "three"].map(str::to_owned).to_vec(),
        rate: 10,
        injected: at(1_500),
        healed: at(6_500),
        recovered: Some(at(8_000)),
        ended: at(10_000),
        requests: requests.collect(),
        changes,
        out_of_reach: None,
    }
}

fn moved() -> Vec<Change> {
    vec![change(0, &[0]), change(1_520, &[]), change(2_900, &[1])]
}

#[test]
fn a_promise_kept() {
    let report = Report::new(facts(1_500..3_000, moved()));
    assert_eq!(report.longest_gap, at(1_600));
    assert_eq!(report.failed, 15);
    assert!(report.broken.is_empty());
    insta::assert_snapshot!(format!("{}\n{:#}", report.text(), report.json()));
}

#[test]
fn promises_broken() {
    let mut facts = facts(
        1_500..4_500,
        vec![
            change(0, &[0]),
            change(2_900, &[0, 1]),
            change(3_200, &[0, 1, 2]),
        ],
    );
    facts.recovered = None;
    let report = Report::new(facts);
    assert_eq!(report.broken.len(), 4, "{:?}", report.broken);
    insta::assert_snapshot!(report.text());
}

#[test]
fn nothing_ever_answers() {
    let mut facts = facts(0..100_000, Vec::new());
    facts.requests.truncate(20);
    let report = Report::new(facts);
    assert_eq!((report.longest_gap, report.gap_from), (at(10_000), at(0)));
    assert_eq!(report.broken.len(), 2, "{:?}", report.broken);
}

#[test]
fn an_orphan_that_nobody_reaches_is_excused_until_it_is_back() {
    let orphan = |until: u64| {
        vec![
            change(0, &[0]),
            change(2_500, &[]),
            change(2_900, &[1]),
            change(5_000, &[0, 1]),
            change(until, &[1]),
        ]
    };
    let judge = |until: u64, out_of_reach| {
        let mut facts = facts(1_500..3_000, orphan(until));
        facts.out_of_reach = out_of_reach;
        Report::new(facts).broken.len()
    };
    // The repair is at 6,500.
    assert_eq!(judge(6_800, Some(0)), 0);
    assert_eq!(judge(7_600, Some(0)), 1);
    assert_eq!(judge(6_800, None), 1);
    assert_eq!(judge(6_800, Some(2)), 1);
}

#[test]
fn a_holder_that_stays_is_one_hold() {
    let changes = vec![change(0, &[0]), change(1_000, &[0, 1]), change(1_500, &[0])];
    let holds = Report::new(facts(0..0, changes)).holds;
    let shown: Vec<_> = holds
        .iter()
        .map(|h| (h.server.as_str(), h.from, h.to))
        .collect();
    assert_eq!(
        shown,
        [("one", at(0), at(10_000)), ("two", at(1_000), at(1_500))]
    );
}
