//! A peer port on a free port of 127.0.0.1, as `node` has one.
#![allow(dead_code, reason = "each test file uses a part")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use axum::{Extension, Router};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use trilith_base::ServerName;
use trilith_cluster::PeerName;
use trilith_cluster::join::Caller;
use trilith_tls::{Ca, PeerIdentity, peer_of};

pub fn name(text: &str) -> ServerName {
    ServerName::new(text).unwrap()
}

pub fn ca() -> Ca {
    let dir = tempfile::tempdir().unwrap();
    Ca::create(dir.path(), "foobar", SystemTime::now()).unwrap()
}

pub fn identity(ca: &Ca, server: &str) -> PeerIdentity {
    PeerIdentity::issue(ca, &name(server), [127, 0, 0, 1].into(), SystemTime::now()).unwrap()
}

pub struct PeerPort {
    pub address: SocketAddr,
    /// Connections that got past the handshake.
    pub connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl PeerPort {
    pub async fn start(tls: Arc<ServerConfig>, router: Router) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), tls, router).await
    }

    pub async fn start_at(address: SocketAddr, tls: Arc<ServerConfig>, router: Router) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            loop {
                let (stream, remote) = listener.accept().await.unwrap();
                let (tls, router, count) = (tls.clone(), router.clone(), count.clone());
                tasks.spawn(async move {
                    let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await else {
                        return;
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                    let peer = stream
                        .get_ref()
                        .1
                        .peer_certificates()
                        .map(|c| peer_of(&c[0]));
                    let mut router = router.layer(Extension(Caller(remote.ip())));
                    if let Some(peer) = peer {
                        router = router.layer(Extension(PeerName(peer.unwrap())));
                    }
                    let service = TowerToHyperService::new(router);
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            address,
            connections,
            task,
        }
    }

    /// With all its connections.
    pub async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}
