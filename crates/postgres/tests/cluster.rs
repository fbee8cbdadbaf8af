//! A primary and its replicas, with real PostgreSQL.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::{Cluster, Server, ask, connect, eventually, kill_9, process_exists};
use trilith_postgres::{
    CurrentRole, Observer, ObserverOptions, Once, OnceOptions, Phase, ServerState, run_once,
    stop_left_behind,
};
use trilith_telemetry::Telemetry;

/// Writes on the primary, and waits until a replica has it.
async fn arrives(cluster: &Cluster, replica: usize, text: &str) {
    let primary = cluster.app(0).await;
    let insert = "insert into entry (text) values ($1)";
    primary.execute(insert, &[&text]).await.unwrap();
    let reader = cluster.app(replica).await;
    let (reader, text) = (&reader, &text);
    eventually(&format!("replicated: {text}"), || async move {
        let found = "select text from entry where text = $1";
        // The table itself may not have arrived yet.
        let row = reader.query_opt(found, &[text]).await;
        row.ok().flatten().map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn a_primary_and_its_replicas() {
    let cluster = Cluster::new(&["one", "two", "three-b"]);

    // The replicas come first, and wait.
    let two = Server::start(cluster.options(1));
    let three = Server::start(cluster.options(2));
    two.until("waiting", |status| {
        matches!(status.phase, Phase::WaitingForPrimary { .. })
    })
    .await;
    let one = Server::start(cluster.options(0));
    let status = one.until_running().await;
    assert_eq!(status.role, Some(CurrentRole::Primary));
    let first_pid = status.pid.unwrap();
    let system_id = status.system_id.unwrap();
    for replica in [&two, &three] {
        replica.until_streaming().await;
        let status = replica.status();
        assert_eq!(status.role, Some(CurrentRole::Replica));
        assert_eq!(status.system_id, Some(system_id));
        assert!(
            replica
                .phases()
                .iter()
                .any(|phase| matches!(phase, Phase::BaseBackup { percent: Some(_) })),
            "{:?}",
            replica.phases()
        );
    }
    one.until("all slots in use", |status| {
        status.slots.len() == 2 && status.slots.iter().all(|slot| slot.active)
    })
    .await;

    // Data, and who may see it.
    let app = cluster.app(0).await;
    app.batch_execute("create table entry (text text)")
        .await
        .unwrap();
    arrives(&cluster, 1, "first").await;
    arrives(&cluster, 2, "second").await;
    let names: String = ask(&app, "show synchronous_standby_names").await;
    assert_eq!(names, "ANY 1 (\"two\", \"three-b\")");
    let mut over_tcp = cluster.admin_config("postgres");
    over_tcp.host("127.0.0.1").port(cluster.address(0).port());
    let error = connect(&over_tcp).await.unwrap_err().to_string();
    assert!(error.contains("db error"), "{error}");
    let elsewhere = cluster.url(0).replace("/app", "/postgres");
    assert!(connect(&elsewhere.parse().unwrap()).await.is_err());
    let admin = cluster.admin(0).await;
    let checksums: String = ask(&admin, "show data_checksums").await;
    assert_eq!(checksums, "on");

    // What observers see.
    let targets = cluster.peers().to_vec();
    let password = cluster.secrets().monitor.clone();
    let mut observing = ObserverOptions::new(targets, password);
    observing.tls = Some(cluster.tls(0));
    let observer = Observer::start(observing, Telemetry::new("test"));
    let mut view = observer.view();
    let seen = view
        .wait_for(|view| {
            view.primary()
                .is_some_and(|primary| primary.name.as_str() == "one")
                && view.replicas().count() == 2
                && view
                    .replicas()
                    .all(|replica| replica.lag_bytes == Some(0) && replica.streaming == Some(true))
        })
        .await
        .unwrap()
        .clone();
    assert_eq!(seen.servers[0].system_id, Some(system_id));

    // A release command runs once, however many ask for it.
    let runs = Arc::new(AtomicUsize::new(0));
    let url = cluster.url(0);
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
    assert_eq!(
        once("r3").await.unwrap(),
        Once::Done(()),
        "failed work is no work"
    );

    // The postmaster is killed.
    kill_9(first_pid);
    let status = one
        .until("started again", |status| {
            status.restarts == 1 && status.phase == Phase::Running && status.role.is_some()
        })
        .await;
    let second_pid = status.pid.unwrap();
    assert_ne!(first_pid, second_pid);
    arrives(&cluster, 1, "after the crash").await;
    arrives(&cluster, 2, "after the crash, too").await;

    // We are killed; PostgreSQL goes on, and is adopted. Settings changed meanwhile take effect.
    one.kill().await;
    assert!(process_exists(second_pid));
    arrives(&cluster, 1, "nobody watches").await;
    let mut options = cluster.options(0);
    options
        .parameters
        .insert("work_mem".to_owned(), "9MB".to_owned());
    let one = Server::start(options.clone());
    let status = one.until_running().await;
    assert_eq!(status.pid, Some(second_pid));
    let metrics = one.telemetry.metrics_text().encode();
    let adopted = "trilith_postgres_starts_total{adopted=\"true\"} 1";
    assert!(metrics.contains(adopted), "{metrics}");
    let work_mem: String = ask(&cluster.app(0).await, "show work_mem").await;
    assert_eq!(work_mem, "9MB");

    // A setting that needs a restart gets one. (Of this one, a replica must not have less than its
    // primary, so the replicas go first.)
    let changed = |index| {
        let mut options = cluster.options(index);
        options
            .parameters
            .insert("max_connections".to_owned(), "210".to_owned());
        options
    };
    two.kill().await;
    three.kill().await;
    let two = Server::start(changed(1));
    let three = Server::start(changed(2));
    two.until_streaming().await;
    three.until_streaming().await;
    one.kill().await;
    let one = Server::start(changed(0));
    let status = one.until_running().await;
    assert_ne!(status.pid, Some(second_pid));
    assert!(!process_exists(second_pid));
    for index in 0..3 {
        let most: String = ask(&cluster.app(index).await, "show max_connections").await;
        assert_eq!(most, "210");
    }

    // A replica is away; with a quorum of the two, writing goes on.
    three.shutdown().await;
    arrives(&cluster, 1, "without three").await;
    let three = Server::start(changed(2));
    three.until_streaming().await;

    // Everything stops and starts again.
    let pids: Vec<u32> = [&one, &two, &three]
        .map(|server| server.status().pid.unwrap())
        .into();
    // Stopped together, as a whole cluster is: a primary waits for its replicas to have everything.
    tokio::join!(one.shutdown(), two.shutdown(), three.shutdown());
    assert!(!pids.iter().any(|pid| process_exists(*pid)));
    let one = Server::start(changed(0));
    let two = Server::start(changed(1));
    one.until_running().await;
    two.until_streaming().await;
    let kept: i64 = ask(&cluster.app(1).await, "select count(*) from entry").await;
    assert_eq!(kept, 6);
    assert_eq!(once("r1").await.unwrap(), Once::AlreadyDone);

    // A slot that somebody dropped comes back. (Its replica is away: it could not be dropped.)
    let admin = cluster.admin(0).await;
    let slot = "select count(*) from pg_replication_slots where slot_name = 'trilith_three_b'";
    assert_eq!(ask::<i64>(&admin, slot).await, 1);
    let drop_slot = "select pg_drop_replication_slot('trilith_three_b')";
    admin.execute(drop_slot, &[]).await.unwrap();
    let admin = &admin;
    eventually("recreated", || async move {
        (ask::<i64>(admin, slot).await == 1).then_some(())
    })
    .await;

    let seen = view
        .wait_for(|view| matches!(view.servers[2].state, ServerState::Down { .. }))
        .await
        .is_ok();
    assert!(seen);
    tokio::join!(one.shutdown(), two.shutdown());
    for index in 0..3 {
        assert_eq!(cluster.beside(index), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_replica_that_fell_too_far_behind_and_one_of_another_database() {
    let cluster = Cluster::new(&["one", "two"]);
    let mut options = cluster.options(0);
    for (name, value) in [
        ("wal_keep_size", "0"),
        ("max_slot_wal_keep_size", "16MB"),
        ("min_wal_size", "32MB"),
    ] {
        options.parameters.insert(name.to_owned(), value.to_owned());
    }
    let one = Server::start(options.clone());
    let two = Server::start(cluster.options(1));
    two.until_streaming().await;
    let app = cluster.app(0).await;
    app.batch_execute("create table entry (text text)")
        .await
        .unwrap();
    arrives(&cluster, 1, "first").await;

    // While the replica is away, the primary moves on by many segments and forgets them.
    two.shutdown().await;
    let admin = cluster.admin(0).await;
    for _ in 0..8 {
        let write = "create table t (); drop table t; select pg_switch_wal()";
        admin.batch_execute(write).await.unwrap();
    }
    admin.batch_execute("checkpoint").await.unwrap();
    one.until("slot recreated", |_| {
        let metrics = one.telemetry.metrics_text().encode();
        metrics.contains("trilith_postgres_slot_changes_total{what=\"recreated\"} 1")
    })
    .await;
    let two = Server::start(cluster.options(1));
    two.until("copied anew", |status| status.asides.len() == 1)
        .await;
    two.until_streaming().await;
    arrives(&cluster, 1, "second").await;
    assert_eq!(cluster.beside(1).len(), 1, "{:?}", cluster.beside(1));

    // The primary loses its disk. The replica holds the only copy: nothing is made anew.
    one.shutdown().await;
    fs::rename(
        cluster.data_dir(0),
        cluster.data_dir(0).with_extension("lost"),
    )
    .unwrap();
    let one = Server::start(options.clone());
    let status = one
        .until("refused", |status| {
            matches!(status.phase, Phase::Failed { .. })
        })
        .await;
    let told = status.phase.describe();
    assert!(told.contains("but two (127.0.0.1:"), "{told}");
    assert!(!cluster.data_dir(0).exists());

    // Without the replica nobody can know: a new database. Then the replica is replaced, and its data
    // is kept.
    two.shutdown().await;
    let status = one.until_running().await;
    let system_id = status.system_id.unwrap();
    let two = Server::start(cluster.options(1));
    two.until_streaming().await;
    assert_eq!(two.status().system_id, Some(system_id));
    assert_eq!(two.status().asides.len(), 2);

    // Left behind by two killed processes, and stopped from outside.
    let pids = [&one, &two].map(|server| server.status().pid.unwrap());
    one.kill().await;
    two.kill().await;
    for (index, pid) in pids.into_iter().enumerate() {
        assert!(process_exists(pid));
        assert!(stop_left_behind(&cluster.options(index)).await.unwrap());
        assert!(!process_exists(pid));
        assert!(!stop_left_behind(&cluster.options(index)).await.unwrap());
    }
}

#[tokio::test]
async fn trouble_is_told_and_overcome() {
    let cluster = Cluster::new(&["one"]);
    // The port is taken.
    let taken = std::net::TcpListener::bind(cluster.address(0)).unwrap();
    let mut options = cluster.options(0);
    options
        .parameters
        .insert("work_mem".to_owned(), "much".to_owned());
    let one = Server::start(options.clone());
    let failed = |text: &'static str| {
        move |status: &trilith_postgres::Status| {
            matches!(status.phase, Phase::Failed { .. }) && status.phase.describe().contains(text)
        }
    };
    let status = one.until("refused", failed("cannot listen on")).await;
    let told = status.phase.describe();
    assert!(told.contains("change ports.postgres"), "{told}");
    drop(taken);

    // A value that PostgreSQL refuses. Its own words are told.
    one.until(
        "refused",
        failed("invalid value for parameter \"work_mem\""),
    )
    .await;
    one.shutdown().await;

    // One that runs goes on as it was.
    let refused = options.clone();
    options.parameters.remove("work_mem");
    let one = Server::start(options.clone());
    let pid = one.until_running().await.pid;
    one.kill().await;
    let one = Server::start(refused);
    assert_eq!(one.until_running().await.pid, pid);
    let metrics = one.telemetry.metrics_text().encode();
    assert!(
        metrics.contains("trilith_postgres_failures_total{} 1"),
        "{metrics}"
    );
    let work_mem: String = ask(&cluster.app(0).await, "show work_mem").await;
    assert_eq!(work_mem, "4MB");
    one.shutdown().await;

    // Somebody exchanged the secrets.
    let mut wrong = options.clone();
    wrong.secrets.superuser = trilith_postgres::Password::generate().unwrap();
    let one = Server::start(wrong);
    let told = one
        .until("refused", failed("password authentication failed"))
        .await;
    let told = told.phase.describe();
    assert!(told.contains("put the old secrets folder back"), "{told}");
    one.shutdown().await;

    // Killed while it was making the database: an unfinished folder is no data.
    let unfinished = cluster.data_dir(0).with_extension("new");
    fs::rename(cluster.data_dir(0), &unfinished).unwrap();
    let one = Server::start(options);
    one.until_running().await;
    assert_eq!(cluster.beside(0), Vec::<String>::new());
    one.shutdown().await;
}
