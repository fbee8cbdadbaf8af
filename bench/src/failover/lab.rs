//! Servers on this machine: network namespaces on a switch that links can be pulled out of, and the
//! processes in them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::signals::unblocked;

pub const NAMES: [&str; 3] = ["one", "two", "three"];
const SWITCH: &str = "switch";
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Namespaces that there are because of this process. Release builds abort on panic, without running
/// any `Drop`.
static MADE: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// The file with the same names, for a run that is killed.
static RECORD: Mutex<Option<PathBuf>> = Mutex::new(None);

/// A server: a namespace with an address of its own.
#[derive(Clone, Debug)]
pub struct Node {
    pub name: String,
    pub address: Ipv4Addr,
    pub namespace: String,
}

/// Three servers and their switch.
#[derive(Debug)]
pub struct Lab {
    pub nodes: Vec<Node>,
    switch: String,
    /// Whoever made it takes it away.
    ours: bool,
}

impl Lab {
    /// A new one, on a network `a.b.c.0/24` of its own that nothing else can see.
    pub fn build(label: &str, network: [u8; 3]) -> Result<Self> {
        let prefix = format!("bench-{}-{label}", std::process::id());
        let switch = format!("{prefix}-{SWITCH}");
        let [a, b, c] = network;
        let nodes: Vec<Node> = (1..)
            .zip(NAMES)
            .map(|(last, name)| Node {
                name: name.to_owned(),
                address: Ipv4Addr::new(a, b, c, last),
                namespace: format!("{prefix}-{name}"),
            })
            .collect();
        let lab = Self {
            nodes,
            switch,
            ours: true,
        };
        let all = lab.nodes.iter().map(|node| node.namespace.clone());
        remember(all.chain([lab.switch.clone()]))?;
        let switch = &lab.switch;
        ip(&format!("netns add {switch}"))?;
        ip(&format!(
            "-n {switch} link add bridge type bridge mcast_snooping 0"
        ))?;
        ip(&format!("-n {switch} link set bridge up"))?;
        for Node {
            name,
            address,
            namespace,
        } in &lab.nodes
        {
            ip(&format!("netns add {namespace}"))?;
            ip(&format!(
                "-n {switch} link add {name} type veth peer name eth0 netns {namespace}"
            ))?;
            ip(&format!("-n {switch} link set {name} master bridge"))?;
            ip(&format!("-n {switch} link set {name} up"))?;
            ip(&format!("-n {namespace} link set lo up"))?;
            ip(&format!("-n {namespace} address add {address}/24 dev eth0"))?;
            ip(&format!("-n {namespace} link set eth0 up"))?;
        }
        Ok(lab)
    }

    /// The one of a demo of Trilith, whose folder names its namespaces (`PREFIX-ID-NAME`). The demo
    /// takes it away.
    pub fn of_demo(names: &str, network: [u8; 3]) -> Result<Self> {
        let find = |last: &str| {
            let mut lines = names.lines();
            let found = lines.find(|line| line.ends_with(&format!("-{last}")));
            found
                .map(str::to_owned)
                .context("no lab in the demo's folder")
        };
        let [a, b, c] = network;
        let nodes = (1..).zip(NAMES).map(|(last, name)| {
            Ok(Node {
                name: name.to_owned(),
                address: Ipv4Addr::new(a, b, c, last),
                namespace: find(name)?,
            })
        });
        let lab = Self {
            nodes: nodes.collect::<Result<_>>()?,
            switch: find(SWITCH)?,
            ours: false,
        };
        remember(names.lines().map(str::to_owned))?;
        Ok(lab)
    }

    /// The cable of a server: in or out.
    pub fn link(&self, node: &Node, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        ip(&format!(
            "-n {} link set {} {state}",
            self.switch, node.name
        ))
    }

    /// kill -9 of all that runs there, with the cable out, as when the power fails.
    pub fn power_off(&self, node: &Node) -> Result<()> {
        self.link(node, false)?;
        kill_all(&node.namespace)
    }

    /// A machine that boots has its own address alone.
    pub fn power_on(&self, node: &Node) -> Result<()> {
        let Node {
            address, namespace, ..
        } = node;
        ip(&format!("-n {namespace} address flush dev eth0"))?;
        ip(&format!("-n {namespace} address add {address}/24 dev eth0"))?;
        self.link(node, true)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.ours {
            let nodes = self.nodes.iter().map(|node| &node.namespace);
            for namespace in nodes.chain([&self.switch]) {
                remove(namespace);
            }
        }
        forget(self);
    }
}

fn forget(lab: &Lab) {
    made()
        .retain(|name| *name != lab.switch && lab.nodes.iter().all(|node| node.namespace != *name));
}

