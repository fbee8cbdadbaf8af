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

#[test]
fn one_history_within_another() {
    let primary = History::new(vec![at(1, 100), at(2, 200)], at(3, 300));
    for (other, has, continues) in [
        // It followed all the way.
        (
            History::new(vec![at(1, 100), at(2, 200)], at(3, 300)),
            true,
            true,
        ),
        // A primary that said where it is a moment ago.
        (
            History::new(vec![at(1, 100), at(2, 200)], at(3, 310)),
            false,
            true,
        ),
        // It stopped before the switch, or just there.
        (History::new(vec![at(1, 100)], at(2, 200)), true, true),
        (History::new(Vec::new(), at(1, 50)), true, true),
        // It went on where the other had left.
        (History::new(vec![at(1, 100)], at(2, 201)), false, false),
        // The same number, begun elsewhere.
        (History::new(vec![at(1, 90)], at(2, 150)), false, false),
        (
            History::new(vec![at(1, 100), at(2, 210)], at(3, 250)),
            false,
            false,
        ),
        // The same number, begun by way of another timeline, or without one.
        (History::new(vec![at(1, 100)], at(3, 150)), false, false),
        (
            History::new(vec![at(1, 50), at(2, 200)], at(3, 250)),
            false,
            false,
        ),
        // A later one.
        (
            History::new(vec![at(1, 100), at(2, 200), at(3, 250)], at(4, 260)),
            false,
            false,
        ),
    ] {
        assert_eq!(primary.has(&other), has, "{other:?}");
        assert_eq!(primary.continues(&other), continues, "{other:?}");
    }
}

#[test]
fn only_growing_timelines_are_read() {
    let read = |text: &str| serde_json::from_str::<History>(text);
    let good = r#"{"ended":[{"timeline":1,"lsn":"0/64"}],"end":{"timeline":2,"lsn":"0/C8"}}"#;
    assert_eq!(
        read(good).unwrap(),
        History::new(vec![at(1, 100)], at(2, 200))
    );
    for bad in [
        r#"{"ended":[{"timeline":2,"lsn":"0/64"}],"end":{"timeline":2,"lsn":"0/C8"}}"#,
        r#"{"ended":[{"timeline":3,"lsn":"0/64"},{"timeline":1,"lsn":"0/64"}],"end":{"timeline":4,"lsn":"0/C8"}}"#,
        r#"{"end":{"timeline":-1,"lsn":"0/C8"}}"#,
        r#"{"end":{"timeline":1,"lsn":"C8"}}"#,
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
}

proptest::proptest! {
    /// Whoever has the later has the earlier, on every branch.
    #[test]
    fn what_is_contained_is_ordered(
        switches in proptest::collection::vec(1u64..50, 0..4),
        tail in 0u64..50,
        timeline in 1u32..6,
        lsn in 0u64..250,
        less in 0u64..250,
    ) {
        let mut place = 0;
        let mut ended = Vec::new();
        for (number, grown) in switches.iter().enumerate() {
            place += grown;
            ended.push(at(number as u32 + 1, place));
        }
        let history = History::new(ended.clone(), at(ended.len() as u32 + 1, place + tail));
        if history.contains(at(timeline, lsn)) {
            proptest::prop_assert!(history.contains(at(timeline, lsn.saturating_sub(less))));
            proptest::prop_assert!(lsn <= history.end.lsn.0);
        }
        proptest::prop_assert!(history.has(&history) && history.continues(&history));
        // Each prefix of it is had, and has the whole only when it is the whole.
        for cut in 0..ended.len() {
            let prefix = History::new(ended[..cut].to_vec(), ended[cut]);
            proptest::prop_assert!(history.has(&prefix));
            proptest::prop_assert!(!prefix.has(&history));
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[0-9A-F/\\t\\n #a-z-]{0,80}") {
        if let Ok(ended) = parse_history(&text) {
            proptest::prop_assert!(ended.windows(2).all(|two| two[0].timeline < two[1].timeline));
        }
    }
}
