//! Calls between servers over real sockets and real TLS.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{PeerPort, ca, identity, name};
use tokio::sync::Notify;
use tokio::time::timeout;
use trilith_base::ServerName;
use trilith_cluster::http::{Answer, router_for};
use trilith_cluster::msg::{
    Ask, Confirm, ConfirmReply, Hello, HelloReply, Reply, Request, SnapshotAsk,
};
use trilith_cluster::{CallError, HttpTransport, Peer, Transport};
use trilith_consensus::BoxFuture;
use trilith_telemetry::Telemetry;
use trilith_tls::{ALPN_PEER, Ca};

/// Says who asked; holds snapshots until told otherwise, and never answers a `confirm`.
#[derive(Default)]
struct Echo {
    calls: AtomicUsize,
    go_on: Notify,
}

impl Answer for Echo {
    fn answer<'a>(&'a self, from: &'a ServerName, request: Request) -> BoxFuture<'a, Reply> {
        Box::pin(async move {
            self.calls.fetch_add(1, Ordering::Relaxed);
            match request.ask {
                Ask::Snapshot(_) => self.go_on.notified().await,
                Ask::Confirm(_) => std::future::pending().await,
                _ => {}
            }
            Reply::Hello(HelloReply {
                name: from.to_string(),
                ..HelloReply::default()
            })
        })
    }
}

struct Two {
    ca: Ca,
    echo: Arc<Echo>,
    port: PeerPort,
    telemetry: Telemetry,
    one: HttpTransport,
}

impl Two {
    async fn start() -> Self {
        let ca = ca();
        let echo = Arc::new(Echo::default());
        let telemetry = Telemetry::new("two");
        let router = router_for(echo.clone(), telemetry.clone());
        let tls = identity(&ca, "two").server_config().unwrap();
        let port = PeerPort::start(tls, router).await;
        let one = HttpTransport::new(&identity(&ca, "one")).unwrap();
        Self {
            ca,
            echo,
            port,
            telemetry,
            one,
        }
    }

    fn peer(&self) -> Peer {
        peer("two", self.port.address)
    }

    fn connections(&self) -> usize {
        self.port.connections.load(Ordering::Relaxed)
    }
}

fn peer(server: &str, address: SocketAddr) -> Peer {
    Peer {
        name: name(server),
        address,
    }
}

fn ask(ask: Ask) -> Request {
    Request {
        cluster: "foobar".to_owned(),
        from: 1,
        to: 2,
        ask,
    }
}

fn hello() -> Request {
    ask(Ask::Hello(Hello::default()))
}

