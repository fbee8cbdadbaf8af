//! Servers with real PostgreSQL, told what to do step by step.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_postgres::{Client, NoTls};
use trilith_base::ServerName;
use trilith_ha::{Data, Local, Lsn, Process, Ready, StartAs, Step, StopMode, SyncSet};
use trilith_telemetry::Telemetry;
use trilith_tls::{Ca, PeerIdentity};

use crate::guard::kill_all;
use crate::instance::Instance;
use crate::options::{Options, OsUser, Peer};
use crate::remote::Session;
use crate::secrets::{Password, Secrets};
use crate::status::Status;
use crate::tls::Tls;

/// Far beyond what anything here takes: it only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn name(text: &str) -> ServerName {
    ServerName::new(text).unwrap()
}

pub fn set(acks: usize, names: &[&str]) -> SyncSet {
    SyncSet {
        members: names.iter().map(|text| name(text)).collect(),
        acks,
    }
}

pub fn as_primary(sync: SyncSet) -> Step {
    Step::Start {
        how: StartAs::Primary { sync },
    }
}

pub fn as_replica_of(server: &str) -> Step {
    Step::Start {
        how: StartAs::Replica {
            follow: Some(name(server)),
        },
    }
}

pub fn as_replica_of_nobody() -> Step {
    Step::Start {
        how: StartAs::Replica { follow: None },
    }
}

pub fn follow(server: Option<&str>) -> Step {
    Step::Follow {
        server: server.map(name),
    }
}

pub fn sync(set: SyncSet, forget: &[&str]) -> Step {
    Step::Sync {
        set,
        forget: forget
            .iter()
            .map(|text| name(text))
            .collect::<BTreeSet<_>>(),
        prove: true,
    }
}

pub const STOP: Step = Step::Stop {
    mode: StopMode::Fast,
};

/// Makes `names.len()` servers that know each other.
pub fn servers<const N: usize>(folder: &Path, names: [&str; N]) -> [Node; N] {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let ca = Ca::create(&folder.join("secrets"), "test", SystemTime::now()).unwrap();
    let secrets = Secrets::generate().unwrap();
    // All held at once, so that they differ.
    let held = names.map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let peers: Vec<Peer> = names
        .iter()
        .zip(&held)
        .map(|(text, listener)| Peer {
            name: name(text),
            address: listener.local_addr().unwrap(),
        })
        .collect();
    names.map(|text| Node::new(folder, text, &peers, &secrets, &ca))
}

pub struct Node {
    pub instance: Instance,
    pub options: Options,
    pub status: watch::Receiver<Status>,
    pub telemetry: Telemetry,
}

