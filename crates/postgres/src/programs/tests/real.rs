//! Two real PostgreSQLs that part, and one that goes back.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;

use tokio::time::{Instant, sleep};
use trilith_base::ServerName;
use trilith_ha::{History, Kind, Position};
use trilith_tls::{Ca, PeerIdentity};

use super::*;
use crate::binaries::find_bin_dir;
use crate::conf::{
    Access, CONF_FILE, INCLUDE_LINE, PASS_FILE, Part, pg_hba, pgpass, trilith_conf_as,
};
use crate::inspect::{StartState, start_state};
use crate::lsn::Lsn;
use crate::options::{OsUser, Role, StopTimeouts};
use crate::postmaster::Postmaster;
use crate::remote::Session;
use crate::secrets::Secrets;
use crate::sql::{keep_slots, set_up};
use crate::tls::Tls;
use crate::wal::read_history;

const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    options: Options,
    owner: Owner,
    binaries: Binaries,
    running: Option<Postmaster>,
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

/// Servers that know each other.
fn servers(folder: &Path, names: [&str; 2]) -> [Server; 2] {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let now = std::time::SystemTime::now();
    let ca = Ca::create(&folder.join("secrets"), "test", now).unwrap();
    let secrets = Secrets::generate().unwrap();
    let localhost = Ipv4Addr::LOCALHOST.into();
    let held = names.map(|_| std::net::TcpListener::bind((localhost, 0)).unwrap());
    let mut held = held.iter();
    names.map(|name| {
        let server = ServerName::new(name).unwrap();
        let identity = PeerIdentity::issue(&ca, &server, localhost, now).unwrap();
        let files = ca.issue_peer_pem(&server, &[localhost], now).unwrap();
        let role = Role::Primary {
            replicas: Vec::new(),
        };
        let state = folder.join(name);
        let mut options = Options::new(server, &state, role, secrets.clone());
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
    })
}

impl Server {
    fn programs(&self) -> Programs<'_> {
        Programs {
            binaries: &self.binaries,
            owner: &self.owner,
            options: &self.options,
            private: &self.options.run_dir,
        }
    }

    fn peer(&self) -> Peer {
        Peer {
            name: self.options.server.clone(),
            address: (Ipv4Addr::LOCALHOST, self.options.port).into(),
        }
    }

    fn write_config(&self, kind: Kind, follow: Option<&Peer>) {
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

    async fn start(&mut self) -> Session {
        let started = Postmaster::start(&self.binaries, &self.owner, &self.options).await;
        let pid = self.running.insert(started.unwrap()).pid();
        let ready = || start_state(&self.options.data_dir, pid) == StartState::Ready;
        eventually("ready", async || ready().then_some(())).await;
        self.session().await
    }

    async fn session(&self) -> Session {
        let (run_dir, port) = (&self.options.run_dir, self.options.port);
        let password = &self.options.secrets.superuser;
        Session::local(run_dir, port, MAINTENANCE_DATABASE, password, PATIENCE)
            .await
            .unwrap()
    }

    async fn stop(&mut self) {
        let timeouts = StopTimeouts::default();
        self.running.take().unwrap().stop(timeouts).await.unwrap();
    }

    async fn crash(&mut self) {
        let postmaster = self.running.take().unwrap();
        kill(postmaster.pid()).unwrap();
        postmaster.how_it_ended().await;
        crate::postmaster::clear_orphans(&self.options.data_dir)
            .await
            .unwrap();
    }

    /// Everything that its PostgreSQL has said so far.
    fn log(&self) -> String {
        fs::read_to_string(&self.options.log_file).unwrap()
    }

    async fn end_of_wal(&self) -> History {
        let control = self.programs().control_data().await.unwrap();
        self.programs().end_of_wal(&control).await.unwrap()
    }
}

async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "never {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn ask<T>(session: &Session, sql: &str) -> T
where
    T: for<'a> tokio_postgres::types::FromSql<'a>,
{
    session.query_one(sql, &[]).await.unwrap().get(0)
}

async fn until(session: &Session, sql: &str) {
    eventually(sql, async || ask::<bool>(session, sql).await.then_some(())).await;
}

async fn lsn(session: &Session, sql: &str) -> Lsn {
    Lsn(ask::<tokio_postgres::types::PgLsn>(session, sql)
        .await
        .into())
}

