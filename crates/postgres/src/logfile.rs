//! PostgreSQL's log: a file that its standard error is appended to.
//!
//! A pipe to us would break when we are killed, and PostgreSQL's own collector cannot bound both the
//! size and the number of files under one name. So the postmaster writes to the file itself, and we
//! rotate by copying and truncating, as logrotate's `copytruncate` does. Lines written between the two
//! are lost; there are few, and none when PostgreSQL is quiet.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, FileContext};
use crate::files::make_folder;
use crate::limits::{LOG_BYTES_MAX, LOG_FILES_KEPT, LOG_TAIL_BYTES_MAX};

/// Opens the log for appending, so that writing goes on at its end after a truncation.
pub(crate) fn open(path: &Path) -> Result<File, Error> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
        .at("open", path)
}

/// Its length in bytes; 0 when there is none.
pub(crate) fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

/// Rotates the log when it is too long. The bytes moved, if it was.
pub(crate) fn rotate(path: &Path) -> io::Result<Option<u64>> {
    rotate_beyond(path, LOG_BYTES_MAX)
}

fn rotate_beyond(path: &Path, bytes_max: u64) -> io::Result<Option<u64>> {
    let log = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(log) => log,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if log.metadata()?.len() <= bytes_max {
        return Ok(None);
    }
    for number in (1..LOG_FILES_KEPT).rev() {
        match fs::rename(numbered(path, number), numbered(path, number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let mut copy = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .open(numbered(path, 1))?;
    let copied = io::copy(&mut &log, &mut copy)?;
    log.set_len(0)?;
    Ok(Some(copied))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// What the log says since `from` about why PostgreSQL ended: its last complaints, in one line.
pub(crate) fn complaints(path: &Path, from: u64) -> String {
    let text = tail(path, from).unwrap_or_default();
    let serious = |line: &&str| {
        ["FATAL:", "PANIC:", "ERROR:", "HINT:", "DETAIL:"]
            .iter()
            .any(|word| line.contains(word))
            // What the postmaster says about its configuration has level LOG.
            || line.contains("LOG:  invalid") || line.contains("LOG:  could not")
            || line.contains("unrecognized configuration parameter")
            || line.contains("was terminated by signal")
    };
    let mut lines: Vec<&str> = text.lines().filter(serious).collect();
    if lines.is_empty() {
        lines = text.lines().collect();
    }
    let first = lines.len().saturating_sub(4);
    let told: Vec<String> = lines[first..]
        .iter()
        .map(|line| line.trim().chars().take(300).collect())
        .collect();
    if told.is_empty() {
        return format!("its log {} says nothing", path.display());
    }
    told.join(" | ")
}

fn tail(path: &Path, from: u64) -> io::Result<String> {
    let mut log = File::open(path)?;
    let end = log.metadata()?.len();
    // After a rotation the file is shorter than it was.
    let from = if from > end { 0 } else { from };
    log.seek(SeekFrom::Start(
        from.max(end.saturating_sub(LOG_TAIL_BYTES_MAX)),
    ))?;
    let mut bytes = Vec::new();
    log.take(LOG_TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests;
