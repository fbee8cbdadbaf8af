//! The sql entry while the primary changes: whose sessions end, how, and who is waited for.
#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use trilith_base::ServerName;
use trilith_sqlproxy::{Options, Targets, Tunnel};
use trilith_tls::{ALPN_SQL, Ca, PeerIdentity};

mod support;
use support::*;

/// ReadyForQuery, idle.
const READY: &[u8] = b"Z\x00\x00\x00\x05I";
/// What `pg_hba.conf` without a line for the client leads to.
const NOT_LET_IN: &[u8] =
    b"E\x00\x00\x00\x3fSFATAL\0C28000\0Mno pg_hba.conf entry\0RClientAuthentication\0\0";

/// A PostgreSQL played by the test.
struct Server {
    name: &'static str,
    listener: TcpListener,
}

impl Server {
    async fn start(name: &'static str) -> Self {
        // Room for all clients of a test at once: the kernel would put the others off for a second.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(NOWHERE).unwrap();
        let listener = socket.listen(1024).unwrap();
        Self { name, listener }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    fn led(&self, epoch: u64) -> Targets {
        led_by(target(self.name, self.address()), epoch)
    }

    /// The next connection, once it has sent its startup packet.
    async fn accept(&self) -> TcpStream {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut startup = [0; STARTUP.len()];
        stream.read_exact(&mut startup).await.unwrap();
        assert_eq!(startup, STARTUP);
        stream
    }

    /// Lets the next client in.
    async fn serve(&self) -> TcpStream {
        let mut stream = self.accept().await;
        stream.write_all(AUTH_OK).await.unwrap();
        stream.write_all(READY).await.unwrap();
        stream
    }

    /// A session of a new client at that port, which has to come here.
    async fn session(&self, port: SocketAddr) -> (TcpStream, TcpStream) {
        let mut client = begin(port).await;
        let server = self.serve().await;
        is_let_in(&mut client).await;
        (client, server)
    }

    /// Nobody has connected meanwhile.
    async fn is_alone(&self) -> bool {
        timeout(Duration::ZERO, self.listener.accept())
            .await
            .is_err()
    }
}

async fn begin(port: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(port).await.unwrap();
    client.write_all(STARTUP).await.unwrap();
    client
}

async fn is_let_in(client: &mut TcpStream) {
    let mut answer = [0; AUTH_OK.len() + READY.len()];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, [AUTH_OK, READY].concat()[..]);
}

/// Bytes reach the other end both ways.
async fn works(client: &mut TcpStream, server: &mut TcpStream) {
    let mut word = [0; 4];
    client.write_all(b"ping").await.unwrap();
    server.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"ping");
    // An EmptyQueryResponse.
    server.write_all(b"I\0\0\0\x04").await.unwrap();
    let mut answer = [0; 5];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"I\0\0\0\x04");
}

/// What the client is told last is one whole FATAL error, then the connection ends.
async fn is_told(client: &mut TcpStream) {
    let mut told = Vec::new();
    client.read_to_end(&mut told).await.unwrap();
    assert_eq!(told[0], b'E');
    let length = u32::from_be_bytes(told[1..5].try_into().unwrap());
    assert_eq!(length as usize + 1, told.len());
    let text = String::from_utf8(told[5..].to_vec()).unwrap();
    for field in [
        "SFATAL\0",
        "VFATAL\0",
        "C57P01\0",
        "Mthe connection was closed because the database primary changed; connect again\0",
    ] {
        assert!(text.contains(field), "{text:?}");
    }
}

