use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const TIME: Duration = Duration::from_secs(20);

/// Answers each connection with the next of these texts, as soon as a request has begun to arrive, and
/// closes it.
async fn server(answers: Vec<String>) -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut some = [0; 1024];
            let _ = stream.read(&mut some).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
            // Not reset before the client has read.
            while stream.read(&mut some).await.is_ok_and(|n| n > 0) {}
        }
    });
    (url, task)
}

fn http(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

async fn unused() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn endpoints_are_host_and_port() {
    let new = |url: &str| Client::new(&[url.to_owned()]);
    for good in [
        "http://127.0.0.1:2379",
        "http://etcd.internal:2379/",
        "http://[::1]:2379",
    ] {
        assert!(new(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "127.0.0.1:2379",
        "https://127.0.0.1:2379",
        "http://etcd.internal",
        "http://127.0.0.1:2379/v3",
        "http://:2379",
    ] {
        assert!(new(bad).is_err(), "{bad}");
    }
    assert!(Client::new(&[]).is_err());
}

#[tokio::test]
async fn a_write_goes_on_only_where_nothing_was_sent() {
    let good = http(
        "200 OK",
        r#"{"header":{"cluster_id":"7"},"succeeded":true}"#,
    );
    let (first, (second, _second)) = (unused().await, server(vec![good]).await);
    let client = Client::new(&[first, second]).unwrap();
    let answer = client.ask_once("/v3/kv/txn", &json!({}), TIME).await;
    assert_eq!(answer.unwrap()["succeeded"], true);
    assert_eq!(client.preferred(), 1);

    // It reads the request, and is gone.
    let (first, _first) = server(vec![String::new()]).await;
    let client = Client::new(&[first, unused().await]).unwrap();
    let answer = client.ask_once("/v3/kv/txn", &json!({}), TIME).await;
    assert!(matches!(answer, Err(CallError::Lost(_))), "{answer:?}");
    assert_eq!(client.preferred(), 1);
}

#[tokio::test]
async fn a_read_asks_until_it_has_an_answer() {
    let unavailable =
        r#"{"error":"etcdserver: no leader","message":"etcdserver: no leader","code":14}"#;
    let (first, _first) = server(vec![
        http("503 Service Unavailable", unavailable),
        http("200 OK", "certainly not JSON"),
        http("200 OK", "{\"header\":{\"cluster_"),
        "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{}".to_owned(),
        "\0\0\0\0\r\n\r\n".to_owned(),
        http("200 OK", r#"{"header":{"cluster_id":"7","raft_term":"4"}}"#),
    ])
    .await;
    let client = Client::new(&[first]).unwrap();
    let answer = client.ask("/v3/kv/range", &json!({}), TIME).await.unwrap();
    assert_eq!(wire::header(&answer).term, 4);
}

#[tokio::test]
async fn a_refusal_is_final() {
    let body = r#"{"error":"etcdserver: request is too large","message":"etcdserver: request is too large","code":3}"#;
    let stream = r#"{"error":{"grpc_code":16,"http_code":401,"message":"who are you","http_status":"Unauthorized"}}"#;
    let (url, _server) = server(vec![http("400 Bad Request", body), http("200 OK", stream)]).await;
    let client = Client::new(&[url]).unwrap();
    for expected in [code::INVALID_ARGUMENT, code::UNAUTHENTICATED] {
        match client.ask("/v3/kv/txn", &json!({}), TIME).await {
            Err(CallError::Refused { code, .. }) => assert_eq!(code, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn two_etcds_are_not_mixed() {
    let of = |id: u8| {
        http(
            "200 OK",
            &format!(r#"{{"header":{{"cluster_id":"{id}"}}}}"#),
        )
    };
    let (first, _first) = server(vec![of(1)]).await;
    let (second, _second) = server(vec![of(2)]).await;
    let client = Client::new(&[first, second]).unwrap();
    client
        .call(0, "/v3/kv/range", &json!({}), TIME)
        .await
        .unwrap();
    let answer = client.call(1, "/v3/kv/range", &json!({}), TIME).await;
    assert!(matches!(answer, Err(CallError::Lost(_))), "{answer:?}");
}

#[tokio::test]
async fn a_stream_is_read_by_lines() {
    let chunks = [
        "{\"result\":",
        "{\"a\":1}}\n{\"res",
        "ult\":{\"a\":2}}\n",
        "{\"cut off",
    ];
    let mut text = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    for chunk in chunks {
        text += &format!("{:x}\r\n{chunk}\r\n", chunk.len());
    }
    let (url, _server) = server(vec![text]).await;
    let client = Client::new(&[url]).unwrap();
    let mut lines = client.stream("/v3/watch", &json!({})).await.unwrap();
    assert_eq!(lines.next().await.unwrap()["result"]["a"], 1);
    assert_eq!(lines.next().await.unwrap()["result"]["a"], 2);
    assert_eq!(lines.next().await, None);
}
