//! The new server's side.

use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName as TlsName};
use trilith_base::ServerName;
use trilith_tls::{Fingerprint, TlsError, join_client_config};

use super::msg::{JoinReply, JoinRequest, Problem};
use super::{Joined, Welcome};
use crate::limits::{JOIN_CONNECT_TIMEOUT, JOIN_REPLY_BYTES_MAX, JOIN_TIMEOUT};
use crate::token::Token;

/// Why this server did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("no server of the cluster can be reached: {}", list(.0))]
    Unreachable(Vec<(SocketAddr, String)>),
    /// In the words of the server that was asked.
    #[error("{address} refuses: {reason}")]
    Refused { address: SocketAddr, reason: String },
    /// The token may be used up.
    #[error("{address} took the token and gave no usable answer: {reason}")]
    Lost { address: SocketAddr, reason: String },
    #[error(transparent)]
    Tls(#[from] TlsError),
}

fn list(problems: &[(SocketAddr, String)]) -> String {
    let each = |(address, problem): &(SocketAddr, String)| format!("{address}: {problem}");
    problems.iter().map(each).collect::<Vec<_>>().join("; ")
}

/// What became of one address.
enum Tried {
    /// Nothing was asked there, or it could not say: another may.
    Next(String),
    Ended(JoinError),
}

/// Brings the token to the servers it names, one after another, until one answers. Nothing is
/// written.
pub async fn join(token: &Token) -> Result<Joined, JoinError> {
    let tls = join_client_config(token.ca)?;
    let mut problems = Vec::new();
    for &address in &token.addresses {
        match ask(token, address, &tls).await {
            Ok(joined) => return Ok(joined),
            Err(Tried::Next(problem)) => problems.push((address, problem)),
            Err(Tried::Ended(error)) => return Err(error),
        }
    }
    Err(JoinError::Unreachable(problems))
}

async fn ask(token: &Token, address: SocketAddr, tls: &Arc<ClientConfig>) -> Result<Joined, Tried> {
    let stream = match timeout(JOIN_CONNECT_TIMEOUT, connect(address, tls)).await {
        Ok(connected) => connected.map_err(Tried::Next)?,
        Err(_) => {
            let time = JOIN_CONNECT_TIMEOUT.as_secs();
            return Err(Tried::Next(format!("no connection within {time} s")));
        }
    };
    let lost = |reason: String| Tried::Ended(JoinError::Lost { address, reason });
    let (status, body) = match timeout(JOIN_TIMEOUT, exchange(stream, token, address)).await {
        Ok(answer) => answer.map_err(lost)?,
        Err(_) => return Err(lost(format!("nothing within {} s", JOIN_TIMEOUT.as_secs()))),
    };
    if status.is_success() {
        let reply: JoinReply = serde_json::from_slice(&body).map_err(|e| lost(e.to_string()))?;
        return accept(reply, token).map_err(lost);
    }
    let problem: Problem = serde_json::from_slice(&body).unwrap_or_default();
    let reason = match problem.error.is_empty() {
        true => format!("HTTP {}", status.as_u16()),
        false => printable(&problem.error),
    };
    Err(match status.is_server_error() {
        true => Tried::Next(reason),
        false => Tried::Ended(JoinError::Refused { address, reason }),
    })
}

async fn connect(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, String> {
    let stream = TcpStream::connect(address).await.map_err(text)?;
    let name = TlsName::IpAddress(address.ip().into());
    let connector = TlsConnector::from(Arc::clone(tls));
    connector.connect(name, stream).await.map_err(|error| {
        format!("it does not prove that it belongs to the cluster of the token ({error})")
    })
}

async fn exchange(
    stream: TlsStream<TcpStream>,
    token: &Token,
    address: SocketAddr,
) -> Result<(hyper::StatusCode, Bytes), String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(text)?;
    let request = JoinRequest {
        id: token.id.to_string(),
        secret: token.secret.expose(),
    };
    let body = serde_json::to_vec(&request).map_err(text)?;
    let request = hyper::Request::post("/v1/join")
        .header(HOST, address.to_string())
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(text)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(text)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), JOIN_REPLY_BYTES_MAX);
        Ok((status, body.collect().await.map_err(text)?.to_bytes()))
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

/// Checks what can be checked of an answer.
fn accept(reply: JoinReply, token: &Token) -> Result<Joined, String> {
    let server = ServerName::new(&reply.server).map_err(text)?;
    let certificate = CertificateDer::from_pem_slice(reply.ca_certificate.as_bytes())
        .map_err(|error| format!("its CA certificate: {error}"))?;
    if Fingerprint::of(&certificate) != token.ca {
        return Err("its CA is not that of the token".to_owned());
    }
    Ok(Joined {
        server,
        welcome: Welcome {
            cluster: reply.cluster,
            config: reply.config,
            ca_certificate: reply.ca_certificate,
            ca_key: reply.ca_key,
            database_passwords: reply.database_passwords,
        },
    })
}

/// What others say may end up on a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
