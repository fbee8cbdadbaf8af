use tokio::net::TcpListener;

use super::*;

#[test]
fn reads_the_status() {
    let table: [(&str, Parsed); 14] = [
        ("", Parsed::Incomplete),
        ("HTT", Parsed::Incomplete),
        ("HTTP/1.1 20", Parsed::Incomplete),
        ("HTTP/1.1 200 OK\r\n", Parsed::Status(200)),
        ("HTTP/1.0 404\r\n", Parsed::Status(404)),
        ("HTTP/1.1 503 \r\n", Parsed::Status(503)),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
            Parsed::Incomplete,
        ),
        (
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 500 No\r\n",
            Parsed::Status(500),
        ),
        ("HTTP/1.1 100 Continue\r\n\r\nnonsense", Parsed::NotHttp),
        ("HTTP/1.1 2000 OK\r\n", Parsed::NotHttp),
        ("HTTP/1.1 099 OK\r\n", Parsed::NotHttp),
        ("HTTP/2 200 OK\r\n\r\n", Parsed::NotHttp),
        ("SSH-2.0-OpenSSH_9.2", Parsed::NotHttp),
        ("HTTP/1.1x200 OK\r\n", Parsed::NotHttp),
    ];
    for (text, expected) in table {
        assert_eq!(status_of(text.as_bytes()), expected, "{text:?}");
    }
}

/// Answers one connection with `answer` and returns what was asked.
async fn answer_once(answer: &'static str) -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut request).await.unwrap();
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    });
    (address, task)
}

#[tokio::test]
async fn any_status_below_500_is_good() {
    for (answer, good) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", true),
        ("HTTP/1.1 301 Moved\r\n\r\n", true),
        ("HTTP/1.1 404 Not Found\r\n\r\n", true),
        ("HTTP/1.1 500 Broken\r\n\r\n", false),
        ("HTTP/1.1 503 Later\r\n\r\n", false),
        ("hello\r\n", false),
        ("", false),
    ] {
        let (address, task) = answer_once(answer).await;
        assert_eq!(probe(address, "/up?x=1").await.is_ok(), good, "{answer:?}");
        let request = task.await.unwrap();
        assert!(request.starts_with("GET /up?x=1 HTTP/1.1\r\nHost: localhost\r\n"));
    }
}

#[tokio::test]
async fn says_that_nothing_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = probe(address, "/").await.unwrap_err();
    assert!(
        matches!(error, ProbeError::NothingListens { .. }),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn gives_up_on_silence() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = probe(listener.local_addr().unwrap(), "/")
        .await
        .unwrap_err();
    assert!(matches!(error, ProbeError::Timeout { .. }), "{error}");
}
