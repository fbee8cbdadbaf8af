use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use trilith_base::ServerName;
use trilith_consensus::{MemoryStore, StoreError};

use super::publish::sha256;
use super::*;
use crate::reload::tests::{House, TEXT, house};

struct Cluster {
    stores: Vec<MemoryStore>,
    houses: Vec<House>,
    syncs: Vec<Arc<ConfigSync>>,
    runs: JoinSet<()>,
}

fn sync(store: &MemoryStore, house: &House, use_file: bool) -> Arc<ConfigSync> {
    let file = house.in_force.borrow().clone();
    let me = &house.reloader.server().name;
    let start = at_start(file, &house.path, &house.state, me, use_file);
    let store = Arc::new(store.clone());
    ConfigSync::new(store, house.reloader.clone(), house.state.clone(), start)
}

/// Three servers with a config in force.
async fn cluster() -> Cluster {
    let names = ["one", "two", "three"];
    let stores = MemoryStore::cluster(names.map(|name| ServerName::new(name).unwrap()));
    let houses: Vec<_> = names.map(|name| house(name, TEXT)).into();
    let syncs: Vec<_> = stores
        .iter()
        .zip(&houses)
        .map(|(s, h)| sync(s, h, false))
        .collect();
    let mut runs = JoinSet::new();
    for sync in &syncs {
        runs.spawn(sync.clone().run());
    }
    let cluster = Cluster {
        stores,
        houses,
        syncs,
        runs,
    };
    cluster.reach(1).await;
    cluster
}

impl Cluster {
    /// Waits until every server runs with a version.
    async fn reach(&self, version: u64) {
        for sync in &self.syncs {
            let mut state = sync.state.subscribe();
            let reached = state.wait_for(|state| state.version == Some(version));
            let reached = timeout(Duration::from_secs(20), reached).await;
            assert!(reached.is_ok(), "{:?}", sync.state());
        }
    }

    async fn publish(&self, at: usize, text: &str) -> Result<Published, PublishError> {
        let by = "tester".to_owned();
        self.syncs[at].publish(text.to_owned(), by, false).await
    }

    fn hellos(&self) -> Vec<String> {
        self.houses.iter().map(House::hello).collect()
    }
}

