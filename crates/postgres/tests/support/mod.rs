//! Database servers with real PostgreSQL on loopback ports, cleaned up whatever happens.
// Each test file uses what it needs.
#![allow(dead_code)]

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use std::{fs, thread};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls};
use trilith_base::ServerName;
use trilith_postgres::{
    ADMIN_ROLE, Options, OsUser, Peer, Phase, Postgres, Role, Secrets, Status, Tls, find_bin_dir,
    stop_left_behind,
};
use trilith_telemetry::Telemetry;
use trilith_tls::{Ca, PeerIdentity};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Far beyond what anything here takes: it only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(120);

/// The servers of one test. Declare it before the [`Postgres`] handles: it is then dropped after them,
/// and stops what they left running.
pub struct Cluster {
    folder: tempfile::TempDir,
    secrets: Secrets,
    os_user: Option<OsUser>,
    peers: Vec<Peer>,
    ca: Ca,
    tls: Vec<Tls>,
}

impl Cluster {
    pub fn new(names: &[&str]) -> Self {
        find_bin_dir(None).expect("PostgreSQL is needed for this test");
        let folder = tempfile::Builder::new()
            .prefix("trilith-pg-")
            .tempdir()
            .unwrap();
        // PostgreSQL's account passes through it.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let ca = folder.path().join("secrets");
        let ca = Ca::create(&ca, "test", SystemTime::now()).unwrap();
        let tls = names.iter().map(|name| tls(&ca, name)).collect();
        let root = rustix::process::geteuid().is_root();
        let os_user = root.then(|| OsUser::lookup("postgres").unwrap());
        // All held at once, so that they differ.
        let held: Vec<_> = names
            .iter()
            .map(|_| std::net::TcpListener::bind((LOOPBACK, 0)).unwrap())
            .collect();
        let peers = names
            .iter()
            .zip(&held)
            .map(|(name, listener)| Peer {
                name: ServerName::new(name).unwrap(),
                address: listener.local_addr().unwrap(),
            })
            .collect();
        Self {
            folder,
            secrets: Secrets::generate().unwrap(),
            os_user,
            peers,
            ca,
            tls,
        }
    }

    /// For files of the test; removed at the end.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// The certificate of a server.
    pub fn tls(&self, index: usize) -> Tls {
        self.tls[index].clone()
    }

    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }

    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The options of a server. The first one is the primary.
    pub fn options(&self, index: usize) -> Options {
        let peer = &self.peers[index];
        let role = match index {
            0 => Role::Primary {
                replicas: self.peers[1..].to_vec(),
            },
            _ => Role::Replica {
                primary: self.peers[0].clone(),
            },
        };
        let state = self.folder.path().join(peer.name.as_str());
        let mut options = Options::new(peer.name.clone(), &state, role, self.secrets.clone());
        options.listen = vec![LOOPBACK];
        options.port = peer.address.port();
        options.tls = Some(self.tls(index));
        options.os_user = self.os_user.clone();
        options.stop.fast = Duration::from_secs(30);
        // Small and quick: several run side by side with other tests.
        options.parameters = [("shared_buffers", "16MB"), ("fsync", "off")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        options
    }

    pub fn data_dir(&self, index: usize) -> PathBuf {
        self.options(index).data_dir
    }

    /// Folders beside the data directory: set aside, or unfinished.
    pub fn beside(&self, index: usize) -> Vec<String> {
        let data_dir = self.data_dir(index);
        let state = fs::read_dir(data_dir.parent().unwrap()).unwrap();
        let mut names: Vec<String> = state
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("postgres."))
            .collect();
        names.sort();
        names
    }

    /// The application's address of a server's database.
    pub fn url(&self, index: usize) -> String {
        let port = self.peers[index].address.port();
        self.secrets.app_url("app", "127.0.0.1", port, "app")
    }

    /// As the application.
    pub async fn app(&self, index: usize) -> Client {
        connect(&self.url(index).parse().unwrap()).await.unwrap()
    }

    /// As superuser, over the socket.
    pub async fn admin(&self, index: usize) -> Client {
        let options = self.options(index);
        let mut config = self.admin_config("postgres");
        config.host_path(options.run_dir).port(options.port);
        connect(&config).await.unwrap()
    }

    pub fn admin_config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config
            .user(ADMIN_ROLE)
            .password(self.secrets.superuser.expose())
            .options("-c synchronous_commit=local")
            .dbname(database);
        config
    }

    pub fn address(&self, index: usize) -> SocketAddr {
        self.peers[index].address
    }
}

