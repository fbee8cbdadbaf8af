//! The thread that writes the access log to its file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use prometheus_client::metrics::counter::Counter;

use super::AccessLog;
use crate::limits::{ACCESS_BUFFER_BYTES, ACCESS_BUFFERS_QUEUED_MAX};
use crate::registry::Telemetry;

/// Where the access log goes.
#[derive(Clone, Debug)]
pub struct AccessLogOptions {
    /// The file; rotated files are `<path>.1` (the newest), `<path>.2`, ...
    pub path: PathBuf,
    /// The file is rotated before it grows past this.
    pub rotate_bytes: u64,
    /// Rotated files kept.
    pub keep: u32,
}

impl AccessLogOptions {
    /// 64 MiB per file, five old files.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            rotate_bytes: 64 << 20,
            keep: 5,
        }
    }
}

/// The access log of a server: one file, one writer thread, one [`AccessLog`] per worker.
#[derive(Clone)]
pub struct AccessLogFile {
    shared: Arc<Shared>,
}

struct Shared {
    server: String,
    sender: Sender,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl AccessLogFile {
    /// Opens the file for appending and starts the writer thread.
    pub fn open(options: AccessLogOptions, telemetry: &Telemetry) -> io::Result<Self> {
        let file = RotatingFile::open(options)?;
        let (queue, buffers) = sync_channel(ACCESS_BUFFERS_QUEUED_MAX);
        let dropped = telemetry.counter(
            "access_log_lines_dropped",
            "Access log lines lost because the disk was too slow or full",
            Vec::new(),
        );
        let sender = Sender {
            queue,
            dropped: dropped.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_all(file, &buffers, &dropped))?;
        Ok(Self {
            shared: Arc::new(Shared {
                server: telemetry.server().to_owned(),
                sender,
                thread: Mutex::new(Some(thread)),
            }),
        })
    }

    /// The end for one worker. Must be called on it, within its `LocalSet`.
    pub fn handle(&self) -> AccessLog {
        AccessLog::on_worker(&self.shared.server, self.shared.sender.clone())
    }

    /// Writes what was handed over so far and ends the thread. Blocks until it is on its way to the
    /// disk; lines written later are dropped.
    pub fn close(&self) {
        let mut thread = self
            .shared
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // Both fail only when the thread is gone already.
            let _ = self.shared.sender.queue.send(Message::Close);
            let _ = thread.join();
        }
    }
}

pub(super) enum Message {
    Lines { buffer: Vec<u8>, lines: u64 },
    Close,
}

#[derive(Clone)]
pub(super) struct Sender {
    queue: SyncSender<Message>,
    dropped: Counter,
}

impl Sender {
    pub(super) fn spare_buffer(&self) -> Vec<u8> {
        Vec::with_capacity(ACCESS_BUFFER_BYTES + 4096)
    }

    /// Never blocks.
    pub(super) fn send(&self, buffer: Vec<u8>, lines: u64) {
        let message = Message::Lines { buffer, lines };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.queue.try_send(message)
        {
            self.dropped.inc_by(lines);
        }
    }
}

fn write_all(mut file: RotatingFile, buffers: &Receiver<Message>, dropped: &Counter) {
    let mut healthy = true;
    while let Ok(Message::Lines { buffer, lines }) = buffers.recv() {
        match file.write(&buffer) {
            Ok(()) => healthy = true,
            Err(error) => {
                dropped.inc_by(lines);
                // One line per outage, not one per buffer.
                if std::mem::replace(&mut healthy, false) {
                    tracing::warn!(path = %file.options.path.display(), %error,
                        "cannot write the access log; lines are dropped until it works again");
                }
            }
        }
    }
}

/// A file that is set aside when it has grown enough.
struct RotatingFile {
    options: AccessLogOptions,
    file: File,
    bytes: u64,
}

impl RotatingFile {
    fn open(options: AccessLogOptions) -> io::Result<Self> {
        let file = open_append(&options.path)?;
        let bytes = file.metadata()?.len();
        Ok(Self {
            options,
            file,
            bytes,
        })
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let more = lines.len() as u64;
        if self.bytes > 0 && self.bytes + more > self.options.rotate_bytes {
            self.rotate()?;
        }
        self.file.write_all(lines)?;
        self.bytes += more;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = &self.options.path;
        for number in (1..self.options.keep).rev() {
            rename_if_there(&numbered(path, number), &numbered(path, number + 1))?;
        }
        if self.options.keep > 0 {
            rename_if_there(path, &numbered(path, 1))?;
        } else {
            std::fs::remove_file(path)?;
        }
        self.file = open_append(path)?;
        self.bytes = 0;
        Ok(())
    }
}

fn open_append(path: &Path) -> io::Result<File> {
    // It names people's addresses and what they looked at: for its owner and group alone.
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
