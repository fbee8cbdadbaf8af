//! Fields that belong to one connection and never travel further (RFC 9110 section 7.6.1).

use crate::grammar::is_token;
use crate::headers::{Headers, tokens};

/// What the `Connection` fields of a head say.
#[derive(Default)]
pub(crate) struct ConnectionOptions {
    pub close: bool,
    pub keep_alive: bool,
    pub upgrade: bool,
    /// Names of fields of this message that the sender wants gone with the connection.
    nominated: Vec<Vec<u8>>,
}

impl ConnectionOptions {
    pub(crate) fn read(&mut self, value: &[u8]) {
        for token in tokens(value) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if token.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                self.nominated.push(token.to_vec());
            }
        }
    }

    /// Removes the nominated fields. `Host` stays: no message makes sense without it, and a client
    /// that nominates it is up to something.
    pub(crate) fn strip(&self, headers: &mut Headers) {
        if self.nominated.is_empty() {
            return;
        }
        headers.retain(|name, _| {
            name.eq_ignore_ascii_case(b"host")
                || !self
                    .nominated
                    .iter()
                    .any(|gone| gone.eq_ignore_ascii_case(name))
        });
    }
}

/// What a field name means to the framing of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Expect,
    Upgrade,
    /// Of this hop alone, and of no interest to it.
    Dropped,
    /// Travels on.
    Other,
}

impl Known {
    /// By length first: most names are settled by that alone.
    pub(crate) fn of(name: &[u8]) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            2 if is("te") => Self::Dropped,
            4 if is("host") => Self::Host,
            // CGI programs read it as HTTP_PROXY (CVE-2016-5385); it has no other meaning.
            5 if is("proxy") => Self::Dropped,
            6 if is("expect") => Self::Expect,
            7 if is("upgrade") => Self::Upgrade,
            7 if is("trailer") => Self::Dropped,
            10 if is("connection") => Self::Connection,
            10 if is("keep-alive") => Self::Dropped,
            14 if is("content-length") => Self::ContentLength,
            16 if is("proxy-connection") => Self::Dropped,
            17 if is("transfer-encoding") => Self::TransferEncoding,
            _ => Self::Other,
        }
    }
}

/// A `Content-Length` value: digits only (RFC 9110 section 8.6), no list, no sign, no overflow.
pub(crate) fn parse_content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 {
        return None;
    }
    value.iter().try_fold(0u64, |sum, b| {
        b.is_ascii_digit().then(|| sum * 10 + u64::from(b - b'0'))
    })
}

/// The first protocol an `Upgrade` value names (RFC 9110 section 7.8), other than `h2c`: that way
/// into HTTP/2 is obsolete (RFC 9113 section 3.1), and a request passed on with it would hide what
/// follows from us.
pub(crate) fn upgrade_protocol(value: &[u8]) -> Option<&str> {
    tokens(value)
        .filter(|protocol| !protocol.eq_ignore_ascii_case(b"h2c"))
        .find(|protocol| protocol.splitn(2, |b| *b == b'/').all(is_token))
        .and_then(|protocol| std::str::from_utf8(protocol).ok())
}
