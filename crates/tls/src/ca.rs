//! The cluster's own certificate authority: two PEM files in the secrets folder.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use trilith_base::ServerName;

use crate::error::TlsError;
use crate::join::Fingerprint;
use crate::limits::{CA_VALIDITY, CLOCK_SKEW, LEAF_VALIDITY};
use crate::peer::{PEER_DOMAIN, peer_dns_name};
use crate::provider::provider;

/// The CA's certificate in the secrets folder; browsers may be told to trust it.
pub const CA_CERTIFICATE_FILE: &str = "ca.crt";
/// The CA's private key in the secrets folder, mode 0600.
pub const CA_KEY_FILE: &str = "ca.key";

/// Signs the certificates of the cluster's servers (for talking to each other) and of sites with
/// `tls = "internal"`. The same on every server. ECDSA P-256: a handshake costs a core a tenth of
/// RSA.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
}

impl Ca {
    /// Makes a new CA, valid for ten years from `now`, and writes it into `dir`, which is made
    /// (0700) when missing. Never overwrites one.
    pub fn create(dir: &Path, cluster: &str, now: SystemTime) -> Result<Self, TlsError> {
        let (certificate_path, key_path) = (dir.join(CA_CERTIFICATE_FILE), dir.join(CA_KEY_FILE));
        if let Some(path) = [&certificate_path, &key_path]
            .into_iter()
            .find(|p| p.exists())
        {
            return Err(TlsError::CaExists { path: path.clone() });
        }
        let failed = issue_error(&[cluster.to_owned()]);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(&failed)?;
        let params = ca_params(cluster, now);
        let certificate_pem = params.self_signed(&key).map_err(&failed)?.pem();

        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(TlsError::file(dir))?;
        // The key first: a crash in between leaves no certificate that nobody can sign for.
        write_new(&key_path, key.serialize_pem().as_bytes(), 0o600)?;
        write_new(&certificate_path, certificate_pem.as_bytes(), 0o644)?;
        Self::load(dir)
    }

