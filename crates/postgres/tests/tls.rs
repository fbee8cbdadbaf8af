//! Who gets at a server's PostgreSQL, and how: with real PostgreSQL and its own client.
#![allow(clippy::unwrap_used)]

mod support;

use std::io;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use support::{Cluster, Server, ask, eventually, tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::ResolvesClientCert;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SignatureScheme};
use trilith_base::ServerName;
use trilith_postgres::{
    MONITOR_ROLE, Observer, ObserverOptions, REPLICATION_ROLE, ServerState, find_bin_dir,
};
use trilith_telemetry::Telemetry;
use trilith_tls::{Ca, PemIdentity, peer_name};

/// What psql says when it connects as `user` with these settings of libpq.
fn psql(cluster: &Cluster, user: &str, settings: &str) -> Result<String, String> {
    let secrets = cluster.secrets();
    let (database, password) = match user {
        "app" => ("app", &secrets.app),
        MONITOR_ROLE => ("postgres", &secrets.monitor),
        _ => ("postgres", &secrets.replication),
    };
    let port = cluster.address(0).port();
    let target = format!("host=127.0.0.1 port={port} user={user} dbname={database} {settings}");
    let psql = find_bin_dir(None).unwrap().dir.join("psql");
    let output = Command::new(psql)
        .args(["--no-psqlrc", "-Atc", "select current_user", &target])
        .env("PGPASSWORD", password.expose())
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

/// Writes a certificate for libpq, and gives the settings that use it.
fn certificate(cluster: &Cluster, name: &str, files: &PemIdentity) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = cluster.folder().join(name);
    std::fs::write(&path, format!("{}{}", files.key, files.certificate)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let path = path.display();
    format!("sslmode=require sslcert={path} sslkey={path}")
}

fn files(ca: &Ca, name: &str) -> PemIdentity {
    let name = ServerName::new(name).unwrap();
    let addresses = [Ipv4Addr::LOCALHOST.into()];
    ca.issue_peer_pem(&name, &addresses, SystemTime::now())
        .unwrap()
}

/// TLS with a server's PostgreSQL, with a certificate or none.
async fn handshake(
    cluster: &Cluster,
    ca: &Ca,
    own: Option<CertifiedKey>,
) -> io::Result<TlsStream<TcpStream>> {
    let mut stream = TcpStream::connect(cluster.address(0)).await?;
    // SSLRequest (protocol documentation, "Message Formats").
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await?;
    assert_eq!(stream.read_u8().await?, b'S');
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate().clone()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots);
    let config = match own {
        Some(own) => config.with_client_cert_resolver(Arc::new(Shown(Arc::new(own)))),
        None => config.with_no_client_auth(),
    };
    let name = peer_name(&ServerName::new("one").unwrap());
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Whether PostgreSQL goes on after a handshake with that certificate: it answers a cancel request for
/// nobody by closing, and a certificate that it does not take by an alert.
async fn is_taken(cluster: &Cluster, own: CertifiedKey) -> Result<(), String> {
    let mut stream = handshake(cluster, cluster.ca(), Some(own))
        .await
        .map_err(|error| error.to_string())?;
    let cancel = [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 0, 0, 0, 0, 0];
    // The alert may be there already.
    let _ = stream.write_all(&cancel).await;
    match stream.read(&mut [0]).await {
        Ok(0) => Ok(()),
        Ok(_) => Err("it answered".to_owned()),
        // Closed without a farewell, as PostgreSQL does.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::test]
async fn other_servers_come_over_tls_and_with_a_certificate() {
    let cluster = Cluster::new(&["one", "two"]);
    let one = Server::start(cluster.options(0));
    let two = Server::start(cluster.options(1));
    two.until_streaming().await;

    // Replication itself.
    let admin = cluster.admin(0).await;
    let query = "select s.version || ' ' || s.client_dn from pg_stat_replication \
                 join pg_stat_ssl s using (pid) where application_name = 'two' and s.ssl";
    assert_eq!(ask::<String>(&admin, query).await, "TLSv1.3 /CN=two");

    // Somebody who knows the password.
    let plain = psql(&cluster, REPLICATION_ROLE, "sslmode=disable").unwrap_err();
    assert!(plain.contains("no pg_hba.conf entry"), "{plain}");
    let anonymous = psql(&cluster, REPLICATION_ROLE, "sslmode=require").unwrap_err();
    assert!(
        anonymous.contains("valid client certificate"),
        "{anonymous}"
    );
    let folder = tempfile::tempdir().unwrap();
    let stranger = Ca::create(folder.path(), "strange", SystemTime::now()).unwrap();
    let foreign = certificate(&cluster, "foreign.pem", &files(&stranger, "two"));
    let foreign = psql(&cluster, REPLICATION_ROLE, &foreign).unwrap_err();
    assert!(foreign.contains("unknown ca"), "{foreign}");
    let ours = certificate(&cluster, "ours.pem", &files(cluster.ca(), "two"));
    let role = psql(&cluster, REPLICATION_ROLE, &ours).unwrap();
    assert_eq!(role, REPLICATION_ROLE);
    let old = format!("{ours} ssl_max_protocol_version=TLSv1.2");
    let old = psql(&cluster, REPLICATION_ROLE, &old).unwrap_err();
    assert!(old.contains("protocol version"), "{old}");

    // The certificate of a site is of the same CA, and no server's.
    let now = SystemTime::now();
    let site = cluster.ca().issue_site(&["www.foobar.com".to_owned()], now);
    let refused = is_taken(&cluster, site.unwrap()).await.unwrap_err();
    assert!(refused.contains("alert"), "{refused}");
    let two_name = ServerName::new("two").unwrap();
    let address = Ipv4Addr::LOCALHOST.into();
    let peer = cluster.ca().issue_peer(&two_name, address, now).unwrap();
    is_taken(&cluster, peer).await.unwrap();

    // This server's own, who need none: and nobody from elsewhere.
    assert_eq!(psql(&cluster, "app", "sslmode=disable").unwrap(), "app");
    let role = psql(&cluster, MONITOR_ROLE, "sslmode=disable").unwrap();
    assert_eq!(role, MONITOR_ROLE);
    let elsewhere = TcpSocket::new_v4().unwrap();
    elsewhere.bind(([127, 0, 0, 5], 0).into()).unwrap();
    let stream = elsewhere.connect(cluster.address(0)).await.unwrap();
    let mut config = cluster.url(0).parse::<tokio_postgres::Config>().unwrap();
    config.ssl_mode(tokio_postgres::config::SslMode::Disable);
    let refused = config.connect_raw(stream, tokio_postgres::NoTls).await;
    let refused = refused.err().unwrap();
    let refused = refused.as_db_error().unwrap().message().to_owned();
    assert!(
        refused.contains("no pg_hba.conf entry for host \"127.0.0.5\""),
        "{refused}"
    );

    // Who answers in another server's name is not believed.
    let mut targets = cluster.peers().to_vec();
    targets[1].address = targets[0].address;
    let mut observing = ObserverOptions::new(targets, cluster.secrets().monitor.clone());
    observing.tls = Some(cluster.tls(1));
    let observer = Observer::start(observing, Telemetry::new("test"));
    let mut view = observer.view();
    let seen = view
        .wait_for(|view| {
            let down = |index: usize| match &view.servers[index].state {
                ServerState::Down { why } => why.contains("not valid for name"),
                _ => false,
            };
            view.servers[0].state == ServerState::Primary && down(1)
        })
        .await
        .is_ok();
    assert!(seen);
    drop(observer);
    tokio::join!(one.shutdown(), two.shutdown());
}

#[tokio::test]
async fn certificates_are_replaced_without_a_restart() {
    let cluster = Cluster::new(&["one", "two"]);
    let one = Server::start(cluster.options(0));
    let two = Server::start(cluster.options(1));
    two.until_streaming().await;
    let pids = [&one, &two].map(|server| server.status().pid);

    // Another certificate of the same CA.
    let renewed = files(cluster.ca(), "one");
    let expected = CertificateDer::from_pem_slice(renewed.certificate.as_bytes()).unwrap();
    cluster.tls(0).replace(renewed);
    let (seen, expected) = (&cluster, &expected);
    eventually("in use", || async move {
        let stream = handshake(seen, seen.ca(), None).await.unwrap();
        let shown = stream.get_ref().1.peer_certificates().unwrap();
        (shown[0] == *expected).then_some(())
    })
    .await;

    // Another CA. Connections that are there stay; new ones need certificates of the new one.
    let folder = tempfile::tempdir().unwrap();
    let new = Ca::create(folder.path(), "new", SystemTime::now()).unwrap();
    let ours = certificate(&cluster, "old.pem", &files(cluster.ca(), "two"));
    psql(&cluster, REPLICATION_ROLE, &ours).unwrap();
    cluster.tls(0).replace(files(&new, "one"));
    cluster.tls(1).replace(files(&new, "two"));
    let (seen, new) = (&cluster, &new);
    eventually(
        "in use",
        || async move { handshake(seen, new, None).await.ok() },
    )
    .await;
    let refused = psql(&cluster, REPLICATION_ROLE, &ours).unwrap_err();
    assert!(refused.contains("unknown ca"), "{refused}");
    let admin = cluster.admin(0).await;
    let receiver = "select pid from pg_stat_replication where application_name = 'two'";
    let before: i32 = ask(&admin, receiver).await;
    admin
        .execute("select pg_terminate_backend($1)", &[&before])
        .await
        .unwrap();
    let admin = &admin;
    eventually("streaming again", || async move {
        let row = admin.query_opt(receiver, &[]).await.unwrap();
        row.filter(|row| row.get::<_, i32>(0) != before).map(|_| ())
    })
    .await;
    two.until_streaming().await;

    let targets = cluster.peers().to_vec();
    let mut observing = ObserverOptions::new(targets, cluster.secrets().monitor.clone());
    observing.tls = Some(tls(new, "two"));
    let observer = Observer::start(observing, Telemetry::new("test"));
    let mut view = observer.view();
    let seen = view.wait_for(|view| view.primary().is_some() && view.replicas().count() == 1);
    assert!(seen.await.is_ok());
    drop(observer);
    assert_eq!([&one, &two].map(|server| server.status().pid), pids);
    tokio::join!(one.shutdown(), two.shutdown());
}
