use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use trilith_base::BootTime;
use trilith_consensus::{MemoryStore, Txn};
use trilith_ha::{Policy, Record, SyncSet, TakeLease, paused_key, reinit_key};

use super::*;

const CONFIG: &str = r#"
[cluster]
name = "foobar"
[[server]]
name = "one"
address = "127.0.1.1"
[[server]]
name = "two"
address = "127.0.1.2"
[[server]]
name = "three"
address = "127.0.1.3"
[[server]]
name = "four"
address = "127.0.1.4"
roles = ["web"]
[[site]]
host = "localhost"
[[site.route]]
path = "/*"
respond = { status = 200, body = "" }
[database]
"#;

fn name(text: &str) -> ServerName {
    ServerName::new(text).unwrap()
}

struct Rig {
    store: Arc<MemoryStore>,
    _others: Vec<MemoryStore>,
    router: Router,
}

impl Rig {
    fn new() -> Self {
        let mut servers = MemoryStore::cluster(["one", "two", "three"].map(name));
        let store = Arc::new(servers.remove(0));
        store.advance(BootTime(Duration::from_secs(1)));
        let config = Config::parse("trilith.toml", CONFIG, Path::new("/c"))
            .unwrap()
            .config;
        let config = Arc::new(config);
        let router = router(Arc::new(move || config.clone()), store.clone());
        Self {
            store,
            _others: servers,
            router,
        }
    }

    /// One is the primary, and these confirm its commits.
    async fn with_primary(members: &[&str]) -> Self {
        let rig = Self::new();
        let members = members.iter().map(|text| name(text)).collect();
        let servers = ["one", "two", "three"].map(name).to_vec();
        let take = TakeLease {
            record: Record {
                term: 4,
                primary: name("one"),
                sync: SyncSet::majority(members),
                open: true,
                base: None,
                expected: Default::default(),
                next: None,
                asynchronous: false,
                forced: false,
                timeline: 2,
                retaken: 0,
            },
            over: None,
            reports: Vec::new(),
            fulfils: None,
            again: false,
        };
        let policy = Policy::new(name("one"), servers, true);
        rig.commit(take.txn(&policy)).await;
        rig
    }

    async fn commit(&self, txn: Txn) {
        let done = self.store.commit(txn).await.unwrap();
        assert!(matches!(done, Outcome::Done { .. }), "{done:?}");
    }

    async fn seen(&self) -> StoreView {
        StoreView::read(&self.store.read().await.unwrap())
    }

    async fn post(&self, what: &str, order: Value) -> (u16, Value) {
        let request = Request::post(format!("/v1/db/{what}"))
            .header("content-type", "application/json")
            .body(Body::from(order.to_string()))
            .unwrap();
        let service = TowerToHyperService::new(self.router.clone());
        let answer = hyper::service::Service::call(&service, request)
            .await
            .unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }
}

#[tokio::test]
async fn a_switchover_is_written_once() {
    let rig = Rig::with_primary(&["two", "three"]).await;
    let (status, tried) = rig.post("switchover", json!({ "dry_run": true })).await;
    assert_eq!((status, &tried["changed"]), (200, &json!(false)));
    assert_eq!(rig.seen().await.request, None);

    let (status, answer) = rig.post("switchover", json!({ "server": "three" })).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        answer["says"],
        "one stops in good order, and three becomes the primary"
    );
    let (request, version) = rig.seen().await.request.unwrap();
    assert_eq!(request.to_string(), "switchover to three");
    assert_eq!(answer["request"], version.0);

    let (status, answer) = rig.post("switchover", json!({ "server": "two" })).await;
    assert_eq!(status, 409);
    assert_eq!(
        answer["error"],
        "another request is under way: switchover to three"
    );
}

#[tokio::test]
async fn errors_say_what_is_wrong() {
    let rig = Rig::with_primary(&["two"]).await;
    for (what, order, code, error) in [
        (
            "switchover",
            json!({ "server": "six" }),
            422,
            "no server is called six: there are one, two, three, four",
        ),
        (
            "switchover",
            json!({ "server": "four" }),
            409,
            "four has not the role db: the database servers are one, two, three",
        ),
        (
            "failover",
            json!({ "server": "three" }),
            409,
            "three is not a member of the synchronous set, and may lack writes: two has everything",
        ),
        ("failover", json!({}), 422, "say which server"),
        (
            "reinit",
            json!({ "server": "one" }),
            409,
            "one is the primary: there is nobody whose data it could copy",
        ),
    ] {
        let (status, answer) = rig.post(what, order).await;
        assert_eq!((status, answer["error"].as_str()), (code, Some(error)));
    }
    assert_eq!(rig.seen().await.request, None);
}

