//! Every step, with real PostgreSQL.

mod around;
mod dropped;
mod lowered;
mod rig;

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::time::{sleep, timeout};
use trilith_ha::{Data, Kind, Lsn, Process, SlotSeen, Step, StopMode, SyncSet};

use super::settings::ConfirmedBy;
use crate::status::{CurrentRole, Phase};
use rig::*;

const TABLE: &str = "create table entry (text text)";
const INSERT: &str = "insert into entry values ('x')";

#[tokio::test]
async fn a_database_from_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let [mut one] = servers(folder.path(), ["one"]);
    let local = one.look().await;
    assert_eq!(
        (local.data, local.process),
        (Data::Missing, Process::Stopped)
    );

    one.does(Step::Initdb).await;
    let local = one.look().await;
    assert_eq!(data(&local), (Kind::Primary, true, true));
    assert_eq!(local.process, Process::Stopped);
    assert_eq!(local.history().unwrap().end.timeline, 1);
    assert!(Node::end(&local) > Lsn(0));

    one.does(as_primary(SyncSet::alone())).await;
    let ready = one.ready().await;
    assert!(!ready.in_recovery && !ready.open && !ready.set_up && ready.checkpointed);
    assert!(ready.sync.set.is_alone());
    assert_eq!(ready.system_id, local.system_id().unwrap());

    one.does(Step::SetUp).await;
    assert!(one.ready().await.set_up);
    assert!(one.app().await.is_err(), "it is closed");
    one.does(Step::Open).await;
    assert!(one.ready().await.open);
    let app = one.app().await.unwrap();
    app.batch_execute(TABLE).await.unwrap();
    let before = one.ready().await.end().lsn;
    app.batch_execute(INSERT).await.unwrap();
    assert!(one.ready().await.end().lsn > before);
    one.instance.founded().await.unwrap();
    assert_eq!(data(&one.look().await), (Kind::Primary, false, false));
    one.does(Step::Checkpoint).await;

    one.does(Step::Close).await;
    assert!(!one.ready().await.open);
    assert!(one.app().await.is_err());
    app.batch_execute(INSERT).await.unwrap();
    let status = one.status.borrow().clone();
    assert_eq!(status.role, Some(CurrentRole::Primary));
    assert_eq!(status.phase, Phase::Running);
    assert_eq!(status.timeline, Some(1));
    assert_eq!(status.pid, Some(one.postmaster()));

    let ended = one.instance.ended();
    one.does(STOP).await;
    timeout(Duration::from_secs(1), ended).await.unwrap();
    let local = one.look().await;
    assert_eq!(local.process, Process::Stopped);
    assert_eq!(data(&local), (Kind::Primary, true, false));
    assert_eq!(one.status.borrow().pid, None);

    // Started again, it is closed, although it was open once.
    one.does(Step::Start {
        how: trilith_ha::StartAs::Primary {
            sync: SyncSet::alone(),
        },
    })
    .await;
    assert!(one.app().await.is_err());
    one.does(Step::Open).await;
    let app = one.app().await.unwrap();
    assert_eq!(app.query("select from entry", &[]).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_failover_and_the_way_back() {
    let folder = tempfile::tempdir().unwrap();
    let [mut one, mut two, mut three] = servers(folder.path(), ["one", "two", "three"]);
    one.bootstrap().await;
    let app = one.app().await.unwrap();
    app.batch_execute(TABLE).await.unwrap();
    let seen = two.instance.ask_primary(&name("one")).await.unwrap();
    assert!(seen.is_primary);
    assert_eq!(seen.slot, SlotSeen::Ready);
    two.join(&one).await;
    three.join(&one).await;
    assert!(three.status.borrow().streaming.unwrap());

    // Commits wait for one of two, which is seen; and then for both.
    one.until_ready("two replicas", |ready| {
        ready.standbys.iter().all(|standby| standby.streaming)
    })
    .await;
    one.does(sync(set(1, &["two", "three"]), &[])).await;
    let ready = one
        .until_ready("confirmed", |ready| ready.confirmed())
        .await;
    assert_eq!(ready.sync.set, set(1, &["two", "three"]));
    let since = ready.sync.since;
    app.batch_execute(INSERT).await.unwrap();
    one.does(sync(set(2, &["two", "three"]), &["two", "three"]))
        .await;
    let ready = one
        .until_ready("confirmed", |ready| ready.confirmed())
        .await;
    assert!(ready.sync.since > since);
    app.batch_execute(INSERT).await.unwrap();
    one.does(sync(set(1, &["two"]), &["three"])).await;
    assert_eq!(one.ready().await.sync.set, set(1, &["two"]));
    app.batch_execute(INSERT).await.unwrap();

    // The primary dies. Replicas stop receiving, and then know exactly what they have.
    signal(one.postmaster(), Signal::KILL);
    let local = one
        .until("stopped", |local| local.process == Process::Stopped)
        .await;
    assert_eq!(data(&local), (Kind::Primary, false, false));
    assert_eq!(one.status.borrow().restarts, 1);
    two.does(follow(None)).await;
    three.does(follow(None)).await;
    let mut ends = Vec::new();
    for node in [&mut two, &mut three] {
        let ready = node.ready().await;
        assert!(
            ready.settled && !ready.receiving && ready.follows.is_none(),
            "{ready:?}"
        );
        assert_eq!(ready.end().timeline, 1);
        ends.push(ready.end().lsn);
    }
    assert!(ends[0] >= ends[1]);

    // Reads at a replica end when it becomes a primary: closed means closed.
    let reader = two.app().await.unwrap();
    two.does(Step::Promote {
        sync: set(1, &["three"]),
        timeline: 4,
    })
    .await;
    assert!(reader.batch_execute("select").await.is_err());
    assert!(two.app().await.is_err());
    let ready = two.ready().await;
    assert!(!ready.in_recovery && !ready.open);
    assert_eq!(ready.end().timeline, 4);
    assert_eq!(ready.history.ended.len(), 1);
    assert_eq!(ready.history.ended[0].lsn, ends[0]);
    assert_eq!(ready.sync.set, set(1, &["three"]));
    assert!(!ready.confirmed());
    assert!(two.instance.life.confirmed.as_ref().unwrap().proven);

    three.does(follow(Some("two"))).await;
    let ready = two
        .until_ready("confirmed", |ready| ready.confirmed())
        .await;
    assert!(ready.since < Duration::from_secs(60));
    two.does(Step::Open).await;
    two.does(Step::SetUp).await;
    two.does(Step::Checkpoint).await;
    assert!(two.ready().await.checkpointed);
    let app = two.app().await.unwrap();
    app.batch_execute(INSERT).await.unwrap();
    let ready = three
        .until_ready("on the new timeline", |ready| ready.end().timeline == 4)
        .await;
    assert_eq!(ready.follows, Some(name("two")));
    assert!(
        fs::read_dir(three.options.data_dir.join("pg_wal"))
            .unwrap()
            .any(|entry| entry.unwrap().file_name() == "00000003.history")
    );

    // The old primary has written something that nobody else has, and comes back.
    one.does(as_primary(SyncSet::alone())).await;
    let admin = one.admin().await;
    admin.batch_execute("create table lost ()").await.unwrap();
    let theirs = one.instance.ask_primary(&name("two")).await.unwrap();
    assert!(!theirs.history.contains(one.ready().await.end()));
    signal(one.postmaster(), Signal::KILL);
    one.until("stopped", |local| local.process == Process::Stopped)
        .await;
    one.does(Step::Rewind { from: name("two") }).await;
    assert_eq!(data(&one.look().await).0, Kind::Replica);
    one.does(as_replica_of("two")).await;
    let ready = one.until_streaming().await;
    assert_eq!(ready.end().timeline, 4);
    let end = two.ready().await.end().lsn;
    one.until_ready("caught up", |ready| ready.end().lsn >= end)
        .await;
    assert!(
        !one.ask::<bool>("select to_regclass('lost') is not null")
            .await
    );
    let reader = one.app().await.unwrap();
    let rows = reader.query("select from entry", &[]).await.unwrap();
    assert_eq!(rows.len(), 4);
    // Its slots from before are gone: they would hold WAL for ever.
    assert_eq!(
        one.ask::<i64>("select count(*) from pg_replication_slots")
            .await,
        0
    );
    assert_eq!(one.look().await.asides, 0);
}

#[tokio::test]
async fn a_switchover_in_good_order() {
    let folder = tempfile::tempdir().unwrap();
    let [mut one, mut two] = servers(folder.path(), ["one", "two"]);
    one.bootstrap().await;
    one.app().await.unwrap().batch_execute(TABLE).await.unwrap();
    two.join(&one).await;
    one.does(Step::Checkpoint).await;
    one.does(Step::Close).await;
    one.does(STOP).await;
    let local = one.look().await;
    assert_eq!(data(&local), (Kind::Primary, true, false));
    let base = local.history().unwrap().end;

    two.does(follow(None)).await;
    let ready = two.ready().await;
    assert!(ready.settled);
    assert!(ready.history.contains(base), "{ready:?} {base}");
    let promote = Step::Promote {
        sync: SyncSet::alone(),
        timeline: 2,
    };
    two.does(promote.clone()).await;
    two.does(Step::Open).await;
    two.does(Step::SetUp).await;
    let seen = one.instance.ask_primary(&name("two")).await.unwrap();
    assert!(seen.history.contains(base));
    one.does(as_replica_of("two")).await;
    one.until_streaming().await;
    two.app()
        .await
        .unwrap()
        .batch_execute(INSERT)
        .await
        .unwrap();
    one.until_ready("on the new timeline", |ready| ready.end().timeline == 2)
        .await;
    // To promote what is a primary changes nothing.
    two.does(promote).await;
    assert_eq!(two.ready().await.end().timeline, 2);
}

#[tokio::test]
async fn a_shutdown_that_the_next_primary_has_not_heard_of() {
    let folder = tempfile::tempdir().unwrap();
    let [mut one, mut two] = servers(folder.path(), ["one", "two"]);
    one.bootstrap().await;
    two.join(&one).await;
    let end = one.ready().await.end().lsn;
    two.until_ready("caught up", |ready| ready.end().lsn >= end)
        .await;
    two.does(follow(None)).await;
    one.does(STOP).await;
    two.does(Step::Promote {
        sync: SyncSet::alone(),
        timeline: 2,
    })
    .await;
    two.does(Step::Checkpoint).await;

    // It ended in good order, and its history is another one all the same.
    assert_eq!(data(&one.look().await), (Kind::Primary, true, false));
    let rewind = Step::Rewind { from: name("two") };
    assert!(two.instance.execute(&rewind).await.is_err(), "it runs");
    one.does(rewind).await;
    one.does(as_replica_of("two")).await;
    let ready = one.until_streaming().await;
    assert_eq!(ready.end().timeline, 2);
    assert_eq!(one.look().await.failures, 0);
}

#[tokio::test]
async fn silence_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let [mut one] = servers(folder.path(), ["one"]);
    one.bootstrap().await;
    one.ready().await;
    let silent = |local: &trilith_ha::Local| matches!(local.process, Process::Silent { .. });

    let postmaster = one.postmaster();
    signal(postmaster, Signal::STOP);
    let began = Instant::now();
    let local = one.until("silent", silent).await;
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(data(&local).0, Kind::Primary);
    assert!(local.may_be_primary());
    signal(postmaster, Signal::CONT);
    one.until_ready("ready again", |_| true).await;
    assert_eq!(one.look().await.failures, 0);

    // The process behind the kept session.
    let sql = "select pid from pg_stat_activity where pid <> pg_backend_pid()
                  and application_name = 'trilith'";
    let pid: i32 = one.ask(sql).await;
    signal(pid.cast_unsigned(), Signal::STOP);
    one.until("silent", silent).await;
    one.until_ready("asked by another session", |_| true).await;
    signal(pid.cast_unsigned(), Signal::CONT);

    // Everything at once is killed, frozen as it is.
    for pid in [postmaster, one.pid_of("checkpointer").await] {
        signal(pid, Signal::STOP);
    }
    let began = Instant::now();
    one.instance.kill().await;
    assert!(began.elapsed() < Duration::from_millis(500));
    let local = one.look().await;
    assert_eq!(local.process, Process::Stopped);
    assert_eq!(data(&local), (Kind::Primary, false, false));
    one.does(as_primary(SyncSet::alone())).await;
    // A stop in good order of what is frozen becomes a kill.
    signal(one.postmaster(), Signal::STOP);
    one.does(Step::Stop {
        mode: StopMode::Immediate,
    })
    .await;
    assert_eq!(one.look().await.process, Process::Stopped);
}

