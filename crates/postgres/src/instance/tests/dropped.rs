//! Steps that are dropped on the way: what the next look tells is what is.

use std::time::Duration;

use tokio::time::timeout;
use trilith_ha::{Process, Step, SyncSet};

use super::rig::*;
use super::{INSERT, TABLE};
use crate::instance::settings::ConfirmedBy;

/// Somewhere between the begin of a step and its end.
const MOMENTS_MS: [u64; 8] = [0, 2, 5, 10, 20, 35, 55, 80];

async fn begin(node: &mut Node, step: &Step, moment: u64) {
    let moment = Duration::from_millis(moment);
    // It may even be done.
    let _ = timeout(moment, node.instance.execute(step)).await;
}

#[tokio::test]
async fn the_synchronous_set_told_is_the_one_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let [mut one, mut two, mut three] = servers(folder.path(), ["one", "two", "three"]);
    one.bootstrap().await;
    let app = one.app().await.unwrap();
    app.batch_execute(TABLE).await.unwrap();
    two.join(&one).await;
    three.join(&one).await;
    let sets = [
        set(1, &["two"]),
        set(1, &["two", "three"]),
        SyncSet::alone(),
        set(2, &["two", "three"]),
        SyncSet::alone(),
    ];
    for (round, moment) in MOMENTS_MS.into_iter().enumerate() {
        let set = &sets[round % sets.len()];
        let forget: &[&str] = if round % 2 == 0 {
            &["two", "three"]
        } else {
            &[]
        };
        let step = sync(set.clone(), forget);
        let before = one.ready().await.sync;
        begin(&mut one, &step, moment).await;
        let after = one.until_ready("settled", |_| true).await.sync;
        assert!(after.set == before.set || after.set == *set, "{after:?}");
        let shown: String = one.ask("show synchronous_standby_names").await;
        let shown = ConfirmedBy::parse(&shown);
        assert_eq!(
            shown,
            Some(ConfirmedBy::Set(after.set.clone())),
            "round {round}"
        );
        assert!(after.since >= before.since);
        timeout(Duration::from_secs(20), app.batch_execute(INSERT))
            .await
            .expect("replicas are there to confirm it")
            .unwrap();
        one.does(step).await;
        assert_eq!(one.ready().await.sync.set, *set);
    }
}

#[tokio::test]
async fn the_door_told_is_the_one_there() {
    let folder = tempfile::tempdir().unwrap();
    let [mut one] = servers(folder.path(), ["one"]);
    one.bootstrap().await;
    for (round, moment) in MOMENTS_MS.into_iter().enumerate() {
        let step = match round % 2 {
            0 => Step::Close,
            _ => Step::Open,
        };
        begin(&mut one, &step, moment).await;
        let ready = one.until_ready("settled", |_| true).await;
        assert_eq!(one.app().await.is_ok(), ready.open, "round {round}, {step}");
        one.does(step).await;
        assert_eq!(one.ready().await.open, round % 2 == 1);
    }
}

#[tokio::test]
async fn whom_a_replica_follows_is_told_and_a_promotion_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let [mut one, mut two, mut three] = servers(folder.path(), ["one", "two", "three"]);
    one.bootstrap().await;
    one.app().await.unwrap().batch_execute(TABLE).await.unwrap();
    two.join(&one).await;
    three.join(&one).await;
    for (round, moment) in MOMENTS_MS.into_iter().enumerate() {
        let server = [None, Some("one"), Some("three")][round % 3];
        let step = follow(server);
        begin(&mut two, &step, moment).await;
        let ready = two.until_ready("settled", |_| true).await;
        let shown: String = two.ask("show primary_conninfo").await;
        assert_eq!(
            ready.follows.is_none(),
            shown.is_empty(),
            "{ready:?}, {shown}"
        );
        two.does(step).await;
        let ready = two.ready().await;
        assert_eq!(ready.follows, server.map(name));
        if server.is_none() {
            assert!(ready.settled && !ready.receiving, "{ready:?}");
        }
    }
    // What it writes at its end reaches those that are streaming.
    two.does(follow(Some("one"))).await;
    two.until_streaming().await;
    three.until_streaming().await;
    one.does(STOP).await;
    two.does(follow(None)).await;
    let step = Step::Promote {
        sync: set(1, &["three"]),
        timeline: 9,
    };
    for moment in MOMENTS_MS {
        begin(&mut two, &step, moment).await;
        let ready = two.until_ready("settled", |_| true).await;
        assert!(!ready.open);
        if !ready.in_recovery {
            let shown: String = two.ask("show synchronous_standby_names").await;
            let shown = ConfirmedBy::parse(&shown);
            assert_eq!(shown, Some(ConfirmedBy::Set(ready.sync.set.clone())));
            break;
        }
    }
    two.does(step).await;
    let ready = two.ready().await;
    assert_eq!(ready.end().timeline, 9);
    assert_eq!(ready.sync.set, set(1, &["three"]));
    three.does(follow(Some("two"))).await;
    two.until_ready("confirmed", |ready| ready.confirmed())
        .await;

    // One that was about to be promoted, and is not, starts again all the same.
    three.does(follow(None)).await;
    let end = three.ready().await.end().timeline;
    three.instance.number_timeline(end, end + 3).unwrap();
    three.does(STOP).await;
    three.does(as_replica_of("two")).await;
    three.until_streaming().await;
}

#[tokio::test]
async fn a_start_goes_on_and_a_copy_begins_again() {
    let folder = tempfile::tempdir().unwrap();
    let [mut one, mut two] = servers(folder.path(), ["one", "two"]);
    one.look().await;
    // Nothing is in place before it is whole.
    begin(&mut one, &Step::Initdb, 100).await;
    assert_eq!(one.look().await.data, trilith_ha::Data::Missing);
    one.bootstrap().await;
    two.look().await;
    let copy = Step::Copy { from: name("one") };
    begin(&mut two, &copy, 100).await;
    assert_eq!(two.look().await.data, trilith_ha::Data::Missing);
    two.join(&one).await;
    one.does(sync(set(1, &["two"]), &[])).await;

    for moment in MOMENTS_MS {
        one.does(Step::Stop {
            mode: trilith_ha::StopMode::Immediate,
        })
        .await;
        let step = as_primary(set(1, &["two"]));
        begin(&mut one, &step, moment).await;
        let local = one
            .until("started, or not at all", |local| {
                matches!(local.process, Process::Ready(_) | Process::Stopped)
            })
            .await;
        if local.process == Process::Stopped {
            one.does(step).await;
        }
        let ready = one.ready().await;
        assert!(!ready.open && !ready.in_recovery);
        assert_eq!(ready.sync.set, set(1, &["two"]), "after {moment} ms");
        assert!(one.instance.life.confirmed.as_ref().unwrap().proven);
        assert_eq!(one.look().await.failures, 0);
    }
}
