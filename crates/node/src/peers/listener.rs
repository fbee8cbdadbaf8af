//! The listener on the cluster port.
//!
//! What a client asks for by ALPN decides which certificate it needs: edges and servers show one of
//! the cluster CA with a name of the current config; who comes to join shows none, and reaches
//! nothing but the door. Only the requests of edges stay on the data plane's threads: the rest moves
//! to the control plane before its handshake.

use std::collections::BTreeSet;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::rustls::server::Acceptor;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};
use trilith_base::{BootTime, ServerName};
use trilith_cluster::join::Caller;
use trilith_cluster::limits::{JOIN_CONNECTIONS_MAX, JOIN_TIMEOUT};
use trilith_cluster::{PeerName, Seldom};
use trilith_http::{ConnInfo, HeadLimits, ServerOptions, serve_connection};
use trilith_net::{
    ConnectionLimit, ConnectionPermit, Drain, DrainTrigger, Workers, accept_loop, drain_pair,
    listen_each,
};
use trilith_telemetry::Telemetry;
use trilith_tls::{ALPN_HTTP, ALPN_JOIN, ALPN_PEER, ALPN_SQL, PeerIdentity, peer_of};
use trilith_web::{InternalHandler, Web, WebWorker};

use super::event::PeerRefused;
use crate::error::NodeError;
use crate::limits::{
    HANDSHAKE_TIMEOUT, LISTEN_BACKLOG, PEER_BODY_IDLE_TIMEOUT, PEER_CONNECTIONS_MAX,
    PEER_FIELDS_MAX, PEER_HEAD_BYTES_MAX, PEER_TARGET_BYTES_MAX, REAP_INTERVAL,
};

mod sql;

/// The servers of the config that is in force. A connection of any other is refused, and ends when
/// its server leaves the config.
pub(crate) type Known = watch::Receiver<Arc<BTreeSet<ServerName>>>;

/// What other servers find on the cluster port.
#[derive(Clone)]
pub(crate) struct PeerServices {
    /// For requests of other edges; without it there are none.
    pub web: Option<Arc<Web>>,
    /// Where the sessions of other servers' sql entries are led; without it there are none.
    pub postgres: Option<SocketAddr>,
    /// Of the lease under which this server is the primary; `None`: it is not. Those sessions end with it.
    pub primary_epoch: watch::Receiver<Option<u64>>,
    /// The peer API. Its requests carry [`PeerName`] in their extensions.
    pub api: Router,
    /// For servers that come with a token; its requests carry [`Caller`]. `None`: nobody may.
    pub door: Option<Router>,
    pub known: Known,
    /// Where `api` and `door` are served.
    pub runtime: Handle,
}

pub(crate) struct PeerListener {
    /// Of the first worker's listener; all have the same unless the port was left open.
    #[cfg(test)]
    pub address: SocketAddr,
    /// Ends when the last connection of an edge has.
    open: mpsc::Receiver<()>,
    /// Ends the connections to the API.
    stop: DrainTrigger,
}

/// What each connection needs.
struct Serving {
    mutual: Arc<ServerConfig>,
    joining: Arc<ServerConfig>,
    services: PeerServices,
    telemetry: Telemetry,
    complaints: Seldom<(&'static str, std::net::IpAddr)>,
    /// Strangers.
    joins: Arc<Semaphore>,
    stopped: Drain,
}

impl PeerListener {
    /// Listens, on every worker.
    pub fn start(
        address: SocketAddr,
        workers: &Workers,
        identity: &PeerIdentity,
        services: PeerServices,
        telemetry: &Telemetry,
        drain: Drain,
    ) -> Result<Self, NodeError> {
        let listeners = listen_each(address, workers.count(), LISTEN_BACKLOG)
            .map_err(|source| NodeError::listen("cluster port", address, source))?;
        #[cfg(test)]
        let bound = listeners[0].local_addr().map_err(NodeError::service)?;
        let (open, closed) = mpsc::channel(1);
        let (stop, stopped) = drain_pair();
        let serving = Arc::new(Serving {
            mutual: identity.server_config()?,
            joining: identity.join_config()?,
            services,
            telemetry: telemetry.clone(),
            complaints: Seldom::new(),
            joins: Arc::new(Semaphore::new(JOIN_CONNECTIONS_MAX)),
            stopped,
        });
        for (index, listener) in listeners.into_iter().enumerate() {
            let (serving, open, drain) = (Arc::clone(&serving), open.clone(), drain.clone());
            workers.spawn_on(index, move || serve_worker(serving, listener, open, drain));
        }
        tracing::info!(%address, "listening for the other servers");
        Ok(Self {
            #[cfg(test)]
            address: bound,
            open: closed,
            stop,
        })
    }

