use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn server(name: &str) -> ServerName {
    ServerName::new(name).unwrap()
}

fn put(name: &str, bytes: usize) -> Write {
    Write::Put {
        key: key(name),
        value: vec![b'x'; bytes].into(),
    }
}

fn grant(name: &str, millis: u64) -> Write {
    Write::Grant {
        lease: key(name),
        holder: server("one"),
        ttl: Duration::from_millis(millis),
    }
}

fn txn(writes: impl IntoIterator<Item = Write>) -> Command {
    Command::Txn(Txn {
        conditions: Vec::new(),
        writes: writes.into_iter().collect(),
    })
}

#[test]
fn a_later_write_sees_an_earlier_one() {
    let mut view = View::default();
    let again = txn([grant("vip", 1000), grant("vip", 1000)]);
    let outcome = view.apply(Revision(1), &again);
    assert_eq!(outcome, Ok(Outcome::Refused { index: 1 }));
    assert_eq!(view.lease("vip"), None);

    view.apply(Revision(2), &txn([grant("vip", 1000)])).unwrap();
    let epoch = Epoch(2);
    let revoke = Write::Revoke {
        lease: key("vip"),
        epoch,
    };
    let handed_over = txn([revoke, grant("vip", 1000)]);
    let outcome = view.apply(Revision(3), &handed_over);
    assert_eq!(
        outcome,
        Ok(Outcome::Done {
            revision: Revision(3)
        })
    );
    assert_eq!(view.lease("vip").unwrap().epoch, Epoch(3));
}

#[test]
fn an_old_epoch_neither_expires_nor_revokes() {
    let mut view = View::default();
    view.apply(Revision(1), &txn([grant("vip", 1000)])).unwrap();
    let expire = |epoch| Command::Expire {
        lease: key("vip"),
        epoch: Epoch(epoch),
    };
    view.apply(Revision(2), &expire(1)).unwrap();
    view.apply(Revision(3), &txn([grant("vip", 1000)])).unwrap();
    view.apply(Revision(4), &expire(1)).unwrap();
    assert_eq!(view.lease("vip").unwrap().epoch, Epoch(3));
    let revoke = Command::Txn(Txn::revoke(key("vip"), Epoch(1)));
    let outcome = view.apply(Revision(5), &revoke);
    assert_eq!(outcome, Ok(Outcome::Refused { index: 0 }));
}

