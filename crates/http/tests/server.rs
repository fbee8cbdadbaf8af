//! Server connections over real sockets.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use support::{Server, read_until, run, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use trilith_http::{
    Body, BodyError, BodyStream, End, Frame, Request, Response, ServerOptions, StatusCode,
};

async fn echo(mut request: Request) -> Response {
    let body = std::mem::take(&mut request.body).collect(1 << 20).await;
    match body {
        Ok(body) => Response::with_body(StatusCode::OK, "text/plain", body)
            .header("X-Target", request.target.as_str()),
        Err(error) => Response::text(StatusCode::BAD_REQUEST, format!("{error}")),
    }
}

fn body_of(response: &str) -> &str {
    response.split_once("\r\n\r\n").unwrap().1
}

#[test]
fn answers_pipelined_requests_in_order() {
    run(async {
        let server = Server::start(async |request: Request| {
            // The first answer takes longest: order must come from the connection, not from luck.
            if request.target.path() == "/1" {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Response::text(StatusCode::OK, request.target.path())
        })
        .await;
        let one = |n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n");
        let received = server
            .exchange(format!("{}{}{}", one(1), one(2), one(3)))
            .await;
        let bodies: Vec<_> = received
            .split("HTTP/1.1 200 OK")
            .skip(1)
            .map(body_of)
            .collect();
        assert_eq!(bodies, ["/1", "/2", "/3"]);
        assert!(
            server
                .outcomes
                .borrow()
                .iter()
                .all(|o| o.end == End::Complete)
        );
    });
}

#[test]
fn reads_bodies_of_every_framing() {
    run(async {
        let server = Server::start(echo).await;
        let table = [
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
                "hello",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                 2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nX-T: 1\r\n\r\n",
                "hello",
            ),
            ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", ""),
            ("POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi", "hi"),
        ];
        for (request, expected) in table {
            let received = server.exchange(request).await;
            assert!(received.starts_with("HTTP/1.1 200 OK\r\n"), "{received}");
            assert_eq!(body_of(&received), expected, "{request}");
        }
    });
}

#[test]
fn keeps_or_closes_the_connection_as_asked() {
    run(async {
        let server = Server::start(echo).await;
        let table = [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", None),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                Some("Connection: close"),
            ),
            ("GET / HTTP/1.0\r\n\r\n", Some("Connection: close")),
            (
                "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
                Some("Connection: keep-alive"),
            ),
        ];
        for (request, field) in table {
            let received = server.exchange(request).await;
            match field {
                Some(field) => assert!(received.contains(field), "{request}: {received}"),
                None => assert!(!received.contains("Connection"), "{request}: {received}"),
            }
        }
    });
}

#[test]
fn head_204_and_304_have_no_body() {
    run(async {
        let server = Server::start(async |request: Request| match request.target.path() {
            "/204" => Response::new(StatusCode::NO_CONTENT).header("Content-Length", "9"),
            "/304" => Response::new(StatusCode::NOT_MODIFIED).header("Content-Length", "9"),
            _ => Response::text(StatusCode::OK, "nine bytes"),
        })
        .await;
        for (method, path, length) in [
            ("HEAD", "/", Some(10)),
            ("GET", "/204", None),
            ("GET", "/304", Some(9)),
        ] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n");
            let received = server.exchange(request).await;
            assert_eq!(body_of(&received), "", "{received}");
            match length {
                Some(n) => assert!(received.contains(&format!("Content-Length: {n}\r\n"))),
                None => assert!(!received.contains("Content-Length"), "{received}"),
            }
        }
    });
}

