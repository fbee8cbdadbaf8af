use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use trilith_http::ClientOptions;
use trilith_telemetry::Telemetry;

use super::*;
use crate::options::InstanceAddr;

/// What a stub instance does with the requests of its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stub {
    /// 200 with its own id.
    Answer,
    /// Says in its response what only we may say.
    ClaimToBeUs,
    /// Reads the head and closes.
    CloseEarly,
    /// Answers once, says it stays open, and closes.
    AnswerThenClose,
    /// Reads and says nothing.
    Silent,
    Garbage,
    /// A body in two pieces; the second once the test says so.
    Slow,
    /// 101, then echoes.
    Upgrade,
}

struct Instance {
    address: InstanceAddr,
    requests: Rc<Cell<u32>>,
    last_head: Rc<std::cell::RefCell<String>>,
    go_on: Rc<tokio::sync::Notify>,
}

impl Instance {
    async fn start(id: &str, stub: Stub) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let instance = Self {
            address: InstanceAddr {
                id: id.into(),
                address: listener.local_addr().unwrap(),
            },
            requests: Rc::default(),
            last_head: Rc::default(),
            go_on: Rc::default(),
        };
        let (requests, last) = (instance.requests.clone(), instance.last_head.clone());
        let (id, go_on) = (id.to_owned(), instance.go_on.clone());
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (id, requests, last) = (id.clone(), requests.clone(), last.clone());
                let go_on = go_on.clone();
                tokio::task::spawn_local(async move {
                    // The client may close at any moment.
                    let _ = serve(stream, &id, stub, &requests, &last, &go_on).await;
                });
            }
        });
        instance
    }
}

/// A connection of a stub: heads end with an empty line, bodies have a length.
async fn serve(
    mut stream: TcpStream,
    id: &str,
    stub: Stub,
    requests: &Cell<u32>,
    last: &std::cell::RefCell<String>,
    go_on: &tokio::sync::Notify,
) -> io::Result<()> {
    let mut read = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = read.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8(read.drain(..end).collect()).unwrap();
        let length = head
            .lines()
            .find_map(|l| l.strip_prefix("Content-Length: "));
        let length: usize = length.map_or(0, |l| l.parse().unwrap());
        requests.set(requests.get() + 1);
        *last.borrow_mut() = head;
        if stub == Stub::CloseEarly {
            return Ok(());
        }
        while read.len() < length {
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        }
        read.drain(..length);
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", id.len());
        match stub {
            Stub::Answer | Stub::AnswerThenClose => {
                stream
                    .write_all(format!("{answer}\r\n{id}").as_bytes())
                    .await?;
            }
            Stub::ClaimToBeUs => {
                let answer = format!("{answer}Trilith-Try-Another: 1\r\n\r\n{id}");
                stream.write_all(answer.as_bytes()).await?;
            }
            Stub::Silent => std::future::pending().await,
            Stub::Garbage => stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await?,
            Stub::Slow => {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
                    .await?;
                go_on.notified().await;
                stream.write_all(b"def").await?;
            }
            Stub::Upgrade => {
                let head = "HTTP/1.1 101 Switching Protocols\r\n\
                            Connection: upgrade\r\nUpgrade: echo\r\n\r\n";
                stream.write_all(head.as_bytes()).await?;
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await?;
                return Ok(());
            }
            Stub::CloseEarly => unreachable!(),
        }
        if stub == Stub::AnswerThenClose {
            return Ok(());
        }
    }
}

/// An address where nobody listens.
async fn nobody(id: &str) -> InstanceAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    InstanceAddr {
        id: id.into(),
        address: listener.local_addr().unwrap(),
    }
}

struct Setup {
    app: Arc<App>,
    pools: WorkerPools,
}

impl Setup {
    fn new(instances: &[InstanceAddr]) -> Self {
        let options = ClientOptions {
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_millis(200),
            ..ClientOptions::default()
        };
        let app = Apps::default().get("web");
        app.set_instances(instances);
        Self {
            app,
            pools: WorkerPools::new(options, Telemetry::new("test").worker()),
        }
    }

