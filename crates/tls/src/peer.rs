//! TLS between the servers of a cluster: both sides show a certificate of the cluster CA.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::{CertificateDer, ServerName as TlsName};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};
use trilith_base::ServerName;

use crate::ca::Ca;
use crate::error::TlsError;
use crate::limits::TICKETS_PER_HANDSHAKE;
use crate::provider::provider;
use crate::sessions::Sessions;

/// ALPN of requests for sites, from edge to web server: HTTP/1.1 as it came.
pub const ALPN_HTTP: &[u8] = b"trilith-http";
/// ALPN of the peer API: HTTP/1.1 with JSON.
pub const ALPN_PEER: &[u8] = b"trilith-peer";
/// ALPN of the way to a server's PostgreSQL: its protocol (version 3), from the first byte.
pub const ALPN_SQL: &[u8] = b"trilith-sql";
/// ALPN of PostgreSQL itself, on its own port (IANA: `postgresql`). Its versions before 17 do not look at it.
pub const ALPN_POSTGRES: &[u8] = b"postgresql";
/// ALPN of a server that has no certificate yet, and comes with a token.
pub const ALPN_JOIN: &[u8] = b"trilith-join";

/// Names of servers in their certificates end in this; no site may have such a name.
pub(crate) const PEER_DOMAIN: &str = ".trilith.internal";

/// How this server proves to its peers who it is, and how it checks them. Cloning shares it;
/// [`PeerIdentity::renew`] is seen by every config made from it.
#[derive(Clone)]
pub struct PeerIdentity {
    certified: Arc<ArcSwap<CertifiedKey>>,
    ca: CertificateDer<'static>,
}

impl PeerIdentity {
    /// Issues this server's certificate.
    pub fn issue(
        ca: &Ca,
        server: &ServerName,
        address: IpAddr,
        now: SystemTime,
    ) -> Result<Self, TlsError> {
        let certified = ca.issue_peer(server, address, now)?;
        Ok(Self {
            certified: Arc::new(ArcSwap::from_pointee(certified)),
            ca: ca.certificate().clone(),
        })
    }

    /// Replaces the certificate by a newly issued one, for handshakes from now on.
    pub fn renew(
        &self,
        ca: &Ca,
        server: &ServerName,
        address: IpAddr,
        now: SystemTime,
    ) -> Result<(), TlsError> {
        let certified = ca.issue_peer(server, address, now)?;
        self.certified.store(Arc::new(certified));
        Ok(())
    }

    /// For the listener on the cluster port: TLS 1.3, all ALPN protocols of servers, clients must show a
    /// certificate that the cluster CA issued to a server.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(self.roots()?.into(), provider())
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![ALPN_HTTP.to_vec(), ALPN_PEER.to_vec(), ALPN_SQL.to_vec()];
        config.send_tls13_tickets = TICKETS_PER_HANDSHAKE;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        Ok(Arc::new(config))
    }

    /// For those who come to join, on the same port: this server's certificate, none of theirs, and
    /// [`ALPN_JOIN`] alone. Nothing but the joining of servers may be behind it.
    pub fn join_config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![ALPN_JOIN.to_vec()];
        // Nobody joins twice.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }

    /// For connections to peers; `alpn` is [`ALPN_HTTP`], [`ALPN_PEER`], [`ALPN_SQL`] or [`ALPN_POSTGRES`]. Use
    /// [`peer_name`] as the name to verify.
    pub fn client_config(&self, alpn: &[u8]) -> Result<Arc<ClientConfig>, TlsError> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(self.roots()?)
            .with_client_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![alpn.to_vec()];
        // A resumed session shows the certificate it began with, so none outlives the certificate.
        let sessions = Sessions::new(Arc::clone(&self.certified));
        config.resumption = Resumption::store(Arc::new(sessions));
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone())?;
        Ok(roots)
    }
}

impl ResolvesServerCert for PeerIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.certified.load_full())
    }
}

impl ResolvesClientCert for PeerIdentity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.certified.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerIdentity")
    }
}

/// The name in a server's peer certificate: what its peers verify, wherever they reach it.
pub fn peer_name(server: &ServerName) -> TlsName<'static> {
    TlsName::try_from(peer_dns_name(server)).expect("a server name is a DNS label")
}

/// Which server a certificate belongs to. The certificate must have been verified, as
/// [`PeerIdentity::server_config`] does: this only reads it.
///
/// # Errors
/// It is no server's: of the names in it not exactly one is that of a server.
pub fn peer_of(certificate: &CertificateDer<'_>) -> Result<ServerName, TlsError> {
    let parsed = webpki::EndEntityCert::try_from(certificate)
        .map_err(|error| TlsError::NoPeer(format!("it cannot be read: {error}")))?;
    let mut names = parsed
        .valid_dns_names()
        .filter_map(|name| name.strip_suffix(PEER_DOMAIN));
    let (Some(name), None) = (names.next(), names.next()) else {
        return Err(TlsError::NoPeer(
            "it does not name exactly one server".to_owned(),
        ));
    };
    ServerName::new(name).map_err(|error| TlsError::NoPeer(error.to_string()))
}

pub(crate) fn peer_dns_name(server: &ServerName) -> String {
    format!("{server}{PEER_DOMAIN}")
}

#[cfg(test)]
mod tests;
