use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinSet, spawn_blocking};
use trilith_base::ServerName;
use trilith_consensus::MemoryStore;
use trilith_monitor::api::{ClusterStatus, SCHEMA, ServerState, Survival};

use super::*;
use crate::config_sync::at_start;
use crate::reload::tests::{House, TEXT, house};

/// The server that is asked, and one that is down.
struct Servers {
    sync: Arc<OnceLock<Arc<ConfigSync>>>,
}

impl Source for Servers {
    fn server(&self) -> ServerStatus {
        let mut status = ServerStatus::down("one", "127.0.1.1", Vec::new(), String::new());
        status.state = ServerState::Ready;
        status.config = self.sync.get().map(|sync| sync.state());
        status
    }

    async fn cluster(&self) -> ClusterStatus {
        let why = "no answer".to_owned();
        ClusterStatus {
            schema: SCHEMA,
            cluster: "foobar".into(),
            asked: "one".into(),
            time_unix_ms: 1,
            floating_addresses: Vec::new(),
            store: None,
            servers: vec![
                self.server(),
                ServerStatus::down("two", "127.0.1.2", Vec::new(), why),
            ],
            database: None,
            sites: Vec::new(),
            survives_one_loss: Survival::default(),
        }
    }
}

struct Setup {
    address: SocketAddr,
    sync: Arc<OnceLock<Arc<ConfigSync>>>,
    store: MemoryStore,
    house: House,
    tasks: JoinSet<()>,
}

async fn setup() -> Setup {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sync: Arc<OnceLock<Arc<ConfigSync>>> = Arc::default();
    let source = Arc::new(Servers { sync: sync.clone() });
    let router = router(sync.clone(), source);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    Setup {
        address,
        sync,
        store: MemoryStore::single(ServerName::new("one").unwrap()),
        house: house("one", TEXT),
        tasks,
    }
}

impl Setup {
    fn start(&mut self) {
        let house = &self.house;
        let file = house.in_force.borrow().clone();
        let me = &house.reloader.server().name;
        let start = at_start(file, &house.path, &house.state, me, false);
        let store = Arc::new(self.store.clone());
        let sync = ConfigSync::new(store, house.reloader.clone(), house.state.clone(), start);
        assert!(self.sync.set(sync.clone()).is_ok());
        self.tasks.spawn(sync.run());
    }

    async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let address = self.address;
        let answer = spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        let answer = answer.await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reload_show_history_and_rollback() {
    let mut setup = setup().await;
    let (status, answer) = setup.ask("GET", "/v1/config", Value::Null).await;
    assert_eq!(
        (status, &answer["next"][0]),
        (503, &json!("trilith status"))
    );
    setup.start();
    for _ in 0..1_000 {
        if setup.ask("GET", "/v1/config", Value::Null).await.0 == 200 {
            break;
        }
        sleep(CONFIG_OTHERS_POLL / 10).await;
    }

    let text = TEXT.replace("hello 1", "hello 2");
    let dry = json!({ "text": text, "dry_run": true });
    let (status, answer) = setup.ask("POST", "/v1/reload", dry).await;
    assert_eq!((status, &answer["version"]), (200, &json!(1)));
    assert_eq!(
        (&answer["published"], &answer["servers"]),
        (&json!(false), &json!([]))
    );
    assert_eq!(setup.house.hello(), "hello 1");

    let request = json!({ "text": text, "by": "ro\u{1b}ot" });
    let (status, answer) = setup.ask("POST", "/v1/reload", request).await;
    assert_eq!((status, &answer["version"]), (200, &json!(2)), "{answer}");
    assert_eq!(answer["published"], true);
    assert_eq!(answer["changes"][0]["old"], "\"hello 1\"");
    assert_eq!(
        answer["servers"],
        json!([
            { "name": "one", "state": "applied", "detail": [] },
            { "name": "two", "state": "down", "detail": ["no answer"] },
        ])
    );
    assert_eq!(setup.house.hello(), "hello 2");

    let (_, shown) = setup.ask("GET", "/v1/config", Value::Null).await;
    assert_eq!(
        (&shown["current"]["text"], &shown["current"]["by"]),
        (&json!(text), &json!("root@one"))
    );
    let (_, first) = setup.ask("GET", "/v1/config?version=1", Value::Null).await;
    assert_eq!(first["current"]["text"], TEXT);
    let (status, answer) = setup.ask("GET", "/v1/config?version=9", Value::Null).await;
    assert_eq!(
        (status, &answer["error"]),
        (422, &json!("there is no version 9; there are 1, 2"))
    );

    let (status, back) = setup.ask("POST", "/v1/config/rollback", json!({})).await;
    assert_eq!((status, &back["version"]), (200, &json!(3)), "{back}");
    assert_eq!(setup.house.hello(), "hello 1");
    let (_, history) = setup.ask("GET", "/v1/config/history", Value::Null).await;
    assert_eq!(history["current"], 3);
    assert_eq!(history["versions"][0]["rollback_to"], 1);
    assert_eq!(history["versions"].as_array().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_say_why() {
    let mut setup = setup().await;
    setup.start();
    let text = TEXT.replace("host =", "hots =");
    let (status, answer) = setup
        .ask("POST", "/v1/reload", json!({ "text": text }))
        .await;
    assert_eq!(status, 422);
    let error = answer["error"].as_str().unwrap();
    assert!(
        error.contains("1 error in") || error.contains("errors in"),
        "{error}"
    );
    assert!(error.contains("did you mean `host`?"), "{error}");

    setup.store.cut_off(true);
    let text = TEXT.replace("hello 1", "hello 2");
    let (status, answer) = setup
        .ask("POST", "/v1/reload", json!({ "text": text }))
        .await;
    assert_eq!(status, 503, "{answer}");
    assert_eq!(setup.house.hello(), "hello 1");
    let (status, _) = setup.ask("POST", "/v1/reload", json!({ "txet": "" })).await;
    assert!((400..500).contains(&status), "{status}");
    let long = "x".repeat(7 * FILE_BYTES_MAX);
    let (status, _) = setup
        .ask("POST", "/v1/reload", json!({ "text": long }))
        .await;
    assert_eq!(status, 413);
}
