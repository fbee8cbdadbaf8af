//! The cluster's own web servers: in this process, and over mTLS.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use support::*;
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use trilith_base::ServerName;
use trilith_edge::{Action, Algorithm, Mode, Options, PeerTls, Site, WebServer};
use trilith_http::{ConnInfo, ServerOptions, serve_connection};
use trilith_net::{ConnectionLimit, DrainTrigger, Workers, accept_loop, drain_pair, listen_each};
use trilith_telemetry::Telemetry;
use trilith_tls::{ALPN_HTTP, Ca, PeerIdentity, peer_name};
use trilith_web::{InstanceAddr, InternalHandler, RouteOptions, SiteOptions, Web, WebWorker};

fn name(name: &str) -> ServerName {
    ServerName::new(name).unwrap()
}

/// `/static/*` are files, `/*` is the app `web`.
fn web(code: &Path) -> Arc<Web> {
    let routes = vec![
        RouteOptions::new(
            "/static/*".parse().unwrap(),
            trilith_web::Action::Files("public".into()),
        ),
        RouteOptions::new(
            "/*".parse().unwrap(),
            trilith_web::Action::App("web".to_owned()),
        ),
    ];
    let site = SiteOptions {
        host: HOST.to_owned(),
        routes,
        ..SiteOptions::default()
    };
    let options = trilith_web::Options::new(code, vec![site]);
    Web::new(options, Telemetry::new("web")).unwrap()
}

fn run_app(web: &Web, instance: &Stub) {
    let instance = InstanceAddr {
        id: "web.1".to_owned(),
        address: instance.address,
    };
    web.set_instances("web", &[instance]);
}

/// Another server of the cluster: its web server behind mTLS.
struct Peer {
    web: Arc<Web>,
    address: SocketAddr,
    workers: Workers,
    _drain: DrainTrigger,
}

impl Peer {
    fn start(web: Arc<Web>, config: Arc<ServerConfig>) -> Self {
        let listener = listen_each(([127, 0, 0, 1], 0).into(), 1, 64)
            .unwrap()
            .remove(0);
        let address = listener.local_addr().unwrap();
        let workers = Workers::start(1, "peer").unwrap();
        let (trigger, drain) = drain_pair();
        let served = web.clone();
        workers.spawn_on(0, move || async move {
            let metrics = Telemetry::new("peer").worker();
            let worker = WebWorker::new(&served, &metrics);
            let handler = Rc::new(InternalHandler::new(served, worker));
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let limit = ConnectionLimit::new(1_000, 0);
            let for_connections = drain.clone();
            accept_loop(listener, drain, limit, move |stream, peer, permit| {
                let config = TlsAcceptor::from(config.clone());
                let (handler, drain) = (handler.clone(), for_connections.clone());
                tokio::task::spawn_local(async move {
                    let Ok(stream) = config.accept(stream).await else {
                        return;
                    };
                    let mut conn = ConnInfo::unknown();
                    conn.remote = peer;
                    let options = ServerOptions::default();
                    serve_connection(stream, Rc::new(conn), &*handler, &options, &drain).await;
                    drop(permit);
                });
            })
            .await;
        });
        Self {
            web,
            address,
            workers,
            _drain: trigger,
        }
    }

    async fn kill(self) {
        self.workers.stop().await;
    }
}

fn options(peer: &Peer, identity: &PeerIdentity) -> Options {
    let mut options = Options::new(name("one"));
    options.sites.push(Site {
        host: HOST.to_owned(),
        aliases: Vec::new(),
        https_redirect: false,
        routes: vec![
            route(
                "/static/*",
                Action::Files {
                    balance: Algorithm::RoundRobin,
                    mode: Mode::ActiveActive,
                },
            ),
            route(
                "/*",
                Action::App {
                    app: "web".to_owned(),
                    balance: Algorithm::RoundRobin,
                    mode: Mode::ActiveActive,
                },
            ),
        ],
    });
    let config = identity.client_config(ALPN_HTTP).unwrap();
    options.web_servers = [("one", nobody()), ("two", peer.address)]
        .map(|(server, address)| WebServer {
            name: name(server),
            address,
            tls: Some(PeerTls {
                config: config.clone(),
                server_name: peer_name(&name(server)),
            }),
        })
        .into();
    options.web_health = quick_policy();
    options
}

struct Cluster {
    lab: Lab,
    here: Arc<Web>,
    peer: Peer,
    /// Instances of the app: `a` on this server, `b` on the other.
    instances: [Stub; 2],
    _dir: tempfile::TempDir,
}

impl Cluster {
    async fn start(here_is_web: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let code = dir.path().join("code");
        std::fs::create_dir_all(code.join("public")).unwrap();
        std::fs::write(code.join("public/a.txt"), "a file").unwrap();
        let now = SystemTime::now();
        let ca = Ca::create(&dir.path().join("ca"), "lab", now).unwrap();
        let identity =
            |server| PeerIdentity::issue(&ca, &name(server), [127, 0, 0, 1].into(), now).unwrap();
        let instances = [Stub::start("a").await, Stub::start("b").await];
        let (here, there) = (web(&code), web(&code));
        run_app(&here, &instances[0]);
        run_app(&there, &instances[1]);
        let peer = Peer::start(there, identity("two").server_config().unwrap());
        let options = options(&peer, &identity("one"));
        let lab = Lab::start_with(options, here_is_web.then(|| here.clone()), None);
        Self {
            lab,
            here,
            peer,
            instances,
            _dir: dir,
        }
    }