#[tokio::test]
async fn a_crash_ends_it_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let [mut one] = servers(folder.path(), ["one"]);
    one.bootstrap().await;
    one.ready().await;
    for failures in 1..=2 {
        let ended = one.instance.ended();
        // Any process that dies takes all with it, and PostgreSQL does not start again by itself.
        signal(one.pid_of("walwriter").await, Signal::KILL);
        timeout(Duration::from_secs(10), ended).await.unwrap();
        let local = one
            .until("stopped", |local| local.process == Process::Stopped)
            .await;
        assert_eq!(data(&local), (Kind::Primary, false, false));
        assert_eq!(local.failures, failures);
        one.does(as_primary(SyncSet::alone())).await;
        assert!(!one.ready().await.open);
    }
    one.does(STOP).await;
    assert_eq!(one.look().await.failures, 2);

    // What makes it fail to start is told.
    one.options
        .parameters
        .insert("work_mem".to_owned(), "much".to_owned());
    one.instance.set_options(one.options.clone());
    let start = as_primary(SyncSet::alone());
    let error = one.instance.execute(&start).await.unwrap_err();
    one.instance.step_failed(&error);
    let told = one.status.borrow().phase.describe();
    assert!(
        told.contains("invalid value for parameter \"work_mem\""),
        "{told}"
    );
    assert_eq!(one.look().await.failures, 3);

    // A disk that is full keeps it from starting until there is room.
    one.instance
        .disk
        .note_complaint("PANIC:  could not write: No space left on device");
    assert_eq!(data(&one.look().await).0, Kind::Primary);
}

