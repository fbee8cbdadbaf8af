//! Writing messages. What is written comes from parsed parts only, never from received bytes.

use bytes::{BufMut, BytesMut};
use http::{Method, StatusCode};

use crate::connection::Known;
use crate::headers::Headers;

/// How a written body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body and no field about one. A `Content-Length` among the headers is written: it describes
    /// the body that GET would have had (answers to HEAD, 304).
    None,
    Length(u64),
    Chunked,
    /// The end of the connection ends the body (responses to HTTP/1.0 clients).
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
pub fn request_head(
    out: &mut BytesMut,
    method: &Method,
    target: &str,
    headers: &Headers,
    framing: Framing,
    connection: Connection<'_>,
) {
    out.reserve(256 + target.len());
    out.put_slice(method.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(target.as_bytes());
    out.put_slice(b" HTTP/1.1\r\n");
    fields(out, headers, framing);
    connection_field(out, connection);
    out.put_slice(b"\r\n");
}

/// Writes a response head. `date` is the value of the `Date` field, written where `headers` has none
/// (RFC 9110 section 6.6.1).
pub fn response_head(
    out: &mut BytesMut,
    status: StatusCode,
    headers: &Headers,
    framing: Framing,
    connection: Connection<'_>,
    date: &str,
) {
    out.reserve(256);
    status_line(out, status);
    fields(out, headers, framing);
    if !headers.contains("date") {
        field(out, b"Date", date.as_bytes());
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

fn fields(out: &mut BytesMut, headers: &Headers, framing: Framing) {
    for (name, value) in headers.iter() {
        let written = match Known::of(name) {
            Known::Host | Known::Other => true,
            Known::ContentLength => framing == Framing::None,
            // Framing and connection are this function's and its caller's, not the handler's.
            _ => false,
        };
        if written {
            field(out, name, value);
        }
    }
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
            field(out, b"Upgrade", protocol.as_bytes());
        }
    }
}
