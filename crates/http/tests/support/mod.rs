//! A server on loopback with a handler of the test's, and raw bytes to talk to it.
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "test helpers; each test file uses its part"
)]

use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use trilith_http::{
    ConnInfo, Handler, Outcome, Request, Response, ServerOptions, StatusCode, serve_connection,
};
use trilith_net::{Drain, DrainTrigger, drain_pair};

/// Runs a test on the kind of runtime that the data plane has.
pub fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(Default::default())
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(30), test)
            .await
            .unwrap()
    });
}

/// A server whose requests go to `answer`.
pub struct Server {
    pub address: SocketAddr,
    pub outcomes: Rc<RefCell<Vec<Outcome>>>,
    pub rejected: Rc<RefCell<Vec<(StatusCode, &'static str)>>>,
    /// Connections that have ended.
    pub ended: Rc<RefCell<usize>>,
    trigger: Option<DrainTrigger>,
}

struct FnHandler<F> {
    answer: F,
    outcomes: Rc<RefCell<Vec<Outcome>>>,
    rejected: Rc<RefCell<Vec<(StatusCode, &'static str)>>>,
}

impl<F, Fut> Handler for FnHandler<F>
where
    F: Fn(Request) -> Fut,
    Fut: Future<Output = Response>,
{
    type Record = ();

    async fn handle(&self, request: Request) -> (Response, ()) {
        ((self.answer)(request).await, ())
    }

    fn finished(&self, (): (), outcome: Outcome) {
        self.outcomes.borrow_mut().push(outcome);
    }

    fn rejected(&self, _: &ConnInfo, status: StatusCode, reason: &'static str) {
        self.rejected.borrow_mut().push((status, reason));
    }
}

impl Server {
    pub async fn start<F, Fut>(answer: F) -> Self
    where
        F: Fn(Request) -> Fut + 'static,
        Fut: Future<Output = Response> + 'static,
    {
        Self::start_with(ServerOptions::default(), answer).await
    }

    pub async fn start_with<F, Fut>(options: ServerOptions, answer: F) -> Self
    where
        F: Fn(Request) -> Fut + 'static,
        Fut: Future<Output = Response> + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (trigger, drain) = drain_pair();
        let outcomes = Rc::<RefCell<Vec<Outcome>>>::default();
        let rejected = Rc::<RefCell<Vec<_>>>::default();
        let ended = Rc::<RefCell<usize>>::default();
        let handler = Rc::new(FnHandler {
            answer,
            outcomes: outcomes.clone(),
            rejected: rejected.clone(),
        });
        tokio::task::spawn_local(accept(listener, handler, options, drain, ended.clone()));
        Self {
            address,
            outcomes,
            rejected,
            ended,
            trigger: Some(trigger),
        }
    }

    pub fn drain(&mut self) {
        self.trigger = None;
    }

    /// Sends `bytes`, half-closes, and reads until the server closes.
    pub async fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes.as_ref()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        String::from_utf8_lossy(&received).into_owned()
    }
}

async fn accept<F, Fut>(
    listener: TcpListener,
    handler: Rc<FnHandler<F>>,
    options: ServerOptions,
    drain: Drain,
    ended: Rc<RefCell<usize>>,
) where
    F: Fn(Request) -> Fut + 'static,
    Fut: Future<Output = Response> + 'static,
{
    while let Ok((stream, remote)) = listener.accept().await {
        let (handler, options, drain) = (handler.clone(), options.clone(), drain.clone());
        let ended = ended.clone();
        let local = stream.local_addr().unwrap();
        let conn = Rc::new(ConnInfo {
            remote,
            local,
            tls: None,
        });
        tokio::task::spawn_local(async move {
            serve_connection(stream, conn, &*handler, &options, &drain).await;
            *ended.borrow_mut() += 1;
        });
    }
}

/// Waits until `condition` holds.
pub async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Reads from `stream` until what was read ends with `end`.
pub async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut received = Vec::new();
    while !received.ends_with(end.as_bytes()) {
        let byte = stream.read_u8().await;
        let Ok(byte) = byte else {
            panic!("closed after {:?}", String::from_utf8_lossy(&received));
        };
        received.push(byte);
    }
    String::from_utf8_lossy(&received).into_owned()
}
