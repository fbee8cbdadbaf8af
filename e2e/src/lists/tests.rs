//! The checker has to fail when there is something to be found.

use super::*;

/// `a x1`: append 1 to x; `r x12`: x was read as 1, 2. Keys are letters, values are digits.
fn ops(text: &str) -> Vec<Op> {
    let mut words = text.split_whitespace();
    let mut ops = Vec::new();
    while let (Some(what), Some(where_and_what)) = (words.next(), words.next()) {
        let key = i64::from(where_and_what.as_bytes()[0]);
        let digits = where_and_what[1..].bytes().map(|b| i64::from(b - b'0'));
        let list: Vec<i64> = digits.collect();
        ops.push(match what {
            "a" => Op::Append {
                key,
                value: list[0],
            },
            _ => Op::Read {
                key,
                list: Some(list),
            },
        });
    }
    ops
}

/// Each pair: who and how far, then what. A transaction begins at its `invoke`.
fn history(lines: &[(i64, Stage, &str)]) -> History {
    let line = |&(process, stage, text): &(i64, Stage, &str)| {
        let mut ops = ops(text);
        if stage == Stage::Invoked {
            for op in &mut ops {
                if let Op::Read { list, .. } = op {
                    *list = None;
                }
            }
        }
        Line {
            process,
            stage,
            ops,
        }
    };
    History {
        lines: lines.iter().map(line).collect(),
        shown: Vec::new(),
    }
}

/// All at the same time: all begin before the first ends.
fn at_once(transactions: &[(Stage, &str)]) -> History {
    let numbered = || (0..).zip(transactions);
    let begin = numbered().map(|(process, (_, text))| (process, Stage::Invoked, *text));
    let end = numbered().map(|(process, (stage, text))| (process, *stage, *text));
    history(&begin.chain(end).collect::<Vec<_>>())
}

/// One after the other.
fn in_turn(transactions: &[(Stage, &str)]) -> History {
    let numbered = (0..).zip(transactions);
    let both = numbered.flat_map(|(process, (stage, text))| {
        [(process, Stage::Invoked, *text), (process, *stage, *text)]
    });
    history(&both.collect::<Vec<_>>())
}

/// `x12 y1`.
fn lists(text: &str) -> BTreeMap<i64, Vec<i64>> {
    let reads: Vec<Op> = text
        .split_whitespace()
        .flat_map(|list| ops(&format!("r {list}")))
        .collect();
    let list = |op: Op| match op {
        Op::Read { key, list } => (key, list.unwrap_or_default()),
        Op::Append { key, value } => (key, vec![value]),
    };
    reads.into_iter().map(list).collect()
}

use Isolation::{ReadCommitted, Serializable};
use Stage::{Aborted, Committed, Unknown};

fn assert_clean(isolation: Isolation, history: &History, end: &str) {
    let faults = history.faults(isolation, &lists(end));
    assert!(faults.is_empty(), "{isolation:?}: {faults:#?}");
}

/// `says`: in one of the faults.
fn assert_found(isolation: Isolation, history: &History, end: &str, says: &str) {
    let faults = history.faults(isolation, &lists(end));
    let found = faults.iter().any(|fault| fault.contains(says));
    assert!(found, "{isolation:?}: {says} is not among {faults:#?}");
}

#[test]
fn good_histories_are_clean() {
    let good = in_turn(&[
        (Committed, "a x1 r x1"),
        (Committed, "r x1 a x2 a y3"),
        (Aborted, "a x4 r x124"),
        (Unknown, "a y5"),
        (Committed, "r x12 r y35"),
    ]);
    for isolation in [ReadCommitted, Serializable] {
        assert_clean(isolation, &good, "x12 y35");
    }
    // One that says nothing about isolation proves nothing.
    assert_found(
        Serializable,
        &History::default(),
        "",
        "empty-transaction-graph",
    );
}

#[test]
fn a_lost_append_is_found() {
    let lost = in_turn(&[(Committed, "a x1"), (Committed, "a x2")]);
    for isolation in [ReadCommitted, Serializable] {
        assert_found(
            isolation,
            &lost,
            "x1",
            "the append of 2 to list 120 was acknowledged",
        );
        assert_found(
            isolation,
            &lost,
            "",
            "the append of 1 to list 120 was acknowledged",
        );
    }
}

