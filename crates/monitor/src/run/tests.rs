use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;
use crate::api::{SCHEMA, Survival};

struct Fixed(ServerState);

impl Source for Fixed {
    fn server(&self) -> ServerStatus {
        let mut status = ServerStatus::down("one", "127.0.1.1", Vec::new(), "a reason".into());
        status.state = self.0;
        status
    }

    async fn cluster(&self) -> ClusterStatus {
        ClusterStatus {
            schema: SCHEMA,
            cluster: "foobar".into(),
            asked: "one".into(),
            time_unix_ms: 1,
            floating_addresses: Vec::new(),
            store: None,
            servers: vec![self.server()],
            database: None,
            sites: Vec::new(),
            survives_one_loss: Survival::default(),
        }
    }
}

async fn ask(router: Router, path: &str) -> String {
    ask_by("GET", router, path).await
}

async fn ask_by(method: &str, router: Router, path: &str) -> String {
    let (mut client, server) = duplex(64 * 1024);
    let serve = serve_connection(server, router);
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let talk = async {
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let (served, answer) = tokio::join!(serve, talk);
    served.unwrap();
    answer
}

fn admin(state: ServerState) -> Router {
    admin_router(Arc::new(Fixed(state)), Telemetry::new("one"))
}

#[tokio::test]
async fn health_follows_the_state() {
    let answer = ask(admin(ServerState::Ready), "/healthz").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = ask(admin(ServerState::Draining), "/healthz").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("draining: a reason\n"), "{answer}");
}

#[tokio::test]
async fn metrics_and_status_are_served() {
    let answer = ask(admin(ServerState::Ready), "/metrics").await;
    assert!(
        answer.contains("content-type: application/openmetrics-text"),
        "{answer}"
    );
    assert!(answer.contains("trilith_build_info"), "{answer}");
    let answer = ask(admin(ServerState::Ready), "/api/v1/status").await;
    assert!(answer.contains(r#""cluster":"foobar""#), "{answer}");
    let answer = ask(admin(ServerState::Ready), "/v1/server").await;
    assert!(answer.contains(r#""name":"one""#), "{answer}");
}

#[tokio::test]
async fn checks_answer_to_every_way_of_asking() {
    let router = || admin(ServerState::Ready);
    // This server has no database: only its own status is told.
    for path in [
        "/primary",
        "/replica?lag=1MB",
        "/sync",
        "/health",
        "/liveness",
    ] {
        let answer = ask(router(), path).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{path}: {answer}");
        assert!(answer.contains(r#""name":"one""#), "{path}: {answer}");
    }
    assert!(ask(router(), "/patroni").await.starts_with("HTTP/1.1 200 "));
    assert!(
        ask(router(), "/cluster")
            .await
            .contains(r#""scope":"foobar""#)
    );
    assert!(
        ask(router(), "/replica?lag=x")
            .await
            .starts_with("HTTP/1.1 400 ")
    );
    for method in ["HEAD", "OPTIONS"] {
        let answer = ask_by(method, router(), "/patroni").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{method}: {answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{method}: {answer}");
        let answer = ask_by(method, router(), "/primary").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{method}: {answer}");
    }
}

#[tokio::test]
async fn peers_see_only_their_part() {
    let peer = || peer_router(Arc::new(Fixed(ServerState::Ready)));
    assert!(ask(peer(), "/v1/server").await.starts_with("HTTP/1.1 200 "));
    assert!(ask(peer(), "/metrics").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn the_admin_port_stops_when_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve_admin(listener, admin(ServerState::Ready), async {
        let _ = stopped.await;
    }));
    let mut client = TcpStream::connect(address).await.unwrap();
    client
        .write_all(b"GET /healthz HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("ready: a reason\n"), "{answer}");
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}
