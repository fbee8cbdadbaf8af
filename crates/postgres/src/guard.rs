//! A process beside PostgreSQL that stops it when this server's right to run it ends.
//!
//! A primary may take writes until the deadline of its lease. The agent stops it then, unless the agent
//! is dead, frozen, or waits for something. So somebody else has to: the guard, which sends SIGKILL to
//! every process of the data directory [`GUARD_GRACE`] after a deadline that nobody extended. It
//! outlives the agent: it is told its deadlines in a named pipe, by whichever agent there is. A lock on
//! the pipe makes it the only one.
//!
//! It knows nothing but the deadline. In particular, for ten seconds after a kill it also kills whatever
//! is started (a replica, say), unless it is told before that there is no deadline any more.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Instant;

use rustix::fs::{CWD, FileType, FlockOperation, Mode, OFlags, flock, mknodat};
use rustix::io::{Errno, ioctl_fionread};
use trilith_base::BootTime;

pub use crate::limits::GUARD_GRACE;
use crate::limits::{
    GUARD_FROZEN_AFTER, GUARD_POLL_INTERVAL, GUARD_START_TIMEOUT, GUARD_STARTS_MAX,
};

mod fenced;
mod process;
mod watch;
pub mod wire;

pub use fenced::{Fenced, report_fenced};
pub(crate) use process::kill_all;
pub use process::run;

use wire::Message;

/// How to start a guard, and where to find it.
#[derive(Clone, Debug)]
pub struct GuardOptions {
    /// A program that calls [`run`] when it is given `args`. Both name absolute paths.
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// The named pipe, one for each data directory; made when it is missing. Its folder exists, and
    /// nobody but this user (and root) can write in it. What the guard has to report lies beside it.
    pub fifo: PathBuf,
}

/// The guard of one data directory, as the agent sees it. Dropping this leaves it running.
///
/// Its functions block: mostly for microseconds, but for up to two seconds when a guard has to be
/// started or ended.
#[derive(Debug)]
pub struct Guard {
    options: GuardOptions,
    /// Our end of the pipe.
    pipe: Option<File>,
    /// Those that we started. Each has to be waited for once it has ended.
    children: Vec<Child>,
    /// Whether it has read something that we wrote.
    proven: bool,
    /// When the first message was written that it has perhaps not read.
    unread_since: Option<BootTime>,
}

impl Guard {
    /// Finds the guard that runs, or starts one. What a running one was told stays in force.
    ///
    /// # Errors
    /// There is none, and none can be started. Then PostgreSQL must not become a primary.
    pub fn start(options: GuardOptions) -> io::Result<Self> {
        make_fifo(&options.fifo)?;
        let mut guard = Self::of(options);
        guard.find_or_start()?;
        Ok(guard)
    }

    /// Finds the guard that runs; `None` when none does.
    ///
    /// # Errors
    /// The pipe cannot be opened, or is none.
    pub fn adopt(options: GuardOptions) -> io::Result<Option<Self>> {
        let mut guard = Self::of(options);
        Ok(guard.find()?.then_some(guard))
    }

    fn of(options: GuardOptions) -> Self {
        Self {
            options,
            pipe: None,
            children: Vec::new(),
            proven: false,
            unread_since: None,
        }
    }

    /// Tells the deadline on which PostgreSQL is stopped, or that there is none: it has been stopped, or
    /// is a replica. A guard that is gone is replaced.
    ///
    /// The first time, and after a replacement, this waits until the guard has read it. Later on, an
    /// error tells of a guard that has not read for a second.
    ///
    /// # Errors
    /// There is no guard and none can be started, or the one there is is frozen. In either case nothing
    /// stops PostgreSQL at the deadline, unless the agent does.
    pub fn tell(&mut self, deadline: Option<BootTime>) -> io::Result<()> {
        let message = Message::from(deadline);
        // A guard that is just ending is replaced by another one, and that one does not end.
        for _ in 0..2 {
            self.find_or_start()?;
            if self.write(message)? && self.holds_lock()? {
                return self.prove();
            }
            self.forget();
        }
        Err(io::Error::other(format!(
            "the guard of {} ends as soon as it is started",
            self.options.fifo.display()
        )))
    }

