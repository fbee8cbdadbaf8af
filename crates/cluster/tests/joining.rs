//! A new server joins, over real sockets and real TLS, against a store in memory.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use common::{PeerPort, ca, identity, name};
use trilith_base::ServerName;
use trilith_cluster::join::{Door, House, JoinError, TokenError, Tokens, Welcome, join};
use trilith_cluster::{Token, TokenId, TokenSecret};
use trilith_consensus::{MemoryStore, Store};
use trilith_telemetry::Telemetry;
use trilith_tls::{Ca, Fingerprint};

const HOUR: Duration = Duration::from_secs(3600);

struct Home {
    servers: Mutex<BTreeSet<ServerName>>,
    addresses: Mutex<Vec<SocketAddr>>,
    welcome: Mutex<Result<Welcome, String>>,
}

impl House for Home {
    fn lists(&self, server: &ServerName) -> bool {
        self.servers.lock().unwrap().contains(server)
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.lock().unwrap().clone()
    }

    fn welcome(&self) -> Result<Welcome, String> {
        self.welcome.lock().unwrap().clone()
    }
}

struct Cluster {
    ca: Ca,
    home: Arc<Home>,
    store: MemoryStore,
    tokens: Arc<Tokens>,
    telemetry: Telemetry,
    ports: Vec<PeerPort>,
}

impl Cluster {
    async fn start() -> Self {
        let ca = ca();
        let welcome = Welcome {
            cluster: "foobar".to_owned(),
            config: "# the config\n".to_owned(),
            ca_certificate: ca.certificate_pem().to_owned(),
            ca_key: "the key".to_owned(),
            database_passwords: Some("the passwords".to_owned()),
        };
        let home = Arc::new(Home {
            servers: Mutex::new(["one", "two", "four"].map(name).into()),
            addresses: Mutex::default(),
            welcome: Mutex::new(Ok(welcome)),
        });
        let store = MemoryStore::single(name("one"));
        let telemetry = Telemetry::new("one");
        let tokens = Tokens::new(
            Arc::new(store.clone()),
            home.clone(),
            ca.fingerprint(),
            telemetry.clone(),
        );
        let mut ports = Vec::new();
        for server in ["one", "two"] {
            let tls = identity(&ca, server).join_config().unwrap();
            let router = Door::new(tokens.clone()).router();
            ports.push(PeerPort::start(tls, router).await);
        }
        let addresses = ports.iter().map(|port| port.address).collect();
        *home.addresses.lock().unwrap() = addresses;
        Self {
            ca,
            home,
            store,
            tokens,
            telemetry,
            ports,
        }
    }

    async fn create(&self, ttl: Duration, now: SystemTime) -> Result<Token, TokenError> {
        let made = self.tokens.create(&name("four"), ttl, now).await;
        made.map(|(token, _)| token)
    }

    async fn token(&self) -> Token {
        self.create(HOUR, SystemTime::now()).await.unwrap()
    }

    fn state(&self) -> Arc<trilith_consensus::View> {
        self.store.view().borrow().clone()
    }

    fn refusals(&self, reason: &str) -> bool {
        let metrics = self.telemetry.metrics_text().encode();
        metrics.contains(&format!(
            "trilith_join_refusals_total{{reason=\"{reason}\"}}"
        ))
    }
}

