use super::*;

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn name(text: &str) -> ServerName {
    ServerName::new(text).unwrap()
}

const TTL: Duration = Duration::from_secs(2);

#[test]
fn a_lease_has_one_holder_and_epochs_only_grow() {
    let mut view = View::default();
    let grant = |who| Command::Txn(Txn::grant(key("vip/a"), name(who), TTL));
    let done = view.apply(Revision(3), &grant("one")).unwrap();
    assert_eq!(
        done,
        Outcome::Done {
            revision: Revision(3)
        }
    );
    let refused = view.apply(Revision(4), &grant("two")).unwrap();
    assert_eq!(refused, Outcome::Refused { index: 0 });
    assert_eq!(view.lease("vip/a").unwrap().holder, name("one"));

    let expire = |epoch| Command::Expire {
        lease: key("vip/a"),
        epoch: Epoch(epoch),
    };
    view.apply(Revision(5), &expire(2)).unwrap();
    assert!(
        view.lease("vip/a").is_some(),
        "another epoch's end is not this one's"
    );
    view.apply(Revision(6), &expire(3)).unwrap();
    view.apply(Revision(7), &grant("two")).unwrap();
    assert_eq!(view.lease("vip/a").unwrap().epoch, Epoch(7));
}

#[test]
fn a_refused_write_undoes_those_before_it() {
    let mut view = View::default();
    let txn = Txn::new()
        .then(Write::Put {
            key: key("a"),
            value: b"1".as_slice().into(),
        })
        .then(Write::Revoke {
            lease: key("l"),
            epoch: Epoch(1),
        });
    let outcome = view.apply(Revision(1), &Command::Txn(txn)).unwrap();
    assert_eq!(outcome, Outcome::Refused { index: 1 });
    assert!(view.entries.is_empty());
}

#[test]
fn what_is_out_of_bounds_changes_nothing() {
    let mut view = View::default();
    let large: Arc<[u8]> = vec![0; VALUE_BYTES_MAX + 1].into();
    let txn = Txn::new().then(Write::Put {
        key: key("a"),
        value: large,
    });
    assert!(matches!(
        view.apply(Revision(1), &Command::Txn(txn)),
        Err(StoreError::TooLarge { .. })
    ));
    assert!(view.entries.is_empty());
    let short = Txn::grant(key("l"), name("one"), Duration::from_millis(1));
    assert!(view.apply(Revision(2), &Command::Txn(short)).is_err());
    assert_eq!(view.revision, Revision(2));
}
