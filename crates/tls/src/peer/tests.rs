use rustls::{ClientConnection, ServerConnection};

use super::*;
use crate::certs::tests::handshake;

fn ca() -> Ca {
    let dir = tempfile::tempdir().unwrap();
    Ca::create(dir.path(), "foobar", SystemTime::now()).unwrap()
}

fn name(text: &str) -> ServerName {
    ServerName::new(text).unwrap()
}

fn identity(ca: &Ca, server: &str) -> PeerIdentity {
    PeerIdentity::issue(ca, &name(server), [127, 0, 1, 1].into(), SystemTime::now()).unwrap()
}

fn connect(
    client: Arc<ClientConfig>,
    server: &PeerIdentity,
    expected: &str,
) -> Result<ServerConnection, rustls::Error> {
    let client = ClientConnection::new(client, peer_name(&name(expected)))?;
    let server = ServerConnection::new(server.server_config().unwrap())?;
    handshake(client, server).map(|(_, server)| server)
}

#[test]
fn peers_trust_each_other() {
    let ca = ca();
    let (one, two) = (identity(&ca, "one"), identity(&ca, "two"));
    for alpn in [ALPN_HTTP, ALPN_PEER] {
        let server = connect(one.client_config(alpn).unwrap(), &two, "two").unwrap();
        assert_eq!(server.alpn_protocol(), Some(alpn));
        assert_eq!(server.peer_certificates().map(<[_]>::len), Some(2));
    }
}

#[test]
fn a_peer_must_be_who_was_meant() {
    let ca = ca();
    let (one, two) = (identity(&ca, "one"), identity(&ca, "two"));
    assert!(connect(one.client_config(ALPN_PEER).unwrap(), &two, "three").is_err());
}

#[test]
fn another_clusters_certificate_opens_nothing() {
    let (ours, theirs) = (ca(), ca());
    let (one, two) = (identity(&theirs, "one"), identity(&ours, "two"));
    assert!(connect(one.client_config(ALPN_PEER).unwrap(), &two, "two").is_err());
}

#[test]
fn a_sites_certificate_is_no_peers() {
    let ca = ca();
    let two = identity(&ca, "two");
    // The CA would not even issue it.
    let names = ["one.trilith.internal".to_owned()];
    assert!(ca.issue_site(&names, SystemTime::now()).is_err());
    let sans = vec![rcgen::SanType::DnsName(
        "one.trilith.internal".try_into().unwrap(),
    )];
    let usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let site = ca.issue("one", sans, usages, SystemTime::now()).unwrap();
    let impostor = PeerIdentity {
        certified: Arc::new(ArcSwap::from_pointee(site)),
        ca: ca.certificate().clone(),
    };
    assert!(connect(impostor.client_config(ALPN_HTTP).unwrap(), &two, "two").is_err());
}

#[test]
fn strangers_without_certificate_or_protocol_are_refused() {
    let ca = ca();
    let two = identity(&ca, "two");
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate().clone()).unwrap();
    let mut stranger = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    stranger.alpn_protocols = vec![ALPN_HTTP.to_vec()];
    assert!(connect(Arc::new(stranger), &two, "two").is_err());
    let one = identity(&ca, "one");
    assert!(connect(one.client_config(b"http/1.1").unwrap(), &two, "two").is_err());
}

#[test]
fn a_renewed_certificate_is_used_at_once() {
    let ca = ca();
    let one = identity(&ca, "one");
    let config = one.client_config(ALPN_PEER).unwrap();
    let before = one.certified.load_full();
    one.renew(&ca, &name("one"), [127, 0, 1, 1].into(), SystemTime::now())
        .unwrap();
    let server = connect(config, &identity(&ca, "two"), "two").unwrap();
    let shown = server.peer_certificates().unwrap()[0].clone();
    assert_ne!(shown, before.cert[0]);
    assert_eq!(shown, one.certified.load_full().cert[0]);
}

#[test]
fn the_name_of_a_peer_is_in_its_certificate() {
    let ca = ca();
    let one = identity(&ca, "one");
    let shown = one.certified.load_full().cert[0].clone();
    assert_eq!(peer_of(&shown).unwrap(), name("one"));
    assert!(peer_of(ca.certificate()).is_err());
    let site = ca
        .issue_site(&["www.foobar.com".to_owned()], SystemTime::now())
        .unwrap();
    assert!(peer_of(&site.cert[0]).is_err());
    assert!(peer_of(&CertificateDer::from(vec![0x30, 0x00])).is_err());
}

#[test]
fn two_names_are_no_name() {
    let ca = ca();
    let san = |text: &str| rcgen::SanType::DnsName(text.try_into().unwrap());
    let sans = vec![san("one.trilith.internal"), san("two.trilith.internal")];
    let both = ca
        .issue("one", sans, Vec::new(), SystemTime::now())
        .unwrap();
    assert!(peer_of(&both.cert[0]).is_err());
}

#[test]
fn a_resumed_session_does_not_outlive_the_certificate() {
    let ca = ca();
    let (one, two) = (identity(&ca, "one"), identity(&ca, "two"));
    let client = one.client_config(ALPN_PEER).unwrap();
    let server = two.server_config().unwrap();
    let shown = || {
        let client = ClientConnection::new(client.clone(), peer_name(&name("two"))).unwrap();
        let server = ServerConnection::new(server.clone()).unwrap();
        let (_, server) = handshake(client, server).unwrap();
        (
            server.handshake_kind().unwrap(),
            server.peer_certificates().unwrap()[0].clone().into_owned(),
        )
    };
    let (_, first) = shown();
    let (kind, resumed) = shown();
    assert_eq!(kind, rustls::HandshakeKind::Resumed);
    assert_eq!(resumed, first);
    one.renew(&ca, &name("one"), [127, 0, 1, 1].into(), SystemTime::now())
        .unwrap();
    let (kind, renewed) = shown();
    assert_ne!(kind, rustls::HandshakeKind::Resumed);
    assert_eq!(renewed, one.certified.load_full().cert[0]);
    assert_eq!(shown().0, rustls::HandshakeKind::Resumed);
}