    /// Reads the CA that [`Ca::create`] wrote, here or on another server.
    pub fn load(dir: &Path) -> Result<Self, TlsError> {
        let (certificate_path, key_path) = (dir.join(CA_CERTIFICATE_FILE), dir.join(CA_KEY_FILE));
        if !certificate_path.exists() && !key_path.exists() {
            return Err(TlsError::NoCa { dir: dir.into() });
        }
        let certificate_pem =
            fs::read_to_string(&certificate_path).map_err(TlsError::file(&certificate_path))?;
        let key_pem = fs::read_to_string(&key_path).map_err(TlsError::file(&key_path))?;
        let mode = fs::metadata(&key_path)
            .map_err(TlsError::file(&key_path))?
            .mode();
        if mode & 0o077 != 0 {
            return Err(TlsError::Exposed { path: key_path });
        }
        let certificate =
            CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|_| {
                TlsError::NoCertificate {
                    path: certificate_path.clone(),
                }
            })?;
        let key = KeyPair::from_pem(&key_pem).map_err(|_| TlsError::NoKey {
            path: key_path.clone(),
        })?;
        let der = PrivatePkcs8KeyDer::from(key.serialize_der());
        CertifiedKey::from_der(vec![certificate.clone()], der.into(), &provider()).map_err(
            |_| TlsError::Mismatch {
                certificate: certificate_path.clone(),
                key: key_path,
            },
        )?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|error| TlsError::invalid(&certificate_path, error))?;
        Ok(Self {
            issuer,
            certificate,
            certificate_pem,
        })
    }

    /// The CA's own certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The same in PEM, as people install it.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// What a join token says of the CA, so that a new server knows it when it sees it.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// A certificate for a site: `names` are host names or IP addresses, the first is the subject.
    /// Valid for 90 days from `now`. The key exists in memory only.
    ///
    /// # Errors
    /// Names below `trilith.internal` are those of servers, and no site's.
    pub fn issue_site(&self, names: &[String], now: SystemTime) -> Result<CertifiedKey, TlsError> {
        let of_peer = |name: &&String| name.to_ascii_lowercase().ends_with(PEER_DOMAIN);
        if let Some(name) = names.iter().find(of_peer) {
            return Err(TlsError::Issue {
                names: name.clone(),
                reason: format!("names that end in {PEER_DOMAIN} belong to servers"),
            });
        }
        let sans = names
            .iter()
            .map(|name| site_san(name))
            .collect::<Result<Vec<_>, _>>()
            .map_err(issue_error(names))?;
        let subject = names.first().map_or("trilith", String::as_str);
        self.issue(
            subject,
            sans,
            vec![ExtendedKeyUsagePurpose::ServerAuth],
            now,
        )
    }

    /// A certificate with which a server proves to the others who it is, in both directions.
    pub fn issue_peer(
        &self,
        server: &ServerName,
        address: IpAddr,
        now: SystemTime,
    ) -> Result<CertifiedKey, TlsError> {
        let sans = peer_sans(server, &[address])?;
        self.issue(server.as_str(), sans, peer_usages(), now)
    }

    /// The same for a program that reads its certificate and key from files: PostgreSQL, and libpq.
    /// `addresses` are all those that the server listens on.
    pub fn issue_peer_pem(
        &self,
        server: &ServerName,
        addresses: &[IpAddr],
        now: SystemTime,
    ) -> Result<PemIdentity, TlsError> {
        let sans = peer_sans(server, addresses)?;
        let (certificate, key) = self.sign(server.as_str(), sans, peer_usages(), now)?;
        Ok(PemIdentity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            ca: self.certificate_pem.clone(),
        })
    }

    pub(crate) fn issue(
        &self,
        subject: &str,
        sans: Vec<SanType>,
        usages: Vec<ExtendedKeyUsagePurpose>,
        now: SystemTime,
    ) -> Result<CertifiedKey, TlsError> {
        let (certificate, key) = self.sign(subject, sans, usages, now)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        Ok(CertifiedKey::from_der(chain, key, &provider())?)
    }

    fn sign(
        &self,
        subject: &str,
        sans: Vec<SanType>,
        usages: Vec<ExtendedKeyUsagePurpose>,
        now: SystemTime,
    ) -> Result<(Certificate, KeyPair), TlsError> {
        let failed = issue_error(&[subject.to_owned()]);
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, subject);
        params.subject_alt_names = sans;
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + LEAF_VALIDITY).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(&failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(&failed)?;
        Ok((certificate, key))
    }
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the key.
        f.write_str("Ca")
    }
}

/// A server's certificate and key as text in PEM. `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
pub struct PemIdentity {
    /// The server's certificate.
    pub certificate: String,
    /// Its private key (PKCS #8).
    pub key: String,
    /// Certificates of the authorities that the server's peers must have theirs from.
    pub ca: String,
}

impl std::fmt::Debug for PemIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PemIdentity")
    }
}

fn peer_sans(server: &ServerName, addresses: &[IpAddr]) -> Result<Vec<SanType>, TlsError> {
    let dns = peer_dns_name(server);
    let name = dns
        .as_str()
        .try_into()
        .map_err(issue_error(std::slice::from_ref(&dns)))?;
    let mut sans = vec![SanType::DnsName(name)];
    sans.extend(addresses.iter().copied().map(SanType::IpAddress));
    Ok(sans)
}

/// Only certificates of servers are good for clients: whoever asks for one asks for that as well, so that
/// a site's key opens no door.
fn peer_usages() -> Vec<ExtendedKeyUsagePurpose> {
    vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ]
}

fn ca_params(cluster: &str, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Trilith CA of {cluster}"));
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + CA_VALIDITY).into();
    // No intermediate authorities.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    params
}

fn site_san(name: &str) -> Result<SanType, rcgen::Error> {
    match name.parse() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => Ok(SanType::DnsName(name.try_into()?)),
    }
}

fn issue_error(names: &[String]) -> impl Fn(rcgen::Error) -> TlsError + use<> {
    let names = names.join(", ");
    move |error| TlsError::Issue {
        names: names.clone(),
        reason: error.to_string(),
    }
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), TlsError> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(TlsError::file(path))
}

#[cfg(test)]
mod tests;
