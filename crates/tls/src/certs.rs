//! Which certificate a client gets, by the name it asks for.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::error::TlsError;
use crate::limits::TICKETS_PER_HANDSHAKE;
use crate::provider::provider;

/// The certificate of one site.
#[derive(Clone, Debug)]
pub struct SiteCertificate {
    /// Host names that get it: the site's host and aliases.
    pub hosts: Vec<String>,
    pub certified: Arc<CertifiedKey>,
}

/// The certificates an edge holds, by host name (SNI, RFC 6066 section 3). Replacing them touches
/// no running connection.
///
/// A client that names no host gets the first site's certificate. A client that names an unknown
/// host gets it too when there is only one site (it may have asked for an address or a test name),
/// and is refused with an `unrecognised_name`-like failure when there are several: whose would be
/// right?
#[derive(Clone, Default)]
pub struct SiteCertificates {
    current: Arc<ArcSwap<Table>>,
}

#[derive(Default)]
struct Table {
    by_host: HashMap<String, Arc<CertifiedKey>>,
    without_name: Option<Arc<CertifiedKey>>,
    unknown_name: Option<Arc<CertifiedKey>>,
}

impl SiteCertificates {
    pub fn new(sites: &[SiteCertificate]) -> Self {
        let certificates = Self::default();
        certificates.replace(sites);
        certificates
    }

    /// Puts these in place of all before.
    pub fn replace(&self, sites: &[SiteCertificate]) {
        let mut table = Table {
            without_name: sites.first().map(|site| site.certified.clone()),
            ..Table::default()
        };
        if sites.len() == 1 {
            table.unknown_name = table.without_name.clone();
        }
        for site in sites {
            for host in &site.hosts {
                table
                    .by_host
                    .entry(host.to_ascii_lowercase())
                    .or_insert_with(|| site.certified.clone());
            }
        }
        self.current.store(Arc::new(table));
    }

    /// TLS 1.2 and 1.3, HTTP/1.1 by ALPN, sessions resumed by ticket: nothing is stored per client.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.send_tls13_tickets = TICKETS_PER_HANDSHAKE;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        Ok(Arc::new(config))
    }

    fn pick(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let table = self.current.load();
        match name {
            None => table.without_name.clone(),
            Some(name) => {
                // rustls hands the name over in lower case; a fully qualified name may end in a
                // dot.
                let name = name.strip_suffix('.').unwrap_or(name);
                let known = table.by_host.get(name);
                known.or(table.unknown_name.as_ref()).cloned()
            }
        }
    }
}

impl ResolvesServerCert for SiteCertificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.pick(hello.server_name())
    }
}

impl fmt::Debug for SiteCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.current.load();
        f.debug_set().entries(table.by_host.keys()).finish()
    }
}

/// Reads a certificate chain (leaf first) and its key from PEM files.
pub fn load_certificate(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| pem_error(certificate, error))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate {
            path: certificate.into(),
        });
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoKey { path: key.into() },
        error => pem_error(key, error),
    })?;
    CertifiedKey::from_der(chain, private, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch {
            certificate: certificate.into(),
            key: key.into(),
        },
        error => TlsError::invalid(certificate, error),
    })
}

fn pem_error(path: &Path, error: pem::Error) -> TlsError {
    match error {
        pem::Error::Io(source) => TlsError::file(path)(source),
        pem::Error::NoItemsFound => TlsError::NoCertificate { path: path.into() },
        error => TlsError::invalid(path, format!("not a PEM file: {error}")),
    }
}

#[cfg(test)]
pub(crate) mod tests;
