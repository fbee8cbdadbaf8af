//! A running PostgreSQL: our child, or one that a killed process left behind.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::binaries::Binaries;
use crate::error::Error;
use crate::files::{Owner, remove_if_there};
use crate::inspect::{lock_is_stale, orphans, running};
use crate::limits::{
    ADDRESS_FREE_TIMEOUT, KILL_TIMEOUT, ORPHANS_PATIENCE, ORPHANS_TIMEOUT, START_POLL_INTERVAL,
};
use crate::logfile;
use crate::options::{Options, StopTimeouts};

/// Dropping it leaves PostgreSQL running.
pub(crate) struct Postmaster {
    pid: u32,
    /// Names the process for good, unlike its pid.
    process: Arc<AsyncFd<OwnedFd>>,
    child: Option<Child>,
}

impl Postmaster {
    /// Starts `postgres` in its own process group: a Ctrl-C in our terminal is not meant for it.
    pub async fn start(
        binaries: &Binaries,
        owner: &Owner,
        options: &Options,
    ) -> Result<Self, Error> {
        clear_orphans(&options.data_dir).await?;
        remove_stale_lock(&options.data_dir)?;
        for ip in &options.listen {
            address_is_free(SocketAddr::new(*ip, options.port)).await?;
        }
        let log = logfile::open(&options.log_file)?;
        let log_too = log.try_clone().map_err(|source| Error::File {
            doing: "open",
            path: options.log_file.clone(),
            source,
        })?;
        let mut command = Command::new(binaries.dir.join("postgres"));
        command
            .arg("-D")
            .arg(&options.data_dir)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            .process_group(0);
        prepare(&mut command, owner);
        let failed = |source| Error::Process {
            pid: 0,
            doing: "starting postgres",
            source,
        };
        let child = command.spawn().map_err(failed)?;
        // The id is there until the child has been waited for.
        let pid = child
            .id()
            .ok_or_else(|| failed(io::Error::other("it has no process id")))?;
        Ok(Self {
            pid,
            process: watch(pid)?,
            child: Some(child),
        })
    }

    /// Takes over the postmaster of `data_dir`, if it is still the process `pid`.
    pub fn adopt(pid: u32, data_dir: &Path) -> Result<Option<Self>, Error> {
        let process = watch(pid)?;
        // Looked at after the process has been pinned: the pid cannot change its meaning any more.
        let same = running(data_dir).is_some_and(|running| running.pid == pid);
        Ok(same.then_some(Self {
            pid,
            process,
            child: None,
        }))
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Completes when the process has ended. Does not borrow `self`.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let process = self.process.clone();
        async move {
            // A pidfd is readable from the end of the process on (pidfd_open(2)). An error cannot
            // be told apart from the end, and the next look will.
            let _ = process.ready(Interest::READABLE).await;
        }
    }

    /// Whether the process has ended, without waiting.
    pub fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.process.get_ref(), PollFlags::IN)];
        // An error cannot be told apart from the end, as above.
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// How it ended. Call it once it has.
    pub async fn how_it_ended(mut self) -> String {
        match &mut self.child {
            Some(child) => match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            },
            None => "it was not our child".to_owned(),
        }
    }

    /// Tells it to read its configuration again.
    pub fn reload(&self) -> Result<(), Error> {
        self.signal(Signal::HUP, "telling it to reload")
    }

    /// The same for later, without the postmaster at hand.
    pub fn reloader(&self) -> impl Fn() + Send + Sync + use<> {
        let process = self.process.clone();
        move || {
            // It may have ended meanwhile, and then there is nothing to tell.
            let _ = pidfd_send_signal(process.get_ref(), Signal::HUP);
        }
    }

    /// Tells it to stop in good order.
    pub fn stop_fast(&self) -> Result<(), Error> {
        self.signal(Signal::INT, "stopping it")
    }

    /// Tells it to stop at once; the next start recovers.
    pub fn stop_immediately(&self) -> Result<(), Error> {
        self.signal(Signal::QUIT, "stopping it at once")
    }

    /// Stops it: fast, then immediately, then by SIGKILL. Tells which of them did it.
    pub async fn stop(self, timeouts: StopTimeouts) -> Result<&'static str, Error> {
        for (mode, signal, patience) in [
            ("fast", Signal::INT, timeouts.fast),
            ("immediate", Signal::QUIT, timeouts.immediate),
            ("kill", Signal::KILL, KILL_TIMEOUT),
        ] {
            self.signal(signal, "stopping it")?;
            if timeout(patience, self.ended()).await.is_ok() {
                self.how_it_ended().await;
                return Ok(mode);
            }
        }
        Err(Error::Process {
            pid: self.pid,
            doing: "stopping it",
            source: io::Error::other("not even SIGKILL ended it"),
        })
    }

    fn signal(&self, signal: Signal, doing: &'static str) -> Result<(), Error> {
        match pidfd_send_signal(self.process.get_ref(), signal) {
            // It has just ended.
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::Process {
                pid: self.pid,
                doing,
                source: errno.into(),
            }),
        }
    }
}

