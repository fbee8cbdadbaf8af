//! The load of `trilith drill --url` on a real PostgreSQL of its own.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use serde_json::Value;

/// Far beyond what a start takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A PostgreSQL that stops when this value goes.
struct Postgres {
    folder: tempfile::TempDir,
    bin: PathBuf,
    port: u16,
}

impl Postgres {
    fn start() -> Self {
        let bin = trilith_postgres::find_bin_dir(None).expect("PostgreSQL is needed for this test");
        let held = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let postgres = Self {
            folder: tempfile::tempdir().unwrap(),
            bin: bin.dir,
            port: held.local_addr().unwrap().port(),
        };
        if let Some(user) = account() {
            let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
            chown(postgres.folder.path(), Some(uid), Some(gid)).unwrap();
        }
        fs::set_permissions(postgres.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        postgres.run(
            "initdb",
            &["--auth=trust", "--username=app", "--no-sync", "-E", "UTF8"],
        );
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories='' -c fsync=off",
            postgres.port
        );
        drop(held);
        let log = postgres.folder.path().join("log");
        let log = log.to_str().unwrap();
        postgres.run(
            "pg_ctl",
            &["start", "--wait", "--log", log, "--options", &options],
        );
        postgres
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(self.bin.join(program));
        command.arg("--pgdata").arg(self.data()).args(arguments);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        if let Some(user) = account() {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        // Into a file: what is started goes on, and would keep a pipe open.
        let said = self.folder.path().join(format!("{program}.said"));
        let file = fs::File::create(&said).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let status = command.status().unwrap();
        let said = fs::read_to_string(said).unwrap_or_default();
        assert!(status.success(), "{program}: {said}");
    }

    fn postmaster(&self) -> Pid {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        Pid::from_raw(text.lines().next().unwrap().parse().unwrap())
    }

    fn conninfo(&self) -> String {
        format!("host=127.0.0.1 port={} user=app dbname=postgres", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").exists() {
            let _ = kill(self.postmaster(), Signal::SIGQUIT);
            let begin = Instant::now();
            while self.data().join("postmaster.pid").exists() && begin.elapsed() < PATIENCE {
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// PostgreSQL refuses to run as root.
fn account() -> Option<User> {
    geteuid().is_root().then(|| {
        User::from_name("postgres")
            .unwrap()
            .expect("the user postgres")
    })
}

fn drill(arguments: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trilith"));
    command.arg("drill").args(arguments).current_dir(dir);
    command
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn every_acknowledged_row_is_found_again() {
    let postgres = Postgres::start();
    let (url, dir) = (postgres.conninfo(), postgres.folder.path());
    let arguments = ["--url", &url, "--direct", &url, "--json", "--for", "1500ms"];
    let output = drill(&arguments, dir).output().unwrap();
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    let acknowledged = report["writes_acknowledged"].as_u64().unwrap();
    assert!(acknowledged > 50, "{report:#}");
    assert_eq!(report["writes_attempted"].as_u64(), Some(acknowledged));
    assert_eq!(report["writes_lost"], 0);
    assert!(report["reads"].as_u64() > Some(0), "{report:#}");
    assert!(
        report["direct_acknowledged"].as_u64() > Some(20),
        "{report:#}"
    );
    assert_eq!(report["writable_primaries_max"], 1);
    let primary = &report["primaries"][0];
    assert_eq!(primary["server"], format!("127.0.0.1:{}", postgres.port));
    assert_eq!(primary["timeline"], 1);
}

#[test]
fn rows_that_vanish_are_told() {
    let postgres = Postgres::start();
    let (url, dir) = (postgres.conninfo(), postgres.folder.path());
    let arguments = ["--url", &url, "--json", "--for", "60s", "--rate", "200"];
    let child = drill(&arguments, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let psql = |sql: &str| {
        let mut command = Command::new(postgres.bin.join("psql"));
        command.args(["-XAtqc", sql]).arg(&url);
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let begin = Instant::now();
    let rows = || {
        psql("SELECT count(*) FROM trilith_drill")
            .parse()
            .unwrap_or(0)
    };
    while rows() < 100 && begin.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(50));
    }
    let gone =
        psql("WITH gone AS (DELETE FROM trilith_drill RETURNING 1) SELECT count(*) FROM gone");
    // An early end.
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let report = report(&output);
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert_eq!(report["writes_lost"].to_string(), gone, "{report:#}");
    assert_eq!(report["kept"], false);
    assert!(report["ended_at_ms"].as_u64() < Some(59_000));
    // The rest stays, for whoever wants to know.
    assert!(!psql("SELECT 'there' FROM pg_tables WHERE tablename = 'trilith_drill'").is_empty());
}
