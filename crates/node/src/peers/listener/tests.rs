use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::SystemTime;

use axum::routing::get;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::sign::SingleCertAndKey;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use trilith_cluster::Token;
use trilith_cluster::join::msg::{CreatedToken, TokenList};
use trilith_cluster::join::{Door, JoinError, Tokens};
use trilith_config::Config;
use trilith_consensus::{MemoryStore, Store, View};
use trilith_tls::{Ca, peer_name};

use super::*;
use crate::join::{JoinFailure, join_blocking};
use crate::tokens::{self, Household, InForce};

const LOCALHOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn name(text: &str) -> ServerName {
    ServerName::new(text).unwrap()
}

fn identity(ca: &Ca, server: &str) -> PeerIdentity {
    PeerIdentity::issue(ca, &name(server), LOCALHOST, SystemTime::now()).unwrap()
}

/// One server's cluster port, with a store in memory behind it.
struct Port {
    dir: tempfile::TempDir,
    ca: Ca,
    listener: PeerListener,
    telemetry: Telemetry,
    in_force: watch::Sender<InForce>,
    known: watch::Sender<Arc<BTreeSet<ServerName>>>,
    admin: Router,
    store: MemoryStore,
    _workers: Workers,
}

impl Port {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        let ca = Ca::create(&keys, "foobar", SystemTime::now()).unwrap();
        let telemetry = Telemetry::new("one");
        let workers = Workers::start(1, "worker").unwrap();
        let in_force = watch::Sender::new(config(dir.path(), 1));
        let names = ["one", "two", "three"].map(name);
        let known = watch::Sender::new(Arc::new(BTreeSet::from(names)));
        let store = MemoryStore::single(name("one"));
        let house = Household {
            in_force: in_force.subscribe(),
        };
        let tokens = Tokens::new(
            Arc::new(store.clone()),
            Arc::new(house),
            ca.fingerprint(),
            telemetry.clone(),
        );
        let who = |Extension(PeerName(peer)): Extension<PeerName>| async move { peer.to_string() };
        let services = PeerServices {
            postgres: None,
            primary_epoch: watch::channel(None).1,
            web: None,
            api: Router::new().route("/who", get(who)),
            door: Some(Door::new(tokens.clone()).router()),
            known: known.subscribe(),
            runtime: Handle::current(),
        };
        let (drain, drained) = drain_pair();
        // Dropping it would start the drain.
        std::mem::forget(drain);
        let any = SocketAddr::new(LOCALHOST, 0);
        let own = identity(&ca, "one");
        let listener = PeerListener::start(any, &workers, &own, services, &telemetry, drained);
        let listener = listener.unwrap();
        in_force.send_replace(config(dir.path(), listener.address.port()));
        Self {
            dir,
            ca,
            listener,
            telemetry,
            in_force,
            known,
            admin: tokens::router(tokens),
            store,
            _workers: workers,
        }
    }

    async fn connect(
        &self,
        client: Arc<ClientConfig>,
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.listener.address).await?;
        let connector = TlsConnector::from(client);
        connector.connect(peer_name(&name("one")), stream).await
    }

    /// Status and body of a GET, if somebody answers.
    async fn get(&self, client: Arc<ClientConfig>, path: &str) -> Result<(u16, String), String> {
        let stream = self.connect(client).await.map_err(|e| e.to_string())?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| e.to_string())?;
        let driver = tokio::spawn(connection);
        let request = hyper::Request::get(path)
            .header("Host", "trilith.internal")
            .body(Empty::<Bytes>::new())
            .unwrap();
        let response = sender.send_request(request).await;
        let response = response.map_err(|e| e.to_string())?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await;
        let body = body.map_err(|e| e.to_string())?.to_bytes();
        driver.abort();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    async fn refusals(&self, reason: &str) -> u64 {
        let line = format!("trilith_peer_refusals_total{{reason=\"{reason}\"}} ");
        // The other side of a handshake may be a moment later.
        for _ in 0..200 {
            let text = self.telemetry.metrics_text().encode();
            if let Some(count) = text.lines().find_map(|l| l.strip_prefix(&line)) {
                return count.parse().unwrap();
            }
            sleep(Duration::from_millis(10)).await;
        }
        0
    }

    fn state(&self) -> Arc<View> {
        self.store.view().borrow().clone()
    }

    async fn admin(&self, method: &str, path: &str, body: &str) -> (u16, Vec<u8>) {
        let request = axum::http::Request::builder()
            .method(method)
            .uri(path)
            .header("Content-Type", "application/json")
            .body(axum::body::Body::from(body.to_owned()))
            .unwrap();
        use hyper::service::Service;
        let service = hyper_util::service::TowerToHyperService::new(self.admin.clone());
        let answer = service.call(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, body.to_vec())
    }

    async fn token(&self, server: &str) -> String {
        let body = format!(r#"{{"server":"{server}","ttl_seconds":600}}"#);
        let (status, answer) = self.admin("POST", "/v1/tokens", &body).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
        let created: CreatedToken = serde_json::from_slice(&answer).unwrap();
        created.token
    }
}

