//! Settings of which a replica must not have less than its primary had.

use super::*;

const MAX: &str = "select current_setting('max_connections')::int";
const PENDING: &str =
    "select coalesce(string_agg(name, ' '), '') from pg_settings where pending_restart";

/// As `trilith reload` does.
async fn set_max_connections(node: &mut Node, value: &str) {
    let setting = ("max_connections".to_owned(), value.to_owned());
    node.options.parameters.extend([setting]);
    node.instance.set_options(node.options.clone());
    node.ready().await;
}

async fn max_and_pending(node: &Node) -> (i32, String) {
    (node.ask(MAX).await, node.ask(PENDING).await)
}

#[tokio::test]
async fn a_lower_setting_keeps_no_replica_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let [mut one, mut two] = servers(folder.path(), ["one", "two"]);
    one.bootstrap().await;
    two.join(&one).await;
    assert_eq!(max_and_pending(&two).await, (200, String::new()));
    assert!(!one.ready().await.lowers);

    for node in [&mut one, &mut two] {
        set_max_connections(node, "50").await;
        let pending = "max_connections".to_owned();
        assert_eq!(max_and_pending(node).await, (200, pending));
        assert_eq!(node.instance.reported, None, "it is not wrong");
    }
    assert!(one.ready().await.lowers && !two.ready().await.lowers);

    // With 50 it would refuse the WAL of a primary with 200. That it waits for a restart stays to be seen.
    two.does(STOP).await;
    two.does(as_replica_of("one")).await;
    two.until_streaming().await;
    let pending = "max_connections".to_owned();
    assert_eq!(max_and_pending(&two).await, (200, pending));
    // So it is after a crash.
    signal(two.postmaster(), Signal::KILL);
    two.until("stopped", |local| local.process == Process::Stopped)
        .await;
    two.does(as_replica_of_nobody()).await;
    assert_eq!(two.ask::<i32>(MAX).await, 200);
    two.does(follow(Some("one"))).await;

    // The primary goes first, and tells its replica by the WAL.
    one.does(STOP).await;
    one.does(as_primary(SyncSet::alone())).await;
    assert_eq!(max_and_pending(&one).await, (50, String::new()));
    assert!(!one.ready().await.lowers);
    let end = Node::end(&one.look().await);
    let began = Instant::now();
    let replayed = format!("select coalesce(pg_last_wal_replay_lsn() >= '{end}', false)");
    while !two.ask::<bool>(&replayed).await {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", two.log());
        sleep(Duration::from_millis(20)).await;
    }
    two.does(STOP).await;
    two.does(as_replica_of("one")).await;
    two.until_streaming().await;
    assert_eq!(max_and_pending(&two).await, (50, String::new()));

    // Upwards the replica goes first.
    set_max_connections(&mut one, "60").await;
    set_max_connections(&mut two, "60").await;
    assert!(!one.ready().await.lowers);
    two.does(STOP).await;
    two.does(as_replica_of("one")).await;
    assert_eq!(max_and_pending(&two).await, (60, String::new()));
}
