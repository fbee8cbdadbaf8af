//! Talking to the other servers: the listener on the cluster port, and asking for their state.

mod event;
mod listener;

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::join_all;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use trilith_config::{Config, Server};
use trilith_monitor::api::ServerStatus;
use trilith_tls::{ALPN_PEER, PeerIdentity, peer_name};

use crate::error::NodeError;
use crate::limits::{PEER_ANSWER_BYTES_MAX, PEER_TIMEOUT};

pub(crate) use listener::{PeerListener, PeerServices};

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
