use std::os::unix::net::UnixListener;
use std::thread;

use serde_json::json;

use super::*;
use crate::failure::{FAILED, USAGE};

/// Answers one request with `answer` and returns what was asked.
fn serve(answer: &'static str) -> (tempfile::TempDir, PathBuf, thread::JoinHandle<String>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let asked = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        let mut chunk = [0; 1024];
        // What it asks with is written at once, head and body.
        while !asked.ends_with(b"}") && !asked.ends_with(b"\r\n\r\n") {
            let read = stream.read(&mut chunk).unwrap();
            asked.extend_from_slice(&chunk[..read]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(asked).unwrap()
    });
    (dir, path, asked)
}

#[test]
fn asks_and_reads_json() {
    let (_dir, socket, asked) = serve("HTTP/1.1 200 OK\r\n\r\n{\"version\": 7}");
    let body = json!({"dry_run": true});
    let answer = call(&socket, "POST", "/v1/reload", Some(&body)).unwrap();
    assert_eq!(answer["version"], 7);
    let asked = asked.join().unwrap();
    assert!(asked.starts_with("POST /v1/reload HTTP/1.0\r\n"), "{asked}");
    assert!(asked.contains("\r\nContent-Length: 16\r\n"), "{asked}");
    assert!(asked.ends_with("\r\n\r\n{\"dry_run\":true}"), "{asked}");
}

#[test]
fn a_refusal_is_told_in_the_servers_words() {
    let answer =
        "HTTP/1.1 422 X\r\n\r\n{\"error\": \"no such key\", \"next\": [\"trilith check\"]}";
    let (_dir, socket, asked) = serve(answer);
    let failure = call(&socket, "GET", "/v1/config", None).unwrap_err();
    assert_eq!((failure.code, &*failure.message), (USAGE, "no such key"));
    assert_eq!(failure.next, ["trilith check"]);
    asked.join().unwrap();

    let (_dir, socket, asked) = serve("HTTP/1.1 503 X\r\n\r\n{\"error\": \"no leader\"}");
    let failure = call(&socket, "GET", "/v1/config", None).unwrap_err();
    assert_eq!((failure.code, &*failure.message), (FAILED, "no leader"));
    asked.join().unwrap();

    let (_dir, socket, asked) = serve("HTTP/1.1 404 Not Found\r\n\r\n");
    let failure = call(&socket, "GET", "/v1/new", None).unwrap_err();
    assert!(failure.message.contains("older version"), "{failure:?}");
    asked.join().unwrap();
}

#[test]
fn without_a_server_it_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let failure = call(&dir.path().join("none.sock"), "GET", "/", None).unwrap_err();
    assert_eq!(failure.code, FAILED);
    assert!(!failure.next.is_empty());
    let text = "[cluster]\ndata = \"data\"\n[[server]]\nname = \"one\"\naddress = \"127.0.0.1\"\n";
    let config = Config::parse("t.toml", text, dir.path()).unwrap().config;
    let failure = local_of("t.toml".into(), config).unwrap_err();
    assert!(
        failure.message.contains("runs on this machine"),
        "{failure:?}"
    );
}
