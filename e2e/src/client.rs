//! A small HTTP/1.1 client: one request at a time, and raw bytes for what no client would send.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::{Domain, Socket, Type};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IO_TIMEOUT: Duration = Duration::from_secs(15);
const BODY_BYTES_MAX: u64 = 64 << 20;

/// A client of one address. It keeps its connection for the next request.
pub struct Client {
    to: SocketAddr,
    host: String,
    from: Option<IpAddr>,
    tls: Option<Arc<ClientConfig>>,
    connection: Option<BufReader<Stream>>,
}

#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// In order, names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Client {
    /// Asks for www.foobar.com unless told otherwise.
    pub fn new(to: SocketAddr) -> Self {
        Self {
            to,
            host: "www.foobar.com".to_owned(),
            from: None,
            tls: None,
            connection: None,
        }
    }

    pub fn host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    /// Connects from this address.
    pub fn from(mut self, address: IpAddr) -> Self {
        self.from = Some(address);
        self
    }

    /// Over TLS, trusting the CA in this file alone.
    pub fn trusting(mut self, ca: &Path) -> Result<Self> {
        self.tls = Some(crate::tls::trusting(ca)?);
        Ok(self)
    }

    pub fn get(&mut self, path: &str) -> Result<Response> {
        self.send("GET", path, &[], b"")
    }

    /// Sends a form, as a browser would.
    pub fn post_form(&mut self, path: &str, fields: &[(&str, &str)]) -> Result<Response> {
        let body: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
            .collect();
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        self.send("POST", path, &headers, body.join("&").as_bytes())
    }

    /// One request, one response. A connection that fails is not used again.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => BufReader::new(self.connect()?),
        };
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || method == "POST" {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend(body);
        connection
            .get_mut()
            .write_all(&bytes)
            .context("cannot send the request")?;
        let (response, reusable) = read_response(&mut connection, method)
            .with_context(|| format!("{method} {path} of {}", self.to))?;
        if reusable {
            self.connection = Some(connection);
        }
        Ok(response)
    }

    /// The next request opens a new connection.
    pub fn disconnect(&mut self) {
        self.connection = None;
    }

    fn connect(&self) -> Result<Stream> {
        let socket = Socket::new(Domain::for_address(self.to), Type::STREAM, None)?;
        if let Some(from) = self.from {
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        socket
            .connect_timeout(&self.to.into(), CONNECT_TIMEOUT)
            .with_context(|| format!("cannot connect to {}", self.to))?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(IO_TIMEOUT))?;
        stream.set_write_timeout(Some(IO_TIMEOUT))?;
        let Some(config) = &self.tls else {
            return Ok(Stream::Plain(stream));
        };
        let name = ServerName::try_from(self.host.clone())?;
        let tls = ClientConnection::new(Arc::clone(config), name)?;
        Ok(Stream::Tls(Box::new(StreamOwned::new(tls, stream))))
    }
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("not JSON (status {}): {}", self.status, self.text()))
    }

    /// Itself, when the status is this one.
    pub fn expect(self, status: u16) -> Result<Self> {
        ensure!(
            self.status == status,
            "status {} instead of {status}: {}",
            self.status,
            self.text()
        );
        Ok(self)
    }
}