fn config(dir: &Path, port: u16) -> InForce {
    let text = format!(
        r#"
[cluster]
name = "foobar"
secrets = "keys"

[ports]
cluster = {port}

[[server]]
name = "one"
address = "127.0.0.1"

[[server]]
name = "two"
address = "127.0.0.2"

[[server]]
name = "three"
address = "127.0.0.3"
"#
    );
    let loaded = Config::parse("trilith.toml", text.as_bytes(), dir);
    let config = loaded.map_err(|d| d.render(false)).unwrap().config;
    InForce {
        config: Arc::new(config),
        text: text.into(),
    }
}

fn stranger(ca: &Ca, alpn: &[u8]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate().clone()).unwrap();
    let mut client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(client)
}

#[tokio::test]
async fn servers_of_the_config_are_known_by_their_certificates() {
    let port = Port::start().await;
    for server in ["two", "three"] {
        let client = identity(&port.ca, server).client_config(ALPN_PEER).unwrap();
        let answer = port.get(client, "/who").await.unwrap();
        assert_eq!(answer, (200, server.to_owned()));
    }
}

#[tokio::test]
async fn without_a_certificate_there_is_only_the_door() {
    let port = Port::start().await;
    for alpn in [ALPN_PEER, ALPN_HTTP] {
        assert!(port.get(stranger(&port.ca, alpn), "/who").await.is_err());
    }
    assert!(port.refusals("no_certificate").await >= 1);
    let at_the_door = port.get(stranger(&port.ca, ALPN_JOIN), "/who").await;
    assert_eq!(at_the_door.unwrap().0, 404);
    let other = port.get(stranger(&port.ca, b"http/1.1"), "/who").await;
    assert!(other.is_err());
    assert!(port.refusals("protocol").await >= 1);
}

#[tokio::test]
async fn certificates_of_others_are_refused() {
    let port = Port::start().await;
    let before = port.state();
    // Of another cluster, believing in ours.
    let theirs = tempfile::tempdir().unwrap();
    let theirs = Ca::create(theirs.path(), "other", SystemTime::now()).unwrap();
    let foreign = theirs.issue_peer(&name("two"), LOCALHOST, SystemTime::now());
    // Of a site of this cluster.
    let site = port
        .ca
        .issue_site(&["www.foobar.com".to_owned()], SystemTime::now());
    for certified in [foreign.unwrap(), site.unwrap()] {
        let mut client = (*stranger(&port.ca, ALPN_PEER)).clone();
        client.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
        assert!(port.get(Arc::new(client), "/who").await.is_err());
    }
    assert_eq!(port.refusals("bad_certificate").await, 2);
    assert_eq!(port.state(), before);
}

#[tokio::test]
async fn a_server_that_is_not_in_the_config_is_refused() {
    let port = Port::start().await;
    let nine = identity(&port.ca, "nine").client_config(ALPN_PEER).unwrap();
    assert!(port.get(nine, "/who").await.is_err());
    assert_eq!(port.refusals("unknown_server").await, 1);
}

#[tokio::test]
async fn connections_of_a_removed_server_end() {
    let port = Port::start().await;
    let three = identity(&port.ca, "three")
        .client_config(ALPN_PEER)
        .unwrap();
    let two = identity(&port.ca, "two").client_config(ALPN_PEER).unwrap();
    let mut gone = port.connect(three.clone()).await.unwrap();
    let mut stays = port.connect(two).await.unwrap();
    for stream in [&mut gone, &mut stays] {
        ask(stream).await;
    }
    port.known
        .send_modify(|known| Arc::make_mut(known).retain(|n| *n != name("three")));
    let mut rest = Vec::new();
    let _ = gone.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    assert!(port.get(three, "/who").await.is_err());
    ask(&mut stays).await;
}

