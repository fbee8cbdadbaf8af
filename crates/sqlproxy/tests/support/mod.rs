//! What the tests of the sql entry share.
#![allow(dead_code, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use trilith_base::ServerName;
use trilith_net::{DrainTrigger, Workers, drain_pair};
use trilith_sqlproxy::{
    Options, Serving, SharedTargets, SqlProxy, Target, TargetStats, Targets, Tenure,
};
use trilith_telemetry::Telemetry;
use trilith_tls::{ALPN_SQL, PeerIdentity};

/// `user=app`, protocol 3.0.
pub const STARTUP: &[u8] = b"\x00\x00\x00\x12\x00\x03\x00\x00user\0app\0\0";
/// AuthenticationOk.
pub const AUTH_OK: &[u8] = b"R\x00\x00\x00\x08\x00\x00\x00\x00";

pub const NOWHERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

pub fn target(name: &str, address: SocketAddr) -> Target {
    Target {
        name: ServerName::new(name).unwrap(),
        address,
        local: false,
    }
}

/// That server holds the lease and takes sessions.
pub fn led_by(primary: Target, epoch: u64) -> Targets {
    Targets {
        tenure: Some(Tenure {
            server: primary.name.clone(),
            epoch,
        }),
        primary: Some(primary),
        replicas: Vec::new(),
    }
}

pub struct Entry {
    pub proxy: SqlProxy,
    pub serving: Serving,
    pub targets: SharedTargets,
    pub telemetry: Telemetry,
    pub drain: DrainTrigger,
    workers: Workers,
}

impl Entry {
    pub fn start(targets: Targets, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::new(NOWHERE, NOWHERE);
        change(&mut options);
        let workers = Workers::start(2, "sql").unwrap();
        let targets = SharedTargets::new(targets);
        let telemetry = Telemetry::new("me");
        let proxy = SqlProxy::new(options, targets.clone(), &telemetry);
        let (trigger, drain) = drain_pair();
        let serving = proxy.serve(&workers, drain).unwrap();
        Self {
            proxy,
            serving,
            targets,
            telemetry,
            drain: trigger,
            workers,
        }
    }

    pub async fn stop(self) {
        self.drain.start();
        self.serving.finished().await;
        assert_eq!(self.proxy.stats().open, 0);
        self.workers.stop().await;
    }

    pub fn stats_of(&self, name: &str) -> TargetStats {
        let stats = self.proxy.stats();
        let mut found = stats.targets.into_iter();
        found.find(|target| target.name.as_str() == name).unwrap()
    }
}

pub fn fast(options: &mut Options) {
    options.hold_timeout = Duration::from_millis(300);
    options.drain_timeout = Duration::from_millis(100);
}

/// Waits for something that another thread brings about. The test's own timeout bounds it.
pub async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .expect("it did not come about");
}

/// The cluster port of a server: takes TLS connections of peers and leads them to a stub.
pub async fn cluster_port(identity: &PeerIdentity, stub: SocketAddr) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind(NOWHERE).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tokio_rustls::TlsAcceptor::from(identity.server_config().unwrap());
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(ALPN_SQL));
                let mut postgres = TcpStream::connect(stub).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut postgres).await;
            });
        }
    });
    (port, task)
}