/// Reads one final response, and tells whether the connection is good for another.
fn read_response(stream: &mut impl BufRead, method: &str) -> Result<(Response, bool)> {
    let (status, headers) = loop {
        let (status, headers) = read_head(stream)?;
        // Interim responses precede the real one (RFC 9110 section 15.2).
        if status >= 200 || status == 101 {
            break (status, headers);
        }
    };
    let mut response = Response {
        status,
        headers,
        body: Vec::new(),
    };
    let close = response
        .header("connection")
        .is_some_and(|v| v.eq_ignore_ascii_case("close"));
    if method == "HEAD" || matches!(status, 101 | 204 | 304) {
        return Ok((response, !close && status != 101));
    }
    if response
        .header("transfer-encoding")
        .is_some_and(|v| v.eq_ignore_ascii_case("chunked"))
    {
        response.body = read_chunks(stream)?;
    } else if let Some(length) = response.header("content-length") {
        let length: u64 = length.parse().context("a bad Content-Length")?;
        ensure!(length <= BODY_BYTES_MAX, "a body of {length} bytes");
        response.body = vec![0; usize::try_from(length)?];
        stream
            .read_exact(&mut response.body)
            .context("the body ends early")?;
    } else {
        stream
            .take(BODY_BYTES_MAX)
            .read_to_end(&mut response.body)?;
        return Ok((response, false));
    }
    Ok((response, !close))
}

fn read_head(stream: &mut impl BufRead) -> Result<(u16, Vec<(String, String)>)> {
    let start = read_line(stream)?;
    let status = start
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .with_context(|| format!("not a status line: {start:?}"))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream)?;
        if line.is_empty() {
            return Ok((status, headers));
        }
        ensure!(headers.len() < 200, "too many header fields");
        let (name, value) = line
            .split_once(':')
            .with_context(|| format!("no field: {line:?}"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_chunks(stream: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(stream)?;
        let size = u64::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
            .with_context(|| format!("a bad chunk size: {line:?}"))?;
        if size == 0 {
            while !read_line(stream)?.is_empty() {}
            return Ok(body);
        }
        ensure!(
            body.len() as u64 + size <= BODY_BYTES_MAX,
            "a chunk of {size} bytes"
        );
        let start = body.len();
        body.resize(start + usize::try_from(size)?, 0);
        stream
            .read_exact(&mut body[start..])
            .context("a chunk ends early")?;
        ensure!(
            read_line(stream)?.is_empty(),
            "a chunk that does not end where it should"
        );
    }
}

/// A line without its CRLF.
fn read_line(stream: &mut impl BufRead) -> Result<String> {
    let mut line = Vec::new();
    let n = stream.take(64 * 1024).read_until(b'\n', &mut line)?;
    if n == 0 {
        bail!("the connection was closed before the response");
    }
    let line = line.strip_suffix(b"\r\n").context("a line without CRLF")?;
    Ok(String::from_utf8_lossy(line).into_owned())
}

fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// All that came back for some bytes.
pub struct RawAnswer {
    pub bytes: Vec<u8>,
    /// The server closed the connection, as opposed to waiting for more.
    pub closed: bool,
}

impl fmt::Debug for RawAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.bytes);
        write!(
            f,
            "{text:?}, {}",
            if self.closed { "closed" } else { "not closed" }
        )
    }
}

impl RawAnswer {
    pub fn status(&self) -> Option<u16> {
        std::str::from_utf8(self.bytes.strip_prefix(b"HTTP/1.1 ")?.get(..3)?)
            .ok()?
            .parse()
            .ok()
    }

    /// How many responses it holds.
    pub fn responses(&self) -> usize {
        self.bytes
            .windows(9)
            .filter(|window| window == b"HTTP/1.1 ")
            .count()
    }
}

/// Sends these bytes and reads until the server closes, or for `patience` without a byte.
pub fn raw(to: SocketAddr, bytes: &[u8], patience: Duration) -> Result<RawAnswer> {
    let mut stream = TcpStream::connect_timeout(&to, CONNECT_TIMEOUT)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    // A server that refuses early may close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = RawAnswer {
        bytes: Vec::new(),
        closed: false,
    };
    let mut buffer = [0; 16 * 1024];
    while answer.bytes.len() < 1 << 20 {
        match stream.read(&mut buffer) {
            Ok(0) => {
                answer.closed = true;
                break;
            }
            Ok(n) => answer.bytes.extend(&buffer[..n]),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => {
                answer.closed = true;
                break;
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(e) => return Err(e.into()),
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
    Ok(answer)
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests;
