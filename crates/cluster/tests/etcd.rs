//! The store in etcd, against a real etcd of three members that the test starts.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use trilith_base::{BootTime, ServerName};
use trilith_cluster::{EtcdOptions, EtcdStore};
use trilith_consensus::suite::{self, Harness};
use trilith_consensus::{BoxFuture, Epoch, Key, Outcome, Store, StoreError, Txn};

const SERVERS: [&str; 3] = ["one", "two", "three"];

/// Three members of an etcd on loopback; each of our servers prefers another one.
struct Etcd {
    folder: TempDir,
    program: PathBuf,
    client_ports: Vec<u16>,
    peer_ports: Vec<u16>,
    members: Mutex<Vec<Option<Child>>>,
    stores: Mutex<Vec<Arc<EtcdStore>>>,
    cluster: String,
}

impl Etcd {
    /// `None` when there is no etcd here, and nobody insists.
    fn start() -> Option<Self> {
        let Some(program) = program() else {
            let must = std::env::var("CI").is_ok_and(|ci| !["", "0", "false"].contains(&&*ci));
            assert!(!must, "etcd is missing: scripts/setup.sh test installs it");
            eprintln!("skipped: no etcd in PATH; scripts/setup.sh test installs it");
            return None;
        };
        let etcd = Self {
            folder: tempfile::tempdir().unwrap(),
            program,
            client_ports: free_ports(SERVERS.len()),
            peer_ports: free_ports(SERVERS.len()),
            members: Mutex::new(SERVERS.iter().map(|_| None).collect()),
            stores: Mutex::default(),
            cluster: "foobar".into(),
        };
        for member in 0..SERVERS.len() {
            etcd.launch(member);
        }
        let stores = (0..SERVERS.len()).map(|server| etcd.connect(server));
        *etcd.stores.lock().unwrap() = stores.collect();
        Some(etcd)
    }

    fn launch(&self, member: usize) {
        let url = |port: u16| format!("http://{}:{port}", address());
        let name = SERVERS[member];
        let data = self.folder.path().join(name);
        let (client, peer) = (url(self.client_ports[member]), url(self.peer_ports[member]));
        let all = SERVERS.iter().zip(&self.peer_ports);
        let all: Vec<_> = all
            .map(|(name, port)| format!("{name}={}", url(*port)))
            .collect();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join(format!("{name}.log")))
            .unwrap();
        let child = Command::new(&self.program)
            .env_clear()
            // A lease may then be as short as a second.
            .args(["--heartbeat-interval", "40", "--election-timeout", "400"])
            .args(["--name", name, "--data-dir"])
            .arg(&data)
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args([
                "--initial-cluster",
                &all.join(","),
                "--initial-cluster-state",
                "new",
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.members.lock().unwrap()[member] = Some(child);
    }

    fn connect(&self, server: usize) -> Arc<EtcdStore> {
        let ports = self.client_ports.iter().cycle().skip(server);
        let endpoints = ports
            .take(SERVERS.len())
            .map(|port| format!("http://{}:{port}", address()))
            .collect();
        let cluster = self.cluster.clone();
        EtcdStore::start(&EtcdOptions { endpoints, cluster }).unwrap()
    }

    fn end(&self, member: usize) {
        if let Some(mut child) = self.members.lock().unwrap()[member].take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops a member in its tracks, or lets it go on.
    fn signal(&self, member: usize, signal: Signal) {
        let members = self.members.lock().unwrap();
        let child = members[member].as_ref().unwrap();
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    async fn ready(&self) {
        let stores = self.stores.lock().unwrap().clone();
        for store in stores {
            eventually("etcd answers", async || store.read().await.ok()).await;
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in 0..SERVERS.len() {
            self.end(member);
        }
        if std::thread::panicking() {
            for name in SERVERS {
                let log = self.folder.path().join(format!("{name}.log"));
                let log = std::fs::read_to_string(log).unwrap_or_default();
                let lines: Vec<_> = log.lines().collect();
                let last = &lines[lines.len().saturating_sub(20)..];
                eprintln!("--- etcd {name}\n{}", last.join("\n"));
            }
        }
    }
}

impl Harness for Etcd {
    fn servers(&self) -> usize {
        SERVERS.len()
    }

    fn name(&self, server: usize) -> ServerName {
        ServerName::new(SERVERS[server]).unwrap()
    }

    fn store(&self, server: usize) -> Arc<dyn Store> {
        self.stores.lock().unwrap()[server].clone()
    }

    fn now(&self) -> BootTime {
        BootTime::now()
    }

    fn pause(&self, time: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(time))
    }

    /// The member dies; our server stays, and must find another one.
    fn kill(&self, server: usize) -> BoxFuture<'_, bool> {
        self.end(server);
        Box::pin(async { true })
    }

    fn restart(&self, server: usize) -> BoxFuture<'_, ()> {
        self.launch(server);
        Box::pin(async {})
    }

    fn ttl(&self) -> Duration {
        Duration::from_secs(1)
    }
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/bin".into()]);
    folders
        .map(|folder| folder.join("etcd"))
        .find(|program| program.is_file())
}

/// A loopback address of this process's own, where nobody else looks for free ports.
fn address() -> Ipv4Addr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | (high & 63), middle, low.clamp(1, 254))
}

