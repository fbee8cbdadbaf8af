//! What the tests need around a supervisor: folders, waiting, and processes to supervise.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use trilith_app::{
    AppError, AppKind, AppOptions, CommandLine, InstanceStatus, Options, Release, ReleaseId,
    Supervisor, limits,
};
use trilith_base::ServerName;
use trilith_telemetry::Telemetry;

/// Longer than anything takes, also on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);
/// Says what `helper_process` is to be.
const ROLE: &str = "TRILITH_TEST_ROLE";

pub struct World {
    root: TempDir,
    pub telemetry: Telemetry,
}

impl World {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("release")).unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o700)).unwrap();
        Self {
            root,
            telemetry: Telemetry::new("one"),
        }
    }

    pub fn dir(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.root.path()).unwrap().join(name)
    }

    pub fn options(&self, apps: Vec<AppOptions>) -> Options {
        options_in(&self.dir(""), apps)
    }

    pub fn web(&self, instances: u16) -> AppOptions {
        web(instances)
    }

    pub fn worker(&self, script: &str) -> AppOptions {
        fs::write(self.dir("release/worker.sh"), script).unwrap();
        let command = CommandLine::parse("sh worker.sh").unwrap();
        AppOptions {
            instances: 1,
            ..AppOptions::new("worker", command)
        }
    }

    pub async fn start(&self, options: Options) -> Supervisor {
        self.try_start(options)
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    pub async fn try_start(&self, options: Options) -> Result<Supervisor, AppError> {
        Supervisor::start(options, self.telemetry.clone()).await
    }

    pub fn start_in_another_process(&self) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "helper_process", "--nocapture"])
            .env(ROLE, "supervisor")
            .env("TRILITH_TEST_DIR", self.dir(""))
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Waits until the status is as wanted, and returns it.
    pub async fn wait(
        &self,
        supervisor: &Supervisor,
        wanted: impl Fn(&[InstanceStatus]) -> bool,
    ) -> Vec<InstanceStatus> {
        let mut status = supervisor.status();
        let found = tokio::time::timeout(PATIENCE, status.wait_for(|all| wanted(all))).await;
        match found {
            Ok(Ok(found)) => found.clone(),
            _ => panic!("never as wanted: {:#?}", supervisor.status().borrow()),
        }
    }

    pub fn log(&self, app: &str) -> String {
        fs::read_to_string(self.dir("log").join(format!("app-{app}.log"))).unwrap_or_default()
    }

    /// The pids in `instances.json`.
    pub fn recorded_pids(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.dir("run/instances.json")).unwrap_or_default();
        let Ok(json) = serde_json::from_str::<serde_json::Value>(&text) else {
            return Vec::new();
        };
        let records = json["instances"].as_array().cloned().unwrap_or_default();
        records
            .iter()
            .map(|one| one["pid"].as_u64().unwrap().try_into().unwrap())
            .collect()
    }

    pub fn open_to_everybody(&self) {
        fs::set_permissions(self.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn options_in(dir: &Path, apps: Vec<AppOptions>) -> Options {
    let id = ReleaseId::parse("0123456789ab").unwrap();
    Options {
        server: ServerName::new("one").unwrap(),
        release: Release {
            id,
            dir: dir.join("release"),
        },
        apps,
        host: IpAddr::V4(Ipv4Addr::LOCALHOST),
        ports: limits::PORTS,
        log_dir: dir.join("log"),
        run_dir: dir.join("run"),
        tmp_dir: dir.join("tmp"),
        env: BTreeMap::new(),
    }
}

/// This binary as a web app.
fn web(instances: u16) -> AppOptions {
    let exe = std::env::current_exe().unwrap();
    let command = format!("{} --exact helper_process --nocapture", exe.display());
    let mut app = AppOptions::new("web", CommandLine::parse(&command).unwrap());
    assert_eq!(app.kind, AppKind::Web);
    app.instances = instances;
    app.env.insert(ROLE.to_owned(), "web".to_owned());
    app
}

/// What the test called `helper_process` does: nothing, unless it was started to be something.
pub fn main() {
    match std::env::var(ROLE).as_deref() {
        Ok("web") => serve(),
        Ok("supervisor") => supervise(),
        _ => {}
    }
}

/// A web app: `/env` tells its environment, `/break` makes its health check fail, `/repair` undoes
/// it.
fn serve() {
    let port: u16 = std::env::var("PORT").unwrap().parse().unwrap();
    let listener = TcpListener::bind((std::env::var("HOST").unwrap().as_str(), port)).unwrap();
    println!("listening");
    let mut status = "200 OK";
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 1024];
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(count) => request.extend_from_slice(&buffer[..count]),
            }
        }
        let request = String::from_utf8_lossy(&request).into_owned();
        let body = match request.split(' ').nth(1) {
            Some("/env") => environment(),
            Some("/break") => {
                status = "500 Broken";
                String::new()
            }
            Some("/repair") => {
                status = "200 OK";
                String::new()
            }
            _ => String::new(),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let _ = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(body.as_bytes()));
    }
}

fn environment() -> String {
    let mut text: String = std::env::vars()
        .map(|(key, value)| format!("{key}={value}\n"))
        .collect();
    text.push_str(&format!(
        "CWD={}\n",
        std::env::current_dir().unwrap().display()
    ));
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let umask = status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))
        .unwrap();
    text.push_str(&format!("UMASK={}\n", umask.trim()));
    text
}

/// A supervisor with two workers of two processes each, until somebody kills it.
fn supervise() {
    let dir = PathBuf::from(std::env::var("TRILITH_TEST_DIR").unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let command = CommandLine::parse("sleep 600 & wait").unwrap();
        let app = AppOptions {
            instances: 2,
            ..AppOptions::new("worker", command)
        };
        let _supervisor = Supervisor::start(options_in(&dir, vec![app]), Telemetry::new("one"))
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_secs(600)).await;
    });
}

/// The body of a response.
pub fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
        .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response.split_once("\r\n\r\n").unwrap().1.to_owned()
}

pub async fn wait_until(mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "never came true");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// State and process group of a process.
fn stat(pid: u32) -> Option<(String, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    Some((fields[0].to_owned(), fields[2].parse().ok()?))
}

pub fn alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != "Z")
}

pub fn group_of(pid: u32) -> Option<u32> {
    stat(pid).map(|(_, group)| group)
}

/// The live processes of a group.
pub fn members(group: u32) -> Vec<u32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| alive(pid) && group_of(pid) == Some(group))
        .collect()
}
