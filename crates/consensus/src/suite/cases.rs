//! Values: compare-and-set, transactions, bounds, linearizability.

use futures_util::future::join_all;

use super::*;
use crate::limits::{STATE_BYTES_MAX, TXN_STEPS_MAX, VALUE_BYTES_MAX};

pub(super) async fn compare_and_set(t: &Try<'_>) -> Result<(), Retry> {
    let key = t.key("a");
    let set = |version, value: &str| {
        let value = value.as_bytes().to_vec();
        Txn::compare_and_set(key.clone(), version, value)
    };
    let first = t.done(0, set(None, "1")).await?;
    t.refused(1, 0, set(None, "2")).await?;
    let view = t.read(2).await?;
    assert_eq!(text(&view, &key).as_deref(), Some("1"));
    assert_eq!(view.get(key.as_str()).map(|e| e.version), Some(first));
    assert!(view.revision >= first);

    let second = t.done(1, set(Some(first), "2")).await?;
    assert!(second > first, "revisions grow");
    t.refused(0, 0, set(Some(first), "3")).await?;
    assert_eq!(text(&*t.read(0).await?, &key).as_deref(), Some("2"));

    let delete = Txn::new()
        .when(unchanged(&key, second))
        .then(Write::Delete { key: key.clone() });
    t.done(2, delete.clone()).await?;
    t.refused(0, 0, delete).await?;
    assert_eq!(text(&*t.read(1).await?, &key), None);
    // Deleting what is not there is no failure.
    t.done(0, Txn::new().then(Write::Delete { key: key.clone() }))
        .await?;
    let third = t.done(0, set(None, "4")).await?;
    assert!(third > second, "a new entry does not look like an old one");
    Ok(())
}

pub(super) async fn conditions_are_told_apart(t: &Try<'_>) -> Result<(), Retry> {
    let (here, gone) = (t.key("here"), t.key("gone"));
    let (taken, free_lease) = (t.key("taken"), t.key("free"));
    let version = t.put(0, &here, "1").await?;
    let epoch = t.grant(0, &taken).await?;
    let other = Revision(version.0 + 1_000_000);
    let good = [
        absent(&gone),
        unchanged(&here, version),
        free(&free_lease),
        held(&taken, epoch),
    ];
    let bad = [
        absent(&here),
        unchanged(&here, other),
        unchanged(&gone, version),
        free(&taken),
        held(&taken, Epoch(other.0)),
        held(&free_lease, epoch),
    ];
    let all_good = Txn {
        conditions: good.to_vec(),
        writes: Vec::new(),
    };
    let outcome = t.commit(0, all_good.clone()).await?;
    if outcome == (Outcome::Refused { index: 3 }) {
        return Err(Retry::Chance("the lease ran out meanwhile"));
    }
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    let mark = t.key("mark");
    for (index, bad) in bad.iter().enumerate() {
        // The first that does not hold is named, wherever it stands.
        let place = index % good.len();
        let mut txn = Txn {
            conditions: good[..3].to_vec(),
            writes: vec![put(&mark, "written")],
        };
        txn.conditions.insert(place.min(3), bad.clone());
        txn.conditions.push(absent(&here));
        if *bad == free(&taken) && t.read(0).await?.lease(taken.as_str()).is_none() {
            return Err(Retry::Chance("the lease ran out meanwhile"));
        }
        t.refused(index, place.min(3), txn).await?;
    }
    assert_eq!(text(&*t.read(0).await?, &mark), None);
    t.done(0, Txn::revoke(taken, epoch)).await?;
    Ok(())
}

