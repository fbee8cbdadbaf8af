//! The calling side: a few kept connections to each peer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request as HttpRequest, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use trilith_consensus::BoxFuture;
use trilith_tls::{ALPN_PEER, PeerIdentity, TlsError, peer_name};

use crate::limits::{
    BULK_CONNECTIONS_MAX, CONNECT_TIMEOUT, CONNECTION_IDLE_MAX, CONNECTIONS_MAX, MESSAGE_BYTES_MAX,
    PEERS_MAX, REQUEST_TIMEOUT, SNAPSHOT_TIMEOUT,
};
use crate::msg::{Ask, Reply, Request};
use crate::transport::{CallError, Peer, Transport};

/// Calls other servers over mutual TLS. One call has a connection to itself, so that none waits
/// behind another; connections are kept for the next call. They live on the runtime that it was made
/// on, so that a caller on another, which may be busy, holds up nobody else's.
pub struct HttpTransport {
    tls: Arc<ClientConfig>,
    /// `None`: made outside of any; then on that of whoever calls.
    runtime: Option<Handle>,
    roads: Mutex<HashMap<Peer, Arc<Road>>>,
}

/// The connections to one peer.
struct Road {
    peer: Peer,
    small: Lane,
    bulk: Lane,
}

struct Lane {
    /// Calls under way, each with a connection or about to have one.
    calls: Semaphore,
    /// The last used is the first to be used again.
    idle: Mutex<Vec<Connection>>,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
    used: Instant,
}

/// A connection nobody waits on is of no use: to a peer that was cut off it would last for minutes.
impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl HttpTransport {
    /// `identity` is asked for its certificate at every new connection.
    pub fn new(identity: &PeerIdentity) -> Result<Self, TlsError> {
        Ok(Self {
            tls: identity.client_config(ALPN_PEER)?,
            runtime: Handle::try_current().ok(),
            roads: Mutex::default(),
        })
    }

    fn road(&self, peer: &Peer) -> Arc<Road> {
        let mut roads = lock(&self.roads);
        if let Some(road) = roads.get(peer) {
            return Arc::clone(road);
        }
        if roads.len() >= PEERS_MAX {
            // Servers come and go, over months: start again.
            roads.clear();
        }
        let road = Arc::new(Road {
            peer: peer.clone(),
            small: Lane::new(CONNECTIONS_MAX),
            bulk: Lane::new(BULK_CONNECTIONS_MAX),
        });
        roads.insert(peer.clone(), Arc::clone(&road));
        road
    }

    /// A new connection. It lives on this transport's runtime, whoever is the first to use it.
    async fn connect(&self, peer: &Peer) -> Result<Connection, CallError> {
        let connect = connect(peer.clone(), Arc::clone(&self.tls));
        let connecting = Connecting(match &self.runtime {
            Some(runtime) => runtime.spawn(connect),
            None => tokio::spawn(connect),
        });
        connecting.finished().await
    }

    async fn exchange(
        &self,
        road: &Road,
        lane: &Lane,
        request: &Request,
    ) -> Result<Reply, CallError> {
        let body = Bytes::from(serde_json::to_vec(request).map_err(not_sent)?);
        let path = format!("/v1/cluster/{}", request.kind());
        if let Some(mut connection) = lane.take_idle().await {
            // The peer may have closed it just now: then nothing was sent, and a new one will do.
            if let Ok(result) = send(&mut connection, &path, body.clone()).await {
                return lane.keep(connection, result);
            }
        }
        let mut connection = self.connect(&road.peer).await?;
        let result = send(&mut connection, &path, body).await;
        lane.keep(
            connection,
            result.unwrap_or_else(|unsent| Err(not_sent(unsent))),
        )
    }
}

impl Transport for HttpTransport {
    fn call<'a>(
        &'a self,
        to: &'a Peer,
        request: Request,
    ) -> BoxFuture<'a, Result<Reply, CallError>> {
        Box::pin(async move {
            let road = self.road(to);
            let (lane, limit) = match request.ask {
                Ask::Snapshot(_) => (&road.bulk, SNAPSHOT_TIMEOUT),
                _ => (&road.small, REQUEST_TIMEOUT),
            };
            let _permit = match timeout(limit, lane.calls.acquire()).await {
                Ok(Ok(permit)) => permit,
                _ => {
                    return Err(CallError::NotSent(
                        "too many calls to this server".to_owned(),
                    ));
                }
            };
            // Whoever gives up on a call has reason to doubt the other connections too.
            let doubt = Doubt { lane, clear: true };
            let result = timeout(limit, self.exchange(&road, lane, &request)).await;
            doubt.settle(matches!(result, Ok(Ok(_))));
            result.unwrap_or_else(|_| Err(CallError::Lost("no answer in time".to_owned())))
        })
    }
}

