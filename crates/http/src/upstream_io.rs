//! One connection to an upstream server, plain or TLS.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::error::SendErrorKind;
use crate::options::ClientOptions;

/// Where a pool connects to.
#[derive(Clone)]
pub struct Endpoint {
    pub address: SocketAddr,
    pub tls: Option<EndpointTls>,
}

/// How a pool secures its connections.
#[derive(Clone)]
pub struct EndpointTls {
    pub config: Arc<ClientConfig>,
    /// The name that the server's certificate must hold.
    pub server_name: ServerName<'static>,
}

pub(crate) enum UpstreamIo {
    Plain(TcpStream),
    // Boxed: rustls keeps about a kilobyte of state in place.
    Tls(Box<TlsStream<TcpStream>>),
}

impl UpstreamIo {
    pub(crate) async fn connect(
        endpoint: &Endpoint,
        options: &ClientOptions,
    ) -> Result<Self, SendErrorKind> {
        let limit = options.connect_timeout;
        let stream = timeout(limit, TcpStream::connect(endpoint.address))
            .await
            .map_err(|_| SendErrorKind::ConnectTimeout)?
            .map_err(|error| SendErrorKind::Connect(error.kind()))?;
        // Fails only on a socket that is dead already; the first write will say so.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &endpoint.tls else {
            return Ok(Self::Plain(stream));
        };
        let connector = TlsConnector::from(tls.config.clone());
        let stream = timeout(limit, connector.connect(tls.server_name.clone(), stream))
            .await
            .map_err(|_| SendErrorKind::ConnectTimeout)?
            .map_err(|error| SendErrorKind::Tls(error.to_string()))?;
        Ok(Self::Tls(Box::new(stream)))
    }
}

impl AsyncRead for UpstreamIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(io.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Tls(io) => Pin::new(io.as_mut()).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io.as_mut()).poll_shutdown(cx),
        }
    }
}