impl Drop for Node {
    fn drop(&mut self) {
        let began = Instant::now();
        while !kill_all(&self.options.data_dir).is_empty() && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Node {
    fn new(folder: &Path, text: &str, peers: &[Peer], secrets: &Secrets, ca: &Ca) -> Self {
        let localhost = Ipv4Addr::LOCALHOST.into();
        let now = SystemTime::now();
        let server = name(text);
        let identity = PeerIdentity::issue(ca, &server, localhost, now).unwrap();
        let files = ca.issue_peer_pem(&server, &[localhost], now).unwrap();
        let mut options = Options::new(server, &folder.join(text), secrets.clone());
        options.tls = Some(Tls::new(&identity, files).unwrap());
        options.servers = peers.to_vec();
        options.listen = vec![localhost];
        options.port = options.peer(&options.server).unwrap().address.port();
        let root = rustix::process::geteuid().is_root();
        options.os_user = root.then(|| OsUser::lookup("postgres").unwrap());
        options.parameters = [("shared_buffers", "16MB"), ("fsync", "off")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        Self::of(options)
    }

    fn of(options: Options) -> Self {
        let (sender, status) = watch::channel(Status::default());
        let telemetry = Telemetry::new(options.server.as_str());
        let instance = Instance::new(options.clone(), telemetry.clone(), sender);
        Self {
            instance,
            options,
            status,
            telemetry,
        }
    }

    /// As if the agent were killed and started again: PostgreSQL goes on.
    pub fn restart_agent(&mut self) {
        let (sender, status) = watch::channel(Status::default());
        self.instance = Instance::new(self.options.clone(), self.telemetry.clone(), sender);
        self.status = status;
    }

    pub async fn look(&mut self) -> Local {
        self.instance.observe().await
    }

    pub async fn ready(&mut self) -> Ready {
        match self.look().await.process {
            Process::Ready(ready) => *ready,
            other => panic!("{other:?}, {:?}", *self.status.borrow()),
        }
    }

    pub async fn does(&mut self, step: Step) {
        if let Err(error) = self.instance.execute(&step).await {
            let log = fs::read_to_string(&self.options.log_file).unwrap_or_default();
            panic!("{step}: {error}\n{log}");
        }
    }

    /// Looks until it is as wanted.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&Local) -> bool) -> Local {
        let began = Instant::now();
        loop {
            let local = self.look().await;
            if wanted(&local) {
                return local;
            }
            if began.elapsed() > PATIENCE {
                let log = fs::read_to_string(&self.options.log_file).unwrap_or_default();
                panic!("never {what}: {local:#?}\n{log}");
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn until_ready(&mut self, what: &str, wanted: impl Fn(&Ready) -> bool) -> Ready {
        let is = |local: &Local| matches!(&local.process, Process::Ready(ready) if wanted(ready));
        match self.until(what, is).await.process {
            Process::Ready(ready) => *ready,
            _ => unreachable!(),
        }
    }

    /// A new database with this server as the primary, and everything set up.
    pub async fn bootstrap(&mut self) {
        self.look().await;
        self.does(Step::Initdb).await;
        self.does(as_primary(SyncSet::alone())).await;
        self.does(Step::SetUp).await;
        self.does(Step::Open).await;
        self.instance.founded().await.unwrap();
    }

    /// A replica of that server, streaming.
    pub async fn join(&mut self, primary: &Node) {
        let from = primary.options.server.clone();
        self.look().await;
        self.does(Step::Copy { from: from.clone() }).await;
        self.does(as_replica_of(from.as_str())).await;
        self.until_streaming().await;
    }

    pub async fn until_streaming(&mut self) -> Ready {
        let began = Instant::now();
        loop {
            let ready = self.ready().await;
            let streaming = self.status.borrow().streaming == Some(true);
            if streaming && ready.not_streaming.is_zero() {
                assert!(ready.receiving);
                return ready;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "never streaming: {ready:#?}\n{}",
                self.log()
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.options.peer(&self.options.server).unwrap().address
    }

    /// As the application.
    pub async fn app(&self) -> Result<Client, tokio_postgres::Error> {
        self.user("app", &self.options.secrets.app, "app").await
    }

    pub async fn user(
        &self,
        user: &str,
        password: &Password,
        database: &str,
    ) -> Result<Client, tokio_postgres::Error> {
        let entry = (std::net::Ipv4Addr::LOCALHOST, self.address().port()).into();
        let url = crate::url(user, password, entry, database);
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    pub async fn admin(&self) -> Session {
        self.instance.door().session().await.unwrap()
    }

    pub async fn ask<T>(&self, sql: &str) -> T
    where
        T: for<'a> tokio_postgres::types::FromSql<'a>,
    {
        self.admin().await.query_one(sql, &[]).await.unwrap().get(0)
    }

    pub fn postmaster(&self) -> u32 {
        self.instance.postmaster.as_ref().unwrap().pid()
    }

    pub async fn pid_of(&self, backend_type: &str) -> u32 {
        let sql = format!("select pid from pg_stat_activity where backend_type = '{backend_type}'");
        let pid: i32 = self.ask(&sql).await;
        pid.cast_unsigned()
    }

    pub fn end(local: &Local) -> Lsn {
        local.history().unwrap().end.lsn
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.options.log_file).unwrap_or_default()
    }
}

pub fn data(local: &Local) -> (trilith_ha::Kind, bool, bool) {
    match &local.data {
        Data::Ready {
            kind,
            clean,
            unfounded,
            ..
        } => (*kind, *clean, *unfounded),
        other => panic!("{other:?}"),
    }
}

pub fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}
