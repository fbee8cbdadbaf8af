//! Two real PostgreSQLs.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;

use tokio::time::{Instant, sleep};
use trilith_base::ServerName;
use trilith_ha::{History, Kind};
use trilith_tls::{Ca, PeerIdentity};

use super::*;
use crate::binaries::find_bin_dir;
use crate::conf::{
    Access, CONF_FILE, INCLUDE_LINE, PASS_FILE, Part, pg_hba, pgpass, trilith_conf_as,
};
use crate::inspect::{StartState, start_state};
use crate::lsn::Lsn;
use crate::options::{OsUser, StopTimeouts};
use crate::postmaster::Postmaster;
use crate::remote::Session;
use crate::secrets::Secrets;
use crate::sql::{keep_slots, set_up};
use crate::tls::Tls;

/// Far beyond what anything here takes: it only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether a replica receives WAL.
pub const STREAMING: &str =
    "select exists (select from pg_stat_wal_receiver where status = 'streaming')";

/// A server whose PostgreSQL is told what to do step by step. Dropping it kills that.
pub struct Server {
    pub options: Options,
    pub owner: Owner,
    binaries: Binaries,
    pub running: Option<Postmaster>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(postmaster) = self.running.take() {
            // The rest end by themselves when it is gone; a panic may be under way.
            let _ = kill(postmaster.pid());
        }
    }
}

fn kill(pid: u32) -> rustix::io::Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL)
}

/// Two servers of one cluster on loopback ports, and its CA.
pub fn servers(folder: &Path, names: [&str; 2]) -> (Ca, [Server; 2]) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let now = std::time::SystemTime::now();
    let ca = Ca::create(&folder.join("secrets"), "test", now).unwrap();
    let secrets = Secrets::generate().unwrap();
    let localhost = Ipv4Addr::LOCALHOST.into();
    let held = names.map(|_| std::net::TcpListener::bind((localhost, 0)).unwrap());
    let mut held = held.iter();
    let servers = names.map(|name| {
        let server = ServerName::new(name).unwrap();
        let identity = PeerIdentity::issue(&ca, &server, localhost, now).unwrap();
        let files = ca.issue_peer_pem(&server, &[localhost], now).unwrap();
        let state = folder.join(name);
        let mut options = Options::new(server, &state, secrets.clone());
        options.tls = Some(Tls::new(&identity, files).unwrap());
        options.listen = vec![localhost];
        options.allowed_clients = vec![localhost];
        options.port = held.next().unwrap().local_addr().unwrap().port();
        let root = rustix::process::geteuid().is_root();
        options.os_user = root.then(|| OsUser::lookup("postgres").unwrap());
        options.parameters = [("shared_buffers", "16MB"), ("fsync", "off")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let owner = Owner::of(&options);
        owner.make_private_folder(&options.data_dir).unwrap();
        owner.make_private_folder(&options.run_dir).unwrap();
        fs::create_dir(state.join("log")).unwrap();
        Server {
            options,
            owner,
            binaries: find_bin_dir(None).unwrap(),
            running: None,
        }
    });
    (ca, servers)
}

impl Server {
    pub fn programs(&self) -> Programs<'_> {
        Programs {
            binaries: &self.binaries,
            owner: &self.owner,
            options: &self.options,
            private: &self.options.run_dir,
        }
    }

    pub fn tls(&self) -> &Tls {
        self.options.tls.as_ref().unwrap()
    }

    pub fn peer(&self) -> Peer {
        Peer {
            name: self.options.server.clone(),
            address: (Ipv4Addr::LOCALHOST, self.options.port).into(),
        }
    }

    pub fn write_config(&self, kind: Kind, follow: Option<&Peer>) {
        let (data_dir, options) = (&self.options.data_dir, &self.options);
        let write = |name: &str, text: &str| {
            let path = data_dir.join(name);
            self.owner.write_file(&path, text, 0o600).unwrap();
        };
        let part = match kind {
            Kind::Primary => Part::Primary {
                synchronous_standby_names: String::new(),
            },
            Kind::Replica => Part::Replica {
                follow,
                synchronous_standby_names: String::new(),
            },
        };
        write_files(options, &self.owner).unwrap();
        write(
            CONF_FILE,
            &trilith_conf_as(options, &options.run_dir, &part),
        );
        write("pg_hba.conf", &pg_hba(options, Access::Open));
        write(PASS_FILE, &pgpass(options));
        write("postgresql.conf", &format!("{INCLUDE_LINE}\n"));
        match kind {
            Kind::Primary => remove_if_there(&data_dir.join("standby.signal")).unwrap(),
            Kind::Replica => write("standby.signal", ""),
        }
    }

    pub async fn start(&mut self) -> Session {
        let started = Postmaster::start(&self.binaries, &self.owner, &self.options).await;
        let pid = self.running.insert(started.unwrap()).pid();
        let ready = || start_state(&self.options.data_dir, pid) == StartState::Ready;
        eventually("ready", async || ready().then_some(())).await;
        self.session().await
    }

    /// A new database with everything set up, and a slot for `replica`.
    pub async fn start_new_primary(&mut self, replica: &Peer) -> Session {
        let programs = self.programs();
        programs.initdb(&self.options.data_dir).await.unwrap();
        self.write_config(Kind::Primary, None);
        let session = self.start().await;
        set_up(&session, &self.options).await.unwrap();
        keep_slots(&session, std::slice::from_ref(replica))
            .await
            .unwrap();
        session
    }

    /// A copy of `primary` that follows it.
    pub async fn start_new_replica(&mut self, primary: &Peer) -> Session {
        let mut told = Vec::new();
        let copying = self
            .programs()
            .base_backup(primary, &self.options.data_dir, |percent| {
                told.push(percent)
            })
            .await;
        copying.unwrap();
        assert_eq!(told.last(), Some(&100));
        self.write_config(Kind::Replica, Some(primary));
        let session = self.start().await;
        until(&session, STREAMING).await;
        session
    }

    pub async fn session(&self) -> Session {
        let (run_dir, port) = (&self.options.run_dir, self.options.port);
        let password = &self.options.secrets.superuser;
        Session::local(run_dir, port, MAINTENANCE_DATABASE, password, PATIENCE)
            .await
            .unwrap()
    }

    pub async fn stop(&mut self) {
        let timeouts = StopTimeouts::default();
        self.running.take().unwrap().stop(timeouts).await.unwrap();
    }

    pub async fn crash(&mut self) {
        let postmaster = self.running.take().unwrap();
        kill(postmaster.pid()).unwrap();
        postmaster.how_it_ended().await;
        crate::postmaster::clear_orphans(&self.options.data_dir)
            .await
            .unwrap();
    }

    /// Everything that its PostgreSQL has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.options.log_file).unwrap()
    }

    pub async fn end_of_wal(&self) -> History {
        let control = self.programs().control_data().await.unwrap();
        self.programs().end_of_wal(&control).await.unwrap()
    }
}

pub async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "never {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

pub async fn ask<T>(session: &Session, sql: &str) -> T
where
    T: for<'a> tokio_postgres::types::FromSql<'a>,
{
    session.query_one(sql, &[]).await.unwrap().get(0)
}

pub async fn until(session: &Session, sql: &str) {
    eventually(sql, async || ask::<bool>(session, sql).await.then_some(())).await;
}

pub async fn lsn(session: &Session, sql: &str) -> Lsn {
    Lsn(ask::<tokio_postgres::types::PgLsn>(session, sql)
        .await
        .into())
}