/// Ends the attempt when nobody waits for it any more.
struct Connecting(JoinHandle<Result<Connection, CallError>>);

impl Connecting {
    async fn finished(mut self) -> Result<Connection, CallError> {
        (&mut self.0)
            .await
            .unwrap_or_else(|gone| Err(not_sent(gone)))
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn connect(peer: Peer, tls: Arc<ClientConfig>) -> Result<Connection, CallError> {
    let connect = async {
        let stream = TcpStream::connect(peer.address).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(tls);
        connector.connect(peer_name(&peer.name), stream).await
    };
    let stream = timeout(CONNECT_TIMEOUT, connect)
        .await
        .map_err(|_| CallError::NotSent("no connection in time".to_owned()))?
        .map_err(not_sent)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(not_sent)?;
    // How it ends, the call that used it knows.
    let driver = tokio::spawn(async { drop(connection.await) }).abort_handle();
    Ok(Connection {
        sender,
        driver,
        used: Instant::now(),
    })
}

/// Forgets the idle connections of a lane unless told that all is well.
struct Doubt<'a> {
    lane: &'a Lane,
    clear: bool,
}

impl Doubt<'_> {
    fn settle(mut self, well: bool) {
        self.clear = !well;
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if self.clear {
            lock(&self.lane.idle).clear();
        }
    }
}

impl Lane {
    fn new(calls: usize) -> Self {
        Self {
            calls: Semaphore::new(calls),
            idle: Mutex::default(),
        }
    }

    /// A connection that is still open, as far as this side knows.
    async fn take_idle(&self) -> Option<Connection> {
        loop {
            let mut connection = {
                let mut idle = lock(&self.idle);
                idle.retain(|connection| connection.used.elapsed() < CONNECTION_IDLE_MAX);
                idle.pop()?
            };
            // The last answer was read to its end, so this waits for nobody else.
            if connection.sender.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    /// Keeps the connection if its last exchange ended well.
    fn keep(
        &self,
        mut connection: Connection,
        result: Result<Reply, CallError>,
    ) -> Result<Reply, CallError> {
        if result.is_ok() {
            connection.used = Instant::now();
            lock(&self.idle).push(connection);
        }
        result
    }
}

/// One request and its answer, read to the end. The outer error: not a byte of it was sent.
async fn send(
    connection: &mut Connection,
    path: &str,
    body: Bytes,
) -> Result<Result<Reply, CallError>, hyper::Error> {
    let mut request = HttpRequest::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = match Uri::try_from(path) {
        Ok(uri) => uri,
        Err(error) => return Ok(Err(not_sent(error))),
    };
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_static("trilith.internal"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    match connection.sender.try_send_request(request).await {
        Ok(response) => Ok(read(response).await),
        Err(mut failed) => match failed.take_message() {
            Some(_) => Err(failed.into_error()),
            None => Ok(Err(lost(failed.into_error()))),
        },
    }
}

async fn read(response: Response<Incoming>) -> Result<Reply, CallError> {
    let status = response.status();
    let body = Limited::new(response.into_body(), MESSAGE_BYTES_MAX);
    let body = body.collect().await.map_err(lost)?.to_bytes();
    match status {
        StatusCode::OK => serde_json::from_slice(&body).map_err(lost),
        // It was read and refused before anything was done.
        status if status.is_client_error() => {
            let reason: String = String::from_utf8_lossy(&body).chars().take(200).collect();
            Err(not_sent(format!("it answers {status}: {reason}")))
        }
        status => Err(lost(format!("it answers {status}"))),
    }
}

fn not_sent(error: impl ToString) -> CallError {
    CallError::NotSent(error.to_string())
}

fn lost(error: impl ToString) -> CallError {
    CallError::Lost(error.to_string())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