    async fn ask(&self) -> String {
        let reply = get(self.lab.address, "/").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.header("trilith-try-another"), None);
        reply.body.lines().next().unwrap().to_owned()
    }

    async fn ask_times(&self, times: usize) -> Vec<String> {
        let mut servers = Vec::new();
        for _ in 0..times {
            servers.push(self.ask().await);
        }
        servers
    }
}

#[tokio::test]
async fn balances_over_this_process_and_a_peer() {
    let cluster = Cluster::start(true).await;
    cluster
        .lab
        .until(|pool| pool.servers.iter().all(usable))
        .await;
    let servers = cluster.ask_times(20).await;
    assert_eq!(servers.iter().filter(|s| *s == "a").count(), 10);
    assert_eq!(servers.iter().filter(|s| *s == "b").count(), 10);
    for instance in &cluster.instances {
        let head = instance.last_head();
        assert!(head.contains("Host: www.foobar.com\r\n"), "{head}");
        assert!(head.contains("X-Forwarded-For: 127.0.0.1\r\n"), "{head}");
    }
    let status = cluster.lab.edge.status();
    assert!(status[0].servers[0].is_local && !status[0].servers[1].is_local);
    cluster.lab.finish().await;
    cluster.peer.kill().await;
}

#[tokio::test]
async fn a_peer_that_dies_is_not_missed() {
    let cluster = Cluster::start(true).await;
    cluster
        .lab
        .until(|pool| pool.servers.iter().all(usable))
        .await;
    cluster.ask_times(4).await;
    let Cluster { lab, peer, .. } = cluster;
    peer.kill().await;
    for _ in 0..20 {
        let reply = get(lab.address, "/").await;
        assert_eq!(reply.status, 200);
        assert!(reply.body.starts_with("a\n"));
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_web_server_that_cannot_serve_passes_on() {
    let cluster = Cluster::start(true).await;
    cluster
        .lab
        .until(|pool| pool.servers.iter().all(usable))
        .await;
    // Neither checks nor clients are told before: the web server itself says so, and the request
    // goes on.
    cluster.here.set_instances("web", &[]);
    assert_eq!(cluster.ask_times(6).await, ["b"; 6]);
    run_app(&cluster.here, &cluster.instances[0]);
    cluster.peer.web.set_draining(true);
    assert_eq!(cluster.ask_times(6).await, ["a"; 6]);
    // Nobody at all: the request waits, and then there is somebody.
    cluster.here.set_instances("web", &[]);
    let waiting = tokio::spawn(get(cluster.lab.address, "/"));
    cluster.lab.until(|pool| pool.waiting == 1).await;
    cluster.peer.web.set_draining(false);
    assert_eq!(waiting.await.unwrap().status, 200);
    cluster.lab.finish().await;
    cluster.peer.kill().await;
}

#[tokio::test]
async fn a_body_goes_along_to_the_next_web_server() {
    let cluster = Cluster::start(true).await;
    cluster
        .lab
        .until(|pool| pool.servers.iter().all(usable))
        .await;
    for declines in [&cluster.here, &cluster.peer.web] {
        // In one piece, and in two, the second after the web server has declined.
        for pause in [0, 30] {
            run_app(&cluster.here, &cluster.instances[0]);
            run_app(&cluster.peer.web, &cluster.instances[1]);
            declines.set_instances("web", &[]);
            for _ in 0..2 {
                let mut stream = connect(cluster.lab.address).await;
                let head = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(pause)).await;
                let reply = exchange(&mut stream, "entry").await;
                assert_eq!(reply.status, 200, "{reply:?}");
                assert!(reply.body.ends_with("\r\n\r\nentry"), "{reply:?}");
            }
        }
    }
    cluster.lab.finish().await;
    cluster.peer.kill().await;
}

#[tokio::test]
async fn files_come_from_the_web_server_here() {
    let cluster = Cluster::start(true).await;
    cluster
        .lab
        .until(|pool| pool.servers.iter().all(usable))
        .await;
    cluster.peer.web.set_draining(true);
    for _ in 0..4 {
        let reply = get(cluster.lab.address, "/static/a.txt").await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "a file"));
    }
    assert_eq!(get(cluster.lab.address, "/static/none").await.status, 404);
    assert_eq!(cluster.lab.edge.status().len(), 1, "no pool for files");
    cluster.lab.finish().await;
    cluster.peer.kill().await;
}

#[tokio::test]
async fn an_edge_alone_asks_the_web_servers_for_files_too() {
    let cluster = Cluster::start(false).await;
    // "one" has no web server now: nobody listens at its address.
    let reply = get(cluster.lab.address, "/static/a.txt").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "a file"));
    assert_eq!(cluster.ask_times(4).await, ["b"; 4]);
    assert_eq!(cluster.lab.edge.status().len(), 2);
    cluster.lab.finish().await;
    cluster.peer.kill().await;
}

#[tokio::test]
async fn a_stranger_is_no_web_server() {
    // The peer's certificate is of another CA: nothing is sent to it.
    let cluster = Cluster::start(true).await;
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let ca = Ca::create(dir.path(), "other", now).unwrap();
    let stranger = PeerIdentity::issue(&ca, &name("two"), [127, 0, 0, 1].into(), now).unwrap();
    let fake = Peer::start(cluster.peer.web.clone(), stranger.server_config().unwrap());
    let mut options = cluster.lab.edge_options();
    options.web_servers[1].address = fake.address;
    let _ = cluster.lab.edge.replace(options).unwrap();
    assert_eq!(cluster.ask_times(6).await, ["a"; 6]);
    assert_eq!(cluster.instances[1].requests(), 0);
    cluster.lab.finish().await;
    fake.kill().await;
    cluster.peer.kill().await;
}
