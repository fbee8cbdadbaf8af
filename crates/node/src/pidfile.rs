//! `run/trilith.pid`: one process per server, and how others find it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::NodeError;

const FILE_NAME: &str = "trilith.pid";
/// Somebody who only looks whether we run holds the lock for a moment.
const TRIES: u32 = 10;
const TRY_INTERVAL: Duration = Duration::from_millis(50);

/// Held for as long as this server runs. The lock, not the number, is what counts: it goes with the
/// process, however that ends, and a reused pid means nothing.
#[derive(Debug)]
pub struct PidFile {
    file: File,
    path: PathBuf,
}

impl PidFile {
    /// Takes the lock of `run_dir`, and writes our pid into the file.
    ///
    /// # Errors
    /// [`NodeError::AlreadyRunning`] with the pid of the holder.
    pub fn acquire(run_dir: &Path) -> Result<Self, NodeError> {
        let path = run_dir.join(FILE_NAME);
        let failed = NodeError::file(&path);
        let mut file = open(&path, true).map_err(&failed)?;
        for attempt in 1.. {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if attempt < TRIES => std::thread::sleep(TRY_INTERVAL),
                Err(Errno::WOULDBLOCK) => {
                    let pid = read_pid(&mut file).ok().flatten();
                    return Err(NodeError::AlreadyRunning { pid, path });
                }
                Err(errno) => return Err(failed(errno.into())),
            }
        }
        let mut pid_file = Self { file, path };
        pid_file
            .write(&format!("{}\n", std::process::id()))
            .map_err(failed)?;
        Ok(pid_file)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // The file stays: removing it would let two successors lock two different files.
        let _ = self.write("");
    }
}

/// The pid of the server that runs with the state folder's `run_dir`; `None` when none runs.
pub fn holder(run_dir: &Path) -> io::Result<Option<u32>> {
    let mut file = match open(&run_dir.join(FILE_NAME), false) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(None),
        // Between taking the lock and writing the pid there is a moment; whoever asks, asks again.
        Err(Errno::WOULDBLOCK) => read_pid(&mut file),
        Err(errno) => Err(errno.into()),
    }
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(create)
        .create(create)
        .truncate(false)
        .open(path)
}

fn read_pid(file: &mut File) -> io::Result<Option<u32>> {
    let mut text = String::new();
    file.rewind()?;
    file.take(32).read_to_string(&mut text)?;
    Ok(text.trim().parse().ok())
}

#[cfg(test)]
mod tests;
