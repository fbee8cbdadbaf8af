//! Whole loops over the store in one process, in real time. Nothing here asserts how long something took.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;
use trilith_base::ServerName;
use trilith_consensus::{Key, MemoryStore, Txn, Write};

use super::*;
use crate::fsm::wanted_key;
use crate::options::AddressOptions;

const PATIENCE: Duration = Duration::from_secs(30);

/// Who listens on what, over all servers.
type Board = Arc<Mutex<BTreeSet<(usize, IpAddr)>>>;

struct Edge {
    server: usize,
    board: Board,
}

impl Listeners for Edge {
    fn open(&self, ip: IpAddr) -> trilith_consensus::BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let mut board = self.board.lock().unwrap();
            let others = board.iter().filter(|(s, i)| *i == ip && *s != self.server);
            assert_eq!(others.count(), 0, "two hold {ip}");
            board.insert((self.server, ip));
            Ok(())
        })
    }

    fn close(&self, ip: IpAddr) -> trilith_consensus::BoxFuture<'_, ()> {
        Box::pin(async move {
            self.board.lock().unwrap().remove(&(self.server, ip));
        })
    }
}

struct Server {
    vip: Arc<Vip>,
    store: MemoryStore,
    health: watch::Sender<bool>,
    drain: watch::Sender<bool>,
    deadline: watch::Receiver<Option<BootTime>>,
}

struct Cluster {
    servers: Vec<Server>,
    board: Board,
    clock: JoinHandle<()>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.clock.abort();
    }
}

fn name(n: usize) -> ServerName {
    ServerName::new(["one", "two", "three"][n]).unwrap()
}

fn ip(n: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, n])
}

impl Cluster {
    async fn start(servers: usize, addresses: u8, ttl: Duration) -> Self {
        let board = Board::default();
        let stores = MemoryStore::cluster((0..servers).map(name));
        let mut started = Vec::new();
        for (n, store) in stores.iter().enumerate() {
            let mut options =
                Options::new(name(n), (0..servers).map(name).collect(), Mode::Loopback);
            options.ttl = ttl;
            options.addresses = (1..=addresses)
                .map(|a| AddressOptions {
                    ip: ip(a),
                    prefix: 8,
                    preferred: None,
                })
                .collect();
            let (health, healthy) = watch::channel(true);
            let (drain, drained) = watch::channel(false);
            let (deadline, guard) = watch::channel(None);
            let edge = Arc::new(Edge {
                server: n,
                board: board.clone(),
            });
            let store: Arc<dyn Store> = Arc::new(store.clone());
            let telemetry = Telemetry::new(name(n).as_str());
            let vip = Vip::start(options, store, healthy, drained, edge, deadline, telemetry)
                .await
                .unwrap();
            started.push(Server {
                vip,
                store: stores[n].clone(),
                health,
                drain,
                deadline: guard,
            });
        }
        let store = stores[0].clone();
        let clock = tokio::spawn(async move {
            loop {
                store.advance(BootTime::now());
                sleep(Duration::from_millis(5)).await;
            }
        });
        Self {
            servers: started,
            board,
            clock,
        }
    }

    fn holders(&self, ip: IpAddr) -> Vec<usize> {
        let board = self.board.lock().unwrap();
        board
            .iter()
            .filter(|(_, i)| *i == ip)
            .map(|(n, _)| *n)
            .collect()
    }

