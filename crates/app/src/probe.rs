//! The health check: one small HTTP request with limits.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::limits::{PROBE_HEAD_BYTES_MAX, PROBE_RESPONSE_BYTES_MAX, PROBE_TIMEOUT};

#[cfg(test)]
mod tests;

/// Why a check failed, as a phrase an operator can act on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error("nothing listens on {address}: the app has to listen on $HOST:$PORT")]
    NothingListens { address: SocketAddr },
    #[error("no answer from {address}{path} within {PROBE_TIMEOUT:?}")]
    Timeout { address: SocketAddr, path: String },
    #[error("connection to {address} broke: {source}")]
    Io {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("{address} closed the connection without an answer to GET {path}")]
    Closed { address: SocketAddr, path: String },
    #[error("what listens on {address} does not speak HTTP")]
    NotHttp { address: SocketAddr },
    #[error("GET {path} answered {status}")]
    Status { path: String, status: u16 },
}

/// `GET path`, good when the status is below 500: an instance that says "not found" or "log in
/// first" is alive. The `Host` is `localhost`, which frameworks that check it accept.
pub(crate) async fn probe(address: SocketAddr, path: &str) -> Result<(), ProbeError> {
    match timeout(PROBE_TIMEOUT, exchange(address, path)).await {
        Ok(Ok(status)) if status < 500 => Ok(()),
        Ok(Ok(status)) => Err(ProbeError::Status {
            path: path.to_owned(),
            status,
        }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(ProbeError::Timeout {
            address,
            path: path.to_owned(),
        }),
    }
}

async fn exchange(address: SocketAddr, path: &str) -> Result<u16, ProbeError> {
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::ConnectionRefused => ProbeError::NothingListens { address },
        _ => ProbeError::Io { address, source },
    };
    let mut stream = TcpStream::connect(address).await.map_err(io)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: trilith-health\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(io)?;
    let mut response = Vec::with_capacity(4 * 1024);
    let status = loop {
        if stream.read_buf(&mut response).await.map_err(io)? == 0 {
            return Err(ProbeError::Closed {
                address,
                path: path.to_owned(),
            });
        }
        match status_of(&response) {
            Parsed::Status(status) => break status,
            Parsed::Incomplete if response.len() < PROBE_HEAD_BYTES_MAX => {}
            Parsed::Incomplete | Parsed::NotHttp => return Err(ProbeError::NotHttp { address }),
        }
    };
    // Hanging up in the middle of a response makes many apps log an error, so read on a little.
    let rest = async {
        let mut read = response.len();
        while read < PROBE_RESPONSE_BYTES_MAX {
            response.clear();
            match stream.read_buf(&mut response).await {
                Ok(0) | Err(_) => break,
                Ok(count) => read += count,
            }
        }
    };
    let _ = timeout(Duration::from_millis(250), rest).await;
    Ok(status)
}

#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    Incomplete,
    NotHttp,
    Status(u16),
}

/// The status of the final response in `bytes` (RFC 9112 section 4), past any 1xx.
fn status_of(mut bytes: &[u8]) -> Parsed {
    loop {
        let start = b"HTTP/1.";
        let shown = bytes.len().min(start.len());
        if bytes[..shown] != start[..shown] {
            return Parsed::NotHttp;
        }
        // "HTTP/1.1 200", then a space or the end of the line.
        let Some(line) = bytes.get(..13) else {
            return Parsed::Incomplete;
        };
        let digits = &line[9..12];
        let valid = line[7].is_ascii_digit()
            && line[8] == b' '
            && digits.iter().all(u8::is_ascii_digit)
            && matches!(line[12], b' ' | b'\r' | b'\n');
        if !valid {
            return Parsed::NotHttp;
        }
        let status = digits
            .iter()
            .fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
        match status {
            0..100 => return Parsed::NotHttp,
            100..200 => {}
            _ => return Parsed::Status(status),
        }
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Parsed::Incomplete;
        };
        bytes = &bytes[end + 4..];
    }
}
