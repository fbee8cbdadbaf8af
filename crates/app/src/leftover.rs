//! `instances.json`: what runs now, written before it matters, so that the successor of a killed
//! supervisor finds and ends it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use trilith_telemetry::Telemetry;

use crate::event::LeftoverEnded;
use crate::limits::{GROUP_POLL_INTERVAL, KILL_WAIT, LEFTOVER_GRACE};
use crate::process::{self, ProcessStat};

#[cfg(test)]
mod tests;

/// One running process. Private to this crate, in one file that only it reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub app: String,
    pub instance: String,
    pub release: String,
    pub pid: u32,
    /// Its process group; the process leads it.
    pub pgid: u32,
    /// [`ProcessStat::start_time`].
    pub start_time: u64,
    pub uid: u32,
    /// `TMPDIR` of the instance, which no other process has in its environment.
    pub tmp_dir: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    schema: u32,
    boot_id: String,
    instances: Vec<Record>,
}

const SCHEMA: u32 = 1;

/// Keeps the file up to date.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    boot_id: String,
    records: BTreeMap<u32, Record>,
}

impl Ledger {
    /// Starts with nothing running, and a file that says so.
    pub(crate) fn create(run_dir: &Path) -> io::Result<Self> {
        let path = file_path(run_dir);
        let ledger = Self {
            path,
            boot_id: process::boot_id(),
            records: BTreeMap::new(),
        };
        ledger.save()?;
        Ok(ledger)
    }

    pub(crate) fn add(&mut self, record: Record) -> io::Result<()> {
        self.records.insert(record.pid, record);
        self.save()
    }

    pub(crate) fn remove(&mut self, pid: u32) -> io::Result<()> {
        if self.records.remove(&pid).is_some() {
            self.save()
        } else {
            Ok(())
        }
    }

    /// Replaces the file as a whole. Not synced to disk: it is about a crash of this process; after
    /// one of the machine nothing in it runs any more.
    fn save(&self) -> io::Result<()> {
        let file = File {
            schema: SCHEMA,
            boot_id: self.boot_id.clone(),
            instances: self.records.values().cloned().collect(),
        };
        let temporary = self.path.with_extension("json.new");
        let mut out = fs::File::create(&temporary)?;
        serde_json::to_writer_pretty(&mut out, &file)?;
        out.write_all(b"\n")?;
        drop(out);
        fs::rename(&temporary, &self.path)
    }
}

fn file_path(run_dir: &Path) -> PathBuf {
    run_dir.join("instances.json")
}

/// Ends every instance that a supervisor with this `run_dir` left running when it was killed: SIGTERM,
/// [`LEFTOVER_GRACE`], SIGKILL. Returns how many processes it found. Blocks up to the grace plus
/// [`KILL_WAIT`], and not at all when there is nothing. Never call it while that supervisor runs;
/// [`Supervisor::start`](crate::Supervisor::start) does it by itself.
///
/// A process is signalled only when pid, start time and user are those that were written down, in
/// this boot. Children whose parent is gone are recognised by the instance's `TMPDIR`.
pub fn end_leftovers(run_dir: &Path, telemetry: &Telemetry) -> usize {
    let path = file_path(run_dir);
    let records = match read(&path) {
        Ok(records) => records,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return 0,
        Err(error) => {
            tracing::warn!(
                path = %path.display(), %error,
                "cannot read what a predecessor left running; look for strays with `ps`"
            );
            return 0;
        }
    };
    let found = signal_all(&records, Signal::SIGTERM);
    let is_gone = || records.iter().all(|record| survivors(record).is_empty());
    let mut killed = Vec::new();
    if !found.is_empty() && !wait_until(LEFTOVER_GRACE, is_gone) {
        // Until nothing is found: what forks may have a child that the last look did not see.
        wait_until(KILL_WAIT, || {
            let now = signal_all(&records, Signal::SIGKILL);
            killed.extend(now.iter().map(|(_, pid)| *pid));
            now.is_empty()
        });
    }
    for (record, pid) in &found {
        let (instance, pid) = (record.instance.as_str(), *pid);
        telemetry.emit(&LeftoverEnded {
            instance,
            pid,
            killed: killed.contains(&pid),
        });
    }
    found.len()
}

/// Signals every survivor, and returns them.
fn signal_all(records: &[Record], signal: Signal) -> Vec<(&Record, u32)> {
    let mut found = Vec::new();
    for record in records {
        for pid in survivors(record) {
            if let Err(error) = process::signal_process(pid, signal) {
                tracing::warn!(pid, instance = record.instance, %error, "cannot end leftover");
            }
            found.push((record, pid));
        }
    }
    found
}

fn read(path: &Path) -> io::Result<Vec<Record>> {
    let file: File = serde_json::from_slice(&fs::read(path)?)?;
    if file.schema != SCHEMA {
        let problem = format!("schema {} instead of {SCHEMA}", file.schema);
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    Ok(if file.boot_id == process::boot_id() {
        file.instances
    } else {
        Vec::new()
    })
}

/// The live processes that certainly belong to a record.
fn survivors(record: &Record) -> Vec<u32> {
    let leader = ProcessStat::read(record.pid);
    let is_ours = |stat: &ProcessStat| {
        stat.start_time == record.start_time
            && stat.group == record.pgid
            && process::uid_of(stat.pid) == Some(record.uid)
    };
    match leader {
        // As long as its leader exists (be it as a zombie), the group is the one that was written
        // down.
        Some(stat) if is_ours(&stat) => process::group_members(record.pgid)
            .into_iter()
            .map(|member| member.pid)
            .collect(),
        // The pid was given to somebody else: then the group is gone, or is theirs.
        Some(_) => Vec::new(),
        None => process::group_members(record.pgid)
            .into_iter()
            .filter(|member| {
                member.start_time >= record.start_time
                    && process::environment_of(member.pid, "INSTANCE").as_deref()
                        == Some(&record.instance)
                    && process::environment_of(member.pid, "TMPDIR")
                        .map(PathBuf::from)
                        .as_ref()
                        == Some(&record.tmp_dir)
            })
            .map(|member| member.pid)
            .collect(),
    }
}

fn wait_until(time: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + time;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(GROUP_POLL_INTERVAL);
    }
}