fn hello(number: u64) -> String {
    TEXT.replace("hello 1", &format!("hello {number}"))
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(
        timeout(Duration::from_secs(20), wait).await.is_ok(),
        "{what}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_server_founds_and_all_follow() {
    let cluster = cluster().await;
    let history = cluster.syncs[2].history();
    assert_eq!(history.len(), 1);
    assert_eq!((&*history[0].by, history[0].version), ("one", 1));
    assert_eq!(cluster.syncs[1].current().unwrap().text, TEXT);

    let published = cluster.publish(1, &hello(2)).await.unwrap();
    assert_eq!((published.version, published.is_new), (Some(2), true));
    assert_eq!(published.changes.list.len(), 1);
    cluster.reach(2).await;
    assert_eq!(cluster.hellos(), ["hello 2"; 3]);
    let current = cluster.syncs[0].current().unwrap();
    assert_eq!((&*current.by, current.sha256.len()), ("tester", 64));

    let again = cluster.publish(0, &hello(2)).await.unwrap();
    assert_eq!((again.version, again.is_new), (Some(2), false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_follow_unless_they_were_edited() {
    let cluster = cluster().await;
    let [one, two, three] = &cluster.houses[..] else {
        panic!()
    };
    fs::set_permissions(&two.path, fs::Permissions::from_mode(0o640)).unwrap();
    let edited = format!("# mine\n{TEXT}");
    fs::write(&three.path, &edited).unwrap();
    // The file of `one` is what is published: that is how it is usually done.
    fs::write(&one.path, hello(2)).unwrap();
    cluster.publish(0, &hello(2)).await.unwrap();
    cluster.reach(2).await;
    let is_new = || fs::read_to_string(&two.path).unwrap() == hello(2);
    until("the file of two is replaced", is_new).await;
    let mode = two.path.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
    until("three says that its file differs", || {
        cluster.syncs[2].state().file.is_some()
    })
    .await;
    let said = cluster.syncs[2].state().file.unwrap();
    assert!(
        said.contains("differs from the cluster's version 2"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(&three.path).unwrap(), edited);
    assert_eq!(
        three.hello(),
        "hello 2",
        "it runs with the cluster's all the same"
    );
    assert_eq!(cluster.syncs[0].state().file, None);
    // Nothing is left of writing.
    let names = fs::read_dir(two.path.parent().unwrap()).unwrap();
    assert!(
        !names
            .flatten()
            .any(|name| name.file_name().to_string_lossy().contains("-new"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_used_is_not_published() {
    let cluster = cluster().await;
    let error = cluster
        .publish(0, &TEXT.replace("host =", "hots ="))
        .await
        .unwrap_err();
    assert!(matches!(error, PublishError::Invalid(_)), "{error}");
    let files = "tls = { certificate = \"a.pem\", key = \"a.key\" }";
    let text = TEXT.replace("tls = \"internal\"", files);
    let error = cluster.publish(0, &text).await.unwrap_err();
    assert!(error.to_string().contains("a.pem"), "{error}");
    let long = format!("{TEXT}#{}", "x".repeat(300 * 1024));
    let error = cluster.publish(0, &long).await.unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
    assert_eq!(cluster.syncs[0].history().len(), 1);
    assert_eq!(cluster.hellos(), ["hello 1"; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_use_a_version_says_so_and_goes_on() {
    let cluster = cluster().await;
    // A page of the host's own certificate: only server one has the files.
    let ca = trilith_tls::Ca::load(&cluster.houses[0].dir.path().join("secrets")).unwrap();
    let pem = ca.certificate_pem().to_owned();
    let folder = cluster.houses[0].dir.path();
    fs::write(folder.join("a.pem"), pem).unwrap();
    fs::copy(folder.join("secrets/ca.key"), folder.join("a.key")).unwrap();
    let files = "tls = { certificate = \"a.pem\", key = \"a.key\" }";
    let text = hello(2).replace("tls = \"internal\"", files);
    cluster.publish(0, &text).await.unwrap();
    until("two cannot use it", || {
        cluster.syncs[1].state().failed.is_some()
    })
    .await;
    let state = cluster.syncs[1].state();
    assert_eq!(state.version, Some(1));
    assert!(state.failed.unwrap().contains("a.pem"));
    assert_eq!(cluster.hellos(), ["hello 2", "hello 1", "hello 1"]);
    // The next one is good again.
    cluster.publish(0, &hello(3)).await.unwrap();
    cluster.reach(3).await;
    assert_eq!(cluster.hellos(), ["hello 3"; 3]);
    assert_eq!(cluster.syncs[1].state().failed, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_the_running_config_stays() {
    let cluster = cluster().await;
    for store in &cluster.stores {
        store.cut_off(true);
    }
    let error = cluster.publish(0, &hello(2)).await.unwrap_err();
    assert!(
        matches!(error, PublishError::Store(StoreError::NoLeader { .. })),
        "{error}"
    );
    assert_eq!(cluster.hellos(), ["hello 1"; 3]);
    let dry = cluster.syncs[0]
        .publish(hello(2), String::new(), true)
        .await
        .unwrap();
    assert_eq!(dry.changes.list.len(), 1);
    for store in &cluster.stores {
        store.cut_off(false);
    }
    cluster.publish(0, &hello(2)).await.unwrap();
    cluster.reach(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_catches_up() {
    let cluster = cluster().await;
    cluster.stores[2].cut_off(true);
    cluster.publish(0, &hello(2)).await.unwrap();
    cluster.publish(1, &hello(3)).await.unwrap();
    assert_eq!(cluster.houses[2].hello(), "hello 1");
    cluster.stores[2].cut_off(false);
    cluster.reach(3).await;
    assert_eq!(cluster.hellos(), ["hello 3"; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_looked_up() {
    let cluster = cluster().await;
    // The read goes first.
    cluster.stores[0].lose_answers(1);
    let first = cluster.publish(0, &hello(2)).await;
    let second = cluster.publish(0, &hello(2)).await.unwrap();
    assert!(first.is_ok() || second.is_new, "{first:?}");
    cluster.reach(second.version.unwrap()).await;
    assert_eq!(cluster.hellos(), ["hello 2"; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_at_once_one_wins_and_all_agree() {
    let mut cluster = cluster().await;
    for round in 0..5 {
        let (a, b) = (10 + 2 * round, 11 + 2 * round);
        let (text_a, text_b) = (hello(a), hello(b));
        let (first, second) =
            tokio::join!(cluster.publish(0, &text_a), cluster.publish(1, &text_b));
        for outcome in [first, second] {
            match outcome {
                Ok(_) | Err(PublishError::Conflict { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let current = cluster.syncs[2].current().unwrap();
        let agreed = || {
            let same = |house: &House| *house.in_force.borrow().text == *current.text;
            let known = |sync: &Arc<ConfigSync>| sync.state().version == Some(current.version);
            cluster.houses.iter().all(same) && cluster.syncs.iter().all(known)
        };
        until("all agree", agreed).await;
    }
    cluster.runs.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn earlier_versions_come_back_as_new_ones() {
    let cluster = cluster().await;
    for number in 2..=25 {
        cluster.publish(0, &hello(number)).await.unwrap();
    }
    cluster.reach(25).await;
    let history = cluster.syncs[1].history();
    let versions: Vec<u64> = history.iter().map(|entry| entry.version).collect();
    assert_eq!(versions, (6..=25).rev().collect::<Vec<_>>());

    let by = || "tester".to_owned();
    let back = cluster.syncs[1].rollback(None, by(), false).await.unwrap();
    assert_eq!(back.version, Some(26));
    cluster.reach(26).await;
    assert_eq!(cluster.hellos(), ["hello 24"; 3]);
    assert_eq!(cluster.syncs[0].current().unwrap().rollback_to, Some(24));
    cluster.syncs[2]
        .rollback(Some(10), by(), false)
        .await
        .unwrap();
    cluster.reach(27).await;
    assert_eq!(cluster.hellos(), ["hello 10"; 3]);
    let error = cluster.syncs[0]
        .rollback(Some(3), by(), false)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("there is no version 3; there are 8, 9"),
        "{error}"
    );
    let dry = cluster.syncs[0]
        .rollback(Some(12), by(), true)
        .await
        .unwrap();
    assert_eq!(
        (dry.version, dry.is_new, dry.changes.list.len()),
        (Some(27), false, 1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_goes_on_with_the_clusters_version() {
    let mut cluster = cluster().await;
    cluster.publish(0, &hello(2)).await.unwrap();
    cluster.reach(2).await;
    cluster.runs.shutdown().await;
    let house = &cluster.houses[0];
    until("it is remembered", || {
        house.state.join("run/config.json").exists()
    })
    .await;
    let me = &house.reloader.server().name;
    let start = |text: &str, use_file: bool| {
        let config = Arc::new(house.reloader.parse(text).unwrap().config);
        let text = text.into();
        let file = crate::tokens::InForce { config, text };
        at_start(file, &house.path, &house.state, me, use_file)
    };
    let same = start(&hello(2), false);
    assert_eq!((same.version, same.file_differs), (Some(2), None));
    let edited = start(&hello(9), false);
    assert_eq!(*edited.in_force.text, hello(2));
    assert!(edited.file_differs.unwrap().contains("version 2"));
    let wins = start(&hello(9), true);
    assert_eq!(
        (&*wins.in_force.text, wins.publish_file),
        (&*hello(9), true)
    );
    // What was changed by hand is not the cluster's.
    let path = house.state.join("run/config.json");
    let json = fs::read_to_string(&path)
        .unwrap()
        .replace("hello 2", "hello 7");
    fs::write(&path, json).unwrap();
    assert_eq!(*start(&hello(9), false).in_force.text, hello(9));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_to_win_becomes_the_next_version() {
    let mut cluster = cluster().await;
    cluster.publish(0, &hello(2)).await.unwrap();
    cluster.reach(2).await;
    let again = house("one", &hello(9));
    let winner = sync(&cluster.stores[0], &again, true);
    cluster.runs.spawn(winner.clone().run());
    until("all have it", || cluster.houses[1].hello() == "hello 9").await;
    until("it is told", || winner.state().version == Some(3)).await;
    assert_eq!(cluster.syncs[1].history()[0].version, 3);
    assert_eq!(again.hello(), "hello 9");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_does_not_win_over_what_is_published_after_its_server_came() {
    let mut cluster = cluster().await;
    let again = house("three", &hello(9));
    let late = sync(&cluster.stores[2], &again, true);
    cluster.runs.spawn(late.clone().run());
    until("it has come", || {
        late.running
            .try_lock()
            .is_ok_and(|running| running.found == Some(1))
    })
    .await;
    cluster.publish(0, &hello(2)).await.unwrap();
    until("it follows", || late.state().version == Some(2)).await;
    assert_eq!(again.hello(), "hello 2");
    cluster.reach(2).await;
}

#[test]
fn the_form_of_a_version_is_kept() {
    // Written by 0.1.0.
    let stored =
        r#"{"version":7,"sha256":"x","by":"root@one","at_unix_ms":1,"text":"[cluster]\n"}"#;
    let version: ConfigVersion = serde_json::from_str(stored).unwrap();
    assert_eq!((version.version, version.rollback_to), (7, None));
    let newer = stored.replace("\"by\"", "\"unheard_of\": {}, \"by\"");
    assert_eq!(
        serde_json::from_str::<ConfigVersion>(&newer).unwrap(),
        version
    );
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(sha256("abc"), digest);
}
