//! Talking to the other servers: the listener on the cluster port, and asking for their state.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls::{ClientConfig, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use trilith_config::{Config, Server};
use trilith_http::{ConnInfo, HeadLimits, ServerOptions, serve_connection};
use trilith_monitor::api::ServerStatus;
use trilith_net::{ConnectionLimit, Drain, Workers, accept_loop, listen_each};
use trilith_telemetry::Telemetry;
use trilith_tls::{ALPN_HTTP, ALPN_PEER, PeerIdentity, peer_name};
use trilith_web::{InternalHandler, Web, WebWorker};

use crate::error::NodeError;
use crate::limits::{
    HANDSHAKE_TIMEOUT, LISTEN_BACKLOG, PEER_ANSWER_BYTES_MAX, PEER_BODY_IDLE_TIMEOUT,
    PEER_CONNECTIONS_MAX, PEER_FIELDS_MAX, PEER_HEAD_BYTES_MAX, PEER_TARGET_BYTES_MAX,
    PEER_TIMEOUT, REAP_INTERVAL,
};

/// Asks other servers for their state.
pub(crate) struct Peers {
    client: Arc<ClientConfig>,
}

impl Peers {
    pub fn new(identity: &PeerIdentity) -> Result<Self, NodeError> {
        Ok(Self {
            client: identity.client_config(ALPN_PEER)?,
        })
    }

    /// The state of every server, in the order of the file. `own` is ours; who does not answer in
    /// time is down.
    pub async fn ask_all(&self, config: &Config, own: ServerStatus) -> Vec<ServerStatus> {
        let ask = |server| {
            let own = &own;
            async move {
                if is(own, server) {
                    own.clone()
                } else {
                    self.ask(config, server).await
                }
            }
        };
        join_all(config.servers.iter().map(ask)).await
    }

    /// The state of one other server.
    pub async fn ask(&self, config: &Config, server: &Server) -> ServerStatus {
        let problem = match timeout(PEER_TIMEOUT, self.try_ask(config, server)).await {
            Ok(Ok(status)) if is(&status, server) => return status,
            Ok(Ok(status)) => format!("the server at its address says it is {}", status.name),
            Ok(Err(problem)) => problem,
            Err(_) => format!("no answer within {} s", PEER_TIMEOUT.as_secs()),
        };
        let roles = server.roles.iter().map(|role| role.to_string()).collect();
        ServerStatus::down(
            server.name.as_str(),
            &server.address.to_string(),
            roles,
            problem,
        )
    }

    async fn try_ask(&self, config: &Config, server: &Server) -> Result<ServerStatus, String> {
        let address = SocketAddr::new(server.address, config.ports.cluster);
        let stream = TcpStream::connect(address).await.map_err(text)?;
        let connector = TlsConnector::from(Arc::clone(&self.client));
        let stream = connector
            .connect(peer_name(&server.name), stream)
            .await
            .map_err(text)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(text)?;
        let request = hyper::Request::get("/v1/server")
            .header("Host", "trilith.internal")
            .header("Connection", "close")
            .body(Empty::<Bytes>::new())
            .map_err(text)?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(text)?;
            if !response.status().is_success() {
                return Err(format!("it answers {}", response.status()));
            }
            let body = Limited::new(response.into_body(), PEER_ANSWER_BYTES_MAX)
                .collect()
                .await;
            serde_json::from_slice(&body.map_err(text)?.to_bytes()).map_err(text)
        };
        tokio::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            // The connection may end before the last bytes were taken from it.
            ended = connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(text(error)),
            },
        }
    }
}

