//! CPU time of the server under test, and the cores everything runs on.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::time::{ClockId, clock_getcpuclockid};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPU clocks of a process and all its descendants.
///
/// A process CPU clock (clock_getcpuclockid(3)) counts nanoseconds of user and system time of all
/// threads, also of those that have ended. On loopback, the receive path of a packet runs in the
/// sender's system call, so its time is in the sender's clock, except on kernels built with
/// `CONFIG_IRQ_TIME_ACCOUNTING`; see `machine::softirq_note`.
pub struct CpuClocks(Vec<ClockId>);

impl CpuClocks {
    pub fn of_tree(root: u32) -> Result<Self> {
        let clocks = process_tree(root)?
            .into_iter()
            .map(|pid| clock_getcpuclockid(nix::unistd::Pid::from_raw(pid as i32)))
            .collect::<Result<Vec<_>, _>>()
            .with_context(|| format!("no CPU clock for process {root} or a child of it"))?;
        Ok(Self(clocks))
    }

    /// Time used so far by all of them.
    pub fn read(&self) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for clock in &self.0 {
            total += Duration::from(clock.now().context("a process of the server has ended")?);
        }
        Ok(total)
    }
}

/// A process and its descendants, from `/proc/*/stat`.
pub fn process_tree(root: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        // Processes come and go while we look.
        if let Some(parent) = fs::read_to_string(format!("/proc/{pid}/stat"))
            .ok()
            .and_then(|stat| parent_in_stat(&stat))
        {
            parents.push((pid, parent));
        }
    }
    if !parents.iter().any(|&(pid, _)| pid == root) {
        bail!("process {root} is not there");
    }
    let mut tree = vec![root];
    let mut next = 0;
    while next < tree.len() {
        let parent = tree[next];
        tree.extend(
            parents
                .iter()
                .filter(|&&(_, p)| p == parent)
                .map(|&(pid, _)| pid),
        );
        next += 1;
    }
    Ok(tree)
}

/// The fourth field of proc_pid_stat(5). The second, the program's name, may hold anything, so count
/// from its closing parenthesis.
fn parent_in_stat(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// Pins the calling thread, and what it spawns from now on, to one core.
pub fn pin_this_thread(core: usize) -> Result<()> {
    if core >= CpuSet::MAX_CPU {
        bail!("there is no core {core}");
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| {
        format!("cannot use core {core}; choose another with --server-core and --load-core")
    })
}

/// Runs `work` with the calling thread on `core`, then gives the thread its cores back.
pub fn on_core<T>(core: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = sched_getaffinity(None)?;
    pin_this_thread(core)?;
    let result = work();
    sched_setaffinity(None, &before)?;
    result
}

/// Fails unless every thread of the tree may run on `core` only.
pub fn check_pinned(root: u32, core: usize) -> Result<()> {
    for pid in process_tree(root)? {
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let Ok(status) = fs::read_to_string(task?.path().join("status")) else {
                continue;
            };
            let allowed = status
                .lines()
                .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
                .map_or("", str::trim);
            if allowed != core.to_string() {
                bail!("a thread of process {pid} may run on cores {allowed}, not only on {core}");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_behind_any_program_name() {
        assert_eq!(parent_in_stat("12 (a) b) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in_stat("garbage"), None);
    }

    #[test]
    fn the_tree_of_this_process_holds_this_process_and_its_clock_runs() {
        let me = std::process::id();
        assert!(process_tree(me).unwrap().contains(&me));
        let clocks = CpuClocks::of_tree(me).unwrap();
        let before = clocks.read().unwrap();
        let mut x = 1_u64;
        while clocks.read().unwrap() == before {
            x = std::hint::black_box(x.wrapping_mul(31));
        }
    }
}
