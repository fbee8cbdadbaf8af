//! What a server sees without asking.

use super::*;

pub(super) async fn a_watch_goes_forward_and_arrives(t: &Try<'_>) -> Result<(), Retry> {
    const WRITES: usize = 50;
    let key = t.key("a");
    let value = |view: &View| text(view, &key).map_or(0, |text| text.parse().expect("a number"));
    let mut views: Vec<_> = (0..t.servers())
        .map(|server| t.store(server).view())
        .collect();
    let mut seen = vec![(Revision(0), 0_usize); views.len()];
    let mut look = |only_last: bool| {
        let mut arrived = 0;
        for (receiver, seen) in views.iter_mut().zip(&mut seen) {
            let view = receiver.borrow_and_update().clone();
            let now = (view.revision, value(&view));
            assert!(now.0 >= seen.0, "a watch went back: {now:?} after {seen:?}");
            assert!(now.1 >= seen.1, "a watch went back: {now:?} after {seen:?}");
            for entry in view.entries.values() {
                assert!(entry.version <= view.revision);
            }
            *seen = now;
            arrived += usize::from(now.1 == WRITES);
        }
        (!only_last || arrived == views.len()).then_some(())
    };
    for n in 1..=WRITES {
        t.put(n, &key, &n.to_string()).await?;
        look(false);
    }
    t.wait("all servers see the last value", async || look(true))
        .await;
    Ok(())
}

pub(super) async fn a_watch_sees_leases(t: &Try<'_>) -> Result<(), Retry> {
    let lease = t.key("lease");
    let mut view = t.store(2).view();
    let epoch = t.grant(0, &lease).await?;
    let seen = t
        .wait("the grant is seen", async || {
            let view = view.borrow_and_update();
            (view.revision.0 >= epoch.0).then(|| view.lease(lease.as_str()).cloned())
        })
        .await;
    let Some(seen) = seen else {
        return Err(Retry::Chance("the lease ran out meanwhile"));
    };
    assert_eq!((seen.holder, seen.epoch), (t.name(0), epoch));
    match t.commit(1, Txn::revoke(lease.clone(), epoch)).await? {
        Outcome::Done { .. } => {}
        Outcome::Refused { .. } => return Err(Retry::Chance("the lease ran out meanwhile")),
    }
    t.wait("the revocation is seen", async || {
        let view = view.borrow_and_update();
        view.lease(lease.as_str()).is_none().then_some(())
    })
    .await;
    Ok(())
}

pub(super) async fn who_takes_part_is_known(t: &Try<'_>) -> Result<(), Retry> {
    for server in 0..t.servers() {
        let membership = t.store(server).membership();
        t.wait("members and leader are known", async || {
            let membership = membership.borrow();
            let voters = membership.members.iter().filter(|m| m.voter).count();
            (membership.has_quorum && membership.leader.is_some() && voters > 0).then_some(())
        })
        .await;
    }
    Ok(())
}
