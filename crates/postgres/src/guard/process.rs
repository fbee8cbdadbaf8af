//! What the guard process does.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, absolute};
use std::time::{Duration, SystemTime};

use nix::sys::signal::{SigSet, Signal as Blocked};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use trilith_base::BootTime;

use super::fenced::{Fenced, fenced_file};
use super::open_fifo;
use super::watch::{Todo, Watch};
use super::wire::{MESSAGE_BYTES, Message, wait_readable};
use crate::inspect::{is_postgres_in, orphans, running};
use crate::limits::{GUARD_LOCK_INTERVAL, GUARD_LOCK_TRIES};

/// Runs the guard of `data_dir` in this process, which should have no other thread: waits for
/// deadlines in the named pipe `fifo`, and ends every PostgreSQL process of the data directory when one
/// passes. Returns when it is not needed any more, and at once when the data directory has a guard.
///
/// # Errors
/// The pipe is missing, is something else, or belongs to another user.
pub fn run(data_dir: &Path, fifo: &Path) -> io::Result<()> {
    let (data_dir, fifo) = (absolute(data_dir)?, absolute(fifo)?);
    block_signals();
    // Open for writing as well: then the last writer's end is not the pipe's.
    let pipe = open_fifo(&fifo, true)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", fifo.display())))?;
    if !lock(&pipe)? {
        return Ok(());
    }
    // Whatever folder it was started in can be unmounted.
    std::env::set_current_dir("/")?;
    // A rehearsal: now all that it takes is in memory, and there it stays.
    let _ = look(&data_dir);
    stay_in_memory();

    let mut watch = Watch::new(BootTime::now());
    let mut victims = Victims::default();
    loop {
        if let Some(message) = read_last(&pipe)? {
            watch.hear(message, BootTime::now());
        }
        if let Some(fenced) = victims.when_done(&watch) {
            // Nobody may read about it; what counts is that it was done.
            let _ = fenced.write(&fenced_file(&fifo));
        }
        match watch.next(BootTime::now()) {
            Todo::Wait(at_most) => {
                wait_readable(&pipe, at_most)?;
            }
            Todo::Kill => {
                let began = BootTime::now();
                let found = kill_all(&data_dir);
                watch.looked(!found.is_empty(), BootTime::now());
                victims.add(found, began, &watch);
            }
            Todo::End => match last_look(&pipe)? {
                Some(message) => watch.hear(message, BootTime::now()),
                None => return Ok(()),
            },
        }
    }
}

/// Whoever stops a service, or types Ctrl-C, may mean PostgreSQL too, which then takes its time; it is
/// guarded meanwhile. The agent ends its guard by a message, and SIGKILL does it as well.
fn block_signals() {
    let all = [
        Blocked::SIGHUP,
        Blocked::SIGINT,
        Blocked::SIGQUIT,
        Blocked::SIGTERM,
        Blocked::SIGTSTP,
        Blocked::SIGUSR1,
        Blocked::SIGUSR2,
    ];
    // It cannot fail with signals that exist.
    let _ = all.into_iter().collect::<SigSet>().thread_block();
}

/// Takes the lock that makes it the only guard. An agent that looks whether there is one holds it for a
/// moment.
fn lock(pipe: &File) -> io::Result<bool> {
    for attempt in 1.. {
        match flock(pipe, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) if attempt < GUARD_LOCK_TRIES => {
                std::thread::sleep(GUARD_LOCK_INTERVAL);
            }
            Err(Errno::WOULDBLOCK) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(false)
}

/// A machine that swaps, or kills for want of memory, is one where the agent is late. Without the
/// privileges for it, the guard has to do with what it gets.
fn stay_in_memory() {
    // Only what is in use: all of the program would be many megabytes. Not what comes: without the
    // privilege, memory that would have to be locked is not given at all.
    let _ = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::ONFAULT);
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
}

/// The newest message, if one has come.
fn read_last(mut pipe: &File) -> io::Result<Option<Message>> {
    let mut newest = None;
    let mut torn = false;
    let mut bytes = [0; MESSAGE_BYTES * 512];
    loop {
        match pipe.read(&mut bytes) {
            Ok(0) => break,
            Ok(read) => {
                torn |= read % MESSAGE_BYTES != 0;
                newest = Message::last(&bytes[..read]).or(newest);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    // Somebody else has written to the pipe. Now that it is empty, the next message begins at its begin.
    Ok(newest.filter(|_| !torn))
}

/// Gives the lock up, and looks once more whether a message has come. An agent writes first and looks
/// at the lock then: so either its message is found here, or it finds the lock free and starts another
/// guard.
fn last_look(pipe: &File) -> io::Result<Option<Message>> {
    flock(pipe, FlockOperation::Unlock)?;
    match read_last(pipe)? {
        // When another one has the lock meanwhile, whoever started it tells it everything.
        Some(message) if lock(pipe)? => Ok(Some(message)),
        _ => Ok(None),
    }
}

/// The processes that work in the data directory, the postmaster first: once it is dying, it starts no
/// others.
fn look(data_dir: &Path) -> Vec<u32> {
    let mut found: Vec<u32> = running(data_dir).iter().map(|found| found.pid).collect();
    found.extend(orphans(data_dir));
    found
}

/// Kills what there is, also what is stopped or being traced. Returns what was found.
pub(crate) fn kill_all(data_dir: &Path) -> Vec<u32> {
    let mut found = look(data_dir);
    found.retain(|pid| kill(*pid, data_dir));
    found
}

/// Whether it was one.
fn kill(pid: u32, data_dir: &Path) -> bool {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(Ok(process)) = number.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else {
        return false;
    };
    // Now the number cannot come to mean another process any more.
    if !is_postgres_in(pid, data_dir) {
        return false;
    }
    // Without success it is there at the next look, too.
    let _ = pidfd_send_signal(process, Signal::KILL);
    true
}

/// What has been killed and not yet been told.
#[derive(Default)]
struct Victims {
    pids: BTreeSet<u32>,
    began: BootTime,
    last: BootTime,
    deadline: BootTime,
}

impl Victims {
    fn add(&mut self, found: Vec<u32>, began: BootTime, watch: &Watch) {
        if let Some(deadline) = watch.killing() {
            if self.pids.is_empty() {
                self.began = began;
                self.deadline = deadline;
            }
            self.pids.extend(found);
        }
        self.last = BootTime::now();
    }

    /// What is to be told, once nothing is being killed any more.
    fn when_done(&mut self, watch: &Watch) -> Option<Fenced> {
        if self.pids.is_empty() || watch.killing().is_some() {
            return None;
        }
        let processes = std::mem::take(&mut self.pids).len();
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Some(Fenced {
            time: since.unwrap_or(Duration::ZERO).as_secs(),
            boot: self.began,
            late: self.began.since(self.deadline),
            took: self.last.since(self.began),
            processes,
        })
    }
}