fn is(status: &ServerStatus, server: &Server) -> bool {
    status.name == server.name.as_str()
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

/// The listener on the cluster port. Only servers with a certificate of the cluster CA get past the
/// handshake; the protocol they agreed on (ALPN) says what they want.
pub(crate) struct PeerListener {
    /// Ends when the last connection has.
    open: mpsc::Receiver<()>,
}

/// What each connection needs.
#[derive(Clone)]
struct Serving {
    tls: Arc<ServerConfig>,
    web: Option<Arc<Web>>,
    router: axum::Router,
    drain: Drain,
    /// Held while a connection is open.
    open: mpsc::Sender<()>,
}

impl PeerListener {
    /// Listens, on every worker. `web` serves other edges' requests; without it there are none.
    pub fn start(
        address: SocketAddr,
        workers: &Workers,
        identity: &PeerIdentity,
        web: Option<Arc<Web>>,
        router: axum::Router,
        telemetry: &Telemetry,
        drain: Drain,
    ) -> Result<Self, NodeError> {
        let listeners = listen_each(address, workers.count(), LISTEN_BACKLOG)
            .map_err(|source| NodeError::listen("cluster port", address, source))?;
        let (open, closed) = mpsc::channel(1);
        let serving = Serving {
            tls: identity.server_config()?,
            web,
            router,
            drain,
            open,
        };
        for (index, listener) in listeners.into_iter().enumerate() {
            let serving = serving.clone();
            let telemetry = telemetry.clone();
            workers.spawn_on(index, move || serve_worker(serving, listener, telemetry));
        }
        tracing::info!(%address, "listening for the other servers");
        Ok(Self { open: closed })
    }

    /// Waits until all connections have closed after the drain has started, but not longer than
    /// `patience`.
    pub async fn finished(mut self, patience: Duration) {
        // Nothing is ever sent.
        let _ = timeout(patience, self.open.recv()).await;
    }
}

async fn serve_worker(serving: Serving, listener: std::net::TcpListener, telemetry: Telemetry) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the cluster port cannot be used by a worker");
            return;
        }
    };
    let handler = serving.web.as_ref().map(|web| {
        let worker = WebWorker::new(web, &telemetry.worker());
        let reaped = Rc::clone(&worker);
        spawn_local(async move {
            loop {
                sleep(REAP_INTERVAL).await;
                reaped.reap();
            }
        });
        Rc::new(InternalHandler::new(Arc::clone(web), worker))
    });
    let options = Rc::new(server_options());
    let limit = ConnectionLimit::new(PEER_CONNECTIONS_MAX, 0);
    let drain = serving.drain.clone();
    accept_loop(listener, drain, limit, |stream, remote, permit| {
        let (serving, handler, options) = (serving.clone(), handler.clone(), options.clone());
        spawn_local(async move {
            serve(&serving, handler.as_deref(), &options, stream, remote).await;
            drop(permit);
        });
    })
    .await;
}

async fn serve(
    serving: &Serving,
    handler: Option<&InternalHandler>,
    options: &ServerOptions,
    stream: TcpStream,
    remote: SocketAddr,
) {
    let Ok(local) = stream.local_addr() else {
        return;
    };
    let accept = TlsAcceptor::from(Arc::clone(&serving.tls)).accept(stream);
    let stream = match timeout(HANDSHAKE_TIMEOUT, accept).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%remote, %error, "refused on the cluster port");
            return;
        }
        Err(_) => return,
    };
    match (stream.get_ref().1.alpn_protocol(), handler) {
        (Some(ALPN_HTTP), Some(handler)) => {
            let conn = Rc::new(ConnInfo {
                remote,
                local,
                tls: None,
            });
            serve_connection(stream, conn, handler, options, &serving.drain).await;
        }
        (Some(ALPN_PEER), _) => {
            let serve = trilith_monitor::serve_connection(stream, serving.router.clone());
            if let Err(error) = serve.await {
                tracing::debug!(%remote, %error, "a connection to the peer API ended early");
            }
        }
        _ => {}
    }
    // Only now: `open` says that requests may be under way.
    let _ = &serving.open;
}

fn server_options() -> ServerOptions {
    ServerOptions {
        body_idle_timeout: PEER_BODY_IDLE_TIMEOUT,
        write_idle_timeout: PEER_BODY_IDLE_TIMEOUT,
        body_rate_min: 0,
        limits: HeadLimits {
            head_bytes_max: PEER_HEAD_BYTES_MAX,
            fields_max: PEER_FIELDS_MAX,
            target_bytes_max: PEER_TARGET_BYTES_MAX,
        },
        ..ServerOptions::default()
    }
}
