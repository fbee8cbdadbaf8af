//! The output of instances, in rotating files: `time instance stream text`, one line each.
//!
//! A thread per app writes. Between it and the pipes is a bounded queue that never makes an app
//! wait: what does not fit while the disk is slow is dropped, and the file says how many lines
//! were.

mod lines;
mod rotate;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use jiff::Timestamp;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use trilith_telemetry::Telemetry;

use crate::event::LogLinesDropped;
use crate::limits::{
    LOG_FILE_BYTES_MAX, LOG_FILES_MAX, LOG_PARTIAL_LINE_AFTER, LOG_QUEUE_BYTES_MAX,
    LOG_QUEUE_LINES_MAX, TAIL_LINE_CHARS_MAX,
};
use crate::log::lines::Lines;
use crate::log::rotate::RotatingFile;

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
    /// Written by the supervisor itself.
    Trilith,
}

/// Where the lines of one app go. Clones share it; the thread ends with the last clone.
#[derive(Clone)]
pub(crate) struct LogSink {
    sender: SyncSender<Line>,
    shared: Arc<Shared>,
}

/// The writing thread; [`LogThread::finish`] waits until everything is written.
pub(crate) struct LogThread {
    handle: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    queued_bytes: AtomicUsize,
    dropped_lines: AtomicU64,
}

struct Line {
    time: Timestamp,
    instance: Arc<str>,
    stream: Stream,
    text: Vec<u8>,
}

impl LogSink {
    /// Opens (or creates) `app-<app>.log` in `dir` and starts its thread.
    pub(crate) fn open(
        dir: &Path,
        app: &str,
        telemetry: Telemetry,
    ) -> io::Result<(Self, LogThread)> {
        let path = dir.join(format!("app-{app}.log"));
        let file = RotatingFile::open(path, LOG_FILE_BYTES_MAX, LOG_FILES_MAX)?;
        Self::start(app, file, telemetry)
    }

    fn start(app: &str, file: RotatingFile, telemetry: Telemetry) -> io::Result<(Self, LogThread)> {
        let (sender, receiver) = sync_channel(LOG_QUEUE_LINES_MAX);
        let shared = Arc::new(Shared::default());
        let writer = Writer {
            app: app.to_owned(),
            file,
            shared: Arc::clone(&shared),
            telemetry,
        };
        let handle = std::thread::Builder::new()
            .name(format!("log {app}"))
            .spawn(move || writer.run(&receiver))?;
        Ok((Self { sender, shared }, LogThread { handle }))
    }

    /// Queues one line (without its end), or counts it as dropped. Never waits.
    pub(crate) fn write(&self, instance: &Arc<str>, stream: Stream, text: &[u8]) {
        let bytes = text.len();
        let queued = self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let line = || Line {
            time: Timestamp::now(),
            instance: Arc::clone(instance),
            stream,
            text: text.to_owned(),
        };
        if queued + bytes > LOG_QUEUE_BYTES_MAX || self.sender.try_send(line()).is_err() {
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.shared.dropped_lines.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl LogThread {
    /// Waits for the thread, which ends when every [`LogSink`] is gone. Blocks.
    pub(crate) fn finish(self) {
        // A panic in it has been reported by the panic hook already.
        let _ = self.handle.join();
    }
}

struct Writer {
    app: String,
    file: RotatingFile,
    shared: Arc<Shared>,
    telemetry: Telemetry,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Line>) {
        let mut record = Vec::new();
        while let Ok(first) = receiver.recv() {
            let mut next = Ok(first);
            while let Ok(line) = next {
                self.shared
                    .queued_bytes
                    .fetch_sub(line.text.len(), Ordering::Relaxed);
                self.write(&mut record, &line);
                next = receiver.try_recv();
            }
            self.note_dropped(&mut record);
            self.file.flush();
            if next.is_err_and(|error| error == TryRecvError::Disconnected) {
                break;
            }
        }
        self.note_dropped(&mut record);
        self.file.flush();
    }

    fn write(&mut self, record: &mut Vec<u8>, line: &Line) {
        use io::Write as _;
        record.clear();
        let stream = match line.stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
            Stream::Trilith => "trilith",
        };
        // Writing into a Vec cannot fail.
        let _ = write!(record, "{:.3} {} {stream} ", line.time, line.instance);
        record.extend_from_slice(&line.text);
        record.push(b'\n');
        if let Err(error) = self.file.write(record) {
            self.shared.dropped_lines.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(app = self.app, %error, "log line not written");
        }
    }

    fn note_dropped(&mut self, record: &mut Vec<u8>) {
        let lines = self.shared.dropped_lines.swap(0, Ordering::Relaxed);
        if lines == 0 {
            return;
        }
        self.telemetry.emit(&LogLinesDropped {
            app: &self.app,
            lines,
        });
        let text = format!("{lines} lines dropped: the disk did not keep up").into_bytes();
        let notice = Line {
            time: Timestamp::now(),
            instance: "-".into(),
            stream: Stream::Trilith,
            text,
        };
        let before = self.shared.dropped_lines.load(Ordering::Relaxed);
        self.write(record, &notice);
        if self.shared.dropped_lines.load(Ordering::Relaxed) > before {
            // The notice itself did not get through (disk full): keep the count for the next one.
            self.shared
                .dropped_lines
                .fetch_add(lines - 1, Ordering::Relaxed);
        }
    }
}

/// The last lines of an instance, for the event that tells of its end.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    lines: Arc<Mutex<VecDeque<String>>>,
    lines_max: usize,
}

impl Tail {
    pub(crate) fn new(lines_max: usize) -> Self {
        Self {
            lines: Arc::default(),
            lines_max,
        }
    }

    fn push(&self, text: &[u8]) {
        let text: String = String::from_utf8_lossy(text)
            .chars()
            .take(TAIL_LINE_CHARS_MAX)
            .collect();
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= self.lines_max {
            lines.pop_front();
        }
        lines.push_back(text);
    }

    /// The lines so far, which are then forgotten.
    pub(crate) fn take(&self) -> Vec<String> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
            .collect()
    }
}

/// Reads one pipe until its end and passes the lines on. Run it as a task per stream.
pub(crate) async fn copy_lines(
    pipe: OwnedFd,
    instance: Arc<str>,
    stream: Stream,
    sink: LogSink,
    tail: Tail,
) {
    let mut pipe = match pipe::Receiver::from_owned_fd(pipe) {
        Ok(pipe) => pipe,
        Err(error) => {
            sink.write(
                &instance,
                Stream::Trilith,
                format!("output is lost: {error}").as_bytes(),
            );
            return;
        }
    };
    let mut lines = Lines::default();
    let mut buffer = vec![0; 16 * 1024];
    let mut emit = |text: &[u8]| {
        tail.push(text);
        sink.write(&instance, stream, text);
    };
    loop {
        let read = if lines.has_partial() {
            match tokio::time::timeout(LOG_PARTIAL_LINE_AFTER, pipe.read(&mut buffer)).await {
                Ok(read) => read,
                Err(_) => {
                    lines.flush(&mut emit);
                    continue;
                }
            }
        } else {
            pipe.read(&mut buffer).await
        };
        match read {
            Ok(0) | Err(_) => break,
            Ok(count) => lines.push(&buffer[..count], &mut emit),
        }
        // A chatty app must not keep a control-plane thread to itself.
        tokio::task::yield_now().await;
    }
    lines.flush(&mut emit);
}
