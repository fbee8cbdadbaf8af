//! Steady load: so many requests per second whatever comes back, each on a new connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::report::Request;
use super::{ANSWER_BYTES_MAX, ANSWER_TIMEOUT, CONNECT_TIMEOUT, REQUESTS_MAX, UNDER_WAY_MAX};
use crate::failure::{Failure, Outcome};
use crate::lab::Namespace;

pub struct Options {
    /// Where the users are; `None`: here.
    pub namespace: Option<Namespace>,
    pub to: SocketAddr,
    pub host: String,
    pub path: String,
    /// Requests per second.
    pub rate: u32,
    /// All times count from here.
    pub begin: Instant,
}

/// Load under way, until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicUsize>,
    thread: Option<JoinHandle<io::Result<Vec<Request>>>>,
}

impl Load {
    pub fn start(options: Options) -> Outcome<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let failed = Arc::new(AtomicUsize::new(0));
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&failed));
        let thread = thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || {
                if let Some(namespace) = &options.namespace {
                    namespace.enter()?;
                }
                // All of it on this thread: its sockets are to be of this thread's namespace.
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                Ok(runtime.block_on(go(options, &stopped, &counter)))
            })
            .map_err(Failure::failed)?;
        Ok(Self {
            stop,
            failed,
            thread: Some(thread),
        })
    }

    /// How many have failed until now.
    pub fn failed(&self) -> usize {
        self.failed.load(Relaxed)
    }

    /// Waits for those under way; they end within their timeouts.
    pub fn stop(mut self) -> Outcome<Vec<Request>> {
        self.stop.store(true, Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(done)) => done.map_err(|e| Failure::failed(format!("the load: {e}"))),
            _ => Err(Failure::failed("the load has come to a bad end")),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

async fn go(options: Options, stop: &AtomicBool, failed: &AtomicUsize) -> Vec<Request> {
    let bytes: Arc<[u8]> = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: trilith-drill\r\n\r\n",
        options.path, options.host
    )
    .into_bytes()
    .into();
    let mut clock = interval(Duration::from_secs(1) / options.rate);
    // A late turn is made up for: the rate does not depend on how fast answers come.
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut under_way = JoinSet::new();
    let mut done: Vec<Request> = Vec::new();
    let mut sent = 0;
    while !stop.load(Relaxed) && sent < REQUESTS_MAX {
        clock.tick().await;
        sent += 1;
        if under_way.len() >= UNDER_WAY_MAX {
            done.push(Request {
                begun: options.begin.elapsed(),
                took: Duration::ZERO,
                failure: Some("not sent: too many under way"),
            });
            failed.fetch_add(1, Relaxed);
        } else {
            let (begin, to) = (options.begin, options.to);
            under_way.spawn(request(begin, to, Arc::clone(&bytes)));
        }
        while let Some(Ok(request)) = under_way.try_join_next() {
            failed.fetch_add(usize::from(request.failure.is_some()), Relaxed);
            done.push(request);
        }
    }
    while let Some(ended) = under_way.join_next().await {
        done.extend(ended);
    }
    done
}

async fn request(begin: Instant, to: SocketAddr, bytes: Arc<[u8]>) -> Request {
    let begun = begin.elapsed();
    let failure = match timeout(CONNECT_TIMEOUT, TcpStream::connect(to)).await {
        Err(_) => Some("connecting timed out"),
        Ok(Err(error)) => Some(describe(&error)),
        Ok(Ok(stream)) => match timeout(ANSWER_TIMEOUT, ask(stream, &bytes)).await {
            Err(_) => Some("no answer in time"),
            Ok(Err(error)) => Some(describe(&error)),
            Ok(Ok(status)) if status >= 500 => Some("an answer of 5xx"),
            Ok(Ok(_)) => None,
        },
    };
    Request {
        begun,
        took: begin.elapsed().saturating_sub(begun),
        failure,
    }
}

/// Sends a request and reads the whole answer. Returns its status.
async fn ask(mut stream: TcpStream, bytes: &[u8]) -> io::Result<u16> {
    stream.set_nodelay(true)?;
    // The connection ends with a reset, on purpose: no port stays taken for a minute (TIME_WAIT),
    // of which there are only 28,000.
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    stream.write_all(bytes).await?;
    let mut answer = Vec::with_capacity(4_096);
    loop {
        let ended = stream.read_buf(&mut answer).await? == 0;
        match whole(&answer) {
            Some(status) => return Ok(status),
            None if ended => return until_the_end(&answer),
            None if answer.len() > ANSWER_BYTES_MAX => {
                return Err(io::Error::other("an answer too long"));
            }
            None => {}
        }
    }
}

/// The status of an answer whose framing says that all of it is here (RFC 9112 section 6.3).
fn whole(answer: &[u8]) -> Option<u16> {
    let (status, head, body) = parts(answer)?;
    for line in head.lines() {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if name.eq_ignore_ascii_case("content-length") {
            let length: usize = value.trim().parse().ok()?;
            return (body.len() >= length).then_some(status);
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return body.ends_with(b"0\r\n\r\n").then_some(status);
        }
    }
    matches!(status, 204 | 304).then_some(status)
}

/// The connection has ended: fine for an answer that has no other end.
fn until_the_end(answer: &[u8]) -> io::Result<u16> {
    let framed = |head: &str| {
        let head = head.to_ascii_lowercase();
        head.contains("\ncontent-length:") || head.contains("\ntransfer-encoding:")
    };
    match parts(answer) {
        Some((status, head, _)) if !framed(head) => Ok(status),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn parts(answer: &[u8]) -> Option<(u16, &str, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, head, &answer[end + 4..]))
}

/// Few kinds, so that they can be counted.
pub(super) fn describe(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "connection reset",
        io::ErrorKind::UnexpectedEof => "closed before the answer was whole",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
        io::ErrorKind::TimedOut => "connecting timed out",
        io::ErrorKind::AddrNotAvailable => "no local port left",
        _ => "another error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_framing_says_so() {
        assert_eq!(
            whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no"),
            None
        );
        assert_eq!(
            whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
            Some(200)
        );
        let chunked = b"HTTP/1.1 503 X\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
        assert_eq!(whole(chunked), Some(503));
        assert_eq!(whole(&chunked[..chunked.len() - 5]), None);
        assert_eq!(whole(b"HTTP/1.1 304 N\r\nETag: x\r\n\r\n"), Some(304));
        assert_eq!(whole(b"HTTP/1.1 20"), None);
        assert_eq!(
            until_the_end(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\nab").ok(),
            Some(200)
        );
        assert!(until_the_end(b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nab").is_err());
        assert!(until_the_end(b"").is_err());
    }
}