/// The deposed primary loses the connection with everything in it.
async fn is_reset(server: &mut TcpStream) {
    let error = server.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// Held for as long as any test may take.
fn patient(options: &mut Options) {
    options.hold_timeout = Duration::from_secs(600);
    options.drain_timeout = Duration::ZERO;
}

#[tokio::test]
async fn idle_clients_are_told_that_the_primary_changed() {
    let (one, two) = (Server::start("one").await, Server::start("two").await);
    let entry = Entry::start(one.led(1), patient);
    let port = entry.serving.primary_address();
    let turns = [
        // To another server.
        (&one, one.led(1), two.led(2)),
        // To nobody.
        (&two, two.led(2), Targets::default()),
        // To the same one under another grant.
        (&one, one.led(3), one.led(4)),
    ];
    for (at, now, next) in turns {
        entry.targets.store(now);
        let (mut client, mut server) = at.session(port).await;
        works(&mut client, &mut server).await;
        entry.targets.store(next);
        is_told(&mut client).await;
        is_reset(&mut server).await;
    }
    until(|| entry.proxy.stats().open == 0).await;
    let stats = entry.proxy.stats();
    assert_eq!((stats.cut_total, stats.gave_up_total), (3, 0));
    let metrics = entry.telemetry.metrics_text().encode();
    for line in [
        "trilith_sql_cut_total{} 3\n",
        "trilith_sql_held{} 0\n",
        "trilith_sql_server_sessions_total{server=\"one\"} 2\n",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    entry.stop().await;
}

#[tokio::test]
async fn a_client_in_the_middle_of_a_message_sees_the_connection_close() {
    let one = Server::start("one").await;
    let entry = Entry::start(one.led(1), patient);
    let (mut client, mut server) = one.session(entry.serving.primary_address()).await;
    // A DataRow of which half has come.
    server.write_all(b"D\0\0\0\x10half").await.unwrap();
    let mut half = [0; 9];
    client.read_exact(&mut half).await.unwrap();
    entry.targets.store(one.led(2));
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "{rest:?}");
    is_reset(&mut server).await;
    assert_eq!(entry.proxy.stats().cut_total, 1);
    entry.stop().await;
}

#[tokio::test]
async fn a_client_that_is_sending_still_gets_to_know() {
    let one = Server::start("one").await;
    let entry = Entry::start(one.led(1), patient);
    let (client, mut server) = one.session(entry.serving.primary_address()).await;
    let (mut read, mut write) = client.into_split();
    let sending =
        tokio::spawn(async move { while write.write_all(&[b'd'; 65_536]).await.is_ok() {} });
    // The server takes some of it, and no more.
    server.read_exact(&mut [0; 100_000]).await.unwrap();
    entry.targets.store(Targets::default());
    let mut kind = [0];
    read.read_exact(&mut kind).await.unwrap();
    assert_eq!(kind, *b"E");
    sending.await.unwrap();
    drop(read);
    until(|| entry.proxy.stats().open == 0).await;
    entry.stop().await;
}

#[tokio::test]
async fn a_session_that_is_never_idle_is_cut_and_so_is_one_that_reads_nothing() {
    let one = Server::start("one").await;
    let entry = Entry::start(one.led(1), patient);
    let port = entry.serving.primary_address();
    let (mut reading, busy) = one.session(port).await;
    let (silent, full) = one.session(port).await;
    let flood = |mut server: TcpStream| {
        tokio::spawn(async move {
            let rows = b"D\0\0\0\x0612".repeat(10_000);
            while server.write_all(&rows).await.is_ok() {}
        })
    };
    let floods = [flood(busy), flood(full)];
    let received = || entry.stats_of("one").bytes_received_total;
    let reading = tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while reading.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
    });
    until(|| received() > 10_000_000).await;
    entry.targets.store(one.led(2));
    for flood in floods {
        flood.await.unwrap();
    }
    reading.await.unwrap();
    // Nobody waits for the one that does not read.
    until(|| entry.proxy.stats().open == 0).await;
    assert_eq!(entry.proxy.stats().cut_total, 2);
    drop(silent);
    entry.stop().await;
}

#[tokio::test]
async fn a_primary_that_is_closed_keeps_its_sessions_and_gets_no_new_ones() {
    let one = Server::start("one").await;
    let entry = Entry::start(one.led(1), patient);
    let port = entry.serving.primary_address();
    let (mut client, mut server) = one.session(port).await;
    let closed = Targets {
        primary: None,
        ..one.led(1)
    };
    entry.targets.store(closed);
    let mut held = begin(port).await;
    until(|| entry.proxy.stats().held == 1).await;
    works(&mut client, &mut server).await;
    assert!(one.is_alone().await);
    entry.targets.store(one.led(1));
    let mut other = one.serve().await;
    is_let_in(&mut held).await;
    works(&mut held, &mut other).await;
    works(&mut client, &mut server).await;
    assert_eq!(entry.proxy.stats().cut_total, 0);
    entry.stop().await;
}