    /// Whether there is a guard. A frozen one is there as well.
    pub fn is_alive(&self) -> bool {
        guard_is_alive(&self.options.fifo)
    }

    /// Ends it, whatever it was told, and waits until it has ended. PostgreSQL is left alone.
    ///
    /// # Errors
    /// It is frozen, or the pipe is gone.
    pub fn end(mut self) -> io::Result<()> {
        let began = Instant::now();
        // Told again and again: another one may have waited for the lock.
        while (self.find()? && self.write(Message::End)?) || self.any_child_runs() {
            if began.elapsed() > GUARD_START_TIMEOUT {
                return Err(self.frozen());
            }
            sleep(GUARD_POLL_INTERVAL);
        }
        Ok(())
    }

    fn find_or_start(&mut self) -> io::Result<()> {
        let fifo = self.options.fifo.clone();
        let failed =
            |what: String| io::Error::other(format!("the guard of {}{what}", fifo.display()));
        let began = Instant::now();
        let mut starts = 0;
        let mut child: Option<Child> = None;
        loop {
            if self.find()? {
                self.children.extend(child);
                return Ok(());
            }
            match child.as_mut().map(Child::try_wait).transpose()? {
                Some(None) if began.elapsed() > GUARD_START_TIMEOUT => {
                    self.children.extend(child);
                    self.kill_children();
                    return Err(failed(" does not start".to_owned()));
                }
                Some(None) => {}
                Some(Some(status)) if !status.success() => {
                    return Err(failed(format!(" cannot start: {status}")));
                }
                // At the first look; or it found another guard, which has ended since.
                None | Some(Some(_)) if starts < GUARD_STARTS_MAX => {
                    starts += 1;
                    child = Some(self.spawn()?);
                }
                None | Some(Some(_)) => {
                    return Err(failed(" ends as soon as it is started".to_owned()));
                }
            }
            sleep(GUARD_POLL_INTERVAL);
        }
    }

    fn spawn(&self) -> io::Result<Child> {
        make_fifo(&self.options.fifo)?;
        Command::new(&self.options.program)
            .args(&self.options.args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| {
                let program = self.options.program.display();
                io::Error::new(error.kind(), format!("cannot start {program}: {error}"))
            })
    }

    /// Those that have ended are forgotten. (An error means that there is no such child any more.)
    fn any_child_runs(&mut self) -> bool {
        self.children
            .retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        !self.children.is_empty()
    }

