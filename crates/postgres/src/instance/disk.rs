//! What lies in the data directory.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tokio::time::timeout;
use trilith_ha::{Data, History, Kind, Position, Process};

use super::Instance;
use crate::binaries;
use crate::control::ControlData;
use crate::error::{Error, FileContext};
use crate::files::{Owner, closed_folder, sync_parent};
use crate::inspect::{DataState, data_state};
use crate::limits::{ASK_TIMEOUT, DISK_FREE_MIN_BYTES};
use crate::programs::is_half_rewound;
use crate::remote::timed_out;
use crate::wal::read_history;

/// A new database that the cluster store does not know of yet.
const UNFOUNDED_FILE: &str = "trilith.unfounded";

const MAKE_ROOM: &str = "make room on that disk; PostgreSQL is started again by itself then";

/// What is remembered of the data directory.
#[derive(Default)]
pub(super) struct Disk {
    /// The control file as it was when it was read last, and what it said.
    control: Option<(FileState, Result<ControlData, String>)>,
    /// The last start failed for want of space.
    was_full: bool,
    /// It was a primary, was stopped in good order, and still cannot follow the new one as it is.
    pub parted: bool,
}

/// Tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileState {
    inode: u64,
    modified: (i64, i64),
}

impl FileState {
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        Ok(Self {
            inode: found.ino(),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }
}

impl Disk {
    /// PostgreSQL's last words.
    pub fn note_complaint(&mut self, log: &str) {
        self.was_full = log.contains("No space left on device");
    }
}

impl Owner {
    /// PostgreSQL's account has to pass through all folders on the way to these.
    pub fn may_enter(&self, paths: &[&Path]) -> Result<(), Error> {
        let Some(user) = &self.os_user else {
            return Ok(());
        };
        for path in paths {
            if let Some(closed) = closed_folder(path, user) {
                let (closed, path) = (closed.display(), path.display());
                return Err(Error::Blocked {
                    what: format!(
                        "the user {} may not enter {closed}, which is on the way to {path}",
                        user.name
                    ),
                    hint: format!(
                        "let it pass with `chmod o+x {closed}`, or put the data elsewhere"
                    ),
                });
            }
        }
        Ok(())
    }
}

impl Instance {
    /// What there is. PostgreSQL's own answers, where it answers, are better than its files.
    pub(super) async fn data(&mut self, process: &Process) -> Data {
        let dir = self.options.data_dir.clone();
        let shown = dir.display();
        let unusable = |what: String, hint: String| Data::Unusable { what, hint };
        let away = || format!("move it away: `mv {shown} {shown}.old`");
        let state = match data_state(&dir) {
            Ok(state) => state,
            Err(error) => {
                return unusable(
                    format!("the data folder {shown} cannot be read: {error}"),
                    "look at its owner and mode, and at the disk".to_owned(),
                );
            }
        };
        let (major, system_id, standby) = match state {
            DataState::Missing | DataState::Empty => return Data::Missing,
            _ if is_half_rewound(&dir) => {
                let what = "rewinding was begun here and not finished".to_owned();
                return Data::HalfMade { what };
            }
            DataState::NotOurs { what } => {
                return unusable(
                    format!("the data folder {shown} holds {what} that Trilith did not make"),
                    away(),
                );
            }
            DataState::HalfMade { what } => {
                return unusable(
                    format!("the data folder {shown} is damaged: {what}"),
                    format!("restore it; or, to have it copied anew, {}", away()),
                );
            }
            DataState::Ready {
                major,
                system_id,
                standby,
            } => (major, system_id, standby),
        };
        if let Err(error) = self.find_binaries(major) {
            return unusable(error.to_string(), error.hint().unwrap_or_default());
        }
        let kind = match standby {
            true => Kind::Replica,
            false => Kind::Primary,
        };
        let unfounded = dir.join(UNFOUNDED_FILE).exists();
        let ready = |clean, history| Data::Ready {
            system_id,
            kind,
            clean,
            history,
            unfounded,
        };
        if let Process::Ready(answer) = process {
            return ready(false, answer.history.clone());
        }
        if *process != Process::Stopped
            && let Some(last) = &self.life.last
        {
            return ready(false, last.history.clone());
        }
        if let Some(what) = self.disk_is_full(process) {
            return unusable(what, MAKE_ROOM.to_owned());
        }
        match self.control_data().await {
            Ok(control) => {
                let end = end_by_control(&control);
                let ended = read_history(&dir, end.timeline).unwrap_or_default();
                let stopped = *process == Process::Stopped;
                let clean = stopped && control.state.is_clean() && !self.disk.parted;
                ready(clean, History::new(ended, end))
            }
            Err(what) => unusable(
                format!("the data folder {shown} is damaged: {what}"),
                format!("restore it; or, to have it copied anew, {}", away()),
            ),
        }
    }

