//! Writing messages. What is written comes from parsed parts only, never from received bytes, and
//! whatever a caller passes in, one call writes one message that can be read in one way.

use bytes::{BufMut, BytesMut};
use http::{Method, StatusCode};

use crate::connection::{Known, parse_content_length};
use crate::grammar::{is_control, is_target, is_target_byte};
use crate::headers::Headers;

/// How a written body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body. In a response a `Content-Length` among the headers is written: it describes the
    /// body that GET would have had (answers to HEAD, 304), so a receiver of any other response would
    /// wait for that body.
    None,
    Length(u64),
    Chunked,
    /// The end of the connection ends the body (responses to HTTP/1.0 clients). In a request, which
    /// cannot be framed so, the same as `None`.
    UntilClose,
}

/// The `Connection` field of a written message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection<'a> {
    /// HTTP/1.1's default: the connection stays open, nothing is written.
    Persistent,
    /// Written for HTTP/1.0 clients that asked for it.
    KeepAlive,
    Close,
    /// Changes to the named protocol.
    Upgrade(&'a str),
}

/// Writes a request head.
///
/// `target` is an origin form; `*` for OPTIONS and an authority for CONNECT stand as they are.
/// Bytes that no target can hold (RFC 9112 section 3.2) are percent-encoded.
pub fn request_head(
    out: &mut BytesMut,
    method: &Method,
    target: &str,
    headers: &Headers,
    framing: Framing,
    connection: Connection<'_>,
) {
    out.reserve(64 + target.len() + fields_len_max(headers));
    out.put_slice(method.as_str().as_bytes());
    out.put_u8(b' ');
    request_target(out, method, target);
    out.put_slice(b" HTTP/1.1\r\n");

    let mut has_host = false;
    for (name, value) in headers.iter() {
        match Known::of(name) {
            Known::Other => field(out, name, value),
            // RFC 9112 section 3.2: exactly one.
            Known::Host if !has_host => {
                has_host = true;
                field(out, name, value);
            }
            // Framing and connection are the parameters', not the headers'.
            _ => {}
        }
    }
    if !has_host {
        out.put_slice(b"Host:\r\n");
    }
    match framing {
        // RFC 9110 section 8.6: said where the method lets a body be expected.
        Framing::None | Framing::UntilClose => {
            if matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
                decimal_field(out, b"Content-Length: ", 0);
            }
        }
        _ => framing_field(out, framing),
    }
    connection_field(out, connection);
    out.put_slice(b"\r\n");
}

/// Writes a response head. `date` is the value of the `Date` field, written where `headers` has
/// none (RFC 9110 section 6.6.1).
///
/// With a status that never has a body (1xx, 204) no field about one is written, whatever `framing`
/// says (RFC 9110 section 8.6, RFC 9112 section 6.1).
pub fn response_head(
    out: &mut BytesMut,
    status: StatusCode,
    headers: &Headers,
    framing: Framing,
    connection: Connection<'_>,
    date: &str,
) {
    out.reserve(128 + fields_len_max(headers));
    status_line(out, status);
    let never_a_body = status.is_informational() || status == StatusCode::NO_CONTENT;
    let mut described = None;
    let mut has_date = false;
    for (name, value) in headers.iter() {
        match Known::of(name) {
            Known::Other | Known::Host => {
                has_date |= name.len() == 4 && name.eq_ignore_ascii_case(b"date");
                field(out, name, value);
            }
            Known::ContentLength => described = described.or(parse_content_length(value)),
            // Framing and connection are the parameters', not the headers'.
            _ => {}
        }
    }
    match (framing, described) {
        _ if never_a_body => {}
        (Framing::None, Some(length)) => decimal_field(out, b"Content-Length: ", length),
        (framing, _) => framing_field(out, framing),
    }
    if !has_date {
        field_cleaned(out, b"Date", date);
    }
    connection_field(out, connection);
    out.put_slice(b"\r\n");
}

/// Writes an interim response without fields: `100 Continue`.
pub fn interim_head(out: &mut BytesMut, status: StatusCode) {
    status_line(out, status);
    out.put_slice(b"\r\n");
}

/// Writes the line before a chunk of `len` bytes (not 0: that ends the body).
pub fn chunk_size(out: &mut BytesMut, len: usize) {
    debug_assert!(len > 0, "an empty chunk ends the body");
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4);
    for digit in (0..digits).rev() {
        out.put_u8(HEX[(len >> (digit * 4)) & 0xf]);
    }
    out.put_slice(b"\r\n");
}

/// Writes the last chunk and the trailer section.
pub fn last_chunk(out: &mut BytesMut, trailers: Option<&Headers>) {
    out.put_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flat_map(Headers::iter) {
        if Known::of(name) == Known::Other {
            field(out, name, value);
        }
    }
    out.put_slice(b"\r\n");
}

fn status_line(out: &mut BytesMut, status: StatusCode) {
    if status == StatusCode::OK {
        out.put_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.put_slice(b"\r\n");
}

/// The request target as it can stand in a start line: what a handler rewrote may hold anything.
fn request_target(out: &mut BytesMut, method: &Method, target: &str) {
    let as_it_is = *method == Method::CONNECT || (*method == Method::OPTIONS && target == "*");
    // Without its slash, `http://other/` would be an absolute form and replace the `Host` field.
    if !as_it_is && !target.starts_with('/') {
        out.put_u8(b'/');
    }
    if is_target(target.as_bytes()) {
        out.put_slice(target.as_bytes());
        return;
    }
    for byte in target.bytes() {
        if is_target_byte(byte) {
            out.put_u8(byte);
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]];
            out.put_slice(&[b'%', digits[0], digits[1]]);
        }
    }
}

/// An upper bound, so that a head takes one reservation.
fn fields_len_max(headers: &Headers) -> usize {
    headers.bytes_len() + 4 * headers.len() + 64
}

fn framing_field(out: &mut BytesMut, framing: Framing) {
    match framing {
        Framing::None | Framing::UntilClose => {}
        Framing::Length(length) => decimal_field(out, b"Content-Length: ", length),
        Framing::Chunked => out.put_slice(b"Transfer-Encoding: chunked\r\n"),
    }
}

fn field(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.put_slice(name);
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// For values that did not come through [`Headers`].
fn field_cleaned(out: &mut BytesMut, name: &[u8], value: &str) {
    if !value.bytes().any(is_control) {
        return field(out, name, value.as_bytes());
    }
    let cleaned = value.replace(|c: char| c.is_ascii() && is_control(c as u8), " ");
    field(out, name, cleaned.as_bytes());
}

fn decimal_field(out: &mut BytesMut, name_and_colon: &[u8], mut number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.put_slice(name_and_colon);
    out.put_slice(&digits[at..]);
    out.put_slice(b"\r\n");
}

fn connection_field(out: &mut BytesMut, connection: Connection<'_>) {
    match connection {
        Connection::Persistent => {}
        Connection::KeepAlive => out.put_slice(b"Connection: keep-alive\r\n"),
        Connection::Close => out.put_slice(b"Connection: close\r\n"),
        Connection::Upgrade(protocol) => {
            out.put_slice(b"Connection: upgrade\r\n");
            field_cleaned(out, b"Upgrade", protocol);
        }
    }
}

#[cfg(test)]
mod tests;