    /// Waits until all connections of edges have closed after the drain has started, but not longer
    /// than `patience`. Connections to the API stay.
    pub async fn drained(&mut self, patience: Duration) {
        // Nothing is ever sent.
        let _ = timeout(patience, self.open.recv()).await;
    }

    /// Ends the connections to the API.
    pub fn stop(self) {
        self.stop.start();
    }
}

async fn serve_worker(
    serving: Arc<Serving>,
    listener: std::net::TcpListener,
    open: mpsc::Sender<()>,
    drain: Drain,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the cluster port cannot be used by a worker");
            return;
        }
    };
    let handler = serving.services.web.as_ref().map(|web| {
        let worker = WebWorker::new(web, &serving.telemetry.worker());
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
    let accepting = drain.clone();
    accept_loop(listener, accepting, limit, |stream, remote, permit| {
        let edge = EdgeServing {
            handler: handler.clone(),
            options: Rc::clone(&options),
            drain: drain.clone(),
            open: open.clone(),
        };
        spawn_local(Arc::clone(&serving).greet(stream, remote, permit, edge));
    })
    .await;
}

/// For the requests of edges, on one worker.
struct EdgeServing {
    handler: Option<Rc<InternalHandler>>,
    options: Rc<ServerOptions>,
    drain: Drain,
    /// Held while a connection is open: requests may be under way.
    open: mpsc::Sender<()>,
}

type Hello = StartHandshake<TcpStream>;

impl Serving {
    /// Hears what a new connection wants, and sends it there.
    async fn greet(
        self: Arc<Self>,
        stream: TcpStream,
        remote: SocketAddr,
        permit: ConnectionPermit,
        edge: EdgeServing,
    ) {
        // Small messages that somebody waits for.
        let _ = stream.set_nodelay(true);
        let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let hello = match timeout_at(deadline, hello).await {
            Ok(Ok(hello)) => hello,
            Ok(Err(error)) => return self.refuse(remote, &error),
            Err(_) => return,
        };
        let wants = |protocol: &[u8]| {
            let mut offered = hello.client_hello().alpn().into_iter().flatten();
            offered.any(|name| name == protocol)
        };
        if wants(ALPN_JOIN) && self.services.door.is_some() {
            self.elsewhere(hello, permit, move |serving, hello| async move {
                serving.serve_door(hello, remote).await;
            });
        } else if wants(ALPN_PEER) {
            self.elsewhere(hello, permit, move |serving, hello| async move {
                serving.serve_api(hello, remote, deadline).await;
            });
        } else {
            self.serve_edge(hello, remote, deadline, edge).await;
            drop(permit);
        }
    }

    /// Goes on with a connection on the control plane.
    fn elsewhere<F, Fut>(self: &Arc<Self>, hello: Hello, permit: ConnectionPermit, serve: F)
    where
        F: FnOnce(Arc<Self>, Hello) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send,
    {
        let StartHandshake { accepted, io, .. } = hello;
        let Ok(stream) = io.into_std() else {
            return;
        };
        let serving = Arc::clone(self);
        self.services.runtime.spawn(async move {
            if let Ok(stream) = TcpStream::from_std(stream) {
                let hello = StartHandshake::from_parts(accepted, stream);
                tokio::select! {
                    () = serve(Arc::clone(&serving), hello) => {}
                    () = serving.stopped.wait() => {}
                }
            }
            drop(permit);
        });
    }

    /// Requests for sites, from another edge.
    async fn serve_edge(
        &self,
        hello: Hello,
        remote: SocketAddr,
        deadline: Instant,
        edge: EdgeServing,
    ) {
        let Some((stream, peer)) = self.handshake(hello, remote, deadline).await else {
            return;
        };
        let protocol = stream.get_ref().1.alpn_protocol();
        if protocol == Some(ALPN_SQL) {
            // Sessions of apps elsewhere last as long as the apps: the drain does not wait for them.
            drop(edge);
            return self.serve_sql(stream, &peer).await;
        }
        let is_http = protocol == Some(ALPN_HTTP);
        let (Some(handler), true) = (&edge.handler, is_http) else {
            return;
        };
        let Ok(local) = stream.get_ref().0.local_addr() else {
            return;
        };
        let conn = Rc::new(ConnInfo {
            remote,
            local,
            tls: None,
        });
        tokio::select! {
            () = async {
                serve_connection(stream, conn, &**handler, &edge.options, &edge.drain).await;
            } => {}
            () = self.forgotten(&peer) => {}
        }
        // Only now.
        drop(edge.open);
    }

    /// A session of another server's sql entry.
    async fn serve_sql(&self, stream: TlsStream<TcpStream>, peer: &ServerName) {
        let Some(address) = self.services.postgres else {
            return;
        };
        let epoch = self.services.primary_epoch.clone();
        tokio::select! {
            () = sql::forward(stream, address, epoch) => {}
            () = self.forgotten(peer) => {}
            // Sessions may last for days: they end with this server's part in the cluster.
            () = self.stopped.wait() => {}
        }
    }

    /// Questions of another server.
    async fn serve_api(&self, hello: Hello, remote: SocketAddr, deadline: Instant) {
        let Some((stream, peer)) = self.handshake(hello, remote, deadline).await else {
            return;
        };
        if stream.get_ref().1.alpn_protocol() != Some(ALPN_PEER) {
            return;
        }
        let router = self.services.api.clone();
        let router = router.layer(Extension(PeerName(peer.clone())));
        tokio::select! {
            ended = trilith_monitor::serve_connection(stream, router) => {
                if let Err(error) = ended {
                    tracing::debug!(%remote, %error, "a connection to the peer API ended early");
                }
            }
            () = self.forgotten(&peer) => {}
        }
    }

    /// A server that has no certificate yet.
    async fn serve_door(&self, hello: Hello, remote: SocketAddr) {
        let (Some(router), Ok(_place)) = (&self.services.door, self.joins.try_acquire()) else {
            return self.complain(remote, "too_many_joins", "too many want to join at once");
        };
        let router = router.clone().layer(Extension(Caller(remote.ip())));
        let serve = async {
            let stream = hello.into_stream(Arc::clone(&self.joining)).await?;
            trilith_monitor::serve_connection(stream, router).await
        };
        if let Ok(Err(error)) = timeout(JOIN_TIMEOUT, serve).await {
            tracing::debug!(%remote, %error, "a connection of a joining server ended early");
        }
    }

    /// Who it is, if it is a server of this cluster.
    async fn handshake(
        &self,
        hello: Hello,
        remote: SocketAddr,
        deadline: Instant,
    ) -> Option<(TlsStream<TcpStream>, ServerName)> {
        let handshake = hello.into_stream(Arc::clone(&self.mutual));
        let stream = match timeout_at(deadline, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                self.refuse(remote, &error);
                return None;
            }
            Err(_) => return None,
        };
        let certificates = stream.get_ref().1.peer_certificates();
        let peer = match certificates.and_then(<[_]>::first).map(peer_of) {
            Some(Ok(peer)) => peer,
            Some(Err(error)) => {
                self.complain(remote, "bad_certificate", &error.to_string());
                return None;
            }
            // Not without a mistake of ours: the handshake asks for one.
            None => return None,
        };
        if !self.services.known.borrow().contains(&peer) {
            let detail = format!("`{peer}` is no server of the config");
            self.complain(remote, "unknown_server", &detail);
            return None;
        }
        Some((stream, peer))
    }

    /// Returns when that server is no longer one of the config.
    async fn forgotten(&self, peer: &ServerName) {
        let mut known = self.services.known.clone();
        if known.wait_for(|known| !known.contains(peer)).await.is_err() {
            // The config does not change any more.
            pending::<()>().await;
        }
    }

    /// A handshake failed.
    fn refuse(&self, remote: SocketAddr, error: &io::Error) {
        use rustls::Error;
        let inner = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
        let reason = match inner {
            // The network's doing, or a probe that only connects.
            None => {
                tracing::debug!(%remote, %error, "a handshake on the cluster port broke off");
                return;
            }
            Some(Error::NoCertificatesPresented) => "no_certificate",
            Some(Error::InvalidCertificate(_)) => "bad_certificate",
            Some(Error::NoApplicationProtocol) => "protocol",
            Some(Error::AlertReceived(_)) => "refused_by_peer",
            Some(_) => "tls",
        };
        self.complain(remote, reason, &error.to_string());
    }

    fn complain(&self, remote: SocketAddr, reason: &'static str, detail: &str) {
        let from = remote.ip();
        let quiet = !self.complaints.allows((reason, from), BootTime::now());
        self.telemetry.emit(&PeerRefused {
            from,
            reason,
            detail,
            quiet,
        });
    }
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

#[cfg(test)]
mod tests;