fn said(result: Result<Reply, CallError>) -> String {
    match result {
        Ok(Reply::Hello(reply)) => reply.name,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_connection_is_kept_and_the_callers_name_is_known() {
    let two = Two::start().await;
    for _ in 0..20 {
        assert_eq!(said(two.one.call(&two.peer(), hello()).await), "one");
    }
    assert_eq!(two.connections(), 1);
}

#[tokio::test]
async fn nothing_waits_behind_a_snapshot() {
    let two = Two::start().await;
    let to = two.peer();
    let snapshot = ask(Ask::Snapshot(SnapshotAsk::default()));
    let mut long = two.one.call(&to, snapshot);
    tokio::select! {
        biased;
        _ = &mut long => panic!("it is held"),
        () = async {
            for _ in 0..20 {
                said(two.one.call(&to, hello()).await);
            }
        } => {}
    }
    two.echo.go_on.notify_one();
    said(long.await);
}

#[tokio::test]
async fn many_at_once_share_a_few_connections() {
    let two = Two::start().await;
    let to = two.peer();
    let mut calls = tokio::task::JoinSet::new();
    let one = Arc::new(two.one);
    for _ in 0..100 {
        let (one, to) = (one.clone(), to.clone());
        calls.spawn(async move { said(one.call(&to, hello()).await) });
    }
    assert!(calls.join_all().await.iter().all(|said| said == "one"));
    let opened = two.port.connections.load(Ordering::Relaxed);
    assert!((1..=8).contains(&opened), "{opened}");
}

#[tokio::test]
async fn nobody_there_is_not_sent() {
    let two = Two::start().await;
    let to = two.peer();
    said(two.one.call(&to, hello()).await);
    two.port.stop().await;
    for _ in 0..3 {
        let failed = two.one.call(&to, hello()).await;
        assert!(matches!(failed, Err(CallError::NotSent(_))), "{failed:?}");
    }
}

#[tokio::test]
async fn a_restarted_peer_is_found_again_at_once() {
    let two = Two::start().await;
    let to = two.peer();
    said(two.one.call(&to, hello()).await);
    two.port.stop().await;
    let tls = identity(&two.ca, "two").server_config().unwrap();
    let router = router_for(two.echo.clone(), two.telemetry.clone());
    let _again = PeerPort::start_at(to.address, tls, router).await;
    assert_eq!(said(two.one.call(&to, hello()).await), "one");
}

#[tokio::test]
async fn a_call_that_is_given_up_leaves_no_connection_behind() {
    let two = Two::start().await;
    let to = two.peer();
    let confirm = ask(Ask::Confirm(Confirm::default()));
    for _ in 0..20 {
        let call = two.one.call(&to, confirm.clone());
        assert!(timeout(Duration::from_millis(20), call).await.is_err());
    }
    // More than may be open at one time were used: each gave its place back.
    assert_eq!(said(two.one.call(&to, hello()).await), "one");
}

#[tokio::test]
async fn only_who_was_meant_is_asked() {
    let two = Two::start().await;
    let failed = two
        .one
        .call(&peer("three", two.port.address), hello())
        .await;
    assert!(matches!(failed, Err(CallError::NotSent(_))), "{failed:?}");
    // A server of another cluster gets nowhere either.
    let stranger = HttpTransport::new(&identity(&ca(), "one")).unwrap();
    assert!(stranger.call(&two.peer(), hello()).await.is_err());
    assert_eq!(two.echo.calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_new_certificate_is_picked_up() {
    let two = Two::start().await;
    let shown = Arc::new(std::sync::Mutex::new(Vec::new()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = identity(&two.ca, "two").server_config().unwrap();
    let seen = shown.clone();
    let accepting = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let accept = tokio_rustls::TlsAcceptor::from(tls.clone()).accept(stream);
            let stream = accept.await.unwrap();
            let certificates = stream.get_ref().1.peer_certificates().unwrap();
            seen.lock()
                .unwrap()
                .push(certificates[0].clone().into_owned());
            // Closed: the next call needs another connection.
        }
    });
    let own = identity(&two.ca, "one");
    let one = HttpTransport::new(&own).unwrap();
    let to = peer("two", address);
    assert!(one.call(&to, hello()).await.is_err());
    assert!(one.call(&to, hello()).await.is_err());
    let now = std::time::SystemTime::now();
    own.renew(&two.ca, &name("one"), [127, 0, 0, 1].into(), now)
        .unwrap();
    assert!(one.call(&to, hello()).await.is_err());
    accepting.abort();
    let shown = shown.lock().unwrap();
    assert_eq!(shown[0], shown[1]);
    assert_ne!(shown[1], shown[2]);
}

/// What a broken or hostile peer might send; `kind` and the body as they are.
async fn post(two: &Two, kind: &str, body: Vec<u8>) -> (u16, String) {
    use http_body_util::{BodyExt, Full};
    let client = identity(&two.ca, "one").client_config(ALPN_PEER).unwrap();
    let stream = tokio::net::TcpStream::connect(two.port.address)
        .await
        .unwrap();
    let stream = tokio_rustls::TlsConnector::from(client)
        .connect(trilith_tls::peer_name(&name("two")), stream)
        .await
        .unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = hyper::Request::post(format!("/v1/cluster/{kind}"))
        .header("Host", "trilith.internal")
        .body(Full::new(hyper::body::Bytes::from(body)))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    driver.abort();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let two = Two::start().await;
    let good = serde_json::to_vec(&hello()).unwrap();
    for (kind, body) in [
        ("hello", b"".to_vec()),
        ("hello", b"{".to_vec()),
        ("hello", b"[1]".to_vec()),
        ("hello", b"\xff\xfe".to_vec()),
        ("hello", br#"{"ask":{"no_such_kind":{}}}"#.to_vec()),
        ("hello", br#"{"ask":{"hello":{"fresh":3}}}"#.to_vec()),
        ("hello", vec![b'['; 100_000]),
        ("append", good.clone()),
        ("no_such_kind", good.clone()),
    ] {
        let (status, said) = post(&two, kind, body).await;
        assert_eq!(status, 400, "{kind}: {said}");
    }
    let (status, _) = post(&two, "hello", vec![b' '; 17 << 20]).await;
    assert_eq!(status, 413);
    assert_eq!(two.echo.calls.load(Ordering::Relaxed), 0);
    let metrics = two.telemetry.metrics_text().encode();
    assert!(
        metrics.contains("trilith_cluster_messages_refused_total{peer=\"one\"} 10"),
        "{metrics}"
    );
    assert_eq!(post(&two, "hello", good).await.0, 200);
}

#[tokio::test]
async fn a_refusal_was_not_acted_on() {
    let two = Two::start().await;
    let router = axum::Router::new();
    let tls = identity(&two.ca, "two").server_config().unwrap();
    let port = PeerPort::start(tls, router).await;
    let failed = two.one.call(&peer("two", port.address), hello()).await;
    assert!(matches!(failed, Err(CallError::NotSent(_))), "{failed:?}");
}

#[tokio::test]
async fn a_confirmation_is_small() {
    // Renewals wait for it every 200 ms: it should stay one packet.
    let request = serde_json::to_vec(&ask(Ask::Confirm(Confirm::default()))).unwrap();
    let reply = serde_json::to_vec(&Reply::Confirm(ConfirmReply { yes: true })).unwrap();
    assert!(request.len() < 200 && reply.len() < 100);
}
