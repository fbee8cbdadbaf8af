use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use trilith_app::ReleaseId;
use trilith_base::ServerName;
use trilith_net::{Workers, drain_pair};
use trilith_telemetry::Telemetry;

use super::*;

pub(crate) const TEXT: &str = r#"
[cluster]
name = "foobar"
data = "state"
secrets = "secrets"
[code]
path = "site"
[[server]]
name = "one"
address = "127.0.1.1"
[[server]]
name = "two"
address = "127.0.1.2"
[[server]]
name = "three"
address = "127.0.1.3"
[[site]]
host = "www.foobar.com"
tls = "internal"
https_redirect = false
[[site.route]]
path = "/hello"
respond = { body = "hello 1" }
[[site.route]]
path = "/legacy/*"
upstream = "legacy"
[[site.route]]
path = "/*"
app = "web"
[app.web]
run = "./server"
[[upstream]]
name = "legacy"
health = false
servers = ["127.0.0.1:9"]
"#;

/// A server that serves nothing to nobody yet.
pub(crate) struct House {
    pub dir: tempfile::TempDir,
    pub path: PathBuf,
    pub state: PathBuf,
    pub reloader: Arc<Reloader>,
    pub in_force: watch::Receiver<InForce>,
    pub web: Arc<Web>,
    pub edge: Arc<Edge>,
}