    async fn send(&self, request: &mut Request) -> (Result<Response, Refusal>, AppTrace) {
        let mut trace = AppTrace::default();
        let pools = self.pools.of(&self.app);
        let result = dispatch(request, None, 1000, &pools, &mut trace).await;
        (result, trace)
    }

    /// The id of the instance that answers a GET.
    async fn get(&self) -> String {
        let (result, _) = self.send(&mut get()).await;
        let body = result.unwrap().body.collect(100).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    fn in_flight(&self) -> Vec<u32> {
        self.app.instances().iter().map(|i| i.in_flight()).collect()
    }
}

fn get() -> Request {
    Request::get("www.foobar.com", "/a?b")
}

fn post(body: &'static str) -> Request {
    let mut request = get();
    request.method = Method::POST;
    request.body = Body::full(body);
    request
}

/// A body that does not say how long it is.
struct Chunks(Vec<Result<Bytes, BodyError>>);

impl BodyStream for Chunks {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        match self.0.is_empty() {
            true => Poll::Ready(None),
            false => Poll::Ready(Some(self.0.remove(0).map(Frame::Data))),
        }
    }

    fn size(&self) -> Option<u64> {
        None
    }
}

async fn local<F: Future>(test: F) -> F::Output {
    LocalSet::new().run_until(test).await
}

fn refused(result: &Result<Response, Refusal>) -> Refusal {
    *result.as_ref().unwrap_err()
}

fn status(code: u16, close: bool) -> Refusal {
    Refusal::Status {
        status: StatusCode::from_u16(code).unwrap(),
        close,
    }
}

#[tokio::test]
async fn instances_take_turns() {
    local(async {
        let mut addresses = Vec::new();
        for id in ["web.1", "web.2", "web.3"] {
            addresses.push(Instance::start(id, Stub::Answer).await.address);
        }
        let setup = Setup::new(&addresses);
        let mut counts = HashMap::new();
        for _ in 0..60 {
            *counts.entry(setup.get().await).or_insert(0) += 1;
        }
        assert_eq!(counts.into_values().collect::<Vec<_>>(), [20, 20, 20]);
        assert_eq!(setup.in_flight(), [0, 0, 0]);
    })
    .await;
}

#[tokio::test]
async fn the_least_busy_instance_is_picked() {
    local(async {
        let slow = Instance::start("slow", Stub::Slow).await;
        let quick = Instance::start("quick", Stub::Answer).await;
        let setup = Setup::new(&[slow.address.clone(), quick.address.clone()]);
        let (response, trace) = setup.send(&mut get()).await;
        let mut response = response.unwrap();
        assert_eq!(trace.instance.as_deref(), Some("slow"));
        assert_eq!(setup.in_flight(), [1, 0], "its body is not read yet");
        for _ in 0..5 {
            assert_eq!(setup.get().await, "quick");
        }
        assert_eq!(response.body.size(), Some(6));
        assert!(
            matches!(response.body.frame().await, Some(Ok(Frame::Data(data))) if data == "abc")
        );
        slow.go_on.notify_one();
        assert_eq!(response.body.collect(10).await.unwrap(), "def");
        assert_eq!(setup.in_flight(), [0, 0]);

        let abandoned = setup.send(&mut get()).await;
        assert_eq!(setup.in_flight(), [1, 0]);
        drop(abandoned);
        assert_eq!(setup.in_flight(), [0, 0]);
    })
    .await;
}

