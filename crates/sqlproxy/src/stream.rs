//! The way to a server: PostgreSQL's own port on this server, a tunnel to another one.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use trilith_tls::peer_name;

use crate::socket::{reset_on_close, tune_upstream};
use crate::targets::Target;

/// How the PostgreSQL of another server is reached: through that server's cluster port, under mutual TLS.
#[derive(Clone, Debug)]
pub struct Tunnel {
    /// With the ALPN protocol [`trilith_tls::ALPN_SQL`].
    pub tls: Arc<ClientConfig>,
    /// The cluster port, the same on every server.
    pub port: u16,
}

pub(crate) enum Stream {
    Plain(TcpStream),
    Tunnel(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Without `tunnel`, and to this server itself, in the clear.
    pub async fn connect(target: &Target, tunnel: Option<&Tunnel>) -> io::Result<Self> {
        let Some(tunnel) = tunnel.filter(|_| !target.local) else {
            let stream = TcpStream::connect(target.address).await?;
            tune_upstream(&stream)?;
            return Ok(Self::Plain(stream));
        };
        let address = SocketAddr::new(target.address.ip(), tunnel.port);
        let stream = TcpStream::connect(address).await?;
        tune_upstream(&stream)?;
        let stream = TlsConnector::from(tunnel.tls.clone())
            .connect(peer_name(&target.name), stream)
            .await?;
        Ok(Self::Tunnel(Box::new(stream)))
    }

    /// Closes it with a reset: nothing that is still on its way arrives.
    pub fn abort(self) {
        match &self {
            Self::Plain(stream) => reset_on_close(stream),
            Self::Tunnel(stream) => reset_on_close(stream.get_ref().0),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tunnel(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tunnel(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tunnel(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tunnel(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