    async fn wait_for(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !condition(self) {
            let states: Vec<_> = self
                .servers
                .iter()
                .map(|s| s.vip.status().borrow().clone())
                .collect();
            assert!(
                begin.elapsed() < PATIENCE,
                "waited for: {what}; {states:#?}"
            );
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Long enough that a busy machine loses no lease.
const LONG_TTL: Duration = Duration::from_secs(20);
const SHORT_TTL: Duration = Duration::from_millis(1_300);

#[tokio::test]
async fn each_server_gets_the_address_it_prefers() {
    let cluster = Cluster::start(3, 3, LONG_TTL).await;
    cluster
        .wait_for("one address each", |c| {
            (0..3).all(|n| c.holders(ip(n as u8 + 1)) == [n])
        })
        .await;
    let status = cluster.servers[1].vip.status();
    cluster
        .wait_for("the status", |_| {
            let status = status.borrow();
            let holders: Vec<_> = status.iter().map(|a| a.holder.clone()).collect();
            holders == [Some(name(0)), Some(name(1)), Some(name(2))]
                && status[1].state == State::Held
                && status[1].lease_remaining(BootTime::now()).is_some()
                && !status[1].orphan
                && status[1].changed_at.is_some()
                && status[0].state == State::Idle
        })
        .await;
    assert!(cluster.servers[1].deadline.borrow().is_some());
}

#[tokio::test]
async fn drain_moves_it_and_nothing_comes_back_by_itself() {
    let cluster = Cluster::start(2, 1, LONG_TTL).await;
    cluster.wait_for("one", |c| c.holders(ip(1)) == [0]).await;
    cluster.servers[0].drain.send_replace(true);
    cluster.wait_for("two", |c| c.holders(ip(1)) == [1]).await;
    cluster.servers[0].drain.send_replace(false);
    cluster
        .wait_for("the guard has nothing to guard", |c| {
            c.servers[0].deadline.borrow().is_none()
        })
        .await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(cluster.holders(ip(1)), [1]);
}

#[tokio::test]
async fn an_unhealthy_edge_gives_it_away() {
    let cluster = Cluster::start(2, 1, LONG_TTL).await;
    cluster.wait_for("one", |c| c.holders(ip(1)) == [0]).await;
    cluster.servers[0].health.send_replace(false);
    cluster.wait_for("two", |c| c.holders(ip(1)) == [1]).await;
}

#[tokio::test]
async fn an_operator_moves_it() {
    let cluster = Cluster::start(3, 1, LONG_TTL).await;
    cluster.wait_for("one", |c| c.holders(ip(1)) == [0]).await;
    let wanted: Key = wanted_key(ip(1));
    let wish = Txn::new().then(Write::Put {
        key: wanted.clone(),
        value: b"three"[..].into(),
    });
    cluster.servers[1].store.commit(wish).await.unwrap();
    cluster.wait_for("three", |c| c.holders(ip(1)) == [2]).await;
    cluster
        .wait_for("the wish is gone", |c| {
            c.servers[0]
                .store
                .view()
                .borrow()
                .get(wanted.as_str())
                .is_none()
        })
        .await;
}

#[tokio::test]
async fn release_all_returns_when_it_is_done() {
    let cluster = Cluster::start(1, 2, LONG_TTL).await;
    cluster
        .wait_for("both", |c| {
            c.holders(ip(1)) == [0] && c.holders(ip(2)) == [0]
        })
        .await;
    let server = &cluster.servers[0];
    server.vip.release_all().await;
    assert!(cluster.board.lock().unwrap().is_empty());
    assert!(server.store.view().borrow().leases.is_empty());
    // And it stays so.
    server.drain.send_replace(false);
    sleep(Duration::from_millis(300)).await;
    assert!(cluster.board.lock().unwrap().is_empty());
}

#[tokio::test]
async fn whoever_is_cut_off_releases_and_another_takes_over() {
    let cluster = Cluster::start(3, 1, SHORT_TTL).await;
    cluster
        .wait_for("somebody", |c| c.holders(ip(1)).len() == 1)
        .await;
    // `Edge::open` panics when two hold it.
    let holder = cluster.holders(ip(1))[0];
    cluster.servers[holder].store.cut_off(true);
    cluster
        .wait_for(
            "another",
            |c| matches!(c.holders(ip(1))[..], [n] if n != holder),
        )
        .await;
    cluster.servers[holder].store.cut_off(false);
    sleep(Duration::from_millis(300)).await;
    assert!(!cluster.holders(ip(1)).contains(&holder));
}

#[tokio::test]
async fn without_any_quorum_all_release() {
    let cluster = Cluster::start(3, 1, SHORT_TTL).await;
    cluster
        .wait_for("somebody", |c| c.holders(ip(1)).len() == 1)
        .await;
    cluster.servers[0].store.cut_off_all(true);
    cluster
        .wait_for("nobody", |c| c.holders(ip(1)).is_empty())
        .await;
    cluster.servers[0].store.cut_off_all(false);
    cluster
        .wait_for("somebody", |c| c.holders(ip(1)).len() == 1)
        .await;
}
