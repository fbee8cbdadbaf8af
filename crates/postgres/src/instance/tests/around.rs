//! What others have to do with a PostgreSQL: observers, release commands, and whoever tidies up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use trilith_ha::{Process, SlotSeen, Step};
use trilith_telemetry::Telemetry;

use super::rig::*;
use crate::leftovers::stop_left_behind;
use crate::observe::{Observer, ObserverOptions, ServerState};
use crate::once::{Once, OnceOptions, run_once};
use crate::options::{FurtherDatabase, User};

#[tokio::test]
async fn observers_see_the_primary_and_its_replicas() {
    let folder = tempfile::tempdir().unwrap();
    let [mut one, mut two, mut three] = servers(folder.path(), ["one", "two", "three"]);
    one.bootstrap().await;
    two.join(&one).await;
    three.join(&one).await;
    let secret = one.options.secrets.monitor.clone();
    let mut observing = ObserverOptions::new(one.options.servers.clone(), secret);
    observing.tls = one.options.tls.clone();
    let observer = Observer::start(observing, Telemetry::new("test"));
    let mut view = observer.view();
    let seen = view
        .wait_for(|view| {
            let caught_up = view
                .replicas()
                .all(|replica| replica.lag_bytes == Some(0) && replica.streaming == Some(true));
            view.primary().is_some() && view.replicas().count() == 2 && caught_up
        })
        .await
        .unwrap()
        .clone();
    assert_eq!(seen.primary().unwrap().name.as_str(), "one");
    let system_id = one.ready().await.system_id;
    assert_eq!(seen.servers[0].system_id, Some(system_id));
    three.does(STOP).await;
    let down = view
        .wait_for(|view| matches!(view.servers[2].state, ServerState::Down { .. }))
        .await;
    assert!(down.is_ok());
}

#[tokio::test]
async fn a_release_command_runs_once_however_many_ask_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let [mut one] = servers(folder.path(), ["one"]);
    one.bootstrap().await;
    let runs = Arc::new(AtomicUsize::new(0));
    let entry = (std::net::Ipv4Addr::LOCALHOST, one.options.port).into();
    let url = crate::url("app", &one.options.secrets.app, entry, "app");
    let once = |key: &'static str| {
        let (runs, url) = (runs.clone(), url.clone());
        tokio::spawn(async move {
            let work = async {
                runs.fetch_add(1, Ordering::Relaxed);
                Ok::<(), String>(())
            };
            run_once(&url, key, OnceOptions::default(), work)
                .await
                .unwrap()
        })
    };
    let mut done = 0;
    for task in [once("r1"), once("r1"), once("r1"), once("r2")] {
        done += usize::from(task.await.unwrap() == Once::Done(()));
    }
    assert_eq!((done, runs.load(Ordering::Relaxed)), (2, 2));
    let failing = async { Err::<(), _>("no".to_owned()) };
    let failed = run_once(&url, "r3", OnceOptions::default(), failing).await;
    assert_eq!(failed.unwrap_err().to_string(), "no");
    let again = once("r3").await.unwrap();
    assert_eq!(again, Once::Done(()), "failed work is no work");
}

