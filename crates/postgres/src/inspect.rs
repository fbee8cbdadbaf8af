//! What is there: the data directory, and the processes that work in it.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::conf::CONF_FILE;

/// A data directory, as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DataState {
    Missing,
    Empty,
    /// Ours once, but parts are missing.
    HalfMade {
        what: String,
    },
    /// Not made by Trilith.
    NotOurs {
        what: String,
    },
    Ready {
        /// Of the PostgreSQL that made it.
        major: u32,
        system_id: u64,
        /// Whether it would start as a replica.
        standby: bool,
    },
}

/// Looks at `data_dir` without changing anything.
///
/// Trilith puts a data directory in place by a rename when it is complete, with `trilith.conf` in it.
/// So one without that file is somebody else's, and one with holes has been tampered with.
pub(crate) fn data_state(data_dir: &Path) -> io::Result<DataState> {
    let mut entries = match fs::read_dir(data_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(DataState::Missing),
        Err(error) => return Err(error),
    };
    if entries.next().is_none() {
        return Ok(DataState::Empty);
    }
    if !data_dir.join(CONF_FILE).exists() {
        let version = fs::read_to_string(data_dir.join("PG_VERSION"));
        let what = match version {
            Ok(version) => format!("a database of PostgreSQL {}", version.trim()),
            Err(_) => "other files".to_owned(),
        };
        return Ok(DataState::NotOurs { what });
    }
    let half_made = |what: &str| {
        Ok(DataState::HalfMade {
            what: what.to_owned(),
        })
    };
    let Ok(version) = fs::read_to_string(data_dir.join("PG_VERSION")) else {
        return half_made("PG_VERSION cannot be read");
    };
    let Ok(major) = version.trim().parse() else {
        return half_made("PG_VERSION makes no sense");
    };
    let Ok(system_id) = system_id(data_dir) else {
        return half_made("global/pg_control cannot be read");
    };
    for folder in ["base", "pg_wal"] {
        if !data_dir.join(folder).is_dir() {
            return half_made(&format!("the folder {folder} is missing"));
        }
    }
    Ok(DataState::Ready {
        major,
        system_id,
        standby: data_dir.join("standby.signal").exists(),
    })
}

/// `ControlFileData` begins with the system identifier, in the machine's byte order (pg_control.h).
fn system_id(data_dir: &Path) -> io::Result<u64> {
    let mut bytes = [0; 8];
    fs::File::open(data_dir.join("global").join("pg_control"))?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// A postmaster that is running in a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    pub pid: u32,
    /// From `postmaster.pid`; absent while it is just starting.
    pub port: Option<u16>,
    pub socket_folder: Option<PathBuf>,
}

/// The postmaster of `data_dir`, if one runs. What `postmaster.pid` says is believed only when
/// `/proc` agrees: after a crash the number may belong to anything.
pub(crate) fn running(data_dir: &Path) -> Option<Running> {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    let running = parse_postmaster_pid(&text)?;
    let pid = running.pid;
    // A child of the postmaster is a `postgres` in the same folder, too.
    let child = parent_of(pid).is_some_and(|parent| is_postgres_in(parent, data_dir));
    (is_postgres_in(pid, data_dir) && !child).then_some(running)
}

/// Processes that a dead postmaster left behind. The next one cannot start before they are gone,
/// because they may still write (`postmaster.c`, shared memory check).
pub(crate) fn orphans(data_dir: &Path) -> Vec<u32> {
    // Somebody repairs the database by hand, in single-user mode: not ours to end.
    let pid_file = fs::read_to_string(data_dir.join("postmaster.pid"));
    if pid_file.is_ok_and(|text| text.starts_with('-')) {
        return Vec::new();
    }
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| is_postgres_in(*pid, data_dir))
        .collect()
}

/// Whether `postmaster.pid` names a process that certainly is no postmaster of `data_dir`: one that is dead and
/// has not been waited for, or a program of another name or another folder that has the number now. PostgreSQL
/// takes any process of its own account for a living postmaster (miscinit.c, `CreateLockFile`).
pub(crate) fn lock_is_stale(data_dir: &Path) -> bool {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).unwrap_or_default();
    let Some(Running { pid, .. }) = parse_postmaster_pid(&text) else {
        return false;
    };
    match stat_field(pid, 3).as_deref() {
        None => false,
        Some("Z" | "X") => true,
        // What may not be looked at may be anything.
        Some(_) => {
            let visible = fs::read_link(format!("/proc/{pid}/exe")).is_ok()
                && fs::metadata(format!("/proc/{pid}/cwd")).is_ok();
            visible && !is_postgres_in(pid, data_dir)
        }
    }
}

/// Lines of the file (`miscadmin.h`): pid, data directory, start time, port, socket directory, ...
/// A negative pid is that of a single-user backend.
fn parse_postmaster_pid(text: &str) -> Option<Running> {
    let mut lines = text.lines().map(str::trim);
    let pid = lines.next()?.parse().ok().filter(|pid| *pid > 1)?;
    let mut lines = lines.skip(2);
    Some(Running {
        pid,
        port: lines.next().and_then(|line| line.parse().ok()),
        socket_folder: lines
            .next()
            .filter(|line| !line.is_empty())
            .map(PathBuf::from),
    })
}

/// How far a postmaster is that was just started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartState {
    /// It takes connections.
    Ready,
    NotReady(&'static str),
}

/// What the postmaster `pid` of `data_dir` says about itself, in the last line of `postmaster.pid`
/// (`pidfile.h`). A file that a dead one left says nothing.
pub(crate) fn start_state(data_dir: &Path, pid: u32) -> StartState {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).unwrap_or_default();
    if parse_postmaster_pid(&text).is_none_or(|running| running.pid != pid) {
        return StartState::NotReady("");
    }
    match text.lines().nth(7).map(str::trim) {
        Some("ready") => StartState::Ready,
        Some("starting") => StartState::NotReady("it is starting up, or recovering"),
        Some("standby") => StartState::NotReady("its copy is not consistent yet"),
        Some("stopping") => StartState::NotReady("it is shutting down"),
        _ => StartState::NotReady(""),
    }
}

/// Whether the program is `postgres` and works in `data_dir`.
pub(crate) fn is_postgres_in(pid: u32, data_dir: &Path) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let Ok(program) = fs::read_link(process.join("exe")) else {
        return false;
    };
    // After an upgrade of the package the old program goes on as "/.../postgres (deleted)".
    let name = program.file_name().map(|name| name.to_string_lossy());
    if name.is_none_or(|name| name.trim_end_matches(" (deleted)") != "postgres") {
        return false;
    }
    let (Ok(works_in), Ok(data)) = (fs::metadata(process.join("cwd")), fs::metadata(data_dir))
    else {
        return false;
    };
    (works_in.dev(), works_in.ino()) == (data.dev(), data.ino())
}

fn parent_of(pid: u32) -> Option<u32> {
    stat_field(pid, 4)?.parse().ok()
}

/// When the process started, in clock ticks since boot. With the pid it names a process for good.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    stat_field(pid, 22)?.parse().ok()
}

/// A field of `/proc/<pid>/stat` by its number in proc(5), 3 and up. The second one is a name in
/// parentheses that may contain anything.
fn stat_field(pid: u32, number: usize) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(number - 3).map(str::to_owned)
}

#[cfg(test)]
mod tests;