#[tokio::test]
async fn a_dead_instance_costs_a_try_and_no_request() {
    local(async {
        let live = Instance::start("live", Stub::Answer).await;
        let setup = Setup::new(&[nobody("dead").await, live.address.clone()]);
        for make in [get, || post("body")] {
            let mut tries = Vec::new();
            for _ in 0..4 {
                let (result, trace) = setup.send(&mut make()).await;
                assert_eq!(result.unwrap().body.collect(10).await.unwrap(), "live");
                assert_eq!(trace.instance.as_deref(), Some("live"));
                assert!(trace.connected.is_some() && trace.first_byte.is_some());
                tries.push(trace.tries);
            }
            assert!(tries.contains(&2), "{tries:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_early_close_is_tried_again_only_when_it_is_safe() {
    local(async {
        let closing = Instance::start("closing", Stub::CloseEarly).await;
        let live = Instance::start("live", Stub::Answer).await;
        let setup = Setup::new(&[closing.address.clone(), live.address.clone()]);
        let (result, trace) = setup.send(&mut get()).await;
        assert!(result.is_ok());
        assert_eq!(trace.tries, 2);
        // Both have had their turn, so the closing one is first again.
        let closing_first = Setup::new(&[closing.address.clone(), live.address.clone()]);
        let (result, trace) = closing_first.send(&mut post("body")).await;
        assert_eq!(
            refused(&result),
            status(502, false),
            "the instance may have acted on it"
        );
        assert_eq!((trace.tries, live.requests.get()), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn connections_are_kept_and_replaced() {
    local(async {
        let instance = Instance::start("web.1", Stub::AnswerThenClose).await;
        let setup = Setup::new(std::slice::from_ref(&instance.address));
        for _ in 0..5 {
            assert_eq!(setup.get().await, "web.1");
        }
        assert_eq!(instance.requests.get(), 5);
    })
    .await;
}

#[tokio::test]
async fn without_a_usable_instance_another_server_may_try() {
    local(async {
        let mut request = post("body");
        let (result, trace) = Setup::new(&[]).send(&mut request).await;
        assert_eq!((refused(&result), trace.tries), (Refusal::TryAnother, 0));

        let dead = [
            nobody("a").await,
            nobody("b").await,
            nobody("c").await,
            nobody("d").await,
        ];
        let setup = Setup::new(&dead);
        let pools = setup.pools.of(&setup.app);
        let target = Some(Target::new("/rewritten"));
        let result = dispatch(&mut request, target, 1000, &pools, &mut AppTrace::default()).await;
        assert_eq!(refused(&result), Refusal::TryAnother);
        // And it gets the request that we got.
        assert_eq!(request.target.as_str(), "/a?b");
        assert_eq!(request.body.take_full().unwrap(), "body");
        assert_eq!(setup.in_flight(), [0; 4]);
        let (_, trace) = setup.send(&mut get()).await;
        assert_eq!(trace.tries, APP_TRIES_MAX);

        let closing = Instance::start("closing", Stub::CloseEarly).await;
        let (result, _) = Setup::new(&[closing.address]).send(&mut get()).await;
        assert_eq!(refused(&result), Refusal::TryAnother);
    })
    .await;
}

#[tokio::test]
async fn slow_and_broken_instances() {
    local(async {
        let live = Instance::start("live", Stub::Answer).await;
        for (stub, code) in [(Stub::Silent, 504), (Stub::Garbage, 502)] {
            let bad = Instance::start("bad", stub).await;
            let setup = Setup::new(&[bad.address.clone(), live.address.clone()]);
            let (result, trace) = setup.send(&mut get()).await;
            assert_eq!(refused(&result), status(code, false), "{stub:?}");
            assert_eq!(trace.tries, 1);
            assert_eq!(setup.in_flight(), [0, 0]);
        }
    })
    .await;
}

#[tokio::test]
async fn request_bodies_have_a_limit() {
    local(async {
        let live = Instance::start("live", Stub::Answer).await;
        let setup = Setup::new(std::slice::from_ref(&live.address));
        let chunks = |chunks: &[Result<&'static str, BodyError>]| {
            let mut request = post("");
            let chunks = chunks.iter().map(|chunk| chunk.map(Bytes::from)).collect();
            request.body = Body::stream(Chunks(chunks));
            request
        };
        let long: &'static str = "x".repeat(1001).leak();
        let (result, _) = setup.send(&mut post(&long[..1000])).await;
        assert!(result.is_ok());
        for (mut request, code) in [
            (post(long), 413),
            (chunks(&[Ok(&long[..500]), Ok(&long[..501])]), 413),
            (chunks(&[Ok("a"), Err(BodyError::Idle)]), 408),
            (chunks(&[Ok("a"), Err(BodyError::TooSlow)]), 408),
            (chunks(&[Ok("a"), Err(BodyError::Truncated)]), 400),
            (chunks(&[Ok("a"), Err(BodyError::Malformed)]), 400),
        ] {
            let (result, _) = setup.send(&mut request).await;
            assert_eq!(refused(&result), status(code, true));
        }
    })
    .await;
}

#[tokio::test]
async fn apps_cannot_speak_in_our_name() {
    local(async {
        let live = Instance::start("live", Stub::ClaimToBeUs).await;
        let setup = Setup::new(&[live.address]);
        let (result, _) = setup.send(&mut get()).await;
        assert!(!result.unwrap().headers.contains(TRY_ANOTHER));
    })
    .await;
}

#[tokio::test]
async fn requests_arrive_as_they_came() {
    local(async {
        let live = Instance::start("live", Stub::Answer).await;
        let setup = Setup::new(std::slice::from_ref(&live.address));
        let mut request = get();
        request.headers.append("X-Forwarded-For", "192.0.2.1");
        request.headers.append("X-Request-Id", "abc");
        setup.send(&mut request).await.0.unwrap();
        let head = live.last_head.borrow().clone();
        for line in [
            "GET /a?b HTTP/1.1\r\n",
            "Host: www.foobar.com\r\n",
            "X-Forwarded-For: 192.0.2.1\r\n",
            "X-Request-Id: abc\r\n",
        ] {
            assert!(head.contains(line), "{head}");
        }
    })
    .await;
}

#[tokio::test]
async fn upgraded_connections_count_until_they_close() {
    local(async {
        let echo = Instance::start("echo", Stub::Upgrade).await;
        let setup = Setup::new(&[echo.address]);
        let mut request = get();
        request.upgrade = Some("echo".into());
        let (result, _) = setup.send(&mut request).await;
        let mut response = result.unwrap();
        assert_eq!(response.status, StatusCode::SWITCHING_PROTOCOLS);
        let mut upgraded = response.body.take_upgrade().unwrap();
        assert_eq!(
            (upgraded.protocol.as_str(), setup.in_flight()),
            ("echo", vec![1])
        );
        upgraded.io.write_all(b"ping").await.unwrap();
        let mut echoed = [0; 4];
        upgraded.io.read_exact(&mut echoed).await.unwrap();
        assert_eq!(&echoed, b"ping");
        drop(upgraded);
        assert_eq!(setup.in_flight(), [0]);
    })
    .await;
}

#[tokio::test]
async fn a_change_of_instances_keeps_what_stays() {
    local(async {
        let one = Instance::start("web.1", Stub::Slow).await;
        let two = Instance::start("web.2", Stub::Answer).await;
        let setup = Setup::new(std::slice::from_ref(&one.address));
        let under_way = setup.send(&mut get()).await;
        let both = [two.address.clone(), one.address.clone()];
        assert!(setup.app.set_instances(&both));
        assert!(!setup.app.set_instances(&both), "nothing new");
        assert_eq!(setup.in_flight(), [0, 1]);
        assert_eq!(setup.get().await, "web.2");
        drop(under_way);
        assert_eq!(setup.in_flight(), [0, 0]);

        assert!(setup.app.set_instances(&[two.address]));
        for _ in 0..3 {
            assert_eq!(setup.get().await, "web.2");
        }
        setup.pools.reap();
        assert!(setup.app.set_instances(&[]));
        assert_eq!(
            refused(&setup.send(&mut get()).await.0),
            Refusal::TryAnother
        );
    })
    .await;
}

#[test]
fn apps_are_known_by_name() {
    let apps = Apps::default();
    let web = apps.get("web");
    assert!(Arc::ptr_eq(&web, &apps.get("web")));
    assert_ne!(web.number, apps.get("admin").number);
}