/// All are held until all are known, so they differ.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind((address(), 0)).unwrap())
        .collect();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    listeners.iter().map(port).collect()
}

async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..3000 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("waited for: {what}");
}

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

async fn put(store: &dyn Store, name: &str, value: &str) -> bool {
    let value = trilith_consensus::Write::Put {
        key: key(name),
        value: value.as_bytes().into(),
    };
    matches!(
        store.commit(Txn::new().then(value)).await,
        Ok(Outcome::Done { .. })
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_passes_the_suite() {
    let Some(etcd) = Etcd::start() else { return };
    suite::all(&etcd).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_majority_that_hangs_and_comes_back() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.ready().await;
    let store = etcd.store(0);
    assert!(put(&*store, "a", "1").await);
    let mut view = store.view();
    view.wait_for(|view| view.get("a").is_some()).await.unwrap();
    let mut membership = store.membership();
    membership
        .wait_for(|m| m.has_quorum && m.leader.is_some())
        .await
        .unwrap();
    let names: Vec<_> = membership
        .borrow()
        .members
        .iter()
        .map(|m| m.name.to_string())
        .collect();
    assert!(
        SERVERS
            .iter()
            .all(|name| names.contains(&(*name).to_owned())),
        "{names:?}"
    );

    etcd.signal(1, Signal::STOP);
    etcd.signal(2, Signal::STOP);
    membership
        .wait_for(|m| !m.has_quorum && m.leader.is_none())
        .await
        .unwrap();
    let read = store.read().await;
    assert!(matches!(read, Err(StoreError::NoLeader { .. })), "{read:?}");
    let commit = store
        .commit(Txn::compare_and_set(key("b"), None, *b"1"))
        .await;
    assert!(
        matches!(
            commit,
            Err(StoreError::Unknown | StoreError::NoLeader { .. })
        ),
        "{commit:?}"
    );
    // What was known is still there.
    assert!(store.view().borrow().get("a").is_some());

    etcd.signal(1, Signal::CONT);
    etcd.signal(2, Signal::CONT);
    membership
        .wait_for(|m| m.has_quorum && m.leader.is_some())
        .await
        .unwrap();
    eventually("writes go on", async || {
        put(&*store, "a", "2").await.then_some(())
    })
    .await;
    for server in 0..3 {
        let mut view = etcd.store(server).view();
        let arrived = view.wait_for(|view| view.get("a").is_some_and(|e| *e.value == *b"2"));
        tokio::time::timeout(Duration::from_secs(60), arrived)
            .await
            .unwrap()
            .unwrap();
    }
}

/// A member that hangs is passed over, by reads, writes and renewals, and by the watch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_member_asked_first_hangs() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.ready().await;
    let (store, other) = (etcd.store(0), etcd.store(1));
    let grant = Txn::grant(key("vip"), etcd.name(0), Duration::from_secs(30));
    let Ok(Outcome::Done { revision }) = store.commit(grant).await else {
        panic!("not granted");
    };
    let epoch = Epoch(revision.0);
    store.renew(&key("vip"), epoch).await.unwrap();
    etcd.signal(0, Signal::STOP);
    eventually("it is renewed", async || {
        store.renew(&key("vip"), epoch).await.ok()
    })
    .await;
    eventually("it is read", async || store.read().await.ok()).await;
    eventually("others write", async || {
        put(&*other, "a", "1").await.then_some(())
    })
    .await;
    eventually("the watch goes on elsewhere", async || {
        store.view().borrow().get("a").is_some().then_some(())
    })
    .await;
    eventually("it writes", async || {
        put(&*store, "b", "1").await.then_some(())
    })
    .await;
    etcd.signal(0, Signal::CONT);
}

/// More than one message between etcd and its gateway takes, and history that was compacted away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_state_is_read_whole() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.ready().await;
    let store = etcd.store(0);
    for n in 0..24 {
        let value = vec![n; 200 * 1024];
        let txn = Txn::compare_and_set(key(&format!("large/{n}")), None, value);
        eventually("it is written", async || {
            let _ = store.commit(txn.clone()).await;
            store
                .read()
                .await
                .ok()?
                .get(&format!("large/{n}"))
                .map(drop)
        })
        .await;
    }
    let late = etcd.connect(2);
    let view = eventually("it is read", async || late.read().await.ok()).await;
    assert_eq!(view.prefixed("large/").count(), 24);
    let mut seen = late.view();
    seen.wait_for(|view| view.prefixed("large/").count() == 24)
        .await
        .unwrap();
}
