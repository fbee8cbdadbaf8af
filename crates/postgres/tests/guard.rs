//! The guard beside a real PostgreSQL: every process of it ends at the deadline, frozen or not.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::{Client, Config, NoTls};
use trilith_base::BootTime;
use trilith_postgres::guard::{
    Fenced, GUARD_GRACE, Guard, GuardOptions, end_left_behind, report_fenced, run,
};
use trilith_postgres::{OsUser, find_bin_dir};
use trilith_telemetry::Telemetry;

/// Far beyond what anything here takes: it only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(60);
const DATA_DIR: &str = "TRILITH_TEST_GUARD_DATA";
const FIFO: &str = "TRILITH_TEST_GUARD_FIFO";

/// Run by the test below as a process of its own: a guard.
#[test]
#[ignore = "the other test starts it"]
fn the_guard_process() {
    if let (Some(data_dir), Some(fifo)) = (std::env::var_os(DATA_DIR), std::env::var_os(FIFO)) {
        run(Path::new(&data_dir), Path::new(&fifo)).unwrap();
    }
}

/// A database with nothing of Trilith in it. All that runs is gone when it is dropped.
struct Database {
    folder: tempfile::TempDir,
    programs: PathBuf,
    os_user: Option<OsUser>,
    postmaster: Option<Child>,
}

impl Database {
    fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("trilith-guard-")
            .tempdir()
            .unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let root = rustix::process::geteuid().is_root();
        let database = Self {
            folder,
            programs: find_bin_dir(None)
                .expect("PostgreSQL is needed for this test")
                .dir,
            os_user: root.then(|| OsUser::lookup("postgres").unwrap()),
            postmaster: None,
        };
        for path in [database.data_dir(), database.socket_dir()] {
            fs::create_dir(&path).unwrap();
            if let Some(user) = &database.os_user {
                chown(&path, Some(user.uid), Some(user.gid)).unwrap();
            }
        }
        let made = database
            .program("initdb")
            .args(["-U", "postgres", "--auth=trust", "--no-sync"])
            .status();
        assert!(made.unwrap().success());
        database
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn socket_dir(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn fifo(&self) -> PathBuf {
        self.folder.path().join("guard.fifo")
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command
            .arg("-D")
            .arg(self.data_dir())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(user) = &self.os_user {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    async fn start(&mut self) -> Client {
        let socket = self.socket_dir();
        let postmaster = self
            .program("postgres")
            .args(["-c", "listen_addresses=", "-c", "shared_buffers=64MB", "-k"])
            .arg(&socket)
            .spawn();
        self.postmaster = Some(postmaster.unwrap());
        let began = Instant::now();
        loop {
            match self.connect().await {
                Ok(client) => return client,
                Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        let mut config = Config::new();
        config.host_path(self.socket_dir()).user("postgres");
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// The processes that work in the data directory.
    fn processes(&self) -> Vec<u32> {
        let data = fs::metadata(self.data_dir()).unwrap();
        let all = fs::read_dir("/proc").unwrap().flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| {
                let works_in = fs::metadata(format!("/proc/{pid}/cwd"));
                works_in.is_ok_and(|found| (found.dev(), found.ino()) == (data.dev(), data.ino()))
            })
            .collect()
    }

    /// Waits until none is left.
    fn until_gone(&mut self) -> BootTime {
        let began = Instant::now();
        while !self.processes().is_empty() {
            assert!(began.elapsed() < PATIENCE, "never gone");
            std::thread::sleep(Duration::from_millis(1));
        }
        let gone = BootTime::now();
        if let Some(mut postmaster) = self.postmaster.take() {
            postmaster.wait().unwrap();
        }
        gone
    }

    fn guard(&self) -> Guard {
        let variable = |name: &str, path: PathBuf| format!("{name}={}", path.display());
        let args = vec![
            variable(DATA_DIR, self.data_dir()).into(),
            variable(FIFO, self.fifo()).into(),
            std::env::current_exe().unwrap().into(),
            "the_guard_process".into(),
            "--exact".into(),
            "--ignored".into(),
        ];
        Guard::start(GuardOptions {
            program: "/usr/bin/env".into(),
            args,
            fifo: self.fifo(),
        })
        .unwrap()
    }

    fn fenced(&self) -> Fenced {
        let began = Instant::now();
        loop {
            if let Some(fenced) = report_fenced(&self.fifo(), &Telemetry::new("test")).unwrap() {
                return fenced;
            }
            assert!(began.elapsed() < PATIENCE, "never reported");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Something is left only when the test has failed.
        let _ = end_left_behind(&self.fifo());
        for pid in self.processes() {
            signal(pid, Signal::KILL);
        }
        if let Some(mut postmaster) = self.postmaster.take() {
            let _ = postmaster.wait();
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // It may have ended since it was found.
    let _ = kill_process(pid, signal);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_gone_after_the_deadline_frozen_or_not() {
    let mut database = Database::new();
    let client = database.start().await;
    client
        .batch_execute("create table entry (id serial)")
        .await
        .unwrap();
    let mut guard = database.guard();
    let mut rows = 0;
    for frozen in [false, true] {
        guard.tell(None).unwrap();
        let client = match rows {
            0 => database.connect().await.unwrap(),
            _ => database.start().await,
        };
        let kept: i64 = client
            .query_one("select count(*) from entry", &[])
            .await
            .unwrap()
            .get(0);
        assert!(kept >= rows, "{kept} of {rows} acknowledged rows");
        rows = kept;

        // While the deadline is extended, writing goes on, and sessions sleep or compute.
        let mut sessions = Vec::new();
        for sql in [
            "select pg_sleep(1000)",
            "select count(*) from generate_series(1, 1e12)",
        ] {
            for _ in 0..3 {
                let session = database.connect().await.unwrap();
                sessions.push(tokio::spawn(async move {
                    session.batch_execute(sql).await.unwrap_err();
                }));
            }
        }
        for _ in 0..20 {
            guard
                .tell(Some(BootTime::now() + Duration::from_secs(2)))
                .unwrap();
            client
                .execute("insert into entry default values", &[])
                .await
                .unwrap();
            rows += 1;
        }
        let deadline = BootTime::now() + Duration::from_millis(400);
        guard.tell(Some(deadline)).unwrap();
        let mut last_answer = BootTime::now();
        if frozen {
            for pid in database.processes() {
                signal(pid, Signal::STOP);
            }
        } else {
            while client
                .execute("insert into entry default values", &[])
                .await
                .is_ok()
            {
                rows += 1;
                last_answer = BootTime::now();
            }
        }
        let gone = database.until_gone();
        assert!(gone >= deadline + GUARD_GRACE);
        let fenced = database.fenced();
        println!(
            "frozen: {frozen}; {} after the deadline the last answer, {} all gone; {fenced:?}",
            told(last_answer.since(deadline)),
            told(gone.since(deadline))
        );
        // The postmaster, five that it always has, our seven.
        assert!(fenced.processes >= 13, "{fenced:?}");
        for session in sessions {
            session.await.unwrap();
        }
    }
    // What was acknowledged is there.
    guard.tell(None).unwrap();
    let client = database.start().await;
    let count = client.query_one("select count(*) from entry", &[]).await;
    let kept: i64 = count.unwrap().get(0);
    assert!(kept >= rows, "{kept} of {rows} acknowledged rows");
    guard.tell(Some(BootTime::now())).unwrap();
    database.until_gone();
    database.fenced();
    guard.end().unwrap();
}

fn told(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}
