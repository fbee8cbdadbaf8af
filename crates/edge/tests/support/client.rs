//! HTTP/1.1 by hand.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::HOST;

/// A response, read whole.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

pub async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

pub async fn connect_from(from: IpAddr, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect(address).await.unwrap()
}

/// `GET` over a connection of its own.
pub async fn get(address: SocketAddr, path: &str) -> Reply {
    let mut stream = connect(address).await;
    exchange(&mut stream, &request("GET", path, "")).await
}

pub async fn get_from(from: IpAddr, address: SocketAddr, path: &str) -> Reply {
    let mut stream = connect_from(from, address).await;
    exchange(&mut stream, &request("GET", path, "")).await
}

pub async fn post(address: SocketAddr, path: &str, body: &str) -> Reply {
    let mut stream = connect(address).await;
    exchange(&mut stream, &request("POST", path, body)).await
}

fn request(method: &str, path: &str, body: &str) -> String {
    let length = match body {
        "" => String::new(),
        body => format!("Content-Length: {}\r\n", body.len()),
    };
    format!("{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{length}\r\n{body}")
}

/// Sends, and reads one response. The connection stays usable.
pub async fn exchange<IO>(stream: &mut IO, request: &str) -> Reply
where
    IO: AsyncReadExt + AsyncWriteExt + Unpin,
{
    stream.write_all(request.as_bytes()).await.unwrap();
    read_reply(stream).await.expect("a whole response")
}

/// `None` when the connection ends before the response does.
pub async fn read_reply<IO: AsyncReadExt + Unpin>(stream: &mut IO) -> Option<Reply> {
    let read = async {
        let mut bytes = Vec::new();
        let head_end = loop {
            if let Some(at) = find(&bytes, b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
        let mut reply = Reply {
            status: head.get(9..12)?.parse().ok()?,
            head,
            body: String::new(),
        };
        let mut body = bytes.split_off(head_end);
        let length = reply.header("content-length").map(|v| v.parse::<usize>());
        match length {
            Some(length) => {
                let length = length.ok()?;
                while body.len() < length {
                    if stream.read_buf(&mut body).await.unwrap_or(0) == 0 {
                        return None;
                    }
                }
            }
            None if reply.header("transfer-encoding").is_some() => {
                while !body.ends_with(b"0\r\n\r\n") {
                    if stream.read_buf(&mut body).await.unwrap_or(0) == 0 {
                        return None;
                    }
                }
            }
            None => {}
        }
        reply.body = String::from_utf8_lossy(&body).into_owned();
        Some(reply)
    };
    timeout(Duration::from_secs(20), read)
        .await
        .expect("an answer within 20 s")
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}
