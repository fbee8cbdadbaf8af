use std::fs;
use std::time::SystemTime;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConnection};

use super::*;
use crate::Ca;

struct Fixture {
    ca: Ca,
    client: Arc<ClientConfig>,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::create(dir.path(), "foobar", SystemTime::now()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(ca.certificate().clone()).unwrap();
        let mut client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self {
            ca,
            client: Arc::new(client),
        }
    }

    fn site(&self, hosts: &[&str]) -> SiteCertificate {
        let hosts: Vec<String> = hosts.iter().map(|h| h.to_string()).collect();
        let certified = Arc::new(self.ca.issue_site(&hosts, SystemTime::now()).unwrap());
        SiteCertificate { hosts, certified }
    }

    fn connect(
        &self,
        server: &Arc<ServerConfig>,
        name: &str,
    ) -> Result<ServerConnection, rustls::Error> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let client = ClientConnection::new(self.client.clone(), name)?;
        handshake(client, ServerConnection::new(server.clone())?).map(|(_, server)| server)
    }
}

/// Passes bytes both ways until both sides are done (and the tickets have arrived).
pub(crate) fn handshake(
    mut client: ClientConnection,
    mut server: ServerConnection,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    for _ in 0..10 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut input = bytes.as_slice();
        while !input.is_empty() {
            server.read_tls(&mut input).unwrap();
            server.process_new_packets()?;
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut input = bytes.as_slice();
        while !input.is_empty() {
            client.read_tls(&mut input).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

#[test]
fn each_site_has_its_certificate() {
    let f = Fixture::new();
    let sites = [
        f.site(&["www.foobar.com", "foobar.com"]),
        f.site(&["other.example"]),
    ];
    let config = SiteCertificates::new(&sites).server_config().unwrap();
    for name in [
        "www.foobar.com",
        "foobar.com",
        "WWW.FOOBAR.COM",
        "other.example",
    ] {
        let server = f.connect(&config, name).unwrap();
        assert_eq!(server.alpn_protocol(), Some(&b"http/1.1"[..]), "{name}");
    }
    // The client verifies: a wrong certificate would have failed above. Which one for no name?
    assert!(f.connect(&config, "unknown.example").is_err());
    assert!(
        SiteCertificates::new(&sites)
            .pick(Some("unknown.example"))
            .is_none()
    );
    assert!(Arc::ptr_eq(
        &SiteCertificates::new(&sites).pick(None).unwrap(),
        &sites[0].certified
    ));
}

#[test]
fn the_only_site_answers_to_any_name() {
    let f = Fixture::new();
    let sites = [f.site(&["www.foobar.com"])];
    let certificates = SiteCertificates::new(&sites);
    assert!(certificates.pick(Some("test.example")).is_some());
    assert!(
        SiteCertificates::default()
            .pick(Some("test.example"))
            .is_none()
    );
    assert!(SiteCertificates::default().pick(None).is_none());
}

#[test]
fn replacing_is_seen_by_the_next_handshake() {
    let f = Fixture::new();
    let certificates = SiteCertificates::new(&[f.site(&["old.example"])]);
    let config = certificates.server_config().unwrap();
    assert!(f.connect(&config, "old.example").is_ok());
    certificates.replace(&[f.site(&["new.example"])]);
    assert!(f.connect(&config, "new.example").is_ok());
}

#[test]
fn sessions_are_resumed() {
    let f = Fixture::new();
    let config = SiteCertificates::new(&[f.site(&["www.foobar.com"])])
        .server_config()
        .unwrap();
    let kind = |server: ServerConnection| server.handshake_kind();
    let full = kind(f.connect(&config, "www.foobar.com").unwrap());
    assert!(matches!(
        full,
        Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)
    ));
    let second = kind(f.connect(&config, "www.foobar.com").unwrap());
    assert_eq!(second, Some(HandshakeKind::Resumed));
}

#[test]
fn pem_files_are_read_with_clear_errors() {
    let f = Fixture::new();
    let dir = tempfile::tempdir().unwrap();
    let (crt, key) = (dir.path().join("site.crt"), dir.path().join("site.key"));
    let error = load_certificate(&crt, &key).unwrap_err();
    assert!(matches!(error, TlsError::File { .. }), "{error}");

    fs::write(&crt, "").unwrap();
    fs::write(&key, "").unwrap();
    let error = load_certificate(&crt, &key).unwrap_err();
    assert!(matches!(error, TlsError::NoCertificate { .. }), "{error}");

    fs::write(&crt, f.ca.certificate_pem()).unwrap();
    let error = load_certificate(&crt, &key).unwrap_err();
    assert!(matches!(error, TlsError::NoKey { .. }), "{error}");

    let pair = rcgen::generate_simple_self_signed(vec!["www.foobar.com".to_owned()]).unwrap();
    fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    let error = load_certificate(&crt, &key).unwrap_err();
    assert!(matches!(error, TlsError::Mismatch { .. }), "{error}");

    fs::write(&crt, pair.cert.pem()).unwrap();
    assert_eq!(load_certificate(&crt, &key).unwrap().cert.len(), 1);
}
