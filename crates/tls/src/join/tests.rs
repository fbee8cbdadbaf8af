use std::time::SystemTime;

use rustls::sign::CertifiedKey;
use rustls::{ClientConnection, ServerConfig, ServerConnection};
use trilith_base::ServerName;

use super::*;
use crate::certs::tests::handshake;
use crate::{ALPN_PEER, Ca, PeerIdentity, SiteCertificate, SiteCertificates};

fn ca() -> Ca {
    let dir = tempfile::tempdir().unwrap();
    Ca::create(dir.path(), "foobar", SystemTime::now()).unwrap()
}

fn identity(ca: &Ca) -> PeerIdentity {
    let name = ServerName::new("one").unwrap();
    PeerIdentity::issue(ca, &name, [127, 0, 1, 1].into(), SystemTime::now()).unwrap()
}

fn join(
    ca: Fingerprint,
    address: &'static str,
    server: Arc<ServerConfig>,
) -> Result<ServerConnection, rustls::Error> {
    let name = TlsName::try_from(address).unwrap();
    let client = ClientConnection::new(join_client_config(ca).unwrap(), name)?;
    handshake(client, ServerConnection::new(server)?).map(|(_, server)| server)
}

#[test]
fn a_new_server_knows_the_cluster_by_its_fingerprint() {
    let ca = ca();
    let server = identity(&ca).join_config().unwrap();
    let joined = join(ca.fingerprint(), "127.0.1.1", server).unwrap();
    assert_eq!(joined.alpn_protocol(), Some(ALPN_JOIN));
    assert!(joined.peer_certificates().is_none());
}

#[test]
fn another_cluster_is_refused() {
    let (ours, theirs) = (ca(), ca());
    let server = identity(&theirs).join_config().unwrap();
    assert!(join(ours.fingerprint(), "127.0.1.1", server).is_err());
}

#[test]
fn another_address_is_refused() {
    let ca = ca();
    let server = identity(&ca).join_config().unwrap();
    assert!(join(ca.fingerprint(), "127.0.1.2", server).is_err());
}

#[test]
fn the_certificate_of_a_site_is_refused() {
    let ca = ca();
    let hosts = vec!["127.0.1.1".to_owned()];
    let site: CertifiedKey = ca.issue_site(&hosts, SystemTime::now()).unwrap();
    let certificates = SiteCertificates::new(&[SiteCertificate {
        hosts,
        certified: Arc::new(site),
    }]);
    let mut server = (*certificates.server_config().unwrap()).clone();
    server.alpn_protocols = vec![ALPN_JOIN.to_vec()];
    assert!(join(ca.fingerprint(), "127.0.1.1", Arc::new(server)).is_err());
}

#[test]
fn without_a_certificate_there_is_nothing_but_joining() {
    let ca = ca();
    let one = identity(&ca);
    assert!(join(ca.fingerprint(), "127.0.1.1", one.server_config().unwrap()).is_err());
    // Nor does a certificate help where one joins.
    let client = one.client_config(ALPN_PEER).unwrap();
    let name = crate::peer_name(&ServerName::new("one").unwrap());
    let client = ClientConnection::new(client, name).unwrap();
    let server = ServerConnection::new(one.join_config().unwrap()).unwrap();
    assert!(handshake(client, server).is_err());
}
