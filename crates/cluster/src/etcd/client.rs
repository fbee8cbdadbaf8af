//! HTTP to etcd's gateway: a few kept connections to each endpoint, and the next endpoint when one fails.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::limits::{
    ANSWER_BYTES_MAX, ATTEMPT_TIMEOUT, CONNECT_TIMEOUT, IDLE_CONNECTIONS_MAX, RETRY_EVERY,
};
use super::wire;
use crate::error::Error;

pub(super) struct Client {
    endpoints: Vec<Endpoint>,
    /// The one that answered last.
    preferred: AtomicUsize,
    /// etcd's name for itself, once it is known: another one must not be mixed in.
    cluster: Mutex<Option<u64>>,
}

struct Endpoint {
    /// `host:port`
    authority: String,
    idle: Mutex<Vec<Connection>>,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
}

/// A connection nobody waits on is of no use: to a server that was cut off it would last for minutes.
impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// It was certainly not received.
    #[error("{0}")]
    NotSent(String),
    /// Perhaps it was received, and perhaps done.
    #[error("{0}")]
    Lost(String),
    /// etcd says no. `code` is gRPC's.
    #[error("etcd refuses: {message}")]
    Refused { code: u64, message: String },
}

/// google.golang.org/grpc/codes
pub(super) mod code {
    pub const INVALID_ARGUMENT: u64 = 3;
    pub const NOT_FOUND: u64 = 5;
    pub const PERMISSION_DENIED: u64 = 7;
    pub const RESOURCE_EXHAUSTED: u64 = 8;
    pub const FAILED_PRECONDITION: u64 = 9;
    pub const OUT_OF_RANGE: u64 = 11;
    pub const UNAUTHENTICATED: u64 = 16;
    /// What surely was not done; of everything else (timeouts, a lost leader) nobody knows.
    pub const NOTHING_DONE: [u64; 7] = [
        INVALID_ARGUMENT,
        NOT_FOUND,
        PERMISSION_DENIED,
        RESOURCE_EXHAUSTED,
        FAILED_PRECONDITION,
        OUT_OF_RANGE,
        UNAUTHENTICATED,
    ];
}

impl CallError {
    /// Whether another endpoint, or another time, may give another answer.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::NotSent(_) | Self::Lost(_) => true,
            Self::Refused { code, .. } => !code::NOTHING_DONE.contains(code),
        }
    }
}

