//! A child process that never outlives the bench.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cpu::process_tree;
use crate::signals::unblocked;

/// Release builds abort on panic, without running any `Drop`: the panic hook needs a list.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

const STOP_WAIT: Duration = Duration::from_secs(10);

/// A running program whose output goes to a file. Dropping it stops it and its descendants.
pub struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    pub fn spawn(command: &mut Command, log: &Path) -> Result<Self> {
        let output = File::create(log)?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = unblocked(|| command.spawn())?
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        RUNNING
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(child.id());
        Ok(Self {
            child,
            log: log.to_owned(),
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// What it printed.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Look before stopping: afterwards, children left behind have another parent.
        let tree = process_tree(self.child.id()).unwrap_or_default();
        signal(self.child.id(), Signal::SIGTERM);
        let deadline = Instant::now() + STOP_WAIT;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            for pid in tree {
                signal(pid, Signal::SIGKILL);
            }
            let _ = self.child.wait();
        }
        RUNNING
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|&pid| pid != self.child.id());
    }
}

/// Before the process aborts, kill what is registered.
pub fn kill_children_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        if let Ok(running) = RUNNING.try_lock() {
            for &root in running.iter() {
                for pid in process_tree(root).unwrap_or_default() {
                    signal(pid, Signal::SIGKILL);
                }
            }
        }
    }));
}

fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid)
        && pid > 1
    {
        // It may be gone already: nothing to do then.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}