pub(super) async fn all_or_nothing(t: &Try<'_>) -> Result<(), Retry> {
    let keys: Vec<_> = (0..5).map(|n| t.key(n)).collect();
    let lease = t.key("lease");
    let together = Txn {
        conditions: vec![absent(&keys[0])],
        writes: keys.iter().map(|key| put(key, "1")).collect(),
    };
    let revision = t.done(0, together).await?;
    let view = t.read(1).await?;
    for key in &keys {
        assert_eq!(view.get(key.as_str()).map(|e| e.version), Some(revision));
    }
    let epoch = t.grant(1, &lease).await?;
    let refused = Txn::new()
        .when(unchanged(&keys[1], revision))
        .then(put(&keys[0], "2"))
        .then(Write::Delete {
            key: keys[1].clone(),
        })
        .then(Write::Revoke {
            lease: lease.clone(),
            epoch: Epoch(epoch.0 + 1_000_000),
        });
    t.refused(0, 3, refused).await?;
    let grant = Txn::new().then(put(&keys[0], "3")).then(Write::Grant {
        lease: lease.clone(),
        holder: t.name(0),
        ttl: t.ttl(),
    });
    match t.commit(2, grant).await? {
        Outcome::Refused { index: 1 } => {}
        Outcome::Done { .. } => return Err(Retry::Chance("the lease ran out meanwhile")),
        other => panic!("{other:?}"),
    }
    let view = t.read(2).await?;
    for key in &keys {
        assert_eq!(text(&view, key).as_deref(), Some("1"), "{key}");
    }
    let last = Txn::new()
        .then(Write::Revoke {
            lease: lease.clone(),
            epoch,
        })
        .then(put(&keys[0], "4"));
    match t.commit(2, last).await? {
        Outcome::Done { .. } => {}
        _ => return Err(Retry::Chance("the lease ran out meanwhile")),
    }
    let view = t.read(0).await?;
    assert_eq!(text(&view, &keys[0]).as_deref(), Some("4"));
    assert_eq!(view.lease(lease.as_str()), None);
    Ok(())
}

pub(super) async fn a_later_write_sees_an_earlier_one(t: &Try<'_>) -> Result<(), Retry> {
    let (a, b, lease) = (t.key("a"), t.key("b"), t.key("lease"));
    let delete = |key: &Key| Write::Delete { key: key.clone() };
    let grant = |holder| Write::Grant {
        lease: lease.clone(),
        holder: t.name(holder),
        ttl: t.ttl(),
    };
    let writes = [
        put(&a, "1"),
        put(&a, "2"),
        put(&b, "1"),
        delete(&b),
        delete(&a),
        put(&a, "3"),
    ];
    let writes = Txn {
        conditions: Vec::new(),
        writes: writes.to_vec(),
    };
    t.done(0, writes).await?;
    let view = t.read(1).await?;
    assert_eq!(text(&view, &a).as_deref(), Some("3"));
    assert_eq!(text(&view, &b), None);

    // Nobody is granted twice.
    let twice = Txn::new().then(grant(0)).then(put(&b, "2")).then(grant(1));
    t.refused(1, 2, twice).await?;
    assert_eq!(text(&*t.read(1).await?, &b), None);

    let old = t.grant(0, &lease).await?;
    let handed_over = Txn::new()
        .then(Write::Revoke {
            lease: lease.clone(),
            epoch: old,
        })
        .then(grant(1));
    let new = match t.commit(0, handed_over.clone()).await? {
        Outcome::Done { revision } => Epoch(revision.0),
        _ => return Err(Retry::Chance("the lease ran out meanwhile")),
    };
    assert!(new > old);
    let view = t.read(1).await?;
    let Some(lease_now) = view.lease(lease.as_str()) else {
        return Err(Retry::Chance("the lease ran out meanwhile"));
    };
    assert_eq!((&lease_now.holder, lease_now.epoch), (&t.name(1), new));
    t.refused(0, 0, handed_over).await?;
    let lost = t.store(0).renew(&lease, old).await;
    assert_eq!(lost, Err(StoreError::LeaseLost));
    t.done(1, Txn::revoke(lease, new)).await?;
    Ok(())
}

pub(super) async fn what_is_out_of_bounds_is_refused(t: &Try<'_>) -> Result<(), Retry> {
    let key = t.key("a");
    let value = |bytes: usize| Write::Put {
        key: key.clone(),
        value: vec![b'x'; bytes].into(),
    };
    let lease = |ttl| Txn::grant(key.clone(), t.name(0), ttl);
    let too_large = [
        Txn::new().then(value(VALUE_BYTES_MAX + 1)),
        Txn {
            conditions: vec![absent(&key)],
            writes: vec![value(1); TXN_STEPS_MAX],
        },
    ];
    for txn in too_large {
        let result = t.store(0).commit(txn).await;
        assert!(
            matches!(result, Err(StoreError::TooLarge { .. })),
            "{result:?}"
        );
    }
    for ttl in [0, 99, 3_600_001].map(Duration::from_millis) {
        let result = t.store(1).commit(lease(ttl)).await;
        assert!(
            matches!(result, Err(StoreError::Invalid { .. })),
            "{result:?}"
        );
    }
    let view = t.read(0).await?;
    assert!(view.get(key.as_str()).is_none() && view.lease(key.as_str()).is_none());
    Ok(())
}