/// What all of PostgreSQL's programs are run with: an account, and an environment without surprises.
pub(crate) fn prepare(command: &mut Command, owner: &Owner) {
    command.env_clear().env("LC_ALL", "C").current_dir("/");
    for name in ["PATH", "TZ"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    if let Some(user) = &owner.os_user {
        command.uid(user.uid).gid(user.gid);
    }
}

/// Tokio deprecates the safe constructor because of types whose descriptor changes or closes under it.
/// An `OwnedFd`'s does not, and the new constructors are `unsafe`, which this crate forbids.
#[expect(deprecated)]
fn watch(pid: u32) -> Result<Arc<AsyncFd<OwnedFd>>, Error> {
    let open = || {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("not a process id"))?;
        let process = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        AsyncFd::with_interest(process, Interest::READABLE)
    };
    open().map(Arc::new).map_err(|source| Error::Process {
        pid,
        doing: "watching it",
        source,
    })
}

/// After a crash PostgreSQL does not start, nor can it be recovered, as long as the number in its lock file is
/// anybody's.
pub(crate) fn remove_stale_lock(data_dir: &Path) -> Result<(), Error> {
    if !lock_is_stale(data_dir) || !orphans(data_dir).is_empty() {
        return Ok(());
    }
    let path = data_dir.join("postmaster.pid");
    tracing::info!(path = %path.display(), "the lock file of a dead postgres is removed");
    remove_if_there(&path)
}

/// Waits for what a dead postmaster left behind, then helps: these processes end by themselves unless
/// they are busy, and while one is there the data directory cannot be used.
pub(crate) async fn clear_orphans(data_dir: &Path) -> Result<(), Error> {
    let began = Instant::now();
    loop {
        // A postmaster that lives is not an orphan; starting a second one fails by itself.
        if running(data_dir).is_some() {
            return Ok(());
        }
        let left = orphans(data_dir);
        let waited = began.elapsed();
        let Some(pid) = left.first().copied() else {
            return Ok(());
        };
        if waited > ORPHANS_TIMEOUT {
            return Err(Error::Process {
                pid,
                doing: "waiting for what a dead PostgreSQL left behind",
                source: io::Error::other("it does not end"),
            });
        }
        if waited > ORPHANS_PATIENCE {
            // SIGQUIT makes them exit without touching shared memory; a frozen one needs SIGKILL.
            let harder = waited > ORPHANS_PATIENCE * 3;
            let signal = if harder { Signal::KILL } else { Signal::QUIT };
            for pid in left.iter().filter_map(|pid| i32::try_from(*pid).ok()) {
                if let Some(pid) = Pid::from_raw(pid) {
                    // It may have ended since we looked.
                    let _ = rustix::process::kill_process(pid, signal);
                }
            }
        }
        sleep(START_POLL_INTERVAL).await;
    }
}

/// PostgreSQL only warns when one of several addresses is taken; a server that cannot be reached is
/// worse than one that says why.
async fn address_is_free(address: SocketAddr) -> Result<(), Error> {
    let deadline = Instant::now() + ADDRESS_FREE_TIMEOUT;
    loop {
        let error = match TcpListener::bind(address) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if Instant::now() < deadline {
            sleep(Duration::from_millis(100)).await;
            continue;
        }
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "see what has it with `ss -ltnp sport = :{}`, or change ports.postgres",
                address.port()
            ),
            _ => "set server.address to an address that this machine has".to_owned(),
        };
        return Err(Error::Blocked {
            what: format!("PostgreSQL cannot listen on {address}: {error}"),
            hint,
        });
    }
}
