//! The bytes of one line.

use std::io::Write;
use std::time::Duration;

use super::AccessRecord;
use crate::json::{write_json_bytes, write_json_str};
use crate::limits::ACCESS_FIELD_BYTES_MAX;

/// Formats lines; remembers the text of the current second.
pub(super) struct Formatter {
    /// `,"server":"one","request_id":`, the same in every line.
    server: Vec<u8>,
    second: u64,
    second_text: String,
}

impl Formatter {
    pub(super) fn new(server: &str) -> Self {
        let mut text = b"Z\",\"server\":".to_vec();
        write_json_str(&mut text, server);
        Self {
            server: text,
            second: u64::MAX,
            second_text: String::new(),
        }
    }

    /// Appends one line; `now` is the time since 1970 in UTC.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, now: Duration, r: &AccessRecord<'_>) {
        out.extend_from_slice(b"{\"time\":\"");
        self.write_time(out, now);
        out.extend_from_slice(&self.server);
        text(out, "request_id", r.request_id);
        out.extend_from_slice(b",\"client\":");
        match r.client {
            // Digits, dots and colons: nothing to escape. Writing into a Vec cannot fail.
            Some(client) => drop(write!(out, "\"{client}\"")),
            None => out.extend_from_slice(b"null"),
        }
        text(out, "scheme", r.scheme);
        optional(out, "tls", r.tls.map(str::as_bytes));
        text(out, "method", r.method);
        text(out, "host", r.host);
        text(out, "path", r.path);
        number(out, "status", r.status.into());
        number(out, "bytes_in", r.bytes_in);
        number(out, "bytes_out", r.bytes_out);
        optional(out, "pool", r.pool.map(str::as_bytes));
        optional(out, "upstream", r.upstream.map(str::as_bytes));
        number(out, "tries", r.tries.into());
        time(out, "t_queue_ms", r.t_queue);
        time(out, "t_connect_ms", r.t_connect);
        time(out, "t_first_byte_ms", r.t_first_byte);
        time(out, "t_total_ms", Some(r.t_total));
        text(out, "end", r.end);
        optional(out, "user_agent", r.user_agent);
        optional(out, "referer", r.referer);
        out.extend_from_slice(b"}\n");
    }

    fn write_time(&mut self, out: &mut Vec<u8>, now: Duration) {
        if now.as_secs() != self.second {
            self.second = now.as_secs();
            let seconds = i64::try_from(self.second).unwrap_or_default();
            let stamp = jiff::Timestamp::from_second(seconds).unwrap_or_default();
            self.second_text = stamp.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        }
        out.extend_from_slice(self.second_text.as_bytes());
        three_decimals(out, now.subsec_millis());
    }
}

fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    key(out, name);
    if value.len() <= ACCESS_FIELD_BYTES_MAX {
        write_json_str(out, value);
    } else {
        write_json_bytes(out, &value.as_bytes()[..ACCESS_FIELD_BYTES_MAX]);
    }
}

fn optional(out: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    key(out, name);
    match value {
        Some(value) => write_json_bytes(out, &value[..value.len().min(ACCESS_FIELD_BYTES_MAX)]),
        None => out.extend_from_slice(b"null"),
    }
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    key(out, name);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn time(out: &mut Vec<u8>, name: &str, value: Option<Duration>) {
    key(out, name);
    match value {
        Some(value) => {
            let us = value.as_micros();
            let ms = u64::try_from(us / 1_000).unwrap_or(u64::MAX);
            out.extend_from_slice(itoa::Buffer::new().format(ms).as_bytes());
            three_decimals(out, (us % 1_000) as u32);
        }
        None => out.extend_from_slice(b"null"),
    }
}

/// `.007` for 7.
fn three_decimals(out: &mut Vec<u8>, thousandths: u32) {
    let digit = |n: u32| b'0' + (n % 10) as u8;
    out.extend_from_slice(&[
        b'.',
        digit(thousandths / 100),
        digit(thousandths / 10),
        digit(thousandths),
    ]);
}