#[test]
fn what_is_out_of_bounds_changes_nothing() {
    let mut view = View::default();
    let mut at = Revision(0);
    let mut apply = |view: &mut View, command: &Command| {
        at.0 += 1;
        view.apply(at, command)
    };
    let too_large = |result: Result<Outcome, StoreError>| match result {
        Err(StoreError::TooLarge { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let value = txn([put("a", 1), put("b", VALUE_BYTES_MAX + 1)]);
    assert_eq!(too_large(apply(&mut view, &value)), "bytes of a value");
    let steps = txn((0..=TXN_STEPS_MAX).map(|_| put("a", 1)));
    assert!(too_large(apply(&mut view, &steps)).starts_with("conditions and writes"));
    for millis in [0, 99, 3_600_001] {
        let result = apply(&mut view, &txn([put("a", 1), grant("vip", millis)]));
        assert!(matches!(result, Err(StoreError::Invalid { .. })));
    }
    assert!(view.entries.is_empty() && view.leases.is_empty());

    let full = STATE_BYTES_MAX / VALUE_BYTES_MAX;
    for n in 0..full {
        // Key and value together are as large as a value may be.
        let name = format!("{n:02}");
        apply(&mut view, &txn([put(&name, VALUE_BYTES_MAX - 2)])).unwrap();
    }
    let before = view.clone();
    let one_more = txn([Write::Delete { key: key("none") }, put("x", 0)]);
    assert_eq!(
        too_large(apply(&mut view, &one_more)),
        "bytes of all entries"
    );
    assert_eq!(
        (&view.entries, &view.leases),
        (&before.entries, &before.leases)
    );
    assert!(view.revision > before.revision);
    // Room that the same transaction makes counts.
    let instead = txn([put("x", 0), Write::Delete { key: key("00") }]);
    apply(&mut view, &instead).unwrap();
}

#[test]
fn there_is_a_most_of_entries_and_of_leases() {
    let mut view = View::default();
    for n in 0..ENTRIES_MAX {
        view.entries.insert(
            key(&n.to_string()),
            Entry {
                value: [].into(),
                version: Revision(1),
            },
        );
    }
    let result = view.apply(Revision(2), &txn([put("x", 0)]));
    assert!(matches!(result, Err(StoreError::TooLarge { .. })));
    // One that is there may be written.
    view.apply(Revision(3), &txn([put("0", 0)])).unwrap();
    for n in 0..LEASES_MAX {
        let grant = txn([grant(&n.to_string(), 100)]);
        view.apply(Revision(4 + n as u64), &grant).unwrap();
    }
    let result = view.apply(Revision(1_000_000), &txn([grant("x", 100)]));
    assert!(matches!(result, Err(StoreError::TooLarge { .. })));
}

#[test]
fn prefixes_are_of_text() {
    let mut view = View::default();
    let names = [
        "a",
        "config/current",
        "config/history/1",
        "configuration",
        "z",
    ];
    view.apply(Revision(1), &txn(names.map(|name| put(name, 0))))
        .unwrap();
    let found: Vec<_> = view
        .prefixed("config/")
        .map(|(key, _)| key.as_str())
        .collect();
    assert_eq!(found, ["config/current", "config/history/1"]);
    assert_eq!(view.prefixed("").count(), names.len());
}

#[test]
fn keys_are_parts_between_slashes() {
    for good in [
        "a",
        "config/current",
        "vip/10.0.0.100",
        "vip/fd00::1",
        "A_b-c",
    ] {
        assert!(Key::new(good).is_ok(), "{good}");
    }
    let long = "a".repeat(257);
    for bad in ["", "/", "/a", "a/", "a//b", "a b", "ä", "a\0", &long] {
        assert!(Key::new(bad).is_err(), "{bad}");
    }
}

/// Few names, so that commands meet.
fn names() -> impl Strategy<Value = Key> {
    prop::sample::select(vec!["a", "b", "c"]).prop_map(key)
}

fn numbers() -> impl Strategy<Value = u64> {
    0..24_u64
}

fn conditions() -> impl Strategy<Value = Condition> {
    prop_oneof![
        names().prop_map(|key| Condition::Absent { key }),
        (names(), numbers()).prop_map(|(key, n)| Condition::Unchanged {
            key,
            version: Revision(n)
        }),
        names().prop_map(|lease| Condition::Free { lease }),
        (names(), numbers()).prop_map(|(lease, n)| Condition::Held {
            lease,
            epoch: Epoch(n)
        }),
    ]
}

fn writes() -> impl Strategy<Value = Write> {
    prop_oneof![
        (names(), 0..4_usize).prop_map(|(key, n)| put(key.as_str(), n)),
        names().prop_map(|key| Write::Delete { key }),
        // Some of them out of bounds.
        (names(), 90..120_u64).prop_map(|(lease, ttl)| grant(lease.as_str(), ttl)),
        (names(), numbers()).prop_map(|(lease, n)| Write::Revoke {
            lease,
            epoch: Epoch(n)
        }),
    ]
}

fn commands() -> impl Strategy<Value = Command> {
    let txns = (
        prop::collection::vec(conditions(), 0..3),
        prop::collection::vec(writes(), 0..4),
    );
    prop_oneof![
        4 => txns.prop_map(|(conditions, writes)| Command::Txn(Txn { conditions, writes })),
        1 => (names(), numbers()).prop_map(|(lease, n)| Command::Expire { lease, epoch: Epoch(n) }),
    ]
}

/// The first condition that does not hold in that state, by another road: one at a time, each in a
/// transaction of its own.
fn first_refusal(view: &View, txn: &Txn) -> Option<usize> {
    let refuses = |condition: &Condition| {
        let mut copy = view.clone();
        let at = Revision(copy.revision.0 + 1);
        let alone = Command::Txn(Txn::new().when(condition.clone()));
        copy.apply(at, &alone) != Ok(Outcome::Done { revision: at })
    };
    txn.conditions.iter().position(refuses)
}

proptest! {
    #[test]
    fn any_history_keeps_the_rules(history in prop::collection::vec(commands(), 1..24)) {
        let (mut view, mut twin) = (View::default(), View::default());
        let mut epochs = BTreeSet::new();
        for (at, command) in (1..).map(Revision).zip(&history) {
            let before = view.clone();
            let outcome = view.apply(at, command);

            // Nothing but the arguments decides.
            prop_assert_eq!(&outcome, &twin.apply(at, command));
            prop_assert_eq!(&view, &twin);
            prop_assert_eq!(view.revision, at);

            // All or nothing.
            if !matches!(outcome, Ok(Outcome::Done { .. })) {
                prop_assert_eq!(&view.entries, &before.entries);
                prop_assert_eq!(&view.leases, &before.leases);
            }
            if let (Command::Txn(txn), Ok(Outcome::Refused { index })) = (command, &outcome) {
                let first = first_refusal(&before, txn);
                prop_assert!(first.is_none_or(|first| first == *index));
                prop_assert!(first.is_some() || *index >= txn.conditions.len());
            }
            if let (Command::Txn(txn), Ok(Outcome::Done { revision })) = (command, &outcome) {
                prop_assert_eq!(*revision, at);
                prop_assert_eq!(first_refusal(&before, txn), None);
            }

            // What changed bears this position; what did not is as it was.
            for (key, entry) in &view.entries {
                prop_assert!(entry.version == at || before.entries.get(key) == Some(entry));
            }
            // An epoch is given once, and later ones are larger.
            for (name, lease) in &view.leases {
                if before.leases.get(name) != Some(lease) {
                    prop_assert_eq!(lease.epoch, Epoch(at.0));
                    prop_assert!(epochs.last().is_none_or(|last| *last < lease.epoch));
                    prop_assert!(before.leases.get(name).is_none_or(|old| old.epoch < lease.epoch));
                }
            }
            epochs.extend(view.leases.values().map(|lease| lease.epoch));
            prop_assert!(view.leases.values().all(|l| (LEASE_TTL_MIN..=LEASE_TTL_MAX).contains(&l.ttl)));
        }
    }
}