    fn kill_children(&mut self) {
        for mut child in self.children.drain(..) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Connects to the guard, unless that has been done. Whether there is one.
    fn find(&mut self) -> io::Result<bool> {
        if self.pipe.is_none() {
            self.pipe = connect(&self.options.fifo)?;
        }
        let found = self.holds_lock()?;
        if !found {
            self.forget();
        }
        Ok(found)
    }

    /// It has ended, or is ending.
    fn forget(&mut self) {
        self.pipe = None;
        self.proven = false;
        self.unread_since = None;
        self.any_child_runs();
    }

    fn holds_lock(&self) -> io::Result<bool> {
        match &self.pipe {
            Some(pipe) => is_locked(pipe),
            None => Ok(false),
        }
    }

    /// Whether it has been written; if not, nobody reads any more.
    fn write(&mut self, message: Message) -> io::Result<bool> {
        if self.has_unread()? {
            let since = *self.unread_since.get_or_insert_with(BootTime::now);
            if BootTime::now().since(since) >= GUARD_FROZEN_AFTER {
                return Err(self.frozen());
            }
        } else {
            self.unread_since = None;
        }
        let Some(mut pipe) = self.pipe.as_ref() else {
            return Ok(false);
        };
        match pipe.write(&message.encode()) {
            Ok(_) => {
                self.unread_since.get_or_insert_with(BootTime::now);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(self.frozen()),
            Err(error) => Err(error),
        }
    }

    fn has_unread(&self) -> io::Result<bool> {
        match &self.pipe {
            Some(pipe) => Ok(ioctl_fionread(pipe)? > 0),
            None => Ok(false),
        }
    }

    /// Waits until it has read what it was told, unless it is known to read.
    fn prove(&mut self) -> io::Result<()> {
        let began = Instant::now();
        while !self.proven {
            if !self.has_unread()? {
                self.proven = true;
            } else if began.elapsed() > GUARD_START_TIMEOUT {
                return Err(self.frozen());
            } else {
                sleep(GUARD_POLL_INTERVAL);
            }
        }
        Ok(())
    }

    fn frozen(&self) -> io::Error {
        let fifo = self.options.fifo.display();
        let holder = self.pipe.as_ref().and_then(lock_holder);
        let text = match holder {
            Some(pid) => format!(
                "the guard of {fifo}, process {pid}, does not read: end it with `kill -9 {pid}`"
            ),
            None => format!("the guard of {fifo} does not read: end it with `fuser -k {fifo}`"),
        };
        io::Error::new(io::ErrorKind::TimedOut, text)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Of those that have ended, no zombie is left.
        self.any_child_runs();
    }
}

/// Ends the guard of the pipe `fifo`, which an agent that does not run any more left behind. Whether
/// there was one.
///
/// # Errors
/// It is frozen, or the pipe cannot be opened.
pub fn end_left_behind(fifo: &Path) -> io::Result<bool> {
    let options = GuardOptions {
        program: PathBuf::new(),
        args: Vec::new(),
        fifo: fifo.to_owned(),
    };
    match Guard::adopt(options)? {
        Some(guard) => guard.end().map(|()| true),
        None => Ok(false),
    }
}

/// Whether the pipe `fifo` has a guard.
fn guard_is_alive(fifo: &Path) -> bool {
    matches!(connect(fifo), Ok(Some(pipe)) if is_locked(&pipe).unwrap_or(false))
}

/// The writing end of the pipe, when somebody reads; `None` when nobody does.
fn connect(fifo: &Path) -> io::Result<Option<File>> {
    match open_fifo(fifo, false) {
        Ok(pipe) => Ok(Some(pipe)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_locked(pipe: &File) -> io::Result<bool> {
    match flock(pipe, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            flock(pipe, FlockOperation::Unlock)?;
            Ok(false)
        }
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

fn make_fifo(fifo: &Path) -> io::Result<()> {
    match mknodat(CWD, fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => {
            let error = io::Error::from(errno);
            let text = format!("cannot make the pipe {}: {error}", fifo.display());
            Err(io::Error::new(error.kind(), text))
        }
    }
}

/// Opens the pipe for writing, and for reading as well, without waiting for anybody. It has to be one
/// that only we can use.
fn open_fifo(fifo: &Path, read: bool) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let opened = OpenOptions::new()
        .read(read)
        .write(true)
        .custom_flags(flags.bits() as i32)
        .open(fifo)?;
    let found = opened.metadata()?;
    if !found.file_type().is_fifo() || found.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other(format!(
            "{path} is no named pipe of this user: remove it with `rm {path}`",
            path = fifo.display()
        )));
    }
    Ok(opened)
}

/// Who holds the lock. Lines of `/proc/locks` (proc(5)): number, kind, mode, access, pid,
/// `major:minor:inode` with the device in hexadecimal, begin, end.
fn lock_holder(pipe: &File) -> Option<u32> {
    let found = pipe.metadata().ok()?;
    let (major, minor) = (
        rustix::fs::major(found.dev()),
        rustix::fs::minor(found.dev()),
    );
    let file = format!("{major:02x}:{minor:02x}:{}", found.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, locked, ..] = fields.as_slice() else {
            return None;
        };
        if *locked != file {
            return None;
        }
        pid.parse().ok()
    })
}

#[cfg(test)]
mod tests;
