//! Turns options into processes.
//!
//! Processes are started by a thread of their own: forking a large process takes milliseconds that
//! no async thread should lose, and the thread has a umask of its own (`CLONE_FS`, unshare(2)), so
//! that apps get 022 whatever we run with.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use rustix::process::{PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use crate::leftover::{Ledger, Record};
use crate::limits::GROUP_POLL_INTERVAL;
use crate::process::{self, ProcessStat};
use crate::user::is_root;
use crate::{CommandLine, RunAs};

/// Everything about one process to be.
pub(crate) struct Plan {
    pub app: String,
    pub instance: String,
    pub release: String,
    pub command: CommandLine,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    pub dir: PathBuf,
    pub tmp_dir: PathBuf,
    pub user: Option<RunAs>,
}

/// The thread that starts processes and keeps the ledger of them.
pub(crate) struct Spawner {
    jobs: Sender<Job>,
    handle: JoinHandle<()>,
}

/// A way to hand jobs to the [`Spawner`].
#[derive(Clone)]
pub(crate) struct SpawnHandle {
    jobs: Sender<Job>,
}

enum Job {
    Spawn(Box<Plan>, oneshot::Sender<io::Result<Spawned>>),
    Forget(u32),
}

/// A new process. Dropping it kills it.
pub(crate) struct Spawned {
    leader: Leader,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Spawner {
    /// `ledger` is kept up to date with what runs; without one nothing is written down.
    pub(crate) fn start(ledger: Option<Ledger>) -> io::Result<Self> {
        let (jobs, receiver) = channel::<Job>();
        let mut ledger = ledger;
        let handle = std::thread::Builder::new()
            .name("app spawn".to_owned())
            .spawn(move || {
                match unshare(CloneFlags::CLONE_FS) {
                    Ok(()) => {
                        umask(Mode::from_bits_truncate(0o022));
                    }
                    // Some sandboxes forbid it; then apps share our umask.
                    Err(errno) => tracing::debug!(%errno, "apps share this process's umask"),
                }
                for job in receiver {
                    match job {
                        Job::Spawn(plan, reply) => {
                            // With nobody waiting for it any more it is dropped, which kills it.
                            let _ = reply.send(spawn(&plan, ledger.as_mut()));
                        }
                        Job::Forget(pid) => {
                            if let Some(Err(error)) =
                                ledger.as_mut().map(|ledger| ledger.remove(pid))
                            {
                                tracing::warn!(%error, "cannot update instances.json");
                            }
                        }
                    }
                }
            })?;
        Ok(Self { jobs, handle })
    }

    pub(crate) fn handle(&self) -> SpawnHandle {
        SpawnHandle {
            jobs: self.jobs.clone(),
        }
    }

    /// Waits for the jobs at hand and ends the thread, once every [`SpawnHandle`] is gone. Blocks.
    pub(crate) fn finish(self) {
        drop(self.jobs);
        let _ = self.handle.join();
    }
}

impl SpawnHandle {
    /// Starts a process, and has it written down before this returns.
    pub(crate) async fn spawn(&self, plan: Plan) -> io::Result<Spawned> {
        let (reply, answer) = oneshot::channel();
        let ended = || io::Error::other("the thread that starts processes has ended");
        self.jobs
            .send(Job::Spawn(Box::new(plan), reply))
            .map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// Strikes an ended process off the ledger.
    pub(crate) fn forget(&self, pid: u32) {
        let _ = self.jobs.send(Job::Forget(pid));
    }
}

fn spawn(plan: &Plan, ledger: Option<&mut Ledger>) -> io::Result<Spawned> {
    prepare_tmp_dir(&plan.tmp_dir, plan.user.as_ref())?;
    let argv = plan.command.argv();
    let mut command = Command::new(argv[0]);
    command
        .args(&argv[1..])
        .current_dir(&plan.dir)
        .env_clear()
        .envs(&plan.env)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    if let Some(user) = plan.user.as_ref().filter(|_| is_root()) {
        // As root, std also clears the supplementary groups when a uid is set.
        command.gid(user.gid).uid(user.uid);
    }
    let mut child = command
        .spawn()
        .map_err(|error| explain(error, plan, argv[0]))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let leader = Leader::new(child);
    let pid = leader.pid;
    if let Some(ledger) = ledger
        && let Some(stat) = ProcessStat::read(pid)
    {
        let uid = process::uid_of(pid).unwrap_or_else(|| nix::unistd::getuid().as_raw());
        let record = Record {
            app: plan.app.clone(),
            instance: plan.instance.clone(),
            release: plan.release.clone(),
            pid,
            pgid: pid,
            start_time: stat.start_time,
            uid,
            tmp_dir: plan.tmp_dir.clone(),
        };
        if let Err(error) = ledger.add(record) {
            // Better an app that runs than a tidy file; the next start may have to be told by hand.
            tracing::warn!(%error, "cannot update instances.json");
        }
    }
    match (stdout, stderr) {
        (Some(stdout), Some(stderr)) => Ok(Spawned {
            leader,
            stdout: stdout.into(),
            stderr: stderr.into(),
        }),
        _ => Err(io::Error::other("a pipe to the process is missing")),
    }
}

/// The kernel's answer, with what it was about.
fn explain(error: io::Error, plan: &Plan, program: &str) -> io::Error {
    let text = match error.kind() {
        io::ErrorKind::NotFound if !plan.dir.exists() => {
            format!("the release folder {} is gone", plan.dir.display())
        }
        io::ErrorKind::NotFound => {
            format!("no program `{program}` in the release folder or on PATH")
        }
        io::ErrorKind::PermissionDenied => {
            let user = plan
                .user
                .as_ref()
                .map_or("this user", |user| user.name.as_str());
            let closed = plan
                .user
                .as_ref()
                .and_then(|user| crate::first_closed_folder(&plan.dir, user));
            match closed {
                Some(folder) => format!("{user} cannot enter {}", folder.display()),
                None => format!("{user} may not execute `{program}`: is it executable?"),
            }
        }
        _ => format!("cannot execute `{program}`: {error}"),
    };
    io::Error::new(error.kind(), text)
}

/// A private folder of the instance's own, kept from one start to the next.
fn prepare_tmp_dir(dir: &Path, user: Option<&RunAs>) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let at = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("cannot make {}: {error}", dir.display()),
        )
    };
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(error)),
        _ => {}
    }
    // The parent folder is ours alone to write in, so this is no stranger's link.
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).map_err(at)?;
    if let Some(user) = user.filter(|_| is_root()) {
        std::os::unix::fs::chown(dir, Some(user.uid), Some(user.gid)).map_err(at)?;
    }
    Ok(())
}

