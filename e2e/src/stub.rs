//! A backend that says who it is and what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

/// Answers every request with JSON: `{stub, method, path, headers, body}`. Dropping it closes the
/// listener and all its connections at once.
pub struct Stub {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    name: String,
    stop: AtomicBool,
    requests: AtomicUsize,
    connections: Mutex<Vec<TcpStream>>,
}

impl Stub {
    pub fn start(address: SocketAddr, name: &str) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .with_context(|| format!("the stub cannot listen on {address}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            stop: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            connections: Mutex::new(Vec::new()),
        });
        let acceptor = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.accept(&listener))
        };
        Ok(Self {
            address,
            shared,
            acceptor: Some(acceptor),
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests answered, health checks included.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        for connection in self
            .shared
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        while !self.stop.load(Ordering::Relaxed) {
            let Ok((stream, _)) = listener.accept() else {
                thread::sleep(Duration::from_millis(2));
                continue;
            };
            let Ok(copy) = stream.try_clone() else {
                continue;
            };
            self.connections
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(copy);
            let shared = Arc::clone(self);
            thread::spawn(move || {
                // An error here is a connection that the peer gave up.
                let _ = shared.serve(stream);
            });
        }
    }

    fn serve(&self, stream: TcpStream) -> Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        while let Some(head) = read_head(&mut reader)? {
            let body = if head.header("transfer-encoding").is_some() {
                read_chunks(&mut reader)?
            } else {
                let length = head.header("content-length").map_or(Ok(0), str::parse)?;
                let mut body = vec![0; length];
                reader.read_exact(&mut body)?;
                body
            };
            self.requests.fetch_add(1, Ordering::Relaxed);
            let answer = json!({
                "stub": self.name,
                "method": head.method,
                "path": head.path,
                "headers": head.headers,
                "body": String::from_utf8_lossy(&body),
            })
            .to_string();
            let body = if head.method == "HEAD" { "" } else { &answer };
            // In one write: a stub that is stopped has answered whole or not at all.
            let response = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                answer.len(),
            );
            writer.write_all(response.as_bytes())?;
        }
        Ok(())
    }
}

struct Head {
    method: String,
    path: String,
    /// `Name: value`, as received.
    headers: Vec<String>,
}

impl Head {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| {
            let (n, value) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A request head; none at the end of the connection.
fn read_head(reader: &mut impl BufRead) -> Result<Option<Head>> {
    let Some(start) = read_line(reader)? else {
        return Ok(None);
    };
    let mut words = start.split(' ');
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let mut head = Head {
        method: method.to_owned(),
        path: path.to_owned(),
        headers: Vec::new(),
    };
    while let Some(line) = read_line(reader)?.filter(|line| !line.is_empty()) {
        head.headers.push(line);
    }
    Ok(Some(head))
}

fn read_chunks(reader: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(reader)?.context("the body ends early")?;
        let size = usize::from_str_radix(&line, 16)?;
        let start = body.len();
        body.resize(start + size, 0);
        reader.read_exact(&mut body[start..])?;
        if size == 0 {
            while read_line(reader)?.is_some_and(|line| !line.is_empty()) {}
            return Ok(body);
        }
        read_line(reader)?;
    }
}

fn read_line(reader: &mut impl BufRead) -> Result<Option<String>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()))
}
