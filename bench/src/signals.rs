//! SIGINT, SIGTERM and SIGHUP as something to ask for, so that children are stopped on the way out.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Result, bail};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The three signals, blocked for this process and readable here. Children are not affected:
/// the standard library gives them an empty signal mask.
pub struct Signals(SignalFd);

impl Signals {
    /// Call it before any thread starts.
    pub fn block() -> Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            set.add(signal);
        }
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