/// The first process of a group. As long as it is not reaped, its pid belongs to nobody else, so
/// signals go to the right group by construction. Dropping it kills the group.
struct Leader {
    child: Option<Child>,
    pid: u32,
}

impl Leader {
    fn new(child: Child) -> Self {
        Self {
            pid: child.id(),
            child: Some(child),
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = process::signal_group(self.pid, Signal::SIGKILL);
            let _ = child.wait();
        }
    }
}

/// A running process group. Dropping it kills the group.
pub(crate) struct Running {
    leader: Leader,
    pidfd: AsyncFd<OwnedFd>,
}

impl Running {
    /// Splits a new process into itself, its stdout and its stderr. Call it inside a tokio runtime.
    pub(crate) fn new(spawned: Spawned) -> io::Result<(Self, OwnedFd, OwnedFd)> {
        let Spawned {
            leader,
            stdout,
            stderr,
        } = spawned;
        let raw = i32::try_from(leader.pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        let raw = raw.ok_or_else(|| io::Error::other("no process id"))?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty())?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for the sake of types that can change their \
                      descriptor; an OwnedFd cannot"
        )]
        let pidfd = AsyncFd::new(pidfd)?;
        Ok((Self { leader, pidfd }, stdout, stderr))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.leader.pid
    }

    /// Returns when the process itself has ended (others of its group may still run). Cancel-safe.
    pub(crate) async fn leader_ended(&self) {
        // A pidfd becomes readable when its process ends (pidfd_open(2)); an error cannot be
        // waited for, and then the reaping tells the truth.
        let _ = self.pidfd.readable().await;
    }

    /// Returns when nobody of the group is alive. Cancel-safe.
    pub(crate) async fn group_ended(&self) {
        self.leader_ended().await;
        let pid = self.pid();
        // Nothing tells of the end of a process that is not our child: look now and then.
        while !group_is_gone(pid).await {
            tokio::time::sleep(GROUP_POLL_INTERVAL).await;
        }
    }

    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        process::signal_group(self.pid(), signal)
    }

    /// Takes the exit status of an ended process; from here on the pid is free for others.
    pub(crate) fn reap(mut self) -> io::Result<ExitStatus> {
        match self.leader.child.take() {
            Some(mut child) => child.wait(),
            None => Err(io::Error::other("reaped already")),
        }
    }

    /// Leaves a process that cannot be ended to a thread that waits for it.
    pub(crate) fn abandon(mut self) {
        if let Some(mut child) = self.leader.child.take() {
            let _ = std::thread::Builder::new()
                .name("app abandoned".to_owned())
                .spawn(move || drop(child.wait()));
        }
    }
}

async fn group_is_gone(pid: u32) -> bool {
    let look = move || process::group_members(pid).is_empty();
    tokio::task::spawn_blocking(look).await.unwrap_or(true)
}

/// `exit code 3`, `signal 9 (SIGKILL)`.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => format!("signal {number} ({signal})"),
            Err(_) => format!("signal {number}"),
        },
        (None, None) => format!("{status}"),
    }
}
