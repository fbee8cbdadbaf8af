//! Processes and process groups as the kernel shows them in `/proc`.

use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

#[cfg(test)]
mod tests;

/// The fields of `/proc/<pid>/stat` that matter here (proc(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessStat {
    pub pid: u32,
    /// `Z` and `X` are dead already.
    pub state: char,
    pub group: u32,
    /// Clock ticks since boot. With the pid it names a process for good: pids come again, this does
    /// not.
    pub start_time: u64,
}

impl ProcessStat {
    pub(crate) fn read(pid: u32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The command's name stands in parentheses and may itself hold spaces and parentheses, so the
    /// fields are counted from the last `)`.
    fn parse(text: &str) -> Option<Self> {
        let pid = text.split(' ').next()?.parse().ok()?;
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // `rest` starts with field 3 (state); group is field 5, start time field 22.
        Some(Self {
            pid,
            state: fields.first()?.chars().next()?,
            group: fields.get(2)?.parse().ok()?,
            start_time: fields.get(19)?.parse().ok()?,
        })
    }

    pub(crate) fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// The real user of a process.
pub(crate) fn uid_of(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// One variable of the environment a process was started with; `None` also when we may not look.
pub(crate) fn environment_of(pid: u32, key: &str) -> Option<String> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    environment.split(|&b| b == 0).find_map(|entry| {
        let value = entry.strip_prefix(key.as_bytes())?.strip_prefix(b"=")?;
        String::from_utf8(value.to_vec()).ok()
    })
}

/// The live processes of a group. Reads the whole of `/proc`.
pub(crate) fn group_members(group: u32) -> Vec<ProcessStat> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(ProcessStat::read)
        .filter(|stat| stat.group == group && stat.is_alive())
        .collect()
}

/// Distinguishes this boot of the machine from every other: start times only compare within one.
pub(crate) fn boot_id() -> String {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    std::fs::read_to_string(path)
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// Signals a whole group. A group that is gone already is fine.
pub(crate) fn signal_group(group: u32, signal: Signal) -> io::Result<()> {
    gone_is_fine(killpg(raw(group)?, signal))
}

/// Signals one process. One that is gone already is fine.
pub(crate) fn signal_process(pid: u32, signal: Signal) -> io::Result<()> {
    gone_is_fine(kill(raw(pid)?, signal))
}

fn gone_is_fine(result: Result<(), Errno>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// 0 and 1 would mean "our own group" and "everybody": refused, whatever a file said.
fn raw(pid: u32) -> io::Result<Pid> {
    match i32::try_from(pid) {
        Ok(pid) if pid > 1 => Ok(Pid::from_raw(pid)),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{pid} is not a process id"),
        )),
    }
}