#[tokio::test]
async fn half_a_proof_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let [mut one, two] = servers(folder.path(), ["one", "two"]);
    one.bootstrap().await;
    drop(two);
    let app = one.app().await.unwrap();
    app.batch_execute(TABLE).await.unwrap();

    // While the checkpointer is busy, no commit waits, and none is said to.
    let checkpointer = one.pid_of("checkpointer").await;
    signal(checkpointer, Signal::STOP);
    let step = sync(set(1, &["two"]), &[]);
    let patience = Duration::from_millis(700);
    assert!(
        timeout(patience, one.instance.execute(&step))
            .await
            .is_err()
    );
    signal(checkpointer, Signal::CONT);
    let ready = one.until_ready("as before", |_| true).await;
    assert!(ready.sync.set.is_alone() && ready.open);
    timeout(Duration::from_secs(10), app.batch_execute(INSERT))
        .await
        .expect("nobody to wait for")
        .unwrap();
    let names: String = one.ask("show synchronous_standby_names").await;
    assert_eq!(names, "");

    // Proven; then commits do wait, for a replica that is not there.
    one.does(step).await;
    assert_eq!(one.ready().await.sync.set, set(1, &["two"]));
    let waits = timeout(Duration::from_millis(300), app.batch_execute(INSERT)).await;
    assert!(waits.is_err());
    one.does(sync(SyncSet::alone(), &["two"])).await;
    timeout(Duration::from_secs(10), app.batch_execute(INSERT))
        .await
        .expect("nobody to wait for any more")
        .unwrap();
}