impl Node {
    /// A program that runs there, as this account (`None`: root).
    pub fn command(&self, account: Option<&str>, program: impl AsRef<Path>) -> Command {
        // Both replace themselves by what they start: the process is the program's.
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]);
        if let Some(account) = account {
            command.arg("setpriv");
            command.arg(format!("--reuid={account}"));
            command.arg(format!("--regid={account}"));
            command.arg("--init-groups");
        }
        command.arg(program.as_ref()).stdin(Stdio::null());
        command
    }

    /// Runs `work` on a thread that lives there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = path_of(&self.namespace);
        thread::scope(|scope| {
            let thread = scope.spawn(|| -> Result<T> {
                let file = File::open(&path).with_context(|| path.display().to_string())?;
                setns(file, CloneFlags::CLONE_NEWNET)?;
                Ok(work())
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The server processes of a data directory of PostgreSQL that run there; the postmaster is the
    /// first.
    pub fn postmaster(&self, data_dir: &Path) -> Result<u32> {
        let path = data_dir.join("postmaster.pid");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let pid = text
            .lines()
            .next()
            .and_then(|line| line.trim().parse().ok());
        let pid: u32 = pid.with_context(|| format!("{} makes no sense", path.display()))?;
        ensure!(
            processes_in(&self.namespace)?.contains(&pid),
            "process {pid} of {} does not run on {}",
            path.display(),
            self.name
        );
        Ok(pid)
    }

    /// Signals a process that must be of this server.
    pub fn signal(&self, pid: u32, signal: Signal) -> Result<()> {
        ensure!(
            processes_in(&self.namespace)?.contains(&pid),
            "process {pid} does not run on {}",
            self.name
        );
        kill(Pid::from_raw(i32::try_from(pid)?), signal)
            .with_context(|| format!("{signal} to process {pid} of {}", self.name))
    }
}

/// What runs in a namespace, the dead that nobody has waited for left out.
fn processes_in(namespace: &str) -> Result<BTreeSet<u32>> {
    let id = |path: &Path| fs::metadata(path).map(|m| (m.dev(), m.ino()));
    let path = path_of(namespace);
    let wanted = id(&path).with_context(|| path.display().to_string())?;
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if !matches!(id(&entry.path().join("ns/net")), Ok(own) if own == wanted) {
            continue;
        }
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
        if state.is_some_and(|state| !state.starts_with(['Z', 'X'])) {
            found.insert(pid);
        }
    }
    found.remove(&std::process::id());
    Ok(found)
}

fn kill_all(namespace: &str) -> Result<()> {
    let begin = Instant::now();
    loop {
        let left = processes_in(namespace)?;
        if left.is_empty() {
            return Ok(());
        }
        ensure!(
            begin.elapsed() < KILL_PATIENCE,
            "processes in {namespace} do not end: {left:?}"
        );
        for pid in left {
            // It may have ended meanwhile.
            let _ = kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A namespace with everything in it.
fn remove(namespace: &str) {
    if !path_of(namespace).exists() {
        return;
    }
    let gone = kill_all(namespace).and_then(|()| ip(&format!("netns delete {namespace}")));
    if let Err(error) = gone {
        eprintln!("{namespace} stays: {error:#}");
    }
}

/// Removes what a run before this one left, which was killed. `record` has the names of the namespaces
/// of this one from here on.
pub fn remove_left_behind(record: &Path) -> Result<()> {
    let text = fs::read_to_string(record).unwrap_or_default();
    for name in text.lines() {
        // What does not look like ours is not touched.
        if ["bench-", "trilith-"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            remove(name);
        }
    }
    fs::write(record, "").with_context(|| record.display().to_string())?;
    let mut kept = RECORD.lock().unwrap_or_else(PoisonError::into_inner);
    *kept = Some(record.to_owned());
    Ok(())
}

/// Remembers names before what they name is made.
fn remember(names: impl Iterator<Item = String>) -> Result<()> {
    let mut made = made();
    made.extend(names);
    let record = RECORD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(record) = &*record {
        fs::write(record, made.join("\n")).with_context(|| record.display().to_string())?;
    }
    Ok(())
}

/// Before the process aborts, what it made goes.
pub fn remove_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        if let Ok(made) = MADE.try_lock() {
            made.iter().for_each(|namespace| remove(namespace));
        }
    }));
}

/// What a demo that did not stop left of its lab.
pub fn remove_all(lab: &Lab) {
    let nodes = lab.nodes.iter().map(|node| &node.namespace);
    nodes.chain([&lab.switch]).for_each(|name| remove(name));
}

fn made() -> std::sync::MutexGuard<'static, Vec<String>> {
    MADE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn path_of(namespace: &str) -> PathBuf {
    // Where iproute2 keeps the names (ip-netns(8)).
    Path::new("/var/run/netns").join(namespace)
}

fn ip(arguments: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(arguments.split(' '));
    output(&mut command).map(drop)
}

/// What a program printed; an error when it failed.
pub fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let started = unblocked(|| command.process_group(0).spawn())?;
    let output = match started.and_then(Child::wait_with_output) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            anyhow::bail!("the program `{program}` is missing")
        }
        output => output.with_context(|| program.clone())?,
    };
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program} {:?}: {}",
        command.get_args().collect::<Vec<_>>(),
        said.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A program in the background whose words go to a file.
pub fn spawn(command: &mut Command, log: &Path) -> Result<Child> {
    let file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| log.display().to_string())?;
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        // A Ctrl-C at the terminal is for this program alone.
        .process_group(0);
    unblocked(|| command.spawn())?
        .with_context(|| format!("cannot start {}", command.get_program().display()))
}
