//! The little of HTTP that asking Patroni takes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::lab::Node;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// A request from a server to itself. Status and body.
pub fn ask(
    node: &Node,
    port: u16,
    method: &str,
    path: &str,
    body: Option<&Value>,
    patience: Duration,
) -> Result<(u16, String)> {
    let to = SocketAddr::from((node.address, port));
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {to}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = node.inside(|| -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&to, CONNECT_TIMEOUT)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
        Ok(answer)
    })?;
    let answer = answer.with_context(|| format!("{method} {to}{path}"))?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!("{method} {to}{path}: no HTTP");
    };
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("{method} {to}{path}: no HTTP"))?;
    Ok((status, body.to_owned()))
}