fn refusal(result: Result<trilith_cluster::join::Joined, JoinError>) -> String {
    match result {
        Err(JoinError::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_token_lets_its_server_in_once() {
    let cluster = Cluster::start().await;
    let token = Token::parse(&cluster.token().await.to_string()).unwrap();
    assert_eq!(token.ca, Fingerprint::of(cluster.ca.certificate()));
    let joined = join(&token).await.unwrap();
    assert_eq!(joined.server, name("four"));
    assert_eq!(joined.welcome, cluster.home.welcome().unwrap());
    assert!(refusal(join(&token).await).contains("has been used"));
    assert!(cluster.refusals("used"));
    let listed = cluster.tokens.list(SystemTime::now()).await.unwrap();
    assert_eq!(listed[0].state, "used");
    assert_eq!(listed[0].id, token.id.to_string());
}

#[tokio::test]
async fn of_two_at_once_one_gets_in() {
    let cluster = Cluster::start().await;
    let token = cluster.token().await;
    let mut other = token.clone();
    // Each asks another server.
    other.addresses.reverse();
    let both = tokio::join!(join(&token), join(&other));
    let won = [&both.0, &both.1].iter().filter(|r| r.is_ok()).count();
    assert_eq!(won, 1, "{both:?}");
}

#[tokio::test]
async fn wrong_tokens_are_refused_and_change_nothing() {
    let cluster = Cluster::start().await;
    let good = cluster.token().await;
    let before = cluster.state();
    let wrong_secret = Token {
        secret: TokenSecret::generate().unwrap(),
        ..good.clone()
    };
    assert!(refusal(join(&wrong_secret).await).contains("wrong"));
    let wrong_id = Token {
        id: TokenId(good.id.0 ^ 1),
        ..good.clone()
    };
    assert!(refusal(join(&wrong_id).await).contains("wrong"));
    assert!(cluster.refusals("wrong"));
    assert_eq!(cluster.state(), before);
    join(&good).await.unwrap();
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let cluster = Cluster::start().await;
    let long_ago = SystemTime::now() - 2 * HOUR;
    let token = cluster.create(HOUR, long_ago).await.unwrap();
    assert!(refusal(join(&token).await).contains("expired"));
    assert!(cluster.refusals("expired"));
}

#[tokio::test]
async fn a_revoked_token_is_refused() {
    let cluster = Cluster::start().await;
    let token = cluster.token().await;
    cluster.tokens.revoke(&token.id.to_string()).await.unwrap();
    assert!(refusal(join(&token).await).contains("revoked"));
    let again = cluster.tokens.revoke(&token.id.to_string()).await;
    assert!(matches!(again, Err(TokenError::NoSuchToken(_))));
    let none = cluster.tokens.revoke("../config/current").await;
    assert!(matches!(none, Err(TokenError::NoSuchToken(_))));
}

#[tokio::test]
async fn a_server_that_left_the_config_is_refused() {
    let cluster = Cluster::start().await;
    let token = cluster.token().await;
    cluster.home.servers.lock().unwrap().remove(&name("four"));
    let before = cluster.state();
    assert!(refusal(join(&token).await).contains("`four` is not in"));
    assert!(cluster.refusals("unknown_server"));
    assert_eq!(cluster.state(), before);
    let none = cluster.create(HOUR, SystemTime::now());
    assert!(matches!(none.await, Err(TokenError::UnknownServer(_))));
}

#[tokio::test]
async fn a_server_that_cannot_help_costs_no_token() {
    let cluster = Cluster::start().await;
    let token = cluster.token().await;
    let welcome = cluster.home.welcome().unwrap();
    *cluster.home.welcome.lock().unwrap() = Err("no key here".to_owned());
    assert!(matches!(join(&token).await, Err(JoinError::Unreachable(tried)) if tried.len() == 2));
    *cluster.home.welcome.lock().unwrap() = Ok(welcome);
    cluster.store.cut_off(true);
    assert!(matches!(join(&token).await, Err(JoinError::Unreachable(_))));
    cluster.store.cut_off(false);
    join(&token).await.unwrap();
}

#[tokio::test]
async fn the_next_address_is_asked_when_one_is_silent() {
    let mut cluster = Cluster::start().await;
    let token = cluster.token().await;
    cluster.ports.remove(0).stop().await;
    join(&token).await.unwrap();
}

#[tokio::test]
async fn somebody_else_at_the_address_gets_nothing() {
    let cluster = Cluster::start().await;
    let mut token = cluster.token().await;
    let tls = identity(&ca(), "one").join_config().unwrap();
    let heard = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let ears = heard.clone();
    let router = axum::Router::new().fallback(move || async move {
        ears.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let impostor = PeerPort::start(tls, router).await;
    token.addresses = vec![impostor.address];
    assert!(matches!(join(&token).await, Err(JoinError::Unreachable(_))));
    assert!(!heard.load(std::sync::atomic::Ordering::Relaxed));
    token.addresses = cluster.home.addresses();
    join(&token).await.unwrap();
}

#[tokio::test]
async fn guessing_is_slowed_down() {
    let cluster = Cluster::start().await;
    let good = cluster.token().await;
    let guess = Token {
        secret: TokenSecret::generate().unwrap(),
        ..good.clone()
    };
    let mut reasons = Vec::new();
    // At one door.
    for _ in 0..8 {
        reasons.push(refusal(join(&guess).await));
    }
    assert!(reasons.last().unwrap().contains("too many"), "{reasons:?}");
    assert!(cluster.refusals("too_often"));
}

#[tokio::test]
async fn garbage_at_the_door_changes_nothing() {
    use axum::body::Body;
    use axum::http::Request;
    use trilith_cluster::join::Caller;

    let cluster = Cluster::start().await;
    cluster.token().await;
    let before = cluster.state();
    let door = Door::new(cluster.tokens.clone());
    let huge = vec![b' '; 5000];
    let statuses = [
        ("POST", "/v1/join", &b""[..], 400),
        ("POST", "/v1/join", b"{}", 400),
        (
            "POST",
            "/v1/join",
            br#"{"id":"token/../..","secret":""}"#,
            400,
        ),
        ("POST", "/v1/join", &huge, 400),
        ("GET", "/v1/join", b"", 405),
        ("POST", "/v1/cluster/hello", b"{}", 404),
        ("GET", "/v1/server", b"", 404),
    ];
    for (i, (method, path, body, expected)) in statuses.into_iter().enumerate() {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::from(body.to_vec()))
            .unwrap();
        let from = [10, 0, 0, u8::try_from(i).unwrap()];
        request.extensions_mut().insert(Caller(from.into()));
        use hyper::service::Service;
        let service = hyper_util::service::TowerToHyperService::new(door.router());
        let answer = service.call(request).await.unwrap();
        assert_eq!(answer.status().as_u16(), expected, "{method} {path}");
    }
    assert!(cluster.refusals("malformed"));
    assert_eq!(cluster.state(), before);
}

#[tokio::test]
async fn old_tokens_are_cleared_away() {
    let cluster = Cluster::start().await;
    let now = SystemTime::now();
    for _ in 0..60 {
        cluster.create(HOUR, now - 48 * HOUR).await.unwrap();
    }
    cluster.token().await;
    assert_eq!(cluster.tokens.list(now).await.unwrap().len(), 1);
    for _ in 0..99 {
        cluster.token().await;
    }
    let more = cluster.create(HOUR, now).await;
    assert!(matches!(more, Err(TokenError::TooMany)));
    for ttl in [Duration::ZERO, 25 * HOUR] {
        let made = cluster.create(ttl, now).await;
        assert!(matches!(made, Err(TokenError::Ttl)));
    }
}