#[test]
fn what_was_shown_and_is_gone_is_found() {
    // The append is not acknowledged, but somebody saw it.
    let gone = in_turn(&[(Unknown, "a x1"), (Committed, "r x1")]);
    assert_clean(ReadCommitted, &gone, "x1");
    assert_found(
        ReadCommitted,
        &gone,
        "",
        "somebody was shown [1] in list 120",
    );
    // Also a reader whose own transaction came to nothing.
    let mut shown = in_turn(&[(Unknown, "a x1")]);
    shown.shown.push((120, vec![1]));
    assert_found(
        ReadCommitted,
        &shown,
        "",
        "somebody was shown [1] in list 120",
    );
    // Two lines of history that parted.
    let parted = in_turn(&[(Unknown, "a x1"), (Committed, "r x1"), (Committed, "a x2")]);
    assert_found(
        ReadCommitted,
        &parted,
        "x2",
        "somebody was shown [1] in list 120",
    );
}

#[test]
fn a_stale_read_is_found() {
    let stale = in_turn(&[(Committed, "a x1"), (Committed, "r x"), (Committed, "r x1")]);
    for isolation in [ReadCommitted, Serializable] {
        assert_found(
            isolation,
            &stale,
            "x1",
            "when [1] had been acknowledged before",
        );
    }
    assert_found(Serializable, &stale, "x1", "realtime");
    // At the same time either order is good.
    let either = at_once(&[(Committed, "a x1"), (Committed, "r x")]);
    assert_clean(Serializable, &either, "x1");
}

#[test]
fn what_was_done_twice_or_although_it_was_refused_is_found() {
    let once = in_turn(&[(Committed, "a x1")]);
    assert_found(ReadCommitted, &once, "x11", "1 is twice");
    let refused = in_turn(&[(Aborted, "a x1")]);
    assert_found(ReadCommitted, &refused, "x1", "was refused, and is there");
}

#[test]
fn anomalies_of_read_committed_are_found() {
    let whole = (Committed, "r x12 r y21");
    let dirty_write = at_once(&[(Committed, "a x1 a y1"), (Committed, "a x2 a y2"), whole]);
    assert_found(ReadCommitted, &dirty_write, "x12 y21", "G0");
    let aborted_read = at_once(&[(Aborted, "a x1"), (Committed, "r x1")]);
    assert_found(ReadCommitted, &aborted_read, "", "G1a");
    let half_read = at_once(&[(Committed, "a x1 a x2"), (Committed, "r x1")]);
    assert_found(ReadCommitted, &half_read, "x12", "G1b");
    let circle = at_once(&[(Committed, "a x1 r y2"), (Committed, "a y2 r x1")]);
    assert_found(ReadCommitted, &circle, "x1 y2", "G1c");
}

#[test]
fn what_read_committed_allows_is_an_anomaly_of_serializable_alone() {
    let half_seen = at_once(&[(Committed, "a x1 a y2"), (Committed, "r x r y2")]);
    let write_skew = at_once(&[
        (Committed, "r x r y a x1"),
        (Committed, "r x r y a y2"),
        (Committed, "r x1 r y2"),
    ]);
    let lost_update = at_once(&[
        (Committed, "r x a x1"),
        (Committed, "r x a x2"),
        (Committed, "r x12"),
    ]);
    for (history, end, says) in [
        (half_seen, "x1 y2", "G-single"),
        (write_skew, "x1 y2", "G2-item"),
        (lost_update, "x12", "lost-update"),
    ] {
        assert_clean(ReadCommitted, &history, end);
        assert_found(Serializable, &history, end, says);
    }
}

#[test]
fn what_nobody_knew_is_settled_in_the_end() {
    // Without a commit it may have seen what does not go together.
    let mut history = at_once(&[
        (Unknown, "r x r y2 a z3"),
        (Committed, "a x1 a y2"),
        (Unknown, "a z4"),
    ]);
    let end = lists("x1 y2 z4");
    assert_found(Serializable, &history, "x1 y2 z4", "G-single");
    history.settle(&end);
    assert_eq!((history.count(Unknown), history.count(Aborted)), (1, 1));
    let seen = in_turn(&[(Committed, "r x1 r z4")]);
    history.lines.extend(seen.lines);
    assert_clean(Serializable, &history, "x1 y2 z4");
}
