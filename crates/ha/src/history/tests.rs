use super::*;

fn at(timeline: u32, lsn: u64) -> Position {
    Position {
        timeline,
        lsn: Lsn(lsn),
    }
}

#[test]
fn what_a_history_contains() {
    let history = History::new(vec![at(1, 100), at(3, 200)], at(4, 300));
    for (place, contained) in [
        (at(1, 100), true),
        (at(1, 101), false),
        (at(2, 1), false),
        (at(3, 150), true),
        (at(3, 201), false),
        (at(4, 300), true),
        (at(4, 301), false),
        (at(5, 1), false),
    ] {
        assert_eq!(history.contains(place), contained, "{place}");
    }
}

#[test]
fn reads_a_history_file() {
    let text = "# comment\n1\t0/3000060\tno recovery target specified\n\n2\t0/5000000\tx y z\n";
    let ended = parse_history(text).unwrap();
    assert_eq!(ended, [at(1, 0x300_0060), at(2, 0x500_0000)]);
    for bad in [
        "x 0/1 y",
        "1",
        "1 0",
        "2 0/1 a\n2 0/2 b",
        "3 0/1 a\n2 0/2 b",
        "-1 0/1",
    ] {
        assert!(parse_history(bad).is_err(), "{bad}");
    }
}
