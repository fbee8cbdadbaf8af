//! A process beside the server that takes the floating addresses from it when it holds on too long.
//!
//! In the mode `loopback` a floating address is a listening socket. When its holder freezes (SIGSTOP, a
//! stopped debugger, a machine out of memory), the kernel goes on completing handshakes on it, and the
//! next holder cannot bind it. So somebody else has to close it: the guard is told every deadline, and
//! sends SIGKILL when one passes.
//!
//! In the mode `l2` the kernel removes the address by itself, but its timer waits for an idle processor to
//! wake, which may take a second longer. There the guard removes the address at the deadline, and at once
//! when the server has died; the server is left alone.

use std::io::{self, PipeReader, PipeWriter, Write};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{PidfdFlags, Signal, getppid, pidfd_open, pidfd_send_signal};
use tokio::sync::watch;
use trilith_base::BootTime;
use trilith_postgres::guard::wire::{MESSAGE_BYTES, Message, wait_readable};
use trilith_vip::limits::SUSPEND_CHECK;

use crate::error::NodeError;

/// The hidden subcommand that runs it: `trilith guard`.
pub const COMMAND: &str = "guard";
/// A server that runs gives the address up at the deadline by itself; the guard is for one that does not.
/// Part of `trilith_vip`'s stop budget of 50 ms; its simulation of races reckons with the same.
const GRACE: Duration = Duration::from_millis(30);
/// Without a deadline the guard still looks around now and then.
const IDLE_POLL: Duration = Duration::from_secs(5);

/// A running guard, as the server sees it. It ends when this is dropped.
pub(crate) struct Guard {
    child: Child,
    deadlines: PipeWriter,
}

impl Guard {
    /// Starts one: this same program, as a child that no signal of the terminal reaches. It removes
    /// `addresses` from the machine; without any it ends the server.
    pub fn start(addresses: &[IpAddr]) -> Result<Self, NodeError> {
        let start = || -> io::Result<Self> {
            let (reader, writer) = io::pipe()?;
            // The link stays good when the file is replaced by a newer version.
            let child = Command::new("/proc/self/exe")
                .arg(COMMAND)
                .args(addresses.iter().map(ToString::to_string))
                .stdin(Stdio::from(reader))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()?;
            Ok(Self {
                child,
                deadlines: writer,
            })
        };
        start().map_err(NodeError::service)
    }

    /// # Errors
    /// The guard is gone.
    pub fn tell(&mut self, deadline: Option<BootTime>) -> io::Result<()> {
        // 64 KiB of unread messages would take a guard that is frozen for hours; then it is useless
        // anyway, and the write would block. It is looked after before every message.
        if let Some(status) = self.child.try_wait()? {
            return Err(io::Error::other(format!("the guard has ended: {status}")));
        }
        self.deadlines.write_all(&Message::from(deadline).encode())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // It ends by itself when the pipe closes; a kill is quicker, and waiting leaves no zombie.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Passes every deadline on to a guard, and starts another one when it is gone. Ends with its source.
pub(crate) async fn feed(mut deadline: watch::Receiver<Option<BootTime>>, addresses: Vec<IpAddr>) {
    let mut guard: Option<Guard> = None;
    loop {
        let now = *deadline.borrow_and_update();
        if guard.is_none() && now.is_some() {
            match Guard::start(&addresses) {
                Ok(started) => guard = Some(started),
                Err(error) => tracing::warn!(
                    %error,
                    "no guard: if this process freezes, the floating address stays with it"
                ),
            }
        }
        if let Some(running) = &mut guard
            && let Err(error) = running.tell(now)
        {
            tracing::info!(%error, "starting another guard");
            guard = None;
            continue;
        }
        if deadline.changed().await.is_err() {
            return;
        }
    }
}

/// What the guard process does: until its parent ends, sleep until the deadline; once it passes, remove
/// the addresses, or without any end the parent.
pub fn run(addresses: &[IpAddr]) -> io::Result<()> {
    let Some(parent) = getppid() else {
        return Ok(());
    };
    // From here on the number cannot come to mean another process.
    let process = pidfd_open(parent, PidfdFlags::empty())?;
    let pipe = PipeReader::from(io::stdin().as_fd().try_clone_to_owned()?);
    let remove = || trilith_vip::remove_addresses(addresses).map_err(io::Error::other);
    let mut deadline = None;
    loop {
        let left = deadline.map_or(IDLE_POLL, |at: BootTime| {
            // poll(2) does not count a suspend.
            (at + GRACE).since(BootTime::now()).min(SUSPEND_CHECK)
        });
        if wait_readable(&pipe, left)? {
            match read_all(&pipe)? {
                Some(told) => deadline = told,
                // The server has ended. In good order it holds nothing any more.
                None if deadline.is_none() => return Ok(()),
                None => return remove(),
            }
        } else if getppid() != Some(parent) {
            return remove();
        } else if deadline.is_some_and(|at| BootTime::now() >= at + GRACE) {
            if addresses.is_empty() {
                return Ok(pidfd_send_signal(process, Signal::KILL)?);
            }
            remove()?;
            // Until the server says another one, should it come to itself.
            deadline = None;
        }
    }
}

/// The last message of those that wait; `None` at the end of the pipe.
fn read_all(mut pipe: &PipeReader) -> io::Result<Option<Option<BootTime>>> {
    use io::Read;
    let mut bytes = [0; MESSAGE_BYTES * 512];
    let read = pipe.read(&mut bytes)?;
    Ok(Message::last(&bytes[..read]).map(|message| match message {
        Message::Deadline(at) => Some(at),
        // This one ends when the pipe does.
        Message::NoDeadline | Message::End => None,
    }))
}

#[cfg(test)]
mod tests;
