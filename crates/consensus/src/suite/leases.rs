//! Leases: one holder, epochs that grow, and time.

use futures_util::future::join_all;

use super::*;

const RAN_OUT: Retry = Retry::Chance("the lease ran out: this machine is busy");

pub(super) async fn a_lease_is_granted_to_one(t: &Try<'_>) -> Result<(), Retry> {
    let lease = t.key("lease");
    let ask = async |server: usize| {
        let txn = Txn::grant(lease.clone(), t.name(server), t.ttl());
        (server, t.commit(server, txn).await)
    };
    let begin = t.now();
    let answers = join_all((0..2 * t.servers()).map(ask)).await;
    let mut granted = Vec::new();
    for (server, outcome) in answers {
        match outcome? {
            Outcome::Done { revision } => granted.push((t.name(server), Epoch(revision.0))),
            Outcome::Refused { index } => assert_eq!(index, 0),
        }
    }
    let view = t.read(0).await?;
    let Some(found) = view.lease(lease.as_str()) else {
        return Err(ran_out(t, begin));
    };
    if granted.len() > 1 {
        return Err(ran_out(t, begin));
    }
    let [(holder, epoch)] = &granted[..] else {
        panic!("granted to nobody");
    };
    assert_eq!((&found.holder, found.epoch), (holder, *epoch));
    assert!(found.ttl >= t.ttl(), "shorter than asked: {:?}", found.ttl);
    t.done(0, Txn::revoke(lease, *epoch)).await?;
    Ok(())
}

pub(super) async fn epochs_grow(t: &Try<'_>) -> Result<(), Retry> {
    let lease = t.key("lease");
    let mut last = Epoch(0);
    for round in 0..6 {
        let begin = t.now();
        let epoch = t.grant(round, &lease).await?;
        assert!(epoch > last, "{epoch} after {last}");
        let stale = t.store(round).renew(&lease, last).await;
        assert_eq!(stale, Err(StoreError::LeaseLost));
        t.refused(round, 0, Txn::revoke(lease.clone(), last))
            .await?;
        match t.commit(round, Txn::revoke(lease.clone(), epoch)).await? {
            Outcome::Done { .. } => {}
            Outcome::Refused { .. } => return Err(ran_out(t, begin)),
        }
        last = epoch;
    }
    Ok(())
}

pub(super) async fn renewal_keeps_a_lease(t: &Try<'_>) -> Result<(), Retry> {
    let lease = t.key("lease");
    let begin = t.now();
    let mut renewed = begin;
    let epoch = t.grant(0, &lease).await?;
    let mut round = 0;
    while t.now().since(begin) < t.ttl() * 4 {
        t.pause(t.ttl() / 6).await;
        let asked = t.now();
        // Whoever has the epoch may renew, through any server.
        round += 1;
        match t.store(round).renew(&lease, epoch).await {
            Ok(()) => renewed = asked,
            Err(StoreError::LeaseLost) => return Err(ran_out(t, renewed)),
            // An election; there is time for another try.
            Err(StoreError::NoLeader { .. } | StoreError::Unknown) => {}
            Err(error) => return Err(error.into()),
        }
        let view = t.read(round + 1).await?;
        match view.lease(lease.as_str()) {
            Some(found) => assert_eq!((&found.holder, found.epoch), (&t.name(0), epoch)),
            None => return Err(ran_out(t, renewed)),
        }
        t.refused(round, 0, Txn::grant(lease.clone(), t.name(1), t.ttl()))
            .await?;
    }
    t.done(0, Txn::revoke(lease, epoch)).await?;
    Ok(())
}

