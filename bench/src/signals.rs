//! SIGINT, SIGTERM and SIGHUP as something to ask for, so that children are stopped on the way out.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Result, bail};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The three signals, blocked for this process and readable here. Children would inherit that: start
/// them with [`unblocked`].
pub struct Signals(SignalFd);

fn set() -> SigSet {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        set.add(signal);
    }
    set
}

/// Starts a child that the signals reach. Since Rust 1.66 it begins with the signal mask of the thread
/// that starts it.
pub fn unblocked<T>(start: impl FnOnce() -> T) -> Result<T> {
    let before = set().thread_swap_mask(SigmaskHow::SIG_UNBLOCK)?;
    let started = start();
    before.thread_set_mask()?;
    Ok(started)
}

impl Signals {
    /// Call it before any thread starts.
    pub fn block() -> Result<Self> {
        let set = set();
        set.thread_block()?;
        Ok(Self(SignalFd::with_flags(
            &set,
            SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC,
        )?))
    }

    /// An error when one of them has come.
    pub fn check(&self) -> Result<()> {
        if let Some(info) = self.0.read_signal()? {
            bail!("stopped by signal {}", info.ssi_signo);
        }
        Ok(())
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