#[tokio::test]
async fn an_agent_that_comes_back_finds_everything_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let [mut one, mut two] = servers(folder.path(), ["one", "two"]);
    one.bootstrap().await;
    let app = one.app().await.unwrap();
    app.batch_execute(TABLE).await.unwrap();
    two.join(&one).await;
    one.does(sync(set(1, &["two"]), &[])).await;
    let before = one
        .until_ready("confirmed", |ready| ready.confirmed())
        .await;

    let pid = one.postmaster();
    one.restart_agent();
    two.restart_agent();
    let after = one.ready().await;
    assert_eq!(one.postmaster(), pid);
    assert_eq!(after.sync, before.sync);
    assert!(after.open && !after.in_recovery);
    app.batch_execute(INSERT).await.unwrap();
    let replica = two.ready().await;
    assert_eq!(replica.follows, Some(name("one")));
    assert!(replica.receiving);

    // Settings of today take effect; those that PostgreSQL refuses are told.
    one.options
        .parameters
        .insert("work_mem".to_owned(), "9MB".to_owned());
    one.restart_agent();
    one.ready().await;
    assert_eq!(one.ask::<String>("show work_mem").await, "9MB");
    one.options
        .parameters
        .insert("work_mem".to_owned(), "much".to_owned());
    one.instance.set_options(one.options.clone());
    one.ready().await;
    assert_eq!(one.ask::<String>("show work_mem").await, "9MB");
    let metrics = one.telemetry.metrics_text().encode();
    assert!(
        metrics.contains("trilith_postgres_failures_total{} 1"),
        "{metrics}"
    );
    one.options.parameters.remove("work_mem");

    // It was killed while it was bringing another set in force, or proving one.
    for (left, by) in [
        (ConfirmedBy::alone(), "another set"),
        (ConfirmedBy::Nobody, "nobody"),
    ] {
        let settings = one.instance.confirmed_by(left).unwrap();
        one.instance.reload(settings).await.unwrap();
        one.restart_agent();
        let ready = one.until_ready(by, |_| true).await;
        assert_eq!(ready.sync.set, before.sync.set, "{by}");
        assert!(ready.sync.since >= before.sync.since);
        let names: String = one.ask("show synchronous_standby_names").await;
        assert_eq!(names, "ANY 1 (\"two\")");
        one.until_ready("confirmed", |ready| ready.confirmed())
            .await;
        app.batch_execute(INSERT).await.unwrap();
    }

    // Closed while nobody looked after it: whoever still is there has to go.
    one.does(Step::Close).await;
    app.batch_execute("select").await.unwrap();
    one.restart_agent();
    assert!(!one.ready().await.open);
    assert!(app.batch_execute("select").await.is_err());

    // Somebody else decides about a setting of ours: nothing goes on before that is undone.
    let admin = one.admin().await;
    let elsewhere = "alter system set synchronous_standby_names = '*'";
    admin.batch_execute(elsewhere).await.unwrap();
    admin
        .query_one("select pg_reload_conf()", &[])
        .await
        .unwrap();
    let local = one
        .until("waiting", |local| {
            matches!(local.process, Process::Starting { .. })
        })
        .await;
    assert!(local.may_be_primary());
    let told = one.status.borrow().phase.describe();
    assert!(
        told.contains("alter system") || told.contains("Trilith did not set"),
        "{told}"
    );
    admin
        .batch_execute("alter system reset synchronous_standby_names")
        .await
        .unwrap();
    let ready = one.until_ready("as it was", |_| true).await;
    assert_eq!(ready.sync.set, before.sync.set);
}