async fn ask(stream: &mut tokio_rustls::client::TlsStream<TcpStream>) {
    let request = b"GET /who HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    // The rest of it: small, so it is there.
    let mut rest = vec![0; 4096];
    let _ = stream.read(&mut rest).await.unwrap();
}

#[tokio::test]
async fn garbage_is_refused() {
    let port = Port::start().await;
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x16, 3, 1, 0, 4, 1, 2, 3, 4],
    ] {
        let mut stream = TcpStream::connect(port.listener.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    }
    assert!(port.refusals("tls").await >= 1);
}

#[tokio::test]
async fn a_certificate_is_renewed_under_way() {
    let port = Port::start().await;
    let own = identity(&port.ca, "two");
    let client = own.client_config(ALPN_PEER).unwrap();
    port.get(client.clone(), "/who").await.unwrap();
    own.renew(&port.ca, &name("two"), LOCALHOST, SystemTime::now())
        .unwrap();
    let answer = port.get(client, "/who").await.unwrap();
    assert_eq!(answer, (200, "two".to_owned()));
}

#[tokio::test]
async fn a_new_server_joins_and_is_one_of_them() {
    let port = Port::start().await;
    let token = port.token("three").await;
    let new = tempfile::tempdir().unwrap();
    let path = new.path().join("trilith.toml");
    let (text, to) = (token.clone(), path.clone());
    let joined = tokio::task::spawn_blocking(move || join_blocking(&text, &to));
    let joined = joined.await.unwrap().unwrap();
    assert_eq!(
        (joined.server.as_str(), joined.cluster.as_str()),
        ("three", "foobar")
    );
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        *port.in_force.borrow().text
    );
    for file in ["ca.crt", "ca.key"] {
        let read = |dir: &Path| fs::read(dir.join("keys").join(file)).unwrap();
        assert_eq!(read(new.path()), read(port.dir.path()));
    }
    // With what it has now it is let in.
    let ca = Ca::load(&new.path().join("keys")).unwrap();
    let client = identity(&ca, "three").client_config(ALPN_PEER).unwrap();
    assert_eq!(port.get(client, "/who").await.unwrap().1, "three");

    // The token is spent, whoever brings it.
    let again = Token::parse(&token).unwrap();
    let refused = trilith_cluster::join::join(&again).await;
    assert!(
        matches!(refused, Err(JoinError::Refused { .. })),
        "{refused:?}"
    );
    let elsewhere = tempfile::tempdir().unwrap();
    let to = elsewhere.path().join("trilith.toml");
    let failed = tokio::task::spawn_blocking(move || join_blocking(&token, &to));
    let failed = failed.await.unwrap().unwrap_err();
    assert!(matches!(failed, JoinFailure::Cluster(_)) && failed.token_is_spent());
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn operators_make_list_and_revoke_tokens() {
    let port = Port::start().await;
    let token = Token::parse(&port.token("two").await).unwrap();
    let (_, answer) = port.admin("GET", "/v1/tokens", "").await;
    assert!(!String::from_utf8_lossy(&answer).contains(&token.secret.expose()));
    let list: TokenList = serde_json::from_slice(&answer).unwrap();
    assert_eq!((list.schema, list.tokens.len()), (1, 1));
    assert_eq!(list.tokens[0].state, "valid");
    let path = format!("/v1/tokens/{}", token.id);
    assert_eq!(port.admin("DELETE", &path, "").await.0, 204);
    assert_eq!(port.admin("DELETE", &path, "").await.0, 409);
    for (body, status) in [
        (r#"{"server":"nine","ttl_seconds":60}"#, 422),
        (r#"{"server":"No Name","ttl_seconds":60}"#, 422),
        (r#"{"server":"two","ttl_seconds":90000}"#, 422),
        (r#"{"server":"two"}"#, 422),
        (r#"{"server":"#, 400),
    ] {
        assert_eq!(
            port.admin("POST", "/v1/tokens", body).await.0,
            status,
            "{body}"
        );
    }
}
