//! Processes of this machine, as `/proc` shows them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::eventually;

/// A process that runs (one that has ended and waits for its parent does not count).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    /// With its arguments.
    pub command: String,
}

impl Process {
    /// All that this user may see.
    pub fn all() -> Vec<Process> {
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| Process::find(entry.file_name().to_str()?.parse().ok()?))
            .collect()
    }

    pub fn find(pid: u32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the program's name in parentheses, and may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
        if matches!(state, "Z" | "X") {
            return None;
        }
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command)
            .replace('\0', " ")
            .trim()
            .to_owned();
        Some(Process {
            pid,
            parent,
            command,
        })
    }

    /// Those that have to do with a folder: in their arguments, environment, program or working
    /// directory.
    pub fn of_folder(folder: &Path) -> Vec<Process> {
        let name = folder.to_string_lossy();
        let inside = |pid: u32| {
            let link = |what| fs::read_link(format!("/proc/{pid}/{what}"));
            let text = |what| fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
            ["cwd", "exe"]
                .into_iter()
                .any(|what| link(what).is_ok_and(|to| to.starts_with(folder)))
                || ["cmdline", "environ"]
                    .into_iter()
                    .any(|what| String::from_utf8_lossy(&text(what)).contains(&*name))
        };
        let me = std::process::id();
        Process::all()
            .into_iter()
            .filter(|p| p.pid != me && inside(p.pid))
            .collect()
    }

    /// This process and its descendants.
    pub fn tree(root: u32) -> Vec<Process> {
        let all = Process::all();
        let mut tree: Vec<Process> = all.iter().filter(|p| p.pid == root).cloned().collect();
        let mut next = 0;
        while next < tree.len() {
            let parent = tree[next].pid;
            tree.extend(all.iter().filter(|p| p.parent == parent).cloned());
            next += 1;
        }
        tree
    }

    /// Sends a signal. That it has ended already is no error.
    pub fn signal(pid: u32, signal: Signal) -> Result<()> {
        match i32::try_from(pid) {
            Ok(raw) if raw > 1 => match kill(Pid::from_raw(raw), signal) {
                Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
                Err(e) => bail!("cannot send {signal} to process {pid}: {e}"),
            },
            _ => bail!("{pid} is not a process to send a signal to"),
        }
    }

    pub fn wait_gone(pid: u32, patience: Duration) -> Result<()> {
        eventually(
            &format!("process {pid} ends"),
            patience,
            || match Process::find(pid) {
                None => Ok(()),
                Some(process) => bail!("{} still runs", process.command),
            },
        )
    }
}