    /// The programs of the version that the data need, once found.
    fn find_binaries(&mut self, major: u32) -> Result<(), Error> {
        let fits = |found: &binaries::Binaries| found.major == major;
        if !self.binaries.as_ref().is_some_and(fits) {
            let found = binaries::find(self.options.bin_dir.as_deref(), Some(major))?;
            if !fits(&found) {
                return Err(Error::Blocked {
                    what: format!(
                        "the data in {} are of PostgreSQL {major}, and the programs in {} of {}",
                        self.options.data_dir.display(),
                        found.dir.display(),
                        found.major
                    ),
                    hint: format!(
                        "install PostgreSQL {major}, or upgrade the data with pg_upgrade"
                    ),
                });
            }
            let version = found.version.clone();
            self.publish(|status| status.version = Some(version));
            self.binaries = Some(found);
        }
        Ok(())
    }

    /// The programs, for data that are yet to be made.
    pub(super) fn any_binaries(&mut self) -> Result<binaries::Binaries, Error> {
        let found = match self.binaries.take() {
            Some(found) => found,
            None => binaries::find(self.options.bin_dir.as_deref(), None)?,
        };
        self.binaries = Some(found.clone());
        Ok(found)
    }

    fn disk_is_full(&mut self, process: &Process) -> Option<String> {
        if !self.disk.was_full || *process != Process::Stopped {
            return None;
        }
        let full = full_disk(&self.options.data_dir);
        self.disk.was_full = full.is_some();
        full
    }

    /// Read anew when the file has changed.
    async fn control_data(&mut self) -> Result<ControlData, String> {
        let path = self.options.data_dir.join("global").join("pg_control");
        let state = FileState::of(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        if let Some((known, control)) = &self.disk.control
            && *known == state
        {
            return control.clone();
        }
        let Some(binaries) = &self.binaries else {
            return Err("no programs to read it with".to_owned());
        };
        let read = timeout(ASK_TIMEOUT, self.programs(binaries).control_data()).await;
        let control = match read {
            Ok(control) => control.map_err(|error| error.to_string()),
            // Not kept: the disk may be slow just now.
            Err(_) => return Err(timed_out("reading the control file", ASK_TIMEOUT).to_string()),
        };
        self.disk.control = Some((state, control.clone()));
        control
    }

    pub(super) fn write_unfounded_mark(&self, target: &Path) -> Result<(), Error> {
        let path = target.join(UNFOUNDED_FILE);
        self.owner.write_file(&path, "", 0o600)
    }

    pub(super) fn remove_unfounded_mark(&self) -> Result<(), Error> {
        remove(&self.options.data_dir.join(UNFOUNDED_FILE))
    }

    /// Of a copy of another server's data: what it says about that server.
    pub(super) fn remove_marks_in(&self, target: &Path) -> Result<(), Error> {
        remove(&target.join(UNFOUNDED_FILE))
    }

    /// Makes these a replica's data, or a primary's.
    pub(super) fn write_kind(&self, target: &Path, kind: Kind) -> Result<(), Error> {
        let signal = target.join("standby.signal");
        match kind {
            Kind::Replica => self
                .owner
                .write_file_if_changed(&signal, "", 0o600)
                .map(|_| ()),
            Kind::Primary => remove(&signal),
        }?;
        remove(&target.join("recovery.signal"))
    }
}

/// Removes the file, if it is there, for good.
fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).at("remove", path),
    }
}

/// The end of the WAL as far as the control file knows it. Of a primary that was stopped in good order: where
/// its last record, the checkpoint, begins; everything that was acknowledged lies before.
fn end_by_control(control: &ControlData) -> Position {
    let checkpoint = control.checkpoint;
    match control.min_recovery_end {
        // A replica's; or a promotion was followed by no checkpoint.
        Some(reached) if reached.lsn > checkpoint.lsn => reached,
        _ => checkpoint,
    }
}

/// A rewind that ends for want of room leaves half data, and a copy would need more of it.
pub(super) fn check_room(dir: &Path) -> Result<(), Error> {
    match full_disk(dir) {
        Some(what) => Err(Error::Blocked {
            what,
            hint: MAKE_ROOM.to_owned(),
        }),
        None => Ok(()),
    }
}

/// What is wrong with the disk of that folder, if it has less free than PostgreSQL needs.
fn full_disk(dir: &Path) -> Option<String> {
    let found = rustix::fs::statvfs(dir).ok()?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    (free < DISK_FREE_MIN_BYTES).then(|| {
        let (dir, free) = (dir.display(), free >> 20);
        format!(
            "the disk of {dir} is full: {free} MiB are free, and PostgreSQL needs some to start"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told() {
        assert_eq!(full_disk(Path::new("/dev/shm/not-there")), None);
        // It has no room at all, ever.
        let told = full_disk(Path::new("/proc")).unwrap();
        assert!(told.contains("/proc is full: 0 MiB are free"), "{told}");
    }
}
