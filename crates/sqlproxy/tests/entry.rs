//! The sql entry before stub servers, and a real driver before the sql entry.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;
use trilith_base::ServerName;
use trilith_net::{Workers, drain_pair};
use trilith_sqlproxy::{Options, SharedTargets, SqlProxy, Target, Targets, Tunnel};
use trilith_telemetry::Telemetry;
use trilith_tls::{ALPN_SQL, Ca, PeerIdentity};

mod support;
use support::*;

const STARTING_UP: &[u8] = b"E\x00\x00\x00\x20SFATAL\0C57P03\0Mstarting up\0\0";

/// A server that answers the startup packet with `answer`, then says its name, then echoes.
struct Stub {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Stub {
    async fn start(name: &'static str) -> Self {
        Self::start_at(NOWHERE, name, AUTH_OK).await
    }

    async fn start_at(address: SocketAddr, name: &'static str, answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve_stub(stream, name, answer));
            }
        });
        Self { address, task }
    }

    fn target(&self, name: &str, local: bool) -> Target {
        Target {
            name: ServerName::new(name).unwrap(),
            address: self.address,
            local,
        }
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve_stub(mut stream: TcpStream, name: &str, answer: &[u8]) -> std::io::Result<()> {
    let mut startup = [0; STARTUP.len()];
    stream.read_exact(&mut startup).await?;
    assert_eq!(startup, STARTUP);
    stream.write_all(answer).await?;
    if answer[0] == b'E' {
        return Ok(());
    }
    stream.write_all(name.as_bytes()).await?;
    let (mut read, mut write) = stream.split();
    tokio::io::copy(&mut read, &mut write).await?;
    // The client has finished; half a connection is still open.
    write.write_all(b"bye").await
}

/// An address where nobody listens.
async fn closed_address() -> SocketAddr {
    let listener = TcpListener::bind(NOWHERE).await.unwrap();
    listener.local_addr().unwrap()
}

/// Connects, starts a session, and tells the name of the server that took it.
async fn session(address: SocketAddr) -> (TcpStream, String) {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(STARTUP).await.unwrap();
    let mut answer = [0; AUTH_OK.len() + 3];
    client.read_exact(&mut answer).await.unwrap();
    let (auth, name) = answer.split_at(AUTH_OK.len());
    assert_eq!(auth, AUTH_OK);
    (client, String::from_utf8(name.to_vec()).unwrap())
}

async fn who(address: SocketAddr) -> String {
    session(address).await.1
}

#[tokio::test]
async fn reads_prefer_the_local_replica_then_others_then_the_primary() {
    let (one, two, three) = (
        Stub::start("one").await,
        Stub::start("two").await,
        Stub::start("thr").await,
    );
    let entry = Entry::start(
        Targets {
            replicas: vec![two.target("two", false), three.target("three", true)],
            ..led_by(one.target("one", false), 1)
        },
        fast,
    );
    let (rw, ro) = (
        entry.serving.primary_address(),
        entry.serving.replica_address(),
    );
    for _ in 0..4 {
        assert_eq!(who(rw).await, "one");
        assert_eq!(who(ro).await, "thr");
    }
    // The listening sockets close at once; what is in the snapshot is then out of date.
    let silent = |stub: &Stub| stub.task.abort();
    silent(&three);
    wait_closed(three.address).await;
    assert_eq!(who(ro).await, "two");
    silent(&two);
    wait_closed(two.address).await;
    assert_eq!(who(ro).await, "one");
    assert_eq!(entry.stats_of("three").sessions_total, 4);
    assert!(entry.stats_of("three").failures_total >= 2);
    assert_eq!(entry.stats_of("two").sessions_total, 1);
    let stats = entry.proxy.stats();
    assert_eq!((stats.read_write_total, stats.read_only_total), (4, 6));
    entry.stop().await;
}

async fn wait_closed(address: SocketAddr) {
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn reads_spread_over_replicas_elsewhere() {
    let (two, three) = (Stub::start("two").await, Stub::start("thr").await);
    let entry = Entry::start(
        Targets {
            replicas: vec![two.target("two", false), three.target("three", false)],
            ..Targets::default()
        },
        fast,
    );
    let mut seen = Vec::new();
    for _ in 0..16 {
        seen.push(who(entry.serving.replica_address()).await);
    }
    assert!(seen.contains(&"two".to_owned()) && seen.contains(&"thr".to_owned()));
    entry.stop().await;
}

#[tokio::test]
async fn a_client_is_held_until_the_primary_is_up() {
    let address = closed_address().await;
    let target = Target {
        name: ServerName::new("one").unwrap(),
        address,
        local: false,
    };
    let entry = Entry::start(led_by(target, 1), |options| {
        options.drain_timeout = Duration::ZERO
    });
    let held = tokio::spawn(who(entry.serving.primary_address()));
    let failed = |entry: &Entry| {
        let stats = entry.proxy.stats();
        stats
            .targets
            .first()
            .map_or(0, |target| target.failures_total)
    };
    until(|| failed(&entry) >= 1).await;
    // It listens, but is still recovering.
    let stub = Stub::start_at(address, "one", STARTING_UP).await;
    let before = failed(&entry);
    until(|| failed(&entry) >= before + 2).await;
    assert_eq!(entry.proxy.stats().held, 1);
    drop(stub);
    wait_closed(address).await;
    let _stub = Stub::start_at(address, "one", AUTH_OK).await;
    assert_eq!(held.await.unwrap(), "one");
    entry.stop().await;
}

#[tokio::test]
async fn new_targets_are_seen_while_a_client_is_held() {
    let entry = Entry::start(Targets::default(), |options| {
        options.drain_timeout = Duration::ZERO;
    });
    let held = tokio::spawn(who(entry.serving.primary_address()));
    until(|| entry.proxy.stats().held == 1).await;
    let stub = Stub::start("one").await;
    entry.targets.store(led_by(stub.target("one", false), 1));
    assert_eq!(held.await.unwrap(), "one");
    entry.stop().await;
}

#[tokio::test]
async fn a_held_client_that_leaves_is_forgotten() {
    let entry = Entry::start(Targets::default(), |_| {});
    let mut client = TcpStream::connect(entry.serving.primary_address())
        .await
        .unwrap();
    client.write_all(STARTUP).await.unwrap();
    until(|| entry.proxy.stats().held == 1).await;
    drop(client);
    until(|| entry.proxy.stats().open == 0).await;
    assert_eq!(entry.proxy.stats().gave_up_total, 0);
    entry.stop().await;
}

#[tokio::test]
async fn a_driver_understands_the_error() {
    let target = Target {
        name: ServerName::new("one").unwrap(),
        address: closed_address().await,
        local: false,
    };
    let entry = Entry::start(led_by(target, 1), fast);
    let address = entry.serving.primary_address();
    // `prefer` makes the driver ask for SSL first.
    let url = format!("postgresql://app:x@{address}/app?sslmode=prefer");
    let error = tokio_postgres::connect(&url, NoTls).await.err().unwrap();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "57P03");
    assert_eq!(error.message(), "the database primary cannot be reached");
    assert!(
        error.detail().unwrap().contains("Connection refused"),
        "{error:?}"
    );
    assert!(error.hint().unwrap().contains("trilith status"));
    assert_eq!(entry.proxy.stats().gave_up_total, 1);
    entry.stop().await;
}

#[tokio::test]
async fn other_errors_of_the_server_reach_the_client() {
    const DENIED: &[u8] = b"E\x00\x00\x00\x1bSFATAL\0C28P01\0Mdenied\0\0";
    let stub = Stub::start_at(NOWHERE, "one", DENIED).await;
    let entry = Entry::start(led_by(stub.target("one", false), 1), fast);
    let mut client = TcpStream::connect(entry.serving.primary_address())
        .await
        .unwrap();
    client.write_all(STARTUP).await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, DENIED);
    entry.stop().await;
}

