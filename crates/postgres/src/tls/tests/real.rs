//! Who gets at a server's PostgreSQL, and how: with real PostgreSQL and its own client.

use std::net::Ipv4Addr;
use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::rustls::client::ResolvesClientCert;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{RootCertStore, SignatureScheme};
use trilith_telemetry::Telemetry;

use super::*;
use crate::binaries::find_bin_dir;
use crate::observe::{Observer, ObserverOptions, ServerState};
use crate::options::{MONITOR_ROLE, Peer, REPLICATION_ROLE};
use crate::programs::tests::pair::{STREAMING, Server, ask, eventually, servers, until};

/// A primary and its replica, whose certificates are kept as they should be.
struct Cluster {
    ca: Ca,
    one: Server,
    two: Server,
    keeping: JoinSet<()>,
    folder: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (ca, [mut one, mut two]) = servers(folder.path(), ["one", "two"]);
        let mut keeping = JoinSet::new();
        for server in [&one, &two] {
            keeping.spawn(keep_files(server.options.clone(), server.owner.clone()));
        }
        one.start_new_primary(&two.peer()).await;
        two.start_new_replica(&one.peer()).await;
        Self {
            ca,
            one,
            two,
            keeping,
            folder,
        }
    }

    fn peers(&self) -> Vec<Peer> {
        vec![self.one.peer(), self.two.peer()]
    }

    fn pids(&self) -> [u32; 2] {
        [&self.one, &self.two].map(|server| server.running.as_ref().unwrap().pid())
    }

    async fn stop(&mut self) {
        self.keeping.shutdown().await;
        tokio::join!(self.one.stop(), self.two.stop());
    }
}

/// What psql says when it connects as `user` with these settings of libpq.
fn psql(cluster: &Cluster, user: &str, settings: &str) -> Result<String, String> {
    let options = &cluster.one.options;
    let secrets = &options.secrets;
    let (database, password) = match user {
        "app" => ("app", &secrets.app),
        MONITOR_ROLE => ("postgres", &secrets.monitor),
        _ => ("postgres", &secrets.replication),
    };
    let port = options.port;
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
    let path = cluster.folder.path().join(name);
    std::fs::write(&path, format!("{}{}", files.key, files.certificate)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let path = path.display();
    format!("sslmode=require sslcert={path} sslkey={path}")
}

/// TLS with a server's PostgreSQL, with a certificate or none.
async fn handshake(
    cluster: &Cluster,
    ca: &Ca,
    own: Option<CertifiedKey>,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut stream = TcpStream::connect(cluster.one.peer().address).await?;
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
    let mut stream = handshake(cluster, &cluster.ca, Some(own))
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
    let mut cluster = Cluster::start().await;

    // Replication itself.
    let admin = cluster.one.session().await;
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
    let ours = certificate(&cluster, "ours.pem", &files(&cluster.ca, "two"));
    let role = psql(&cluster, REPLICATION_ROLE, &ours).unwrap();
    assert_eq!(role, REPLICATION_ROLE);
    let old = format!("{ours} ssl_max_protocol_version=TLSv1.2");
    let old = psql(&cluster, REPLICATION_ROLE, &old).unwrap_err();
    assert!(old.contains("protocol version"), "{old}");

    // The certificate of a site is of the same CA, and no server's.
    let now = SystemTime::now();
    let site = cluster.ca.issue_site(&["www.foobar.com".to_owned()], now);
    let refused = is_taken(&cluster, site.unwrap()).await.unwrap_err();
    assert!(refused.contains("alert"), "{refused}");
    let two_name = ServerName::new("two").unwrap();
    let address = Ipv4Addr::LOCALHOST.into();
    let peer = cluster.ca.issue_peer(&two_name, address, now).unwrap();
    is_taken(&cluster, peer).await.unwrap();

    // This server's own, who need none: and nobody from elsewhere.
    assert_eq!(psql(&cluster, "app", "sslmode=disable").unwrap(), "app");
    let role = psql(&cluster, MONITOR_ROLE, "sslmode=disable").unwrap();
    assert_eq!(role, MONITOR_ROLE);
    let elsewhere = TcpSocket::new_v4().unwrap();
    elsewhere.bind(([127, 0, 0, 5], 0).into()).unwrap();
    let stream = elsewhere.connect(cluster.one.peer().address).await.unwrap();
    let app = &cluster.one.options.secrets.app;
    let mut config = tokio_postgres::Config::new();
    config.user("app").dbname("app").password(app.expose());
    let refused = config.connect_raw(stream, tokio_postgres::NoTls).await;
    let refused = refused.err().unwrap();
    let refused = refused.as_db_error().unwrap().message().to_owned();
    assert!(
        refused.contains("no pg_hba.conf entry for host \"127.0.0.5\""),
        "{refused}"
    );

    // Who answers in another server's name is not believed.
    let mut targets = cluster.peers();
    targets[1].address = targets[0].address;
    let mut observing = ObserverOptions::new(targets, cluster.one.options.secrets.monitor.clone());
    observing.tls = cluster.two.options.tls.clone();
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
    cluster.stop().await;
}

#[tokio::test]
async fn certificates_are_replaced_without_a_restart() {
    let mut cluster = Cluster::start().await;
    let pids = cluster.pids();

    // Another certificate of the same CA.
    let renewed = files(&cluster.ca, "one");
    let expected = CertificateDer::from_pem_slice(renewed.certificate.as_bytes()).unwrap();
    cluster.one.tls().replace(renewed);
    let (seen, expected) = (&cluster, &expected);
    eventually("in use", || async move {
        let stream = handshake(seen, &seen.ca, None).await.unwrap();
        let shown = stream.get_ref().1.peer_certificates().unwrap();
        (shown[0] == *expected).then_some(())
    })
    .await;

    // Another CA. Connections that are there stay; new ones need certificates of the new one.
    let folder = tempfile::tempdir().unwrap();
    let new = Ca::create(folder.path(), "new", SystemTime::now()).unwrap();
    let ours = certificate(&cluster, "old.pem", &files(&cluster.ca, "two"));
    psql(&cluster, REPLICATION_ROLE, &ours).unwrap();
    cluster.one.tls().replace(files(&new, "one"));
    cluster.two.tls().replace(files(&new, "two"));
    let (seen, new) = (&cluster, &new);
    eventually(
        "in use",
        || async move { handshake(seen, new, None).await.ok() },
    )
    .await;
    let refused = psql(&cluster, REPLICATION_ROLE, &ours).unwrap_err();
    assert!(refused.contains("unknown ca"), "{refused}");
    let admin = cluster.one.session().await;
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
    until(&cluster.two.session().await, STREAMING).await;

    let targets = cluster.peers();
    let mut observing = ObserverOptions::new(targets, cluster.one.options.secrets.monitor.clone());
    observing.tls = Some(of(new, "two"));
    let observer = Observer::start(observing, Telemetry::new("test"));
    let mut view = observer.view();
    let seen = view.wait_for(|view| view.primary().is_some() && view.replicas().count() == 1);
    assert!(seen.await.is_ok());
    drop(observer);
    assert_eq!(cluster.pids(), pids);
    cluster.stop().await;
}
