//! The backend behind the proxies: answers every request with the same 128 bytes.
//!
//! It lives in the generator's event loop (see `load`), so that the two do not fight for their core.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result};

/// Bytes in the body of every answer.
pub const BODY_BYTES: usize = 128;

pub struct Stub {
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    answer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    /// How much of `\r\n\r\n` the bytes so far end with.
    matched: usize,
}

impl Stub {
    pub fn listen() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on 127.0.0.1")?;
        listener.set_nonblocking(true)?;
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
        )
        .into_bytes();
        answer.extend(body());
        Ok(Self {
            listener,
            connections: Vec::new(),
            answer,
        })
    }

    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    pub fn listener(&self) -> &TcpListener {
        &self.listener
    }

    /// Forgets the connections of the server before.
    pub fn reset(&mut self) {
        self.connections.clear();
    }

    /// Takes one waiting connection; the index names it from now on.
    pub fn accept(&mut self) -> Result<Option<(usize, &TcpStream)>> {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(e) => return Err(e).context("the backend cannot accept"),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let index = self
            .connections
            .iter()
            .position(Option::is_none)
            .unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
        let connection = self.connections[index].insert(Connection { stream, matched: 0 });
        Ok(Some((index, &connection.stream)))
    }

    /// Reads what is there and answers each complete request.
    pub fn ready(&mut self, index: usize, buffer: &mut [u8]) -> Result<()> {
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else {
            return Ok(());
        };
        match connection.stream.read(buffer) {
            Ok(0) => self.connections[index] = None,
            Ok(n) => {
                for _ in 0..count_ends(&buffer[..n], &mut connection.matched) {
                    // 200 bytes into an empty socket buffer: it takes them all, or the peer is gone.
                    if write_all(&connection.stream, &self.answer).is_err() {
                        self.connections[index] = None;
                        break;
                    }
                }
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.connections[index] = None,
        }
        Ok(())
    }
}

/// Requests that end within `bytes`. They have no body, so each empty line ends one.
fn count_ends(bytes: &[u8], matched: &mut usize) -> usize {
    const END: &[u8; 4] = b"\r\n\r\n";
    let mut ends = 0;
    for &byte in bytes {
        if byte == END[*matched] {
            *matched += 1;
            if *matched == END.len() {
                *matched = 0;
                ends += 1;
            }
        } else {
            *matched = usize::from(byte == b'\r');
        }
    }
    ends
}

fn write_all(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes)
}

/// The body of the answer.
pub fn body() -> Vec<u8> {
    (0..BODY_BYTES).map(|i| b'a' + (i % 26) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_whatever_the_split() {
        let input = b"GET / HTTP/1.1\r\nA: b\r\n\r\nGET / HTTP/1.1\r\n\r\r\n\r\n";
        for cut in 0..=input.len() {
            let mut matched = 0;
            let ends =
                count_ends(&input[..cut], &mut matched) + count_ends(&input[cut..], &mut matched);
            assert_eq!(ends, 2, "cut at {cut}");
        }
    }
}