#[tokio::test]
async fn bytes_flow_both_ways_and_half_a_close_is_passed_on() {
    let stub = Stub::start("one").await;
    let entry = Entry::start(led_by(stub.target("one", false), 1), fast);
    let (client, _) = session(entry.serving.primary_address()).await;
    let (mut read, mut write) = client.into_split();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let expected = [&sent[..], b"bye"].concat();
    let writer = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
        write
    });
    let mut received = Vec::new();
    read.read_to_end(&mut received).await.unwrap();
    assert!(received == expected, "{} bytes", received.len());
    drop(writer.await.unwrap());
    until(|| entry.stats_of("one").open == 0).await;
    let stats = entry.stats_of("one");
    let startup = STARTUP.len() as u64;
    assert_eq!(stats.bytes_sent_total, 3_000_000 + startup);
    assert_eq!(
        stats.bytes_received_total,
        3_000_000 + (AUTH_OK.len() + "one".len() + "bye".len()) as u64
    );
    entry.stop().await;
}

#[tokio::test]
async fn cancel_requests_reach_every_server_that_may_have_the_session() {
    const CANCEL: &[u8] = b"\x00\x00\x00\x10\x04\xd2\x16\x2e\x00\x00\x00\x01\x00\x00\x00\x02";
    let listeners = [
        TcpListener::bind(NOWHERE).await.unwrap(),
        TcpListener::bind(NOWHERE).await.unwrap(),
    ];
    let target = |index: usize| Target {
        name: ServerName::new(&format!("s{index}")).unwrap(),
        address: listeners[index].local_addr().unwrap(),
        local: false,
    };
    let entry = Entry::start(
        Targets {
            replicas: vec![target(1)],
            ..led_by(target(0), 1)
        },
        fast,
    );
    let mut client = TcpStream::connect(entry.serving.replica_address())
        .await
        .unwrap();
    client.write_all(CANCEL).await.unwrap();
    for listener in [&listeners[1], &listeners[0]] {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; CANCEL.len()];
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(request, CANCEL);
    }
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(entry.proxy.stats().cancels_total, 1);
    entry.stop().await;
}