#[tokio::test]
async fn a_replica_that_fell_too_far_behind_is_copied_anew() {
    let folder = tempfile::tempdir().unwrap();
    let [mut one, mut two] = servers(folder.path(), ["one", "two"]);
    for (name, value) in [
        ("wal_keep_size", "0"),
        ("max_slot_wal_keep_size", "16MB"),
        ("min_wal_size", "32MB"),
    ] {
        let parameters = &mut one.options.parameters;
        parameters.insert(name.to_owned(), value.to_owned());
    }
    one.instance.set_options(one.options.clone());
    one.bootstrap().await;
    two.join(&one).await;
    two.does(STOP).await;
    let end = Node::end(&two.look().await);
    assert!(one.ready().await.set_up);

    // While it is away, the primary moves on by many segments and forgets them.
    let admin = one.admin().await;
    for _ in 0..8 {
        let write = "create table t (); drop table t; select pg_switch_wal()";
        admin.batch_execute(write).await.unwrap();
    }
    one.does(Step::Checkpoint).await;
    one.until_ready("slot lost", |ready| !ready.set_up).await;
    let seen = two.instance.ask_primary(&name("one")).await.unwrap();
    assert_eq!(seen.slot, SlotSeen::Lost);
    assert!(seen.oldest > end);
    one.does(Step::SetUp).await;
    assert!(one.ready().await.set_up);
    let metrics = one.telemetry.metrics_text().encode();
    let recreated = "trilith_postgres_slot_changes_total{what=\"recreated\"} 1";
    assert!(metrics.contains(recreated), "{metrics}");
    two.join(&one).await;
    assert_eq!(two.look().await.asides, 1);
}

#[tokio::test]
async fn what_a_killed_agent_left_is_stopped_from_outside() {
    let folder = tempfile::tempdir().unwrap();
    let [mut one] = servers(folder.path(), ["one"]);
    one.bootstrap().await;
    assert!(stop_left_behind(&one.options).await.unwrap());
    assert!(!stop_left_behind(&one.options).await.unwrap());
    assert_eq!(one.look().await.process, Process::Stopped);
}

#[tokio::test]
async fn databases_users_and_extensions_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let [mut one] = servers(folder.path(), ["one"]);
    one.bootstrap().await;
    one.does(Step::Open).await;
    let secrets = one.options.secrets.clone();
    assert!(
        one.user("reader", &secrets.of_user("reader"), "app")
            .await
            .is_err()
    );

    // One of the extensions is not installed: everything else is there, and the server goes on.
    one.options.extensions = vec!["plpgsql".into(), "no-such-thing".into()];
    one.options.databases = vec![FurtherDatabase {
        name: "shop".into(),
        owner: "keeper".into(),
        extensions: vec![],
    }];
    let user = |name: &str, databases: &[&str], createdb| User {
        name: name.into(),
        databases: databases.iter().map(|name| (*name).into()).collect(),
        createdb,
    };
    one.options.users = vec![
        user("keeper", &[], false),
        user("reader", &["app"], false),
        user("tester", &[], true),
    ];
    one.instance.set_options(one.options.clone());
    assert!(!one.ready().await.set_up);
    one.does(Step::SetUp).await;
    let ready = one.ready().await;
    assert!(ready.set_up && ready.open);
    let metrics = one.telemetry.metrics_text().encode();
    assert!(
        metrics.contains("trilith_postgres_failures_total{} 1"),
        "{metrics}"
    );

    let connects = async |user: &str, database: &str| {
        let password = secrets.of_user(user);
        one.user(user, &password, database).await.is_ok()
    };
    assert!(connects("keeper", "shop").await && !connects("keeper", "app").await);
    assert!(connects("reader", "app").await && !connects("reader", "shop").await);
    assert!(connects("tester", "shop").await);
    let tester = one
        .user("tester", &secrets.of_user("tester"), "postgres")
        .await
        .unwrap();
    tester
        .batch_execute("create database scratch")
        .await
        .unwrap();
    assert!(connects("tester", "scratch").await);
    let keeper = one
        .user("keeper", &secrets.of_user("keeper"), "shop")
        .await
        .unwrap();
    keeper
        .batch_execute("create schema s; create table s.t ()")
        .await
        .unwrap();

    // Nobody who is not named any more gets in, and nothing is dropped.
    one.options.users.clear();
    one.options.extensions.clear();
    one.options.databases.clear();
    one.instance.set_options(one.options.clone());
    one.ready().await;
    one.does(Step::SetUp).await;
    assert!(
        one.user("reader", &secrets.of_user("reader"), "app")
            .await
            .is_err()
    );
    let sql = "select count(*) from pg_database where datname in ('shop', 'scratch')";
    assert_eq!(one.ask::<i64>(sql).await, 2);
}
