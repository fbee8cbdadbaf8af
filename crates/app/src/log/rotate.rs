//! A file that is renamed away when it is full: `x.log`, `x.log.1` (newest) to `x.log.N`.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub(super) struct RotatingFile {
    path: PathBuf,
    bytes_max: u64,
    /// The current file included.
    files_max: u32,
    /// `None` after a failure: opened again with the next line.
    file: Option<BufWriter<File>>,
    bytes: u64,
}

impl RotatingFile {
    pub(super) fn open(path: PathBuf, bytes_max: u64, files_max: u32) -> io::Result<Self> {
        let mut this = Self {
            path,
            bytes_max,
            files_max,
            file: None,
            bytes: 0,
        };
        this.reopen()?;
        Ok(this)
    }

    /// Appends one record, into a new file when this one is full. A record is never split.
    pub(super) fn write(&mut self, record: &[u8]) -> io::Result<()> {
        let size = record.len() as u64;
        if self.bytes > 0 && self.bytes + size > self.bytes_max {
            self.rotate()?;
        }
        let written = self.reopen()?.write_all(record);
        match written {
            Ok(()) => self.bytes += size,
            Err(_) => self.file = None,
        }
        written
    }

    pub(super) fn flush(&mut self) {
        if let Some(file) = &mut self.file
            && file.flush().is_err()
        {
            self.file = None;
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.flush();
        self.file = None;
        for number in (1..self.files_max).rev() {
            let from = if number == 1 {
                self.path.clone()
            } else {
                self.numbered(number - 1)
            };
            match std::fs::rename(from, self.numbered(number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.files_max <= 1 {
            std::fs::remove_file(&self.path)?;
        }
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<&mut BufWriter<File>> {
        if self.file.is_none() {
            let file = open_append(&self.path)?;
            self.bytes = file.metadata()?.len();
            return Ok(self.file.insert(BufWriter::with_capacity(64 * 1024, file)));
        }
        self.file
            .as_mut()
            .ok_or_else(|| io::Error::other("no log file"))
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

/// Readable by the operator's group, not by the world: apps log what they should not.
fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}
