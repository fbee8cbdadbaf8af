//! TLS between the servers' PostgreSQLs: the files that PostgreSQL and libpq read, and the connections of
//! our own.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName as TlsName;
use trilith_base::ServerName;
use trilith_tls::{ALPN_POSTGRES, PeerIdentity, PemIdentity, TlsError, peer_name};

use crate::error::Error;
use crate::files::Owner;
use crate::inspect::running;
use crate::limits::TLS_RETRY_INTERVAL;
use crate::options::Options;
use crate::postmaster::Postmaster;

/// This server's certificate, for its PostgreSQL and for questions to those of others. Cloning shares it;
/// [`Tls::replace`] is seen by every clone, and by a PostgreSQL that runs.
#[derive(Clone)]
pub struct Tls {
    client: Arc<ClientConfig>,
    files: watch::Sender<PemIdentity>,
}

impl Tls {
    /// `identity` is for our own connections and is renewed by its owner; `files` are for PostgreSQL, from
    /// the same CA.
    pub fn new(identity: &PeerIdentity, files: PemIdentity) -> Result<Self, TlsError> {
        Ok(Self {
            client: identity.client_config(ALPN_POSTGRES)?,
            files: watch::Sender::new(files),
        })
    }

    /// Other files from now on. A running PostgreSQL reads them within moments, without a restart, and uses
    /// them for connections from then on.
    pub fn replace(&self, files: PemIdentity) {
        self.files.send_replace(files);
    }

    /// For a connection to the PostgreSQL of `server`, whose certificate must be that server's.
    pub(crate) fn connector(&self, server: &ServerName) -> Connector {
        Connector {
            tls: Arc::clone(&self.client).into(),
            name: peer_name(server),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// Where the files are. Not in the data directory: a copy of that goes to other servers.
pub(crate) struct TlsPaths {
    folder: PathBuf,
    /// Key and certificate in one file, so that nobody ever reads a pair that does not match.
    pub identity: PathBuf,
    pub ca: PathBuf,
}

impl TlsPaths {
    pub fn of(options: &Options) -> Self {
        let folder = options.run_dir.join("tls");
        Self {
            identity: folder.join("server.pem"),
            ca: folder.join("ca.pem"),
            folder,
        }
    }
}

/// Writes the files of today, as they must be before PostgreSQL starts. Whether one of them changed.
pub(crate) fn write_files(options: &Options, owner: &Owner) -> Result<bool, Error> {
    let Some(tls) = &options.tls else {
        return Ok(false);
    };
    let paths = TlsPaths::of(options);
    owner.make_private_folder(&paths.folder)?;
    let files = tls.files.borrow().clone();
    let identity = format!("{}{}", files.key, files.certificate);
    // The CA first: whoever has a certificate of a new CA must trust that, too.
    let ca = owner.write_file_if_changed(&paths.ca, &files.ca, 0o600)?;
    let identity = owner.write_file_if_changed(&paths.identity, &identity, 0o600)?;
    Ok(ca || identity)
}

/// Keeps the files as [`Tls`] says, and a running PostgreSQL told of it. Never ends.
pub(crate) async fn keep_files(options: Options, owner: Owner) {
    let Some(tls) = &options.tls else {
        return std::future::pending().await;
    };
    let mut changes = tls.files.subscribe();
    loop {
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
        while let Err(error) = write_and_reload(&options, &owner) {
            tracing::warn!(%error, "the new certificate of postgres is not in use yet");
            sleep(TLS_RETRY_INTERVAL).await;
        }
    }
}

fn write_and_reload(options: &Options, owner: &Owner) -> Result<(), Error> {
    write_files(options, owner)?;
    let Some(running) = running(&options.data_dir) else {
        return Ok(());
    };
    match Postmaster::adopt(running.pid, &options.data_dir)? {
        Some(postmaster) => postmaster.reload(),
        None => Ok(()),
    }
}

/// Makes connections to one server.
#[derive(Clone)]
pub(crate) struct Connector {
    tls: TlsConnector,
    name: TlsName<'static>,
}

impl MakeTlsConnect<Socket> for Connector {
    type Stream = Encrypted<Socket>;
    type TlsConnect = Self;
    type Error = io::Error;

    /// `_host` is an address; the name is what the certificate must have.
    fn make_tls_connect(&mut self, _host: &str) -> io::Result<Self> {
        Ok(self.clone())
    }
}

impl<S> TlsConnect<S> for Connector
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Encrypted<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move { self.tls.connect(self.name, stream).await.map(Encrypted) })
    }
}

/// A connection to a server that has proven its name.
pub(crate) struct Encrypted<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Encrypted<S> {
    /// Channel binding proves that the server has the certificate that was shown. That certificate has been
    /// verified, by name and CA, so there is nothing to add.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

mod stream;

#[cfg(test)]
pub(crate) mod tests;
