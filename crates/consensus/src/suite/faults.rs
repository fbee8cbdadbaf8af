//! Servers that die and come back.

use super::leases::ran_out;
use super::*;

/// Each server in turn, so whoever leads is among them.
pub(super) async fn one_server_killed(t: &Try<'_>) -> Result<(), Retry> {
    if t.servers() < 3 {
        return Ok(());
    }
    let key = t.key("a");
    for victim in 0..t.servers() {
        let other = victim + 1;
        t.put(victim, &key, &format!("before {victim}")).await?;
        if !t.harness.kill(victim).await {
            return Ok(());
        }
        let value = format!("without {victim}");
        t.wait("the others carry on", async || {
            // It does not matter how often it is written.
            t.put(other, &key, &value).await.ok()
        })
        .await;
        t.harness.restart(victim).await;
        t.answers(victim).await;
        let view = t
            .wait("it answers", async || t.read(victim).await.ok())
            .await;
        assert_eq!(text(&view, &key), Some(value.clone()));
        let view = t.store(victim).view();
        t.wait("it has caught up", async || {
            (text(&view.borrow(), &key) == Some(value.clone())).then_some(())
        })
        .await;
    }
    Ok(())
}

/// As long as renewals succeed, no other server's death ends a lease.
pub(super) async fn a_lease_outlives_any_other_server(t: &Try<'_>) -> Result<(), Retry> {
    if t.servers() < 3 {
        return Ok(());
    }
    for victim in 0..t.servers() {
        let holder = victim + 1;
        let lease = t.key(format_args!("lease/{victim}"));
        let mut renewed = t.now();
        let epoch = t.grant(holder, &lease).await?;
        if !t.harness.kill(victim).await {
            t.done(holder, Txn::revoke(lease, epoch)).await?;
            return Ok(());
        }
        let begin = t.now();
        let verdict = loop {
            t.pause(t.ttl() / 10).await;
            let asked = t.now();
            match t.store(holder).renew(&lease, epoch).await {
                Ok(()) => renewed = asked,
                // The election took longer than the lease lasts: no promise was broken.
                Err(StoreError::LeaseLost) => {
                    ran_out(t, renewed);
                    break Ok(());
                }
                Err(StoreError::NoLeader { .. } | StoreError::Unknown) => {}
                Err(error) => break Err(error),
            }
            if t.now().since(begin) > t.ttl() * 2 {
                break Ok(());
            }
        };
        t.harness.restart(victim).await;
        verdict?;
        t.answers(victim).await;
        let txn = Txn::revoke(lease, epoch);
        t.wait("the lease is given back", async || {
            t.commit(holder, txn.clone()).await.ok()
        })
        .await;
    }
    Ok(())
}

/// What was acknowledged survives the death of everybody at once.
pub(super) async fn all_servers_killed(t: &Try<'_>) -> Result<(), Retry> {
    let (key, lease) = (t.key("a"), t.key("lease"));
    let mut last = Revision(0);
    for n in 0..5 {
        last = t.put(n, &key, &n.to_string()).await?;
    }
    let epoch = t.grant(0, &lease).await?;
    for server in 0..t.servers() {
        if !t.harness.kill(server).await {
            return Ok(());
        }
    }
    for server in 0..t.servers() {
        t.harness.restart(server).await;
    }
    for server in 0..t.servers() {
        let view = t
            .wait("it answers", async || t.read(server).await.ok())
            .await;
        assert_eq!(text(&view, &key).as_deref(), Some("4"));
        assert_eq!(view.get(key.as_str()).map(|e| e.version), Some(last));
        assert!(view.revision.0 >= epoch.0);
    }
    t.wait("the lease ends", async || {
        let view = t.read(0).await.ok()?;
        view.lease(lease.as_str()).is_none().then_some(())
    })
    .await;
    let next = t
        .wait("the lease is granted again", async || {
            t.grant(1, &lease).await.ok()
        })
        .await;
    assert!(next > epoch, "an epoch is never given twice");
    t.wait("the lease is given back", async || {
        let txn = Txn::revoke(lease.clone(), next);
        t.commit(1, txn).await.ok()
    })
    .await;
    Ok(())
}