#[tokio::test]
async fn a_pause_holds_until_it_is_taken_back() {
    let rig = Rig::with_primary(&["two"]).await;
    let (_, answer) = rig.post("pause", json!({ "by": "root@one" })).await;
    assert_eq!(answer["changed"], true);
    let view = rig.store.read().await.unwrap();
    assert!(view.get(paused_key().as_str()).is_some());
    assert_eq!(database::agreed(&view).paused.unwrap().by, "root@one");
    let (_, again) = rig.post("pause", json!({})).await;
    assert_eq!(
        (&again["changed"], &again["says"]),
        (&json!(false), &json!("failover is paused already"))
    );
    let (status, answer) = rig.post("switchover", json!({})).await;
    assert_eq!(
        (status, &answer["next"]),
        (409, &json!(["trilith db resume"]))
    );
    rig.post("resume", json!({})).await;
    assert!(!rig.seen().await.paused);
}

#[tokio::test]
async fn a_copy_is_made_anew_once() {
    let rig = Rig::with_primary(&["two", "three"]).await;
    let (_, answer) = rig.post("reinit", json!({ "server": "two" })).await;
    assert_eq!(
        (&answer["changed"], &answer["request"]),
        (&json!(true), &Value::Null)
    );
    assert!(rig.seen().await.reinit.contains(&name("two")));
    let (_, answer) = rig.post("reinit", json!({ "server": "two" })).await;
    assert_eq!(answer["changed"], false);
    rig.commit(Txn::new().then(Write::Delete {
        key: reinit_key(&name("two")),
    }))
    .await;
}

#[tokio::test]
async fn restarts_are_asked_for_once() {
    let rig = Rig::with_primary(&["two", "three"]).await;
    let order = json!({ "servers": ["two"], "dry_run": true });
    let (_, answer) = rig.post("restart", order).await;
    assert_eq!(answer["says"], "PostgreSQL restarts on two");
    assert!(rig.seen().await.restart.is_empty());
    let (_, answer) = rig.post("restart", json!({ "servers": ["two"] })).await;
    assert_eq!(answer["changed"], true);
    let (_, answer) = rig.post("restart", json!({ "servers": ["two"] })).await;
    assert_eq!(answer["changed"], false);
    let (_, version) = rig.seen().await.restart[&name("two")];
    let (_, answer) = rig.post("restart", json!({})).await;
    assert_eq!(answer["servers"], json!(["one", "two", "three"]));
    let says = "PostgreSQL restarts on two, three, one by one, then one hands over and restarts as a \
                replica";
    assert_eq!(answer["says"], says);
    let seen = rig.seen().await;
    assert_eq!(seen.restart.len(), 3);
    assert_eq!(
        seen.restart[&name("two")].1,
        version,
        "it goes on as it was"
    );
    assert_eq!(answer["request"], seen.revision.0);
    let agreed = database::agreed(&rig.store.read().await.unwrap());
    assert_eq!(agreed.restart[0].server, "one");
    assert_eq!(agreed.restart[0].state, "asked");

    let (status, answer) = rig.post("restart", json!({ "servers": ["four"] })).await;
    let error = "four has not the role db: the database servers are one, two, three";
    assert_eq!((status, &answer["error"]), (409, &json!(error)));
}

#[tokio::test]
async fn why_a_request_was_given_up_can_be_read() {
    let rig = Rig::with_primary(&["two"]).await;
    let (_, answer) = rig.post("switchover", json!({})).await;
    let (_, version) = rig.seen().await.request.unwrap();
    rig.commit(trilith_ha::txn::give_up_request(
        version,
        "no replica can take over",
    ))
    .await;
    let agreed = database::agreed(&rig.store.read().await.unwrap());
    assert_eq!(agreed.request, None);
    let ended = agreed.ended.unwrap();
    assert_eq!(json!(ended.id), answer["request"]);
    assert_eq!(ended.why, "no replica can take over");
}

#[tokio::test]
async fn without_a_majority_it_says_so() {
    let rig = Rig::with_primary(&["two"]).await;
    rig.store.cut_off(true);
    let (status, answer) = rig.post("switchover", json!({})).await;
    assert_eq!(status, 503);
    let error = answer["error"].as_str().unwrap();
    assert!(
        error.starts_with("no majority of the servers can be reached"),
        "{error}"
    );
}