#[tokio::test]
async fn data_that_are_no_use() {
    let folder = tempfile::tempdir().unwrap();
    let [mut one, mut two] = servers(folder.path(), ["one", "two"]);
    one.bootstrap().await;
    two.join(&one).await;
    two.does(STOP).await;
    let local = two.look().await;
    assert_eq!(data(&local), (Kind::Replica, true, false));

    // A rewind that was cut short. A copy takes its place; what was there is kept.
    let mark = two.options.data_dir.with_extension("rewinding");
    fs::write(&mark, "").unwrap();
    let local = two.look().await;
    assert!(matches!(local.data, Data::HalfMade { .. }), "{local:?}");
    two.join(&one).await;
    assert!(!mark.exists());
    let local = two.look().await;
    assert_eq!(local.asides, 1);
    assert_eq!(two.status.borrow().asides.len(), 1);
    two.does(STOP).await;

    // A rewind that cannot begin changes nothing; it counts when that is not for want of a primary.
    let rewind = |from| Step::Rewind { from: name(from) };
    assert!(two.instance.execute(&rewind("two")).await.is_err());
    let local = two.look().await;
    assert_eq!((data(&local).0, local.failures), (Kind::Replica, 0));
    // One that finds nothing to do, although the histories were said to part, counts too.
    two.does(rewind("one")).await;
    let local = two.look().await;
    assert_eq!((data(&local).0, local.failures), (Kind::Replica, 1));
    let control = two.options.data_dir.join("global").join("pg_control");
    let whole = fs::read(&control).unwrap();
    let mut damaged = whole.clone();
    damaged[100] ^= 1;
    fs::write(&control, damaged).unwrap();
    assert!(two.instance.execute(&rewind("one")).await.is_err());
    fs::write(&control, whole).unwrap();
    let local = two.look().await;
    assert_eq!((data(&local).0, local.failures), (Kind::Replica, 2));

    let unusable = |local: trilith_ha::Local| match local.data {
        Data::Unusable { what, hint } => format!("{what}; {hint}"),
        other => panic!("{other:?}"),
    };
    let dir = two.options.data_dir.clone();
    let damage = |file: &str, bytes: &[u8]| {
        let path = dir.join(file);
        let before = fs::read(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        (path, before)
    };
    for (file, bytes, told) in [
        ("PG_VERSION", &b"9\n"[..], "of PostgreSQL 9"),
        ("PG_VERSION", b"x", "PG_VERSION makes no sense"),
        ("global/pg_control", &[0; 8192], "damaged"),
        ("global/pg_control", b"", "damaged"),
    ] {
        let (path, before) = damage(file, bytes);
        let text = unusable(two.look().await);
        assert!(text.contains(told), "{file}: {text}");
        fs::write(path, before).unwrap();
        assert_eq!(data(&two.look().await).0, Kind::Replica, "{file}");
    }
    fs::remove_file(dir.join("trilith.conf")).unwrap();
    let text = unusable(two.look().await);
    assert!(
        text.contains("did not make") && text.contains("mv "),
        "{text}"
    );
}

#[tokio::test]
async fn a_replica_that_is_held_up_stops_receiving_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let [mut one, mut two] = servers(folder.path(), ["one", "two"]);
    one.bootstrap().await;
    let app = one.app().await.unwrap();
    app.batch_execute(TABLE).await.unwrap();
    two.join(&one).await;
    let admin = two.admin().await;
    admin
        .query_one("select pg_wal_replay_pause()", &[])
        .await
        .unwrap();
    let paused = "select pg_get_wal_replay_pause_state() = 'paused'";
    while !two.ask::<bool>(paused).await {
        app.batch_execute(INSERT).await.unwrap();
        sleep(Duration::from_millis(20)).await;
    }
    app.batch_execute(INSERT).await.unwrap();
    let end = one.ready().await.end().lsn;
    two.until_ready("received", |ready| ready.end().lsn >= end)
        .await;
    two.does(follow(None)).await;
    let ready = two.ready().await;
    assert!(ready.settled && ready.end().lsn >= end, "{ready:?}");
    let at = ready.end();
    app.batch_execute(INSERT).await.unwrap();
    sleep(Duration::from_millis(500)).await;
    let ready = two.ready().await;
    assert_eq!((ready.end(), ready.receiving), (at, false));

    // Started again without anybody to receive from, it still knows.
    admin
        .query_one("select pg_wal_replay_resume()", &[])
        .await
        .unwrap();
    drop(admin);
    two.does(STOP).await;
    two.does(as_replica_of_nobody()).await;
    let ready = two.until_ready("settled", |ready| ready.settled).await;
    assert_eq!(ready.end(), at);
    assert!(!two.log().contains("FATAL:  requested timeline"));
}