impl Client {
    /// # Errors
    /// An endpoint is not `http://host:port`.
    pub fn new(endpoints: &[String]) -> Result<Self, Error> {
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|url| Endpoint::new(url))
            .collect::<Result<_, _>>()?;
        if endpoints.is_empty() || endpoints.len() > super::limits::ENDPOINTS_MAX {
            return Err(start_error("1 to 16 endpoints of etcd are needed".into()));
        }
        Ok(Self {
            endpoints,
            preferred: AtomicUsize::new(0),
            cluster: Mutex::default(),
        })
    }

    pub fn endpoints(&self) -> usize {
        self.endpoints.len()
    }

    pub fn preferred(&self) -> usize {
        self.preferred.load(Ordering::Relaxed) % self.endpoints.len()
    }

    /// Moves on to the next endpoint, unless somebody else did already.
    pub fn avoid(&self, endpoint: usize) {
        let next = (endpoint + 1) % self.endpoints.len();
        let _ =
            self.preferred
                .compare_exchange(endpoint, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Asks what may be asked more than once, until somebody answers or the time is over.
    pub async fn ask(&self, path: &str, body: &Value, time: Duration) -> Result<Value, CallError> {
        let end = Instant::now() + time;
        let mut tried = 0_usize;
        loop {
            let endpoint = self.preferred();
            let left = end.saturating_duration_since(Instant::now());
            let error = match self
                .call(endpoint, path, body, left.min(ATTEMPT_TIMEOUT))
                .await
            {
                Err(error) if error.is_passing() => error,
                verdict => return verdict,
            };
            self.avoid(endpoint);
            tried += 1;
            if Instant::now() + RETRY_EVERY >= end {
                return Err(error);
            }
            if tried.is_multiple_of(self.endpoints.len()) {
                sleep(RETRY_EVERY).await;
            }
        }
    }

    /// Asks what must not be done twice: the next endpoint is tried only when nothing was sent.
    pub async fn ask_once(
        &self,
        path: &str,
        body: &Value,
        time: Duration,
    ) -> Result<Value, CallError> {
        let end = Instant::now() + time;
        let mut error = CallError::NotSent("no endpoint was tried".into());
        for _ in 0..self.endpoints.len() {
            let endpoint = self.preferred();
            let left = end.saturating_duration_since(Instant::now());
            error = match self.call(endpoint, path, body, left).await {
                Err(error) if error.is_passing() => error,
                verdict => return verdict,
            };
            self.avoid(endpoint);
            if !matches!(error, CallError::NotSent(_)) {
                break;
            }
        }
        Err(error)
    }

    /// Asks one endpoint.
    pub async fn call(
        &self,
        endpoint: usize,
        path: &str,
        body: &Value,
        time: Duration,
    ) -> Result<Value, CallError> {
        let end = Instant::now() + time;
        let place = &self.endpoints[endpoint % self.endpoints.len()];
        let (response, connection) = place.send(path, body, end).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        let body = timeout_at(end, body)
            .await
            .map_err(|_| CallError::Lost(place.says("no answer in time")))?
            .map_err(|error| CallError::Lost(place.says(&error.to_string())))?
            .to_bytes();
        place.keep(connection);
        let answer: Value = serde_json::from_slice(&body)
            .map_err(|_| CallError::Lost(place.says("an answer that is not JSON")))?;
        if !status.is_success() {
            return Err(refusal(&answer));
        }
        // What streams wraps its only answer.
        let answer = match answer {
            Value::Object(mut fields) if fields.contains_key("result") => {
                fields.remove("result").unwrap_or_default()
            }
            Value::Object(fields) if fields.contains_key("error") => {
                return Err(refusal(&Value::Object(fields)));
            }
            other => other,
        };
        self.check_cluster(place, &answer)?;
        Ok(answer)
    }

    /// Begins a stream at one endpoint: the lines of the answer come as etcd has something to say.
    pub async fn stream(&self, path: &str, body: &Value) -> Result<Lines, CallError> {
        let endpoint = &self.endpoints[self.preferred()];
        let end = Instant::now() + ATTEMPT_TIMEOUT;
        let (response, connection) = endpoint.send(path, body, end).await?;
        if !response.status().is_success() {
            let status = response.status();
            return Err(CallError::Lost(endpoint.says(status.as_str())));
        }
        Ok(Lines {
            body: response.into_body(),
            text: Vec::new(),
            searched: 0,
            _connection: connection,
        })
    }

    fn check_cluster(&self, place: &Endpoint, answer: &Value) -> Result<(), CallError> {
        let is = wire::header(answer).cluster;
        let mut known = lock(&self.cluster);
        match *known {
            _ if is == 0 => Ok(()),
            Some(known) if known != is => {
                let text = "belongs to another etcd cluster than was seen before";
                Err(CallError::Lost(place.says(text)))
            }
            _ => {
                *known = Some(is);
                Ok(())
            }
        }
    }
}

impl Endpoint {
    fn new(url: &str) -> Result<Self, Error> {
        let uri: Option<Uri> = url.parse().ok();
        let authority = uri
            .filter(|uri| uri.scheme_str() == Some("http") && uri.path().len() <= 1)
            .and_then(|uri| uri.authority().cloned())
            .filter(|authority| authority.port_u16().is_some() && !authority.host().is_empty());
        let authority = authority.ok_or_else(|| {
            start_error(format!(
                "`{url}` is not an endpoint of etcd: write http://host:port"
            ))
        })?;
        Ok(Self {
            authority: authority.to_string(),
            idle: Mutex::default(),
        })
    }

    fn says(&self, text: &str) -> String {
        format!("etcd at {}: {text}", self.authority)
    }

    async fn connect(&self) -> Result<Connection, CallError> {
        let not_sent = |text: String| CallError::NotSent(self.says(&text));
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.authority))
            .await
            .map_err(|_| not_sent("no connection in time".into()))?
            .map_err(|error| not_sent(error.to_string()))?;
        // Requests are small and written at once.
        let _ = stream.set_nodelay(true);
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| not_sent(error.to_string()))?;
        let driver = tokio::spawn(async move {
            // Whoever waits for an answer is told.
            let _ = connection.await;
        });
        Ok(Connection {
            sender,
            driver: driver.abort_handle(),
        })
    }

    async fn send(
        &self,
        path: &str,
        body: &Value,
        end: Instant,
    ) -> Result<(Response<Incoming>, Connection), CallError> {
        let request = Request::post(path)
            .header(HOST, &self.authority)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_string())));
        let mut request = request.map_err(|error| CallError::NotSent(error.to_string()))?;
        let mut kept = self.kept();
        loop {
            let is_new = kept.is_none();
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let sent = timeout_at(end, connection.sender.try_send_request(request));
            let Ok(sent) = sent.await else {
                return Err(CallError::Lost(self.says("no answer in time")));
            };
            match sent {
                Ok(response) => return Ok((response, connection)),
                Err(mut error) => match error.take_message() {
                    // A kept connection that was closed meanwhile: nothing went out.
                    Some(back) if !is_new => request = back,
                    Some(_) => return Err(CallError::NotSent(self.says("connection closed"))),
                    None => {
                        let text = error.into_error().to_string();
                        return Err(CallError::Lost(self.says(&text)));
                    }
                },
            }
        }
    }

    fn kept(&self) -> Option<Connection> {
        let mut idle = lock(&self.idle);
        while let Some(connection) = idle.pop() {
            if connection.sender.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    fn keep(&self, connection: Connection) {
        let mut idle = lock(&self.idle);
        if !connection.sender.is_closed() && idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(connection);
        }
    }
}

/// The answer of a stream, line by line.
pub(super) struct Lines {
    body: Incoming,
    text: Vec<u8>,
    /// There is no end of a line in so many bytes.
    searched: usize,
    _connection: Connection,
}

impl Lines {
    /// The next line; `None` when the stream has ended, for whatever reason. It may be dropped at its
    /// await without losing anything.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            let end = self.text[self.searched..].iter().position(|b| *b == b'\n');
            if let Some(end) = end {
                let rest = self.text.split_off(self.searched + end + 1);
                let line = std::mem::replace(&mut self.text, rest);
                self.searched = 0;
                return serde_json::from_slice(&line).ok();
            }
            self.searched = self.text.len();
            if self.text.len() > ANSWER_BYTES_MAX {
                return None;
            }
            let frame = self.body.frame().await?.ok()?;
            if let Some(data) = frame.data_ref() {
                self.text.extend_from_slice(data);
            }
        }
    }
}

fn refusal(answer: &Value) -> CallError {
    // A stream puts the same into an object of its own, with other names.
    let error = match &answer["error"] {
        Value::Object(_) => &answer["error"],
        _ => answer,
    };
    let code = match wire::unsigned(error, "code") {
        0 => wire::unsigned(error, "grpc_code"),
        code => code,
    };
    let message = error["message"].as_str().or(error["error"].as_str());
    let message = message.unwrap_or_default().chars().take(500).collect();
    CallError::Refused { code, message }
}

fn start_error(reason: String) -> Error {
    Error::Start { reason }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