#[tokio::test]
async fn a_primary_that_went_on_alone_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let [mut one, mut two] = servers(folder.path(), ["one", "two"]);

    // One is the primary, two its replica.
    one.programs().initdb(&one.options.data_dir).await.unwrap();
    one.write_config(Kind::Primary, None);
    let control = one.programs().control_data().await.unwrap();
    assert!(control.state.is_clean() && control.checksums);
    let first = one.start().await;
    set_up(&first, &one.options).await.unwrap();
    keep_slots(&first, &[two.peer()]).await.unwrap();
    first
        .batch_execute("create table entry (text text); insert into entry values ('both')")
        .await
        .unwrap();
    let mut told = Vec::new();
    two.programs()
        .base_backup(&one.peer(), &two.options.data_dir, |percent| {
            told.push(percent)
        })
        .await
        .unwrap();
    assert_eq!(told.last(), Some(&100));
    two.write_config(Kind::Replica, Some(&one.peer()));
    let second = two.start().await;
    let streaming = "select exists (select from pg_stat_wal_receiver where status = 'streaming')";
    until(&second, streaming).await;

    // A replica that follows nobody receives nothing any more, and its end is where it stopped.
    let error = one
        .programs()
        .rewind(&two.peer(), |_| {})
        .await
        .unwrap_err();
    assert!(error.to_string().contains("two is no primary"), "{error}");
    two.write_config(Kind::Replica, None);
    two.running.as_ref().unwrap().reload().unwrap();
    until(
        &second,
        "select not exists (select from pg_stat_wal_receiver)",
    )
    .await;
    first
        .batch_execute("insert into entry values ('lost')")
        .await
        .unwrap();
    let written = lsn(&first, "select pg_current_wal_flush_lsn()").await;
    let received = lsn(&second, "select pg_last_wal_receive_lsn()").await;
    assert!(received < written);
    two.crash().await;
    let expected = Position {
        timeline: 1,
        lsn: received,
    };
    assert_eq!(two.end_of_wal().await, History::new(Vec::new(), expected));

    // It takes over, and the old primary crashes.
    let second = two.start().await;
    assert!(ask::<bool>(&second, "select pg_promote()").await);
    second
        .batch_execute("insert into entry values ('new'); checkpoint")
        .await
        .unwrap();
    keep_slots(&second, &[one.peer()]).await.unwrap();
    one.crash().await;
    let end = one.end_of_wal().await.end;
    assert!(end.timeline == 1 && end.lsn >= written, "{end} {written}");

    // It goes back to where they parted, and follows.
    told.clear();
    one.programs()
        .rewind(&two.peer(), |percent| told.push(percent))
        .await
        .unwrap();
    assert_eq!(told.last(), Some(&100));
    assert!(is_half_rewound(&one.options.data_dir));
    one.write_config(Kind::Replica, Some(&two.peer()));
    rewound(&one.options.data_dir).unwrap();
    assert!(!is_half_rewound(&one.options.data_dir));
    let first = one.start().await;
    until(&first, streaming).await;
    let entries = "select string_agg(text, ' ' order by text) from entry";
    assert_eq!(ask::<String>(&first, entries).await, "both new");
    second
        .batch_execute("insert into entry values ('after')")
        .await
        .unwrap();
    until(&first, "select count(*) = 3 from entry").await;

    // Both tell of the same history, running or not.
    let seen = ask_primary(&one.options, &two.peer()).await.unwrap();
    assert!(seen.is_primary);
    assert_eq!(
        (seen.checkpoint_timeline, seen.history.end.timeline),
        (2, 2)
    );
    assert_eq!(seen.slot, trilith_ha::SlotSeen::Active);
    let parted = read_history(&two.options.data_dir, 2).unwrap();
    assert_eq!(parted.len(), 1);
    assert!(parted[0].lsn >= received && parted[0].lsn < end.lsn);
    assert_eq!(seen.history.ended, parted);
    one.stop().await;
    let of_one = one.end_of_wal().await;
    assert_eq!((&of_one.ended, of_one.end.timeline), (&parted, 2));
    assert!(seen.history.contains(of_one.end) || of_one.continues(&seen.history));

    // The end is exactly where PostgreSQL goes on after a crash.
    second
        .batch_execute("checkpoint; select pg_switch_wal(); insert into entry values ('next file')")
        .await
        .unwrap();
    let inserted = lsn(&second, "select pg_current_wal_flush_lsn()").await;
    two.crash().await;
    let control = two.programs().control_data().await.unwrap();
    let end = two.programs().end_of_wal(&control).await.unwrap().end.lsn;
    assert!(end >= inserted);

    // A file is missing: the end is that of the one before.
    let next = inserted.0 / control.wal_segment_size;
    let file = |number: u64| {
        let name = format!("0000000200000000{number:08X}");
        two.options.data_dir.join("pg_wal").join(name)
    };
    let aside = folder.path().join("aside");
    fs::rename(file(next), &aside).unwrap();
    let earlier = two.programs().end_of_wal(&control).await.unwrap().end.lsn;
    assert_eq!(earlier, Lsn(next * control.wal_segment_size));
    fs::rename(&aside, file(next)).unwrap();

    let before = two.log().len();
    two.start().await;
    let log = two.log().split_off(before);
    assert!(log.contains(&format!(" at {end}: ")), "{end}: {log}");

    // Nobody to go back to.
    two.stop().await;
    let error = one
        .programs()
        .rewind(&two.peer(), |_| {})
        .await
        .unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(!is_half_rewound(&one.options.data_dir));
}
