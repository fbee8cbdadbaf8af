//! A server that does as it is told, and can be killed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::task::JoinSet;

/// What a stub does with a request once it has read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// 200 with the stub's name and a line feed, then the request as it came.
    Answer,
    AnswerAfter(Duration),
    Status(u16),
    /// What a web server says that cannot serve.
    TryAnother,
    /// Closes without a word.
    Close,
    Garbage,
    /// Promises more than it sends.
    Truncate,
    /// Reads the head only, and closes.
    CloseAfterHead,
}

#[derive(Clone)]
struct Shared {
    name: &'static str,
    behaviour: Arc<Mutex<Behaviour>>,
    requests: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
}

pub struct Stub {
    pub address: SocketAddr,
    shared: Shared,
    task: JoinHandle<()>,
}

impl Stub {
    pub async fn start(name: &'static str) -> Self {
        Self::start_at(name, ([127, 0, 0, 1], 0).into()).await
    }

    /// Panics where the address is taken.
    pub async fn start_at(name: &'static str, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let shared = Shared {
            name,
            behaviour: Arc::new(Mutex::new(Behaviour::Answer)),
            requests: Arc::default(),
            heads: Arc::default(),
        };
        Self {
            address: listener.local_addr().unwrap(),
            task: tokio::spawn(serve(listener, shared.clone())),
            shared,
        }
    }

    pub fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap() = behaviour;
    }

    /// Requests answered or not, without health checks.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// The head of the last request.
    pub fn last_head(&self) -> String {
        self.shared.heads.lock().unwrap().last().cloned().unwrap()
    }

    /// Closes the listener and every connection, whatever is under way.
    pub async fn kill(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        // Aborted tasks are dropped when the runtime gets to them.
        while Arc::strong_count(&self.shared.requests) > 1 {
            tokio::task::yield_now().await;
        }
        self.address
    }
}

async fn serve(listener: TcpListener, shared: Shared) {
    // Dropped with this task, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connection(stream, shared.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(mut stream: TcpStream, shared: Shared) {
    let mut bytes = Vec::new();
    loop {
        let head_end = loop {
            if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
        bytes.drain(..head_end);
        let is_check = head.contains("User-Agent: trilith-health");
        let behaviour = shared.behaviour.lock().unwrap().clone();
        if !is_check {
            shared.requests.fetch_add(1, Ordering::Relaxed);
            shared.heads.lock().unwrap().push(head.clone());
            if behaviour == Behaviour::CloseAfterHead {
                return;
            }
        }
        let Some(body) = read_body(&mut stream, &head, &mut bytes).await else {
            return;
        };
        let answer = match behaviour {
            Behaviour::AnswerAfter(delay) => {
                tokio::time::sleep(delay).await;
                ok(shared.name, &head, &body)
            }
            Behaviour::Close | Behaviour::CloseAfterHead => return,
            Behaviour::Answer => ok(shared.name, &head, &body),
            Behaviour::Status(status) => {
                format!("HTTP/1.1 {status} Told So\r\nContent-Length: 0\r\n\r\n")
            }
            Behaviour::TryAnother => {
                "HTTP/1.1 503 No\r\ntrilith-try-another: 1\r\nContent-Length: 0\r\n\r\n".to_owned()
            }
            Behaviour::Garbage => "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(),
            Behaviour::Truncate => {
                let body = "x".repeat(40_000);
                format!("HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n{body}")
            }
        };
        if stream.write_all(answer.as_bytes()).await.is_err() || answer.ends_with('x') {
            return;
        }
    }
}

fn ok(name: &str, head: &str, body: &str) -> String {
    let body = format!("{name}\n{head}{body}");
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nServer: {name}\r\n\r\n{body}",
        body.len()
    )
}

async fn read_body(stream: &mut TcpStream, head: &str, bytes: &mut Vec<u8>) -> Option<String> {
    let field = |name: &str| {
        head.lines().find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    };
    let chunked = field("transfer-encoding").is_some();
    let length: usize = field("content-length").map_or(0, |v| v.parse().unwrap());
    let whole = |bytes: &[u8]| match chunked {
        true => bytes.ends_with(b"0\r\n\r\n"),
        false => bytes.len() >= length,
    };
    while !whole(bytes) {
        if stream.read_buf(bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    }
    let end = if chunked { bytes.len() } else { length };
    let body: Vec<u8> = bytes.drain(..end).collect();
    Some(String::from_utf8_lossy(&body).into_owned())
}