pub(crate) fn house(name: &str, text: &str) -> House {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trilith.toml");
    fs::write(&path, text).unwrap();
    for folder in ["site/public", "state"] {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    let now = SystemTime::now();
    let ca = Arc::new(Ca::create(&dir.path().join("secrets"), "foobar", now).unwrap());
    let config = Config::parse("trilith.toml", text, dir.path())
        .unwrap()
        .config;
    let server = config
        .server(&ServerName::new(name).unwrap())
        .unwrap()
        .clone();
    let identity = PeerIdentity::issue(&ca, &server.name, server.address, now).unwrap();
    let certificates = lower::tls::site_certificates(&config, &ca, now).unwrap();
    let site_certificates = SiteCertificates::new(&certificates);
    let telemetry = Telemetry::new(name);
    let site = dir.path().join("site");
    let web = Web::new(
        lower::web::options(&config, &site).unwrap(),
        telemetry.clone(),
    )
    .unwrap();
    let mut options =
        lower::edge::options(&config, &server, &identity, &site_certificates).unwrap();
    for listener in &mut options.listeners {
        listener.address.set_port(0);
    }
    let edge = Edge::new(options, Some(web.clone()), telemetry, None).unwrap();
    let in_force = watch::Sender::new(InForce {
        config: Arc::new(config),
        text: text.into(),
    });
    let receiver = in_force.subscribe();
    let reloader = Reloader::new(Parts {
        server,
        path: path.clone(),
        in_force,
        ca,
        identity,
        site_certificates,
        web: Some(web.clone()),
        release: Some(Release {
            id: ReleaseId::parse("0123456789ab").unwrap(),
            dir: site,
        }),
        edge: Some(edge.clone()),
    });
    House {
        state: dir.path().join("state"),
        dir,
        path,
        reloader,
        in_force: receiver,
        web,
        edge,
    }
}

impl House {
    async fn apply(&self, text: &str) -> Result<Applied, NodeError> {
        let config = self.reloader.parse(text).unwrap().config;
        self.reloader.apply(Arc::new(config), text.into()).await
    }

    /// What `/hello` answers by the config in force.
    pub fn hello(&self) -> String {
        let in_force = self.in_force.borrow();
        let route = &in_force.config.sites[0].routes[0];
        match &route.action {
            trilith_config::RouteAction::Respond { body, .. } => body.clone(),
            other => panic!("{other:?}"),
        }
    }
}

/// One request on an open connection; the body of the answer.
fn ask(stream: &mut TcpStream, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: www.foobar.com\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut seen = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk).unwrap();
        assert!(
            read > 0,
            "closed after {:?}",
            String::from_utf8_lossy(&seen)
        );
        seen.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&seen).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length: ")?
                .parse()
                .ok()
        });
        if length.is_some_and(|length: usize| body.len() >= length) {
            return body.to_owned();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_connection_sees_the_new_config_and_what_was_known_stays() {
    let house = house("one", TEXT);
    let workers = Workers::start(2, "worker").unwrap();
    let (drain, drained) = drain_pair();
    let running = house.edge.serve(&workers, drained).unwrap();
    let address = running.listeners().iter().find(|l| !l.tls).unwrap().address;
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    assert_eq!(ask(&mut stream, "/hello"), "hello 1");
    house.web.set_draining(true);
    let local = stream.local_addr().unwrap();

    for round in 2..=5 {
        let text = TEXT.replace("hello 1", &format!("hello {round}")).replace(
            "127.0.0.1:9\"",
            &format!("127.0.0.1:9\", \"127.0.0.1:{round}\""),
        );
        assert_eq!(house.apply(&text).await.unwrap(), Applied::default());
        assert_eq!(ask(&mut stream, "/hello"), format!("hello {round}"));
        assert_eq!(*house.in_force.borrow().text, *text);
    }
    assert_eq!(stream.local_addr().unwrap(), local);
    assert!(house.web.is_draining(), "a drain outlives a reload");
    let pools = house.edge.status();
    let legacy = pools
        .iter()
        .find(|pool| pool.name.contains("legacy"))
        .unwrap();
    assert_eq!(legacy.servers.len(), 2);

    drop(stream);
    drain.start();
    assert_eq!(running.finish().await.left, 0);
    workers.stop().await;
}

#[tokio::test]
async fn what_needs_a_restart_stays_and_is_told() {
    let house = house("one", TEXT);
    let changed = TEXT
        .replace(
            "[code]",
            "[ports]\nhttp = 8080\n[edge]\naccess_log = false\nretries = 7\n[code]",
        )
        .replace("run = \"./server\"", "run = \"./other\"")
        .replace("hello 1", "hello 2");
    let applied = house.apply(&changed).await.unwrap();
    assert_eq!(
        applied.restart,
        ["ports.http", "app.web.run", "edge.access_log"]
    );
    assert_eq!(house.hello(), "hello 2");
    let in_force = house.in_force.borrow().config.clone();
    assert_eq!((in_force.ports.http, in_force.edge.retries), (80, 7));
    assert!(in_force.edge.access_log);
    assert_eq!(house.reloader.latest().ports.http, 8080);
    // Back to how it was started: nothing waits any more.
    assert_eq!(house.apply(TEXT).await.unwrap(), Applied::default());
}

#[tokio::test]
async fn servers_come_and_go() {
    let house = house("one", TEXT);
    let four = "[[server]]\nname = \"four\"\naddress = \"127.0.1.4\"\nroles = [\"web\"]\n[[site]]";
    let applied = house.apply(&TEXT.replace("[[site]]", four)).await.unwrap();
    assert_eq!(applied, Applied::default());
    assert_eq!(house.in_force.borrow().config.servers.len(), 4);
    let pools = house.edge.status();
    let app = pools.iter().find(|pool| pool.name.contains("web")).unwrap();
    assert_eq!(app.servers.len(), 4);

    let without = TEXT.replace("name = \"one\"", "name = \"other\"");
    let error = house.apply(&without).await.unwrap_err();
    assert!(error.to_string().contains("no server `one`"), "{error}");
    assert_eq!(house.in_force.borrow().config.servers.len(), 4);
}

#[tokio::test]
async fn a_config_that_cannot_be_used_changes_nothing() {
    let house = house("one", TEXT);
    let missing = TEXT
        .replace(
            "tls = \"internal\"",
            "tls = { certificate = \"a.pem\", key = \"a.key\" }",
        )
        .replace("hello 1", "hello 2");
    let error = house.reloader.check(&missing).unwrap_err();
    assert!(error.to_string().contains("a.pem"), "{error}");
    assert!(house.apply(&missing).await.is_err());
    assert_eq!(house.hello(), "hello 1");
    assert_eq!(*house.in_force.borrow().text, *TEXT);

    for (from, to, says) in [
        ("retries", "retires", ""),
        ("path = \"site\"", "path = \"nowhere\"", "nowhere"),
        ("run = \"./server\"", "", "no command for the app `web`"),
        ("name = \"one\"", "name = \"other\"", "no server `one`"),
        ("respond = {", "respond = { stats = 1,", "unknown key"),
    ] {
        let text = TEXT.replacen(from, to, 1);
        if text == TEXT {
            continue;
        }
        let error = house.reloader.check(&text).unwrap_err();
        assert!(error.to_string().contains(says), "{says}: {error}");
    }
}

#[tokio::test]
async fn a_check_says_what_would_change_and_changes_nothing() {
    let house = house("one", TEXT);
    let checked = house
        .reloader
        .check(&TEXT.replace("hello 1", "hello 2"))
        .unwrap();
    assert_eq!(
        checked.changes.to_string(),
        "~ site[www.foobar.com].route[/hello].respond.body: \"hello 1\" -> \"hello 2\"\n"
    );
    assert_eq!(house.hello(), "hello 1");
}

#[test]
fn what_stays_is_what_the_key_table_says() {
    let everything = include_str!("../../../config/tests/good/everything.toml");
    let parse = |text: &str| {
        Config::parse("t.toml", text, Path::new("/srv"))
            .unwrap()
            .config
    };
    let started = parse(everything);
    // Numbers, words and lists: nearly every line with a value of its own.
    let changed = everything
        .replace("808", "818")
        .replace("= 10\n", "= 11\n")
        .replace("\"1m\"", "\"2m\"")
        .replace("\"5s\"", "\"6s\"")
        .replace("access_log = false", "access_log = true")
        .replace("20_000", "30_000")
        .replace("workers = 4", "workers = 5")
        .replace("instances = 4", "instances = 6")
        .replace("drain_timeout = \"2m\"", "drain_timeout = \"3m\"")
        .replace("\"release\"", "\"orphan\"")
        .replace("synchronous = \"off\"", "synchronous = \"quorum\"")
        .replace("path = \"site\"", "path = \"other\"")
        .replace("[\"edge\", \"web\"]", "[\"edge\", \"web\", \"db\"]")
        .replace("roles = []", "roles = [\"web\"]")
        .replace("retries = 0", "retries = 1")
        .replace("\"pong\"", "\"ping\"");
    let new = parse(&changed);
    for server in &started.servers {
        let all = diff(&started, &new);
        let restart = all.restart_of(&server.name);
        let effective = merge::effective(&started, &new, server);
        let stays: Vec<String> = diff(&effective, &new)
            .list
            .into_iter()
            .map(|c| c.path)
            .collect();
        let everybody: Vec<String> = all
            .list
            .iter()
            .filter(|change| change.effect != trilith_config::Effect::Live)
            .map(|change| change.path.clone())
            .collect();
        assert!(restart.len() > 3, "{restart:?}");
        for path in &stays {
            assert!(
                everybody.contains(path),
                "{path} is said to be live, and stays"
            );
        }
        for path in restart.iter().filter(|path| !path.starts_with("server[")) {
            assert!(
                stays.contains(path),
                "{path} is said to need a restart, and changes"
            );
        }
    }
}