pub(super) async fn a_lease_runs_out(t: &Try<'_>) -> Result<(), Retry> {
    let lease = t.key("lease");
    let mut view = t.store(1).view();
    let granted = t.now();
    let epoch = t.grant(0, &lease).await?;
    t.wait("the lease is seen", async || {
        let view = view.borrow_and_update();
        (view.revision.0 >= epoch.0).then_some(())
    })
    .await;
    t.pause(t.ttl() / 2).await;
    let renewed = t.now();
    match t.store(0).renew(&lease, epoch).await {
        Ok(()) => {}
        Err(StoreError::LeaseLost) => return Err(ran_out(t, granted)),
        Err(error) => return Err(error.into()),
    }
    let answered = t.now();
    let gone = t
        .wait("the lease runs out", async || {
            let gone = view.borrow_and_update().lease(lease.as_str()).is_none();
            gone.then(|| t.now())
        })
        .await;
    let lasted = gone.since(renewed);
    assert!(lasted >= t.ttl(), "ended {lasted:?} after its renewal");
    let late = gone.since(answered).saturating_sub(t.ttl());
    assert!(late <= t.harness.slack(), "ended {late:?} late");

    let lost = t.store(0).renew(&lease, epoch).await;
    assert_eq!(lost, Err(StoreError::LeaseLost));
    t.refused(0, 0, Txn::revoke(lease.clone(), epoch)).await?;
    let next = t.grant(1, &lease).await?;
    assert!(next > epoch);
    let lost = t.store(0).renew(&lease, epoch).await;
    assert_eq!(lost, Err(StoreError::LeaseLost));
    t.done(1, Txn::revoke(lease, next)).await?;
    Ok(())
}

pub(super) async fn a_revoked_lease_is_gone(t: &Try<'_>) -> Result<(), Retry> {
    let lease = t.key("lease");
    let epoch = t.grant(0, &lease).await?;
    // Not only the holder may, but nobody can by accident: it takes the epoch.
    t.done(1, Txn::revoke(lease.clone(), epoch)).await?;
    assert_eq!(t.read(2).await?.lease(lease.as_str()), None);
    let lost = t.store(0).renew(&lease, epoch).await;
    assert_eq!(lost, Err(StoreError::LeaseLost));
    t.refused(1, 0, Txn::revoke(lease.clone(), epoch)).await?;

    // What is left of it must not end the next one.
    let begin = t.now();
    let mut renewed = begin;
    let next = t.grant(2, &lease).await?;
    while t.now().since(begin) < t.ttl() * 2 {
        t.pause(t.ttl() / 6).await;
        let asked = t.now();
        match t.store(2).renew(&lease, next).await {
            Ok(()) => renewed = asked,
            Err(StoreError::LeaseLost) => return Err(ran_out(t, renewed)),
            Err(error) => return Err(error.into()),
        }
    }
    t.done(2, Txn::revoke(lease, next)).await?;
    Ok(())
}

/// Who lost a lease cannot write under it.
pub(super) async fn a_condition_fences(t: &Try<'_>) -> Result<(), Retry> {
    let (lease, key) = (t.key("lease"), t.key("a"));
    let under = |epoch, value: &str| Txn::new().when(held(&lease, epoch)).then(put(&key, value));
    let begin = t.now();
    let first = t.grant(0, &lease).await?;
    if let Outcome::Refused { .. } = t.commit(0, under(first, "first")).await? {
        return Err(ran_out(t, begin));
    }
    if let Outcome::Refused { .. } = t.commit(1, Txn::revoke(lease.clone(), first)).await? {
        return Err(ran_out(t, begin));
    }
    t.refused(0, 0, under(first, "late")).await?;
    let begin = t.now();
    let second = t.grant(1, &lease).await?;
    t.refused(0, 0, under(first, "late")).await?;
    if let Outcome::Refused { .. } = t.commit(1, under(second, "second")).await? {
        return Err(ran_out(t, begin));
    }
    t.refused(2, 0, under(first, "late")).await?;
    assert_eq!(text(&*t.read(0).await?, &key).as_deref(), Some("second"));
    t.done(1, Txn::revoke(lease, second)).await?;
    Ok(())
}

/// The lease is gone. That is fine when it was not renewed in time, and a broken promise otherwise.
pub(super) fn ran_out(t: &Try<'_>, since: BootTime) -> Retry {
    let lasted = t.now().since(since);
    assert!(
        lasted >= t.ttl(),
        "{}: the lease was gone {lasted:?} after a renewal, before its time",
        t.scope
    );
    RAN_OUT
}