#[tokio::test]
async fn too_many_are_told_so() {
    let stub = Stub::start("one").await;
    let entry = Entry::start(led_by(stub.target("one", false), 1), |options| {
        fast(options);
        options.connections_max = 1;
    });
    let address = entry.serving.primary_address();
    let (first, _) = session(address).await;
    let url = format!("postgresql://app:x@{address}/app?sslmode=disable");
    let error = tokio_postgres::connect(&url, NoTls).await.err().unwrap();
    assert_eq!(error.as_db_error().unwrap().code().code(), "53300");
    assert_eq!(entry.proxy.stats().refused_total, 1);
    drop(first);
    until(|| entry.proxy.stats().open == 0).await;
    entry.stop().await;
}

#[tokio::test]
async fn a_drain_lets_sessions_finish_and_then_closes_them() {
    let stub = Stub::start("one").await;
    let entry = Entry::start(led_by(stub.target("one", false), 1), |options| {
        options.drain_timeout = Duration::from_millis(500)
    });
    let address = entry.serving.primary_address();
    let (mut client, _) = session(address).await;
    entry.drain.start();
    wait_closed(address).await;
    client.write_all(b"still here").await.unwrap();
    let mut echo = [0; 10];
    client.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"still here");
    // After the drain timeout the connection ends, one way or the other.
    assert_eq!(client.read(&mut echo).await.unwrap_or(0), 0);
    entry.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let taken = TcpListener::bind(NOWHERE).await.unwrap();
    let address = taken.local_addr().unwrap();
    let workers = Workers::start(1, "sql").unwrap();
    let targets = SharedTargets::new(Targets::default());
    let telemetry = Telemetry::new("me");
    let proxy = SqlProxy::new(Options::new(NOWHERE, address), targets, &telemetry);
    let (_trigger, drain) = drain_pair();
    let error = proxy.serve(&workers, drain).err().unwrap().to_string();
    assert!(error.contains("ports.sql_replica"), "{error}");
    workers.stop().await;
}

#[tokio::test]
async fn other_servers_are_reached_under_mutual_tls() {
    let folder = tempfile::tempdir().unwrap();
    let now = std::time::SystemTime::now();
    let ca = Ca::create(folder.path(), "test", now).unwrap();
    let identity = |name: &str| {
        let name = ServerName::new(name).unwrap();
        PeerIdentity::issue(&ca, &name, NOWHERE.ip(), now).unwrap()
    };
    let (far, near) = (Stub::start("far").await, Stub::start("mee").await);
    let (port, task) = cluster_port(&identity("far"), far.address).await;
    let tunnel = Tunnel {
        tls: identity("mee").client_config(ALPN_SQL).unwrap(),
        port,
    };
    let mut primary = far.target("far", false);
    // Only the cluster port leads there.
    primary.address.set_port(1);
    let targets = Targets {
        replicas: vec![near.target("mee", true)],
        ..led_by(primary.clone(), 1)
    };
    let entry = Entry::start(targets, |options| {
        fast(options);
        options.tunnel = Some(tunnel);
    });
    assert_eq!(who(entry.serving.replica_address()).await, "mee");
    let (mut client, name) = session(entry.serving.primary_address()).await;
    assert_eq!(name, "far");
    // More than any buffer on the way, echoed.
    let sent: Vec<u8> = (0..3_000_000_u32).map(|i| i.to_le_bytes()[0]).collect();
    let (mut read, mut write) = client.split();
    let send = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let receive = read.read_to_end(&mut received);
    tokio::join!(send, async { receive.await.unwrap() });
    assert_eq!(received.len(), sent.len() + 3);
    assert!(received.starts_with(&sent) && received.ends_with(b"bye"));
    drop(client);

    // Somebody else with a certificate of the same CA is not that server.
    primary.name = ServerName::new("who").unwrap();
    entry.targets.store(led_by(primary, 1));
    let mut client = TcpStream::connect(entry.serving.primary_address())
        .await
        .unwrap();
    client.write_all(STARTUP).await.unwrap();
    let mut told = Vec::new();
    client.read_to_end(&mut told).await.unwrap();
    let told = String::from_utf8_lossy(&told);
    assert!(
        told.contains("57P03") && told.contains("not valid for name"),
        "{told}"
    );
    entry.stop().await;
    task.abort();
}
