use std::time::SystemTime;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, TlsConnector, client};
use trilith_base::ServerName;
use trilith_tls::{ALPN_SQL, Ca, PeerIdentity, peer_name};

use super::*;

/// A session between a sql entry elsewhere and a PostgreSQL that echoes.
struct Session {
    entry: client::TlsStream<TcpStream>,
    postgres: TcpStream,
    forwarding: tokio::task::JoinHandle<()>,
}

impl Session {
    async fn start(epoch: &watch::Sender<Option<u64>>) -> Self {
        let name = ServerName::new("one").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let ca = Ca::create(dir.path(), "test", now).unwrap();
        let identity = PeerIdentity::issue(&ca, &name, [127, 0, 0, 1].into(), now).unwrap();
        let (near, far) = pair().await;
        let acceptor = TlsAcceptor::from(identity.server_config().unwrap());
        let connector = TlsConnector::from(identity.client_config(ALPN_SQL).unwrap());
        let (entry, tunnel) = tokio::join!(
            connector.connect(peer_name(&name), near),
            acceptor.accept(far)
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let forwarding = tokio::spawn(forward(tunnel.unwrap(), address, epoch.subscribe()));
        let (postgres, _) = listener.accept().await.unwrap();
        let mut session = Self {
            entry: entry.unwrap(),
            postgres,
            forwarding,
        };
        session.works().await;
        session
    }

    async fn works(&mut self) {
        let mut word = [0; 4];
        self.entry.write_all(b"ping").await.unwrap();
        self.entry.flush().await.unwrap();
        self.postgres.read_exact(&mut word).await.unwrap();
        self.postgres.write_all(b"pong").await.unwrap();
        self.entry.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"pong");
    }

    /// Both sides were reset, and nothing is left.
    async fn assert_cut(mut self) {
        self.forwarding.await.unwrap();
        let mut rest = Vec::new();
        for error in [
            self.postgres.read_to_end(&mut rest).await.unwrap_err(),
            self.entry.read_to_end(&mut rest).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        assert!(rest.is_empty());
    }
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(near, listener.accept());
    (near.unwrap(), far.unwrap().0)
}

#[tokio::test]
async fn sessions_end_with_the_epoch_they_began_under() {
    for next in [None, Some(8)] {
        let epoch = watch::Sender::new(Some(7));
        let mut session = Session::start(&epoch).await;
        // The same again is no change.
        epoch.send_replace(Some(7));
        session.works().await;
        epoch.send_replace(next);
        session.assert_cut().await;
    }
}

#[tokio::test]
async fn sessions_of_a_replica_last_until_it_has_been_the_primary() {
    let epoch = watch::Sender::new(None);
    let mut session = Session::start(&epoch).await;
    epoch.send_replace(Some(7));
    session.works().await;
    epoch.send_replace(None);
    session.assert_cut().await;
}

#[tokio::test]
async fn a_session_that_is_never_idle_is_cut_too() {
    let epoch = watch::Sender::new(Some(7));
    let Session {
        entry,
        postgres,
        forwarding,
    } = Session::start(&epoch).await;
    let (mut read, mut write) = postgres.into_split();
    let flood = tokio::spawn(async move { while write.write_all(&[0; 65_536]).await.is_ok() {} });
    let (mut entry_read, mut entry_write) = tokio::io::split(entry);
    let swallow = tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while entry_read.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
    });
    let send =
        tokio::spawn(async move { while entry_write.write_all(&[0; 65_536]).await.is_ok() {} });
    let mut buffer = vec![0; 1 << 20];
    read.read_exact(&mut buffer).await.unwrap();
    epoch.send_replace(Some(8));
    forwarding.await.unwrap();
    while read.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
    for task in [flood, swallow, send] {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn without_news_sessions_go_on() {
    let epoch = watch::Sender::new(None);
    let mut session = Session::start(&epoch).await;
    drop(epoch);
    session.works().await;
    drop(session.entry);
    session.forwarding.await.unwrap();
    assert_eq!(session.postgres.read(&mut [0]).await.unwrap_or(0), 0);
}
