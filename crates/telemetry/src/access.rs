//! The access log: one JSON object per finished request, one schema for all.

mod format;
mod writer;

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use writer::{AccessLogFile, AccessLogOptions};

use crate::limits::{ACCESS_BUFFER_BYTES, ACCESS_FLUSH_INTERVAL_MS};
use format::Formatter;
use writer::Sender;

/// What is written about one request. The line has these fields in this order, after `time`
/// (RFC 3339, UTC, when the line was written, which is when the request ended) and `server`. Absent
/// values are `null`. Times are milliseconds with three decimals.
#[derive(Clone, Copy, Debug)]
pub struct AccessRecord<'a> {
    pub request_id: &'a str,
    /// The client's address, after `trusted_proxies`.
    pub client: Option<IpAddr>,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Such as `TLSv1.3`.
    pub tls: Option<&'a str>,
    pub method: &'a str,
    pub host: &'a str,
    /// The request target as sent, with its query.
    pub path: &'a str,
    pub status: u16,
    /// Body bytes read from the client.
    pub bytes_in: u64,
    /// Body bytes written to the client.
    pub bytes_out: u64,
    /// What was balanced over: an app, an upstream, `files`.
    pub pool: Option<&'a str>,
    /// The server that answered, by name or address.
    pub upstream: Option<&'a str>,
    /// Servers asked, the last one included; 0 when none was needed.
    pub tries: u32,
    /// Written as `t_queue_ms`: waiting for a server to become free.
    pub t_queue: Option<Duration>,
    /// `t_connect_ms`: from the last try's start to a usable connection.
    pub t_connect: Option<Duration>,
    /// `t_first_byte_ms`: from the complete request head to the first byte of the answer.
    pub t_first_byte: Option<Duration>,
    /// `t_total_ms`: from the complete request head to the last byte.
    pub t_total: Duration,
    /// Why it ended: `complete`, or who gave up (`client-gone`, `upstream-timeout`, ...).
    pub end: &'a str,
    pub user_agent: Option<&'a [u8]>,
    pub referer: Option<&'a [u8]>,
}

/// A worker's end of the access log: collects lines and hands them to the writer thread.
///
/// Neither [`AccessLog::write`] nor a flush ever waits. When the writer cannot keep up, whole
/// buffers are dropped and counted in `trilith_access_log_lines_dropped_total`.
#[derive(Clone)]
pub struct AccessLog {
    inner: Option<Rc<RefCell<Inner>>>,
}

struct Inner {
    formatter: Formatter,
    buffer: Vec<u8>,
    lines: u64,
    sender: Sender,
}

impl AccessLog {
    /// Writes nothing.
    pub fn disabled() -> Self {
        Self { inner: None }
    }

    /// On a worker: also starts the task that flushes once a second, on the current `LocalSet`.
    fn on_worker(server: &str, sender: Sender) -> Self {
        let inner = Rc::new(RefCell::new(Inner {
            formatter: Formatter::new(server),
            buffer: Vec::with_capacity(ACCESS_BUFFER_BYTES + 4096),
            lines: 0,
            sender,
        }));
        let weak = Rc::downgrade(&inner);
        tokio::task::spawn_local(async move {
            let period = Duration::from_millis(ACCESS_FLUSH_INTERVAL_MS);
            loop {
                tokio::time::sleep(period).await;
                match weak.upgrade() {
                    Some(inner) => inner.borrow_mut().flush(),
                    None => return,
                }
            }
        });
        Self { inner: Some(inner) }
    }

    /// Adds the line of a request that just ended.
    pub fn write(&self, record: &AccessRecord<'_>) {
        let Some(inner) = &self.inner else { return };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let inner = &mut *inner.borrow_mut();
        inner.formatter.write(&mut inner.buffer, now, record);
        inner.lines += 1;
        if inner.buffer.len() >= ACCESS_BUFFER_BYTES {
            inner.flush();
        }
    }

    /// Hands over what is buffered.
    pub fn flush(&self) {
        if let Some(inner) = &self.inner {
            inner.borrow_mut().flush();
        }
    }
}

impl Inner {
    fn flush(&mut self) {
        if self.lines == 0 {
            return;
        }
        let lines = std::mem::take(&mut self.lines);
        let buffer = std::mem::replace(&mut self.buffer, self.sender.spare_buffer());
        self.sender.send(buffer, lines);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests;
