use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;

fn now() -> SystemTime {
    SystemTime::now()
}

#[test]
fn a_ca_is_made_once_and_loaded_after() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = dir.path().join("secrets");
    assert!(matches!(Ca::load(&secrets), Err(TlsError::NoCa { .. })));

    let made = Ca::create(&secrets, "foobar", now()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&secrets), 0o700);
    assert_eq!(mode(&secrets.join(CA_KEY_FILE)), 0o600);

    let again = Ca::create(&secrets, "foobar", now());
    assert!(matches!(again, Err(TlsError::CaExists { .. })), "{again:?}");
    let loaded = Ca::load(&secrets).unwrap();
    assert_eq!(loaded.certificate(), made.certificate());
    assert!(
        loaded
            .certificate_pem()
            .starts_with("-----BEGIN CERTIFICATE-----")
    );
}

#[test]
fn broken_files_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    Ca::create(dir.path(), "foobar", now()).unwrap();
    Ca::create(other.path(), "foobar", now()).unwrap();

    fs::copy(other.path().join(CA_KEY_FILE), dir.path().join(CA_KEY_FILE)).unwrap();
    let error = Ca::load(dir.path()).unwrap_err();
    assert!(matches!(error, TlsError::Mismatch { .. }), "{error}");

    let exposed = fs::Permissions::from_mode(0o640);
    fs::set_permissions(dir.path().join(CA_KEY_FILE), exposed).unwrap();
    let error = Ca::load(dir.path()).unwrap_err();
    assert!(matches!(error, TlsError::Exposed { .. }), "{error}");
    fs::set_permissions(
        dir.path().join(CA_KEY_FILE),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();

    fs::write(dir.path().join(CA_KEY_FILE), "nonsense").unwrap();
    let error = Ca::load(dir.path()).unwrap_err();
    assert!(matches!(error, TlsError::NoKey { .. }), "{error}");

    fs::write(dir.path().join(CA_CERTIFICATE_FILE), "nonsense").unwrap();
    let error = Ca::load(dir.path()).unwrap_err();
    assert!(matches!(error, TlsError::NoCertificate { .. }), "{error}");

    fs::remove_file(dir.path().join(CA_KEY_FILE)).unwrap();
    let error = Ca::load(dir.path()).unwrap_err();
    assert!(matches!(error, TlsError::File { .. }), "{error}");
}

#[test]
fn impossible_names_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::create(dir.path(), "foobar", now()).unwrap();
    let error = ca
        .issue_site(&["fußball.example".to_owned()], now())
        .unwrap_err();
    assert!(error.to_string().contains("fußball.example"), "{error}");
    let old = now() - Duration::from_secs(1_000_000_000);
    assert!(
        ca.issue_site(&["www.foobar.com".to_owned(), "192.0.2.1".to_owned()], old)
            .is_ok()
    );
}

#[test]
fn a_server_in_pem_is_a_peer_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::create(dir.path(), "foobar", now()).unwrap();
    let one = ServerName::new("one").unwrap();
    let addresses = [[10, 0, 0, 1].into(), [127, 0, 0, 1].into()];
    let pem = ca.issue_peer_pem(&one, &addresses, now()).unwrap();
    assert_eq!(pem.ca, ca.certificate_pem());
    assert_eq!(format!("{pem:?}"), "PemIdentity");

    let certificate = CertificateDer::from_pem_slice(pem.certificate.as_bytes()).unwrap();
    assert_eq!(crate::peer_of(&certificate).unwrap(), one);
    // They belong together.
    let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).unwrap();
    CertifiedKey::from_der(vec![certificate.clone()], key, &provider()).unwrap();

    let leaf = webpki::EndEntityCert::try_from(&certificate).unwrap();
    for name in ["one.trilith.internal", "10.0.0.1", "127.0.0.1"] {
        let name = rustls::pki_types::ServerName::try_from(name).unwrap();
        leaf.verify_is_valid_for_subject_name(&name).unwrap();
    }
}
