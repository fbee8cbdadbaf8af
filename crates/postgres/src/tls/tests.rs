use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use trilith_tls::Ca;

use super::*;
use crate::secrets::Secrets;

mod real;

fn one() -> ServerName {
    ServerName::new("one").unwrap()
}

fn ca() -> Ca {
    let dir = tempfile::tempdir().unwrap();
    Ca::create(dir.path(), "test", SystemTime::now()).unwrap()
}

fn files(ca: &Ca, name: &str) -> PemIdentity {
    let name = ServerName::new(name).unwrap();
    let addresses = [[127, 0, 0, 1].into()];
    ca.issue_peer_pem(&name, &addresses, SystemTime::now())
        .unwrap()
}

/// Certificates of a CA of its own, for the server `one`.
pub(crate) fn tls() -> Tls {
    of(&ca(), "one")
}

fn of(ca: &Ca, name: &str) -> Tls {
    let server = ServerName::new(name).unwrap();
    let address = [127, 0, 0, 1].into();
    let identity = PeerIdentity::issue(ca, &server, address, SystemTime::now()).unwrap();
    Tls::new(&identity, files(ca, name)).unwrap()
}

fn options(state: &Path, tls: Tls) -> Options {
    let mut options = Options::new(one(), state, Secrets::generate().unwrap());
    options.tls = Some(tls);
    options
}

#[test]
fn the_files_are_private_and_written_when_they_change() {
    let state = tempfile::tempdir().unwrap();
    let ca = ca();
    let tls = of(&ca, "one");
    let options = options(state.path(), tls.clone());
    let owner = Owner { os_user: None };
    assert!(write_files(&options, &owner).unwrap());
    assert!(!write_files(&options, &owner).unwrap());

    let paths = TlsPaths::of(&options);
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&paths.folder), 0o700);
    assert_eq!(mode(&paths.identity), 0o600);
    let identity = fs::read_to_string(&paths.identity).unwrap();
    assert!(identity.starts_with("-----BEGIN PRIVATE KEY-----"));
    assert!(identity.ends_with("-----END CERTIFICATE-----\n"));
    let trusted = fs::read_to_string(&paths.ca).unwrap();
    assert_eq!(trusted, ca.certificate_pem());

    tls.replace(files(&ca, "one"));
    assert!(write_files(&options, &owner).unwrap());
    assert_ne!(fs::read_to_string(&paths.identity).unwrap(), identity);
    assert_eq!(fs::read_to_string(&paths.ca).unwrap(), trusted);
    // Nothing unfinished is left.
    assert_eq!(fs::read_dir(&paths.folder).unwrap().count(), 2);
}

#[tokio::test]
async fn a_replaced_certificate_is_written_without_being_asked_for() {
    let state = tempfile::tempdir().unwrap();
    let (old, new) = (ca(), ca());
    let tls = of(&old, "one");
    let options = options(state.path(), tls.clone());
    let owner = Owner { os_user: None };
    let path = TlsPaths::of(&options).ca;
    let keeping = tokio::spawn(keep_files(options, owner));
    // It watches from its first poll on.
    while tls.files.receiver_count() == 0 {
        tokio::task::yield_now().await;
    }
    tls.replace(files(&new, "one"));
    while fs::read_to_string(&path).ok().as_deref() != Some(new.certificate_pem()) {
        tokio::task::yield_now().await;
    }
    keeping.abort();
}