/// Yields what it is given, then an error if told so.
struct Frames(Vec<&'static [u8]>, Option<BodyError>);

impl BodyStream for Frames {
    fn poll_frame(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame, BodyError>>> {
        let next = match self.0.is_empty() {
            false => Some(Ok(Frame::Data(Bytes::from_static(self.0.remove(0))))),
            true => self.1.take().map(Err),
        };
        std::task::Poll::Ready(next)
    }

    fn size(&self) -> Option<u64> {
        None
    }
}

fn streaming(frames: &[&'static [u8]], error: Option<BodyError>) -> Response {
    let mut response = Response::new(StatusCode::OK);
    response.body = Body::stream(Frames(frames.to_vec(), error));
    response
}

#[test]
fn streams_chunked_to_http11_and_until_close_to_http10() {
    run(async {
        let server = Server::start(async |_| streaming(&[b"ab", b"c"], None)).await;
        let received = server.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(received.contains("Transfer-Encoding: chunked\r\n"));
        assert_eq!(body_of(&received), "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n");
        let received = server.exchange("GET / HTTP/1.0\r\n\r\n").await;
        assert!(!received.contains("Transfer-Encoding"));
        assert_eq!(body_of(&received), "abc");
    });
}

#[test]
fn a_body_that_fails_is_never_passed_off_as_whole() {
    run(async {
        let server = Server::start(async |request: Request| match request.target.path() {
            "/early" => streaming(&[], Some(BodyError::Truncated)),
            _ => {
                let mut response = streaming(&[], None);
                response.body = Body::stream(FailsLater(0));
                response
            }
        })
        .await;
        // Nothing was out yet: a clean 502.
        let received = server
            .exchange("GET /early HTTP/1.1\r\nHost: a\r\n\r\n")
            .await;
        assert!(
            received.starts_with("HTTP/1.1 502 Bad Gateway\r\n"),
            "{received}"
        );
        assert!(received.contains("Connection: close\r\n"));
        // Part was out: the chunked body is left without its end.
        let received = server
            .exchange("GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
            .await;
        assert!(received.contains("4\r\npart\r\n"), "{received}");
        assert!(!received.ends_with("0\r\n\r\n"), "{received}");
        let ends: Vec<_> = server.outcomes.borrow().iter().map(|o| o.end).collect();
        let failed = |error| End::UpstreamFailed(error);
        assert_eq!(ends, [failed(BodyError::Truncated), failed(BodyError::Io)]);
    });
}

/// Data, a moment in which it is written, then an error.
struct FailsLater(u32);

impl BodyStream for FailsLater {
    fn poll_frame(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame, BodyError>>> {
        self.0 += 1;
        match self.0 {
            1 => std::task::Poll::Ready(Some(Ok(Frame::Data(Bytes::from_static(b"part"))))),
            2 => {
                cx.waker().wake_by_ref();
                std::task::Poll::Pending
            }
            _ => std::task::Poll::Ready(Some(Err(BodyError::Io))),
        }
    }

    fn size(&self) -> Option<u64> {
        None
    }
}

#[test]
fn invites_a_body_only_when_somebody_reads_it() {
    run(async {
        let server = Server::start(async |request: Request| {
            if request.target.path() == "/refuse" {
                return Response::text(StatusCode::PAYLOAD_TOO_LARGE, "no");
            }
            echo(request).await
        })
        .await;
        let head = |path| {
            format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\
                 Expect: 100-continue\r\n\r\n"
            )
        };
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(head("/").as_bytes()).await.unwrap();
        let interim = read_until(&mut stream, "\r\n\r\n").await;
        assert_eq!(interim, "HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(b"hello").await.unwrap();
        let answer = read_until(&mut stream, "hello").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");

        let refused = server.exchange(head("/refuse")).await;
        assert!(refused.starts_with("HTTP/1.1 413 "), "{refused}");
        assert!(refused.contains("Connection: close\r\n"), "{refused}");
    });
}

#[test]
fn an_unread_body_does_not_become_the_next_request() {
    run(async {
        let server = Server::start(async |_| Response::text(StatusCode::OK, "ok")).await;
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{smuggled}\
             GET /next HTTP/1.1\r\nHost: a\r\n\r\n",
            smuggled.len(),
        );
        let received = server.exchange(request).await;
        assert_eq!(received.matches("HTTP/1.1 200 OK").count(), 2, "{received}");

        let large = vec![b'x'; 1 << 20];
        let mut request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            large.len()
        )
        .into_bytes();
        request.extend_from_slice(&large);
        let received = server.exchange(request).await;
        assert_eq!(received.matches("HTTP/1.1 ").count(), 1);
        assert!(
            received.contains("Connection: close"),
            "too much to read for nothing: {received}"
        );
    });
}

#[test]
fn refuses_what_is_no_request_and_closes() {
    run(async {
        let server = Server::start(echo).await;
        for (request, status) in [
            ("GET / HTTP/1.1\r\n\r\n", "400"),
            ("GET / HTTP/1.1\nHost: a\n\n", "400"),
            ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", "505"),
            ("POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", "417"),
        ] {
            let received = server.exchange(request).await;
            assert!(
                received.starts_with(&format!("HTTP/1.1 {status} ")),
                "{request}: {received}"
            );
            assert!(received.contains("Connection: close\r\n"), "{received}");
        }
        assert_eq!(server.rejected.borrow().len(), 4);
        let received = server.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(received.starts_with("HTTP/1.1 200"));
    });
}

fn short(change: impl FnOnce(&mut ServerOptions)) -> ServerOptions {
    let mut options = ServerOptions::default();
    change(&mut options);
    options
}

#[test]
fn a_slow_head_is_answered_and_an_idle_connection_closed() {
    run(async {
        let brief = Duration::from_millis(30);
        let slow_head = short(|o| o.header_timeout = brief);
        let server = Server::start_with(slow_head, echo).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET / HT").await.unwrap();
        let mut received = String::new();
        stream.read_to_string(&mut received).await.unwrap();
        assert!(received.starts_with("HTTP/1.1 408 "), "{received}");

        let idle = short(|o| o.keep_alive_timeout = brief);
        let server = Server::start_with(idle, echo).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"");
    });
}

#[test]
fn a_body_that_stops_coming_is_given_up() {
    run(async {
        let options = short(|o| o.body_idle_timeout = Duration::from_millis(30));
        let server = Server::start_with(options, echo).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf";
        stream.write_all(head).await.unwrap();
        let received = read_until(&mut stream, "idle time").await;
        assert!(received.starts_with("HTTP/1.1 400 "), "{received}");
    });
}

#[test]
fn a_body_that_trickles_is_given_up() {
    run(async {
        let options = short(|o| {
            o.body_rate_min = 1_000_000;
            o.body_rate_grace = Duration::ZERO;
        });
        let server = Server::start_with(options, echo).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let (mut read, mut write) = stream.split();
        let trickle = async {
            // Bounded: far more than it takes.
            for _ in 0..500 {
                if write.write_all(b"x").await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let mut received = vec![0; 4096];
        let answer = async { read.read(&mut received).await.unwrap() };
        let len = tokio::select! { () = trickle => 0, len = answer => len };
        let received = String::from_utf8_lossy(&received[..len]).into_owned();
        assert!(
            received.contains("slower than the minimum rate"),
            "{received}"
        );
    });
}

#[test]
fn a_client_that_reads_nothing_is_given_up() {
    run(async {
        let options = short(|o| o.write_idle_timeout = Duration::from_millis(30));
        let server = Server::start_with(options, async |_| {
            Response::with_body(StatusCode::OK, "x/x", vec![b'x'; 64 << 20])
        })
        .await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        until(|| !server.outcomes.borrow().is_empty()).await;
        assert_eq!(server.outcomes.borrow()[0].end, End::ClientTimeout);
    });
}

#[test]
fn a_client_that_leaves_is_noticed() {
    run(async {
        let server = Server::start(async |_| {
            Response::with_body(StatusCode::OK, "x/x", vec![b'x'; 64 << 20])
        })
        .await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        read_until(&mut stream, "\r\n\r\n").await;
        drop(stream);
        until(|| !server.outcomes.borrow().is_empty()).await;
        assert_eq!(server.outcomes.borrow()[0].end, End::ClientGone);
    });
}

#[test]
fn back_pressure_stops_the_source() {
    run(async {
        /// Endless, and counts what was taken.
        struct Endless(Rc<Cell<u64>>);
        impl BodyStream for Endless {
            fn poll_frame(
                &mut self,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Option<Result<Frame, BodyError>>> {
                self.0.set(self.0.get() + 32 * 1024);
                let data = Bytes::from_static(&[0; 32 * 1024]);
                std::task::Poll::Ready(Some(Ok(Frame::Data(data))))
            }
            fn size(&self) -> Option<u64> {
                None
            }
        }
        let taken = Rc::new(Cell::new(0));
        let source = taken.clone();
        let server = Server::start(move |_| {
            let mut response = Response::new(StatusCode::OK);
            response.body = Body::stream(Endless(source.clone()));
            std::future::ready(response)
        })
        .await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        // What the kernel buffers on both sides is some megabytes; without a limit it never ends.
        let mut last = 0;
        let settled = async {
            loop {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if taken.get() > 0 && taken.get() == last {
                    break;
                }
                last = taken.get();
            }
        };
        settled.await;
        assert!(taken.get() < 64 << 20, "took {}", taken.get());
        drop(stream);
    });
}

#[test]
fn drains_idle_connections_and_finishes_busy_ones() {
    run(async {
        let gate = Rc::new(tokio::sync::Notify::new());
        let open = gate.clone();
        let mut server = Server::start(move |_| {
            let gate = gate.clone();
            async move {
                gate.notified().await;
                Response::text(StatusCode::OK, "done")
            }
        })
        .await;
        let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut idle = TcpStream::connect(server.address).await.unwrap();
        idle.write_all(get).await.unwrap();
        open.notify_one();
        read_until(&mut idle, "done").await;
        let mut busy = TcpStream::connect(server.address).await.unwrap();
        busy.write_all(get).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        server.drain();
        assert_eq!(
            idle.read(&mut [0; 1]).await.unwrap(),
            0,
            "the idle one is closed"
        );
        open.notify_one();
        let answer = read_until(&mut busy, "done").await;
        assert!(answer.contains("Connection: close\r\n"), "{answer}");
        drop(busy);
        until(|| *server.ended.borrow() == 2).await;
    });
}

#[test]
fn a_malformed_body_ends_the_connection() {
    run(async {
        let server = Server::start(echo).await;
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        for body in [
            "x\r\n",
            "1\r\nab\r\n",
            "0\r\nno colon\r\n\r\n",
            "0\r\na : b\r\n\r\n",
        ] {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream
                .write_all(format!("{head}{body}").as_bytes())
                .await
                .unwrap();
            let mut received = String::new();
            stream.read_to_string(&mut received).await.unwrap();
            assert!(
                received.starts_with("HTTP/1.1 400 "),
                "{body:?}: {received}"
            );
            assert!(
                received.contains("Connection: close\r\n"),
                "{body:?}: {received}"
            );
        }
    });
}