#[tokio::test]
async fn held_clients_go_to_the_new_primary_when_there_is_one() {
    let (one, two) = (Server::start("one").await, Server::start("two").await);
    let entry = Entry::start(Targets::default(), patient);
    // Two ports, two workers; nothing but the change can wake them.
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(begin(entry.serving.primary_address()).await);
        clients.push(begin(entry.serving.replica_address()).await);
    }
    until(|| entry.proxy.stats().held == 16).await;
    // A primary that the lease does not name is not waited for, and not tried.
    entry.targets.store(Targets {
        primary: one.led(0).primary,
        ..two.led(2)
    });
    entry.targets.store(two.led(2));
    let mut servers = Vec::new();
    for client in &mut clients {
        servers.push(two.serve().await);
        // In whatever order they came.
        let _ = client;
    }
    for client in &mut clients {
        is_let_in(client).await;
    }
    let stats = entry.proxy.stats();
    assert_eq!((stats.held, stats.gave_up_total), (0, 0));
    assert_eq!(entry.stats_of("two").sessions_total, 16);
    assert!(one.is_alone().await);
    entry.stop().await;
}

#[tokio::test]
async fn nobody_waits_for_the_answer_of_a_deposed_primary() {
    let (one, two) = (Server::start("one").await, Server::start("two").await);
    let entry = Entry::start(one.led(1), |options| {
        patient(options);
        options.answer_timeout = Duration::from_secs(600);
    });
    let mut client = begin(entry.serving.primary_address()).await;
    let mut asked = one.accept().await;
    entry.targets.store(two.led(2));
    let mut server = two.serve().await;
    is_let_in(&mut client).await;
    works(&mut client, &mut server).await;
    assert_eq!(asked.read(&mut [0]).await.unwrap_or(0), 0);
    entry.stop().await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_asked_again() {
    let one = Server::start("one").await;
    let entry = Entry::start(one.led(1), |options| {
        patient(options);
        options.answer_timeout = Duration::from_millis(100);
    });
    let mut client = begin(entry.serving.primary_address()).await;
    let silent = one.accept().await;
    let mut server = one.serve().await;
    is_let_in(&mut client).await;
    works(&mut client, &mut server).await;
    drop(silent);
    assert_eq!(entry.stats_of("one").failures_total, 1);
    entry.stop().await;
}

#[tokio::test]
async fn readers_at_the_primary_are_cut_and_those_at_a_replica_stay() {
    let (one, two) = (Server::start("one").await, Server::start("two").await);
    let entry = Entry::start(one.led(1), patient);
    let port = entry.serving.replica_address();
    let (mut fallen_back, mut at_one) = one.session(port).await;
    let replica = || vec![target("two", two.address())];
    entry.targets.store(Targets {
        replicas: replica(),
        ..one.led(1)
    });
    let (mut reader, mut at_two) = two.session(port).await;
    works(&mut fallen_back, &mut at_one).await;

    entry.targets.store(Targets {
        replicas: replica(),
        ..Targets::default()
    });
    is_told(&mut fallen_back).await;
    is_reset(&mut at_one).await;
    works(&mut reader, &mut at_two).await;
    // Its server becomes the primary: it can only see more.
    entry.targets.store(two.led(2));
    works(&mut reader, &mut at_two).await;
    // But now it could write, and does not survive that.
    entry.targets.store(one.led(3));
    is_told(&mut reader).await;
    is_reset(&mut at_two).await;
    assert_eq!(entry.proxy.stats().cut_total, 2);
    entry.stop().await;
}

#[tokio::test]
async fn many_sessions_are_cut_at_once_and_nothing_is_left() {
    const COUNT: usize = 200;
    let (one, two) = (Server::start("one").await, Server::start("two").await);
    let entry = Entry::start(one.led(1), patient);
    let port = entry.serving.primary_address();
    let mut sessions = Vec::new();
    for _ in 0..COUNT {
        sessions.push(one.session(port).await);
    }
    entry.targets.store(two.led(2));
    // They all come back before the first of them has been looked at.
    let mut again = Vec::new();
    for _ in 0..COUNT {
        again.push(begin(port).await);
    }
    for (client, server) in &mut sessions {
        is_told(client).await;
        is_reset(server).await;
    }
    drop(sessions);
    let mut servers = Vec::new();
    for _ in 0..COUNT {
        servers.push(two.serve().await);
    }
    for client in &mut again {
        is_let_in(client).await;
    }
    // Those that were cut are over: these are open, and no more.
    until(|| entry.proxy.stats().open == COUNT as u64).await;
    assert_eq!(entry.proxy.stats().cut_total, COUNT as u64);
    assert_eq!(entry.stats_of("one").open, 0);
    entry.targets.store(Targets::default());
    drop(again);
    until(|| entry.proxy.stats().open == 0).await;
    entry.stop().await;
}

#[tokio::test]
async fn a_client_is_held_while_the_primary_lets_nobody_in_yet() {
    let one = Server::start("one").await;
    let entry = Entry::start(one.led(1), patient);
    let mut client = begin(entry.serving.primary_address()).await;
    for _ in 0..3 {
        one.accept().await.write_all(NOT_LET_IN).await.unwrap();
    }
    let mut server = one.serve().await;
    is_let_in(&mut client).await;
    works(&mut client, &mut server).await;
    assert_eq!(entry.stats_of("one").failures_total, 3);
    entry.stop().await;
}

#[tokio::test]
async fn a_client_that_is_never_let_in_gets_to_know_why() {
    let one = Server::start("one").await;
    let entry = Entry::start(one.led(1), patient);
    let mut client = begin(entry.serving.primary_address()).await;
    let refusing = tokio::spawn(async move {
        loop {
            one.accept().await.write_all(NOT_LET_IN).await.unwrap();
        }
    });
    let mut told = Vec::new();
    client.read_to_end(&mut told).await.unwrap();
    assert_eq!(told, NOT_LET_IN);
    refusing.abort();
    entry.stop().await;
}

#[tokio::test]
async fn cancel_requests_do_not_go_to_a_deposed_primary() {
    const CANCEL: &[u8] = b"\x00\x00\x00\x10\x04\xd2\x16\x2e\x00\x00\x00\x01\x00\x00\x00\x02";
    let (one, two) = (Server::start("one").await, Server::start("two").await);
    let entry = Entry::start(
        Targets {
            primary: one.led(0).primary,
            ..two.led(2)
        },
        patient,
    );
    let port = entry.serving.primary_address();
    let cancel = || async {
        let mut client = TcpStream::connect(port).await.unwrap();
        client.write_all(CANCEL).await.unwrap();
        client
    };
    let ended = |mut client: TcpStream| async move {
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    };
    ended(cancel().await).await;
    assert!(one.is_alone().await);
    // One that is deposed while it is being asked is left alone.
    entry.targets.store(one.led(3));
    let client = cancel().await;
    let (mut asked, _) = one.listener.accept().await.unwrap();
    entry.targets.store(Targets::default());
    ended(client).await;
    let mut request = Vec::new();
    let _ = asked.read_to_end(&mut request).await;
    assert!(CANCEL.starts_with(&request));
    entry.stop().await;
}

#[tokio::test]
async fn sessions_through_the_tunnel_are_cut_too() {
    let folder = tempfile::tempdir().unwrap();
    let now = std::time::SystemTime::now();
    let ca = Ca::create(folder.path(), "test", now).unwrap();
    let identity = |name: &str| {
        let name = ServerName::new(name).unwrap();
        PeerIdentity::issue(&ca, &name, NOWHERE.ip(), now).unwrap()
    };
    let far = Server::start("far").await;
    let (port, task) = cluster_port(&identity("far"), far.address()).await;
    let entry = Entry::start(far.led(1), |options| {
        patient(options);
        options.tunnel = Some(Tunnel {
            tls: identity("mee").client_config(ALPN_SQL).unwrap(),
            port,
        });
    });
    let (mut client, mut server) = far.session(entry.serving.primary_address()).await;
    works(&mut client, &mut server).await;
    entry.targets.store(Targets::default());
    is_told(&mut client).await;
    // The cluster port notices, and closes what it led to.
    assert_eq!(server.read(&mut [0]).await.unwrap_or(0), 0);
    assert_eq!(entry.proxy.stats().cut_total, 1);
    entry.stop().await;
    task.abort();
}
