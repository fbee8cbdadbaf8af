//! Several servers in one process, over a network in memory that can be cut, in real time.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::watch;
use trilith_base::ServerName;
use trilith_cluster::{
    CallError, Cluster, DiskPlace, Listed, Options, Peer, Timing, Transport, msg,
};
use trilith_consensus::{BoxFuture, Key, Membership, Store, StoreError};
use trilith_telemetry::Telemetry;

/// Everything must happen within this, however slow the machine is.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn name(text: &str) -> ServerName {
    ServerName::new(text).unwrap()
}

pub fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Who can talk to whom.
#[derive(Default)]
pub struct Net {
    servers: Mutex<BTreeMap<ServerName, Arc<Cluster>>>,
    /// Where each listens: it is reached nowhere else.
    homes: Mutex<BTreeMap<ServerName, SocketAddr>>,
    /// Pairs (from, to) that are cut.
    cut: Mutex<BTreeSet<(ServerName, ServerName)>>,
}

struct Line {
    from: ServerName,
    net: Arc<Net>,
}

impl Transport for Line {
    fn call<'a>(
        &'a self,
        to: &'a Peer,
        request: msg::Request,
    ) -> BoxFuture<'a, Result<msg::Reply, CallError>> {
        Box::pin(async move {
            let is_cut = |from: &ServerName, to: &ServerName| {
                let cut = self.net.cut.lock().unwrap();
                cut.contains(&(from.clone(), to.clone()))
            };
            // As on the wire: only what survives JSON arrives.
            let request: msg::Request = json(&request);
            let server = self.net.servers.lock().unwrap().get(&to.name).cloned();
            let home = self.net.homes.lock().unwrap().get(&to.name).copied();
            let there = home == Some(to.address) && !is_cut(&self.from, &to.name);
            let Some(server) = server.filter(|_| there) else {
                return Err(CallError::NotSent("cut".to_owned()));
            };
            let reply = server.handle(&self.from, request).await;
            if is_cut(&to.name, &self.from) {
                return Err(CallError::Lost("cut".to_owned()));
            }
            Ok(json(&reply))
        })
    }
}

fn json<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    serde_json::from_slice(&serde_json::to_vec(value).unwrap()).unwrap()
}

/// Servers `a`, `b`, `c`, ... with a folder each.
pub struct Lab {
    pub net: Arc<Net>,
    pub listed: watch::Sender<Vec<Listed>>,
    folder: TempDir,
    pub fatal: Arc<Mutex<Vec<String>>>,
}

pub fn listed(names: &[&str]) -> Vec<Listed> {
    let listed = |(at, server): (usize, &&str)| Listed {
        name: name(server),
        address: SocketAddr::from(([127, 0, 0, 1], 7400 + u16::try_from(at).unwrap())),
        votes: true,
    };
    names.iter().enumerate().map(listed).collect()
}

impl Lab {
    pub fn new(names: &[&str]) -> Self {
        Self {
            net: Arc::default(),
            listed: watch::Sender::new(listed(names)),
            folder: TempDir::new().unwrap(),
            fatal: Arc::default(),
        }
    }

    /// Starts all of them, and waits until one leads.
    pub async fn started(names: &[&str]) -> Self {
        let lab = Self::new(names);
        for name in names {
            lab.start(name).await;
        }
        lab.leader().await;
        lab
    }

    pub fn folder(&self, server: &str) -> PathBuf {
        self.folder.path().join(server)
    }

    pub fn options(&self, server: &str) -> Options {
        let servers = self.listed.borrow();
        let address = servers.iter().find(|s| s.name.as_str() == server);
        let fatal = self.fatal.clone();
        Options {
            me: name(server),
            address: address.unwrap().address,
            cluster: "test".to_owned(),
            servers: self.listed.subscribe(),
            disk: DiskPlace::Folder(self.folder(server)),
            on_fatal: Arc::new(move |reason| fatal.lock().unwrap().push(reason)),
            timing: Timing::default(),
            telemetry: Telemetry::new(server),
        }
    }

    pub async fn start(&self, server: &str) -> Arc<Cluster> {
        self.start_with(self.options(server)).await
    }

    pub async fn start_with(&self, options: Options) -> Arc<Cluster> {
        let me = options.me.clone();
        (self.net.homes.lock().unwrap()).insert(me.clone(), options.address);
        let line = Line {
            from: me.clone(),
            net: self.net.clone(),
        };
        let cluster = Cluster::start(options, Arc::new(line)).await.unwrap();
        self.net.servers.lock().unwrap().insert(me, cluster.clone());
        cluster
    }

    pub fn server(&self, server: &str) -> Arc<Cluster> {
        self.net.servers.lock().unwrap()[&name(server)].clone()
    }

    pub fn running(&self) -> Vec<ServerName> {
        self.net.servers.lock().unwrap().keys().cloned().collect()
    }

    pub async fn stop(&self, server: &str) {
        let stopped = self.net.servers.lock().unwrap().remove(&name(server));
        stopped.unwrap().shutdown().await;
    }

    pub async fn stop_all(&self) {
        for server in self.running() {
            self.stop(server.as_str()).await;
        }
    }

    pub fn wipe(&self, server: &str) {
        std::fs::remove_dir_all(self.folder(server)).unwrap();
    }

    /// Nothing passes between it and the others, in neither direction.
    pub fn cut(&self, server: &str) {
        for other in self.listed.borrow().iter() {
            let mut cut = self.net.cut.lock().unwrap();
            cut.insert((name(server), other.name.clone()));
            cut.insert((other.name.clone(), name(server)));
        }
    }

    pub fn heal(&self) {
        self.net.cut.lock().unwrap().clear();
    }

    /// The server that leads in the eyes of a majority of those that run, itself included.
    pub async fn leader(&self) -> ServerName {
        eventually("a leader", || async {
            let mut votes: BTreeMap<ServerName, usize> = BTreeMap::new();
            let servers = self.net.servers.lock().unwrap().clone();
            for server in servers.values() {
                if let Some(leader) = server.membership().borrow().leader.clone() {
                    *votes.entry(leader).or_default() += 1;
                }
            }
            let (leader, count) = votes.into_iter().max_by_key(|(_, count)| *count)?;
            let knows = servers.get(&leader)?.membership().borrow().leader.clone();
            (count * 2 > self.listed.borrow().len() && knows == Some(leader.clone()))
                .then_some(leader)
        })
        .await
    }

    /// One that runs and does not lead.
    pub async fn follower(&self) -> ServerName {
        let leader = self.leader().await;
        let mut running = self.running().into_iter();
        running.find(|server| *server != leader).unwrap()
    }

    pub async fn members(&self, server: &str, what: &str, is: impl Fn(&Membership) -> bool) {
        let mut membership = self.server(server).membership();
        let wait = membership.wait_for(|m| is(m));
        let found = tokio::time::timeout(PATIENCE, wait).await.is_ok();
        assert!(
            found,
            "{server}: {what}: {:?}",
            self.server(server).membership().borrow()
        );
    }
}

/// Tries until it works.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut is: impl FnMut() -> F,
) -> T {
    let wait = async {
        loop {
            if let Some(value) = is().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(value) => value,
        Err(_) => panic!("in vain: {what}"),
    }
}

/// Tries again while the store says that nothing was done.
pub async fn retry<T, F: Future<Output = Result<T, StoreError>>>(mut ask: impl FnMut() -> F) -> T {
    eventually("the store does it", || {
        let asked = ask();
        async {
            match asked.await {
                Ok(done) => Some(done),
                Err(StoreError::NoLeader { .. }) => None,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
}