pub(super) async fn the_largest_value_fits(t: &Try<'_>) -> Result<(), Retry> {
    let key = t.key("a");
    // Every byte there is: nothing on the way may take it for text.
    let value: Vec<u8> = (0..VALUE_BYTES_MAX)
        .map(|n| (n * 7 + n / 256) as u8)
        .collect();
    t.done(0, Txn::compare_and_set(key.clone(), None, value.clone()))
        .await?;
    let view = t.read(1).await?;
    let entry = view.get(key.as_str());
    assert!(
        entry.is_some_and(|entry| *entry.value == *value),
        "the value came back otherwise"
    );
    let most = Txn {
        conditions: Vec::new(),
        writes: (0..TXN_STEPS_MAX)
            .map(|n| put(&t.key(format_args!("many/{n}")), "1"))
            .collect(),
    };
    t.done(1, most).await?;
    let prefix = format!("{}/many/", t.scope);
    assert_eq!(t.read(2).await?.prefixed(&prefix).count(), TXN_STEPS_MAX);
    clear(t).await
}

pub(super) async fn the_state_is_bounded(t: &Try<'_>) -> Result<(), Retry> {
    let fill = |n: usize| Write::Put {
        key: t.key(n),
        value: vec![b'x'; VALUE_BYTES_MAX].into(),
    };
    let mut refused = false;
    for n in 0..STATE_BYTES_MAX / VALUE_BYTES_MAX {
        match t.store(n).commit(Txn::new().then(fill(n))).await {
            Ok(_) => {}
            // Over the wire the numbers may be lost.
            Err(StoreError::TooLarge { .. } | StoreError::Invalid { .. }) => {
                refused = true;
                break;
            }
            Err(error) => {
                // Names of another attempt would meet what this one leaves.
                clear(t).await?;
                return Err(error.into());
            }
        }
    }
    assert!(refused, "more than {STATE_BYTES_MAX} bytes were taken");
    clear(t).await?;
    t.put(0, &t.key("room"), "1").await?;
    clear(t).await
}

/// Deletes what this attempt has written.
async fn clear(t: &Try<'_>) -> Result<(), Retry> {
    loop {
        let view = t.read(0).await?;
        let prefix = format!("{}/", t.scope);
        let keys: Vec<_> = view.prefixed(&prefix).map(|(key, _)| key.clone()).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let delete = |key: &Key| Write::Delete { key: key.clone() };
        let keys = &keys[..keys.len().min(TXN_STEPS_MAX)];
        let txn = Txn {
            conditions: Vec::new(),
            writes: keys.iter().map(delete).collect(),
        };
        t.done(0, txn).await?;
    }
}

pub(super) async fn a_write_is_read_through_any_server(t: &Try<'_>) -> Result<(), Retry> {
    let key = t.key("a");
    let mut last = Revision(0);
    for round in 0..5 {
        for writer in 0..t.servers() {
            for reader in 0..t.servers() {
                let value = format!("{round} {writer} {reader}");
                let revision = t.put(writer, &key, &value).await?;
                assert!(revision > last, "revisions grow");
                last = revision;
                let view = t.read(reader).await?;
                assert!(view.revision >= revision);
                assert_eq!(text(&view, &key), Some(value), "read by {reader}");
            }
        }
    }
    Ok(())
}

/// Every increment writes, in the same transaction, how many this client has done: so one whose answer was
/// lost is counted neither twice nor not at all.
pub(super) async fn concurrent_increments_are_all_counted(t: &Try<'_>) -> Result<(), Retry> {
    const CLIENTS: usize = 6;
    const INCREMENTS: usize = 8;
    let counter = t.key("counter");
    let number = |view: &View, key: &Key| -> usize {
        text(view, key).map_or(0, |text| text.parse().expect("a number"))
    };
    let client = async |client: usize| {
        let mine = t.key(format_args!("client/{client}"));
        t.wait("all increments are done", async || {
            let view = t.store(client).read().await.ok()?;
            let done = number(&view, &mine);
            if done == INCREMENTS {
                return Some(());
            }
            let condition = |key: &Key| match view.get(key.as_str()) {
                Some(entry) => unchanged(key, entry.version),
                None => absent(key),
            };
            let txn = Txn {
                conditions: vec![condition(&counter), condition(&mine)],
                writes: vec![
                    put(&counter, &(number(&view, &counter) + 1).to_string()),
                    put(&mine, &(done + 1).to_string()),
                ],
            };
            // Whatever the outcome, the next look tells.
            let _ = t.store(client + 1).commit(txn).await;
            None
        })
        .await;
    };
    join_all((0..CLIENTS).map(client)).await;
    let view = t.read(0).await?;
    assert_eq!(number(&view, &counter), CLIENTS * INCREMENTS);
    Ok(())
}
