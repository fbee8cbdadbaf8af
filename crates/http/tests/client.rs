//! Pools and client connections against real servers, and through a proxying handler.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use support::{Server, read_until, run, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use trilith_http::{
    Body, BodyError, ClientOptions, Endpoint, Pool, Request, Response, SendError, SendErrorKind,
    SendTiming, StatusCode,
};

fn pool_to(address: SocketAddr, change: impl FnOnce(&mut ClientOptions)) -> Pool {
    let mut options = ClientOptions::default();
    change(&mut options);
    Pool::new(Endpoint { address, tls: None }, options)
}

async fn get(pool: &Pool, path: &str) -> Result<Response, SendError> {
    pool.send(&mut Request::get("a", path), &mut SendTiming::default())
        .await
}

async fn text(response: Response) -> String {
    String::from_utf8(response.body.collect(1 << 24).await.unwrap().to_vec()).unwrap()
}

/// A server that answers each connection with one of `scripts`, in order: it waits for the end of
/// a head, writes, and closes where the script says so.
async fn scripted(scripts: Vec<(&'static str, bool)>) -> (SocketAddr, Rc<Cell<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Rc::new(Cell::new(0));
    let count = accepted.clone();
    tokio::task::spawn_local(async move {
        for (script, close) in scripts {
            let (mut stream, _) = listener.accept().await.unwrap();
            count.set(count.get() + 1);
            read_until(&mut stream, "\r\n\r\n").await;
            stream.write_all(script.as_bytes()).await.unwrap();
            if !close {
                // Stays open until the client goes.
                tokio::task::spawn_local(async move {
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                });
            }
        }
    });
    (address, accepted)
}

#[test]
fn reuses_connections_and_only_idle_ones() {
    run(async {
        let server = Server::start(async |request: Request| {
            Response::text(StatusCode::OK, request.conn.remote.port().to_string())
        })
        .await;
        let pool = pool_to(server.address, |_| {});
        let first = text(get(&pool, "/").await.unwrap()).await;
        let second = text(get(&pool, "/").await.unwrap()).await;
        assert_eq!(first, second);
        assert_eq!(pool.idle(), 1);
        let (a, b) = tokio::join!(get(&pool, "/"), get(&pool, "/"));
        assert_ne!(text(a.unwrap()).await, text(b.unwrap()).await);
        assert_eq!(pool.idle(), 2);
        pool.close();
        assert_eq!(pool.idle(), 0);
    });
}

#[test]
fn a_connection_with_bytes_left_over_is_not_reused() {
    run(async {
        let response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n";
        let (address, _) = scripted(vec![(response, false)]).await;
        let pool = pool_to(address, |_| {});
        assert_eq!(text(get(&pool, "/").await.unwrap()).await, "ok");
        assert_eq!(
            pool.idle(),
            0,
            "somebody else's answer must not wait in the pool"
        );
    });
}

#[test]
fn a_response_dropped_half_way_closes_its_connection() {
    run(async {
        let server = Server::start(async |_| {
            Response::with_body(StatusCode::OK, "x/x", vec![b'x'; 8 << 20])
        })
        .await;
        let pool = pool_to(server.address, |_| {});
        let mut response = get(&pool, "/").await.unwrap();
        response.body.frame().await.unwrap().unwrap();
        drop(response);
        assert_eq!(pool.idle(), 0);
        until(|| !server.outcomes.borrow().is_empty()).await;
    });
}

#[test]
fn a_connection_the_server_closed_is_replaced_without_a_word() {
    run(async {
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        // Closed while idle: seen before use. Closed after the request was sent: retried.
        let (address, accepted) = scripted(vec![(ok, true), (ok, false)]).await;
        let pool = pool_to(address, |_| {});
        get(&pool, "/").await.unwrap();
        let mut timing = SendTiming::default();
        let mut request = Request::get("a", "/");
        let response = pool.send(&mut request, &mut timing).await.unwrap();
        assert_eq!(text(response).await, "ok");
        assert_eq!(accepted.get(), 2);
        assert!(!timing.reused);
    });
}

#[test]
fn errors_say_what_may_be_sent_again() {
    run(async {
        let nobody = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        let error = get(&pool_to(nobody, |_| {}), "/").await.unwrap_err();
        assert!(matches!(error.kind, SendErrorKind::Connect(_)) && error.nothing_sent);

        let (address, _) = scripted(vec![("", true)]).await;
        let mut request = Request::get("a", "/");
        request.body = Body::full("payload");
        let pool = pool_to(address, |_| {});
        let error = pool
            .send(&mut request, &mut SendTiming::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind, SendErrorKind::ClosedEarly);
        assert!(!error.nothing_sent && error.body_intact);
        assert_eq!(
            request.body.take_full().unwrap(),
            "payload",
            "the body is back"
        );

        let (address, _) = scripted(vec![("SSH-2.0-x\r\n\r\n", false)]).await;
        let error = get(&pool_to(address, |_| {}), "/").await.unwrap_err();
        assert!(
            matches!(error.kind, SendErrorKind::Malformed(_)),
            "{error:?}"
        );

        let (address, _) = scripted(vec![("", false)]).await;
        let brief = |o: &mut ClientOptions| o.response_timeout = Duration::from_millis(30);
        let error = get(&pool_to(address, brief), "/").await.unwrap_err();
        assert_eq!(error.kind, SendErrorKind::Timeout);
    });
}

#[test]
fn skips_interim_responses_but_not_without_end() {
    run(async {
        let (address, _) = scripted(vec![(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            false,
        )])
        .await;
        assert_eq!(
            text(get(&pool_to(address, |_| {}), "/").await.unwrap()).await,
            "ok"
        );
        let flood: &'static str = "HTTP/1.1 100 Continue\r\n\r\n".repeat(50).leak();
        let (address, _) = scripted(vec![(flood, false)]).await;
        let error = get(&pool_to(address, |_| {}), "/").await.unwrap_err();
        assert!(matches!(error.kind, SendErrorKind::Malformed(_)));
    });
}

#[test]
fn truncated_and_silent_bodies_are_errors() {
    run(async {
        let half = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nhalf";
        for (close, expected) in [(true, BodyError::Truncated), (false, BodyError::Idle)] {
            let (address, _) = scripted(vec![(half, close)]).await;
            let brief = |o: &mut ClientOptions| o.body_idle_timeout = Duration::from_millis(30);
            let response = get(&pool_to(address, brief), "/").await.unwrap();
            assert_eq!(response.body.collect(1 << 20).await, Err(expected));
        }
        let (address, _) = scripted(vec![("HTTP/1.1 200 OK\r\n\r\nuntil close", true)]).await;
        let response = get(&pool_to(address, |_| {}), "/").await.unwrap();
        assert_eq!(text(response).await, "until close");
    });
}

/// Passes requests on to `upstream`, as an edge does.
async fn proxy_to(upstream: SocketAddr) -> Server {
    let pool = pool_to(upstream, |_| {});
    Server::start(move |mut request| {
        let pool = pool.clone();
        async move {
            match pool.send(&mut request, &mut SendTiming::default()).await {
                Ok(response) => response,
                Err(error) => Response::text(StatusCode::BAD_GATEWAY, format!("{error}")),
            }
        }
    })
    .await
}

#[test]
fn a_proxy_strips_what_belongs_to_one_connection() {
    run(async {
        let server = Server::start(async |request: Request| {
            Response::text(StatusCode::OK, format!("{:?}", request.headers))
                .header("Connection", "X-Secret")
                .header("X-Kept", "1")
        })
        .await;
        let proxy = proxy_to(server.address).await;
        let received = proxy
            .exchange(
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Drop\r\nX-Drop: 1\r\n\
                 Keep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\nX-Keep: 1\r\n\r\n",
            )
            .await;
        assert!(
            received.ends_with(r#"{"Host": "a", "X-Keep": "1"}"#),
            "{received}"
        );
        assert!(received.contains("X-Kept: 1\r\n"));
    });
}

#[test]
fn a_proxy_streams_large_bodies_both_ways() {
    run(async {
        let server = Server::start(async |mut request: Request| {
            let mut response = Response::new(StatusCode::OK);
            // The answer is the request itself, streamed back while it still arrives.
            response.body = std::mem::take(&mut request.body);
            response
        })
        .await;
        let proxy = proxy_to(server.address).await;
        for framing in ["length", "chunked"] {
            let payload: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
            let mut stream = TcpStream::connect(proxy.address).await.unwrap();
            let (mut read, mut write) = stream.split();
            let send = async {
                let head = match framing {
                    "length" => format!("Content-Length: {}", payload.len()),
                    _ => "Transfer-Encoding: chunked".to_owned(),
                };
                let head =
                    format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{head}\r\n\r\n");
                write.write_all(head.as_bytes()).await.unwrap();
                for piece in payload.chunks(70_001) {
                    if framing == "chunked" {
                        let size = format!("{:x}\r\n", piece.len());
                        write.write_all(size.as_bytes()).await.unwrap();
                    }
                    write.write_all(piece).await.unwrap();
                    if framing == "chunked" {
                        write.write_all(b"\r\n").await.unwrap();
                    }
                }
                if framing == "chunked" {
                    write.write_all(b"0\r\n\r\n").await.unwrap();
                }
            };
            let mut received = Vec::new();
            let receive = read.read_to_end(&mut received);
            let ((), read) = tokio::join!(send, receive);
            read.unwrap();
            let end = received.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
            let head = String::from_utf8_lossy(&received[..end]).into_owned();
            let body = if head.contains("chunked") {
                let mut decoder =
                    trilith_http1::BodyDecoder::new(trilith_http1::BodyLength::Chunked);
                let mut input = bytes::BytesMut::from(&received[end..]);
                let mut body = Vec::new();
                while let trilith_http1::Decoded::Data(data) = decoder.decode(&mut input).unwrap() {
                    body.extend_from_slice(&data);
                }
                body
            } else {
                received[end..].to_vec()
            };
            assert_eq!(body.len(), payload.len(), "{framing}: {head}");
            assert!(body == payload, "{framing}");
        }
    });
}

#[test]
fn a_proxy_joins_websocket_like_tunnels() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = listener.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = read_until(&mut stream, "\r\n\r\n").await;
            assert!(
                head.contains("Connection: upgrade\r\nUpgrade: websocket\r\n"),
                "{head}"
            );
            let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                          Connection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\nfirst";
            stream.write_all(answer.as_bytes()).await.unwrap();
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await.unwrap();
        });
        let proxy = proxy_to(upstream).await;
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        let request = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
                       Upgrade: websocket\r\n\r\nearly";
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert!(
            head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
            "{head}"
        );
        assert!(
            head.contains("Connection: upgrade\r\nUpgrade: websocket\r\n"),
            "{head}"
        );
        assert!(head.contains("Sec-WebSocket-Accept: x\r\n"));
        read_until(&mut stream, "firstearly").await;
        stream.write_all(b"ping").await.unwrap();
        read_until(&mut stream, "ping").await;
        stream.shutdown().await.unwrap();
        assert_eq!(
            stream.read(&mut [0; 8]).await.unwrap(),
            0,
            "both halves end"
        );
        until(|| !proxy.outcomes.borrow().is_empty()).await;
        let outcome = proxy.outcomes.borrow()[0];
        assert_eq!(outcome.end, trilith_http::End::Upgraded);
        assert_eq!(
            (outcome.body_bytes_received, outcome.body_bytes_sent),
            (9, 14)
        );
    });
}

#[test]
fn an_upgrade_nobody_asked_for_is_refused() {
    run(async {
        let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n";
        let (address, _) = scripted(vec![(answer, false)]).await;
        let proxy = proxy_to(address).await;
        let received = proxy.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(received.starts_with("HTTP/1.1 502 "), "{received}");
    });
}

#[test]
fn an_early_answer_reaches_a_client_that_still_uploads() {
    run(async {
        let answer = "HTTP/1.1 413 Payload Too Large\r\nContent-Length: 2\r\n\r\nno";
        let (address, _) = scripted(vec![(answer, true)]).await;
        let proxy = proxy_to(address).await;
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&[b'x'; 1_000]).await.unwrap();
        let received = read_until(&mut stream, "no").await;
        assert!(received.starts_with("HTTP/1.1 413 "), "{received}");
    });
}