/// A certificate for a server, and for those who ask in its name.
pub fn tls(ca: &Ca, name: &str) -> Tls {
    let name = ServerName::new(name).unwrap();
    let now = SystemTime::now();
    let identity = PeerIdentity::issue(ca, &name, LOOPBACK, now).unwrap();
    let files = ca.issue_peer_pem(&name, &[LOOPBACK], now).unwrap();
    Tls::new(&identity, files).unwrap()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let all: Vec<Options> = (0..self.peers.len()).map(|i| self.options(i)).collect();
        // A runtime cannot be entered from within another one, and this may be a panic.
        let stopping = thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                for mut options in all {
                    options.stop.fast = Duration::from_secs(1);
                    stop_left_behind(&options).await.unwrap();
                }
            });
        });
        let stopped = stopping.join();
        if !thread::panicking() {
            stopped.unwrap();
        }
    }
}

/// A running [`Postgres`], and all that it went through.
pub struct Server {
    pub postgres: Postgres,
    pub telemetry: Telemetry,
    history: JoinHandle<()>,
    phases: Arc<Mutex<Vec<Phase>>>,
}

impl Server {
    pub fn start(options: Options) -> Self {
        let telemetry = Telemetry::new(options.server.as_str());
        let postgres = Postgres::start(options, telemetry.clone()).unwrap();
        let phases: Arc<Mutex<Vec<Phase>>> = Default::default();
        let history = tokio::spawn(record(postgres.status(), phases.clone()));
        Self {
            postgres,
            telemetry,
            history,
            phases,
        }
    }

    pub fn status(&self) -> Status {
        self.postgres.status().borrow().clone()
    }

    pub fn phases(&self) -> Vec<Phase> {
        self.phases.lock().unwrap().clone()
    }

    /// Waits until the status is as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let mut status = self.postgres.status();
        let waiting = status.wait_for(|status| wanted(status));
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(status) => status.unwrap().clone(),
            Err(_) => panic!("never {what}: {:#?}", self.status()),
        }
    }

    /// Waits until it answers, and has been asked.
    pub async fn until_running(&self) -> Status {
        self.until("running", |status| {
            status.phase == Phase::Running && status.role.is_some()
        })
        .await
    }

    pub async fn until_streaming(&self) {
        self.until("streaming", |status| status.streaming == Some(true))
            .await;
    }

    pub async fn shutdown(self) {
        let status = self.postgres.status();
        self.postgres.shutdown().await;
        assert_eq!(status.borrow().phase, Phase::Stopped);
        self.history.abort();
    }

    /// As if the process were killed: nothing is stopped, nothing is tidied up.
    pub async fn kill(self) {
        let mut status = self.postgres.status();
        drop(self.postgres);
        // The task is gone when its end of the channel is.
        while status.changed().await.is_ok() {}
    }
}

async fn record(mut status: watch::Receiver<Status>, phases: Arc<Mutex<Vec<Phase>>>) {
    loop {
        let phase = status.borrow_and_update().phase.clone();
        {
            let mut phases = phases.lock().unwrap();
            if phases.last() != Some(&phase) {
                phases.push(phase);
            }
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

pub async fn connect(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Asks again and again until the answer is right.
pub async fn eventually<T, F, Fut>(what: &str, ask: F) -> T
where
    F: Fn() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answer) => answer,
        Err(_) => panic!("never {what}"),
    }
}

/// One value of one row.
pub async fn ask<T>(client: &Client, sql: &str) -> T
where
    T: for<'a> tokio_postgres::types::FromSql<'a>,
{
    client.query_one(sql, &[]).await.unwrap().get(0)
}

pub fn process_exists(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

pub fn kill_9(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
