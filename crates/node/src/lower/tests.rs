use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use trilith_app::{AppKind, Release, ReleaseId};
use trilith_base::ServerName;
use trilith_config::{Config, Server};
use trilith_consensus::{Epoch, Revision};
use trilith_edge::{Algorithm, Mode};
use trilith_ha::{Record, StoreView, SyncSet};
use trilith_postgres::{ClusterView, Password, Secrets, ServerState, ServerView};
use trilith_sqlproxy::Target;
use trilith_tls::{Ca, PeerIdentity, SiteCertificates};

use crate::error::NodeError;

const CONFIG: &str = r#"
    [cluster]
    name = "foobar"
    vip = "127.0.0.1"
    data = "state"
    [ports]
    http = 8080
    https = 8443
    [[server]]
    name = "one"
    address = "127.0.1.1"
    roles = ["edge", "db"]
    [[server]]
    name = "two"
    address = "127.0.1.2"
    [[server]]
    name = "three"
    address = "127.0.1.3"
    [[site]]
    host = "www.foobar.com"
    aliases = ["foobar.com"]
    tls = "internal"
    error_pages = { "404" = "errors/404.html" }
    [[site.route]]
    path = "/assets/*"
    files = "public/assets"
    index = ["start.html"]
    [[site.route]]
    path = "/old"
    redirect = "/new"
    [[site.route]]
    path = "/legacy/*"
    upstream = "legacy"
    [[site.route]]
    path = "/*"
    app = "web"
    balance = "ip-hash"
    mode = "active-passive"
    [app.web]
    run = "./bin/server"
    instances = 3
    [database]
    [[upstream]]
    name = "legacy"
    servers = ["10.0.1.5:8080", { address = "10.0.1.6:8080", weight = 2, backup = true }]
"#;

fn config() -> Config {
    let loaded = Config::parse("trilith.toml", CONFIG, Path::new("/srv"));
    loaded
        .unwrap_or_else(|d| panic!("{}", d.render(false)))
        .config
}

fn server(config: &Config, name: &str) -> Server {
    config
        .server(&ServerName::new(name).unwrap())
        .unwrap()
        .clone()
}

fn edge(config: &Config, name: &str) -> trilith_edge::Options {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::create(dir.path(), "foobar", SystemTime::now()).unwrap();
    let server = server(config, name);
    let identity =
        PeerIdentity::issue(&ca, &server.name, server.address, SystemTime::now()).unwrap();
    let sites = super::tls::site_certificates(config, &ca, SystemTime::now()).unwrap();
    assert_eq!(sites[0].hosts, ["www.foobar.com", "foobar.com"]);
    super::edge::options(config, &server, &identity, &SiteCertificates::new(&sites)).unwrap()
}

#[test]
fn an_edge_listens_on_its_own_address_from_the_start() {
    let config = config();
    let listeners = |name| {
        let options = edge(&config, name);
        let listeners = options
            .listeners
            .iter()
            .map(|l| (l.address.to_string(), l.tls));
        listeners.collect::<Vec<_>>()
    };
    let expected = [("127.0.1.1:8080", false), ("127.0.1.1:8443", true)];
    assert_eq!(
        listeners("one"),
        expected.map(|(a, tls)| (a.to_owned(), tls))
    );
    assert_eq!(listeners("two").len(), 2);
}

#[test]
fn an_edge_knows_web_servers_and_upstreams() {
    let options = edge(&config(), "one");
    let web: Vec<_> = options
        .web_servers
        .iter()
        .map(|w| w.address.to_string())
        .collect();
    assert_eq!(web, ["127.0.1.2:7400", "127.0.1.3:7400"]);
    assert!(options.web_servers.iter().all(|w| w.tls.is_some()));
    let legacy = &options.upstreams[0];
    assert_eq!(
        (legacy.servers[1].weight, legacy.servers[1].backup),
        (2, true)
    );
    assert_eq!(options.https_port, 8443);
    let app = &options.sites[0].routes[3].action;
    assert!(
        matches!(app, trilith_edge::Action::App { balance, mode, .. }
            if *balance == Algorithm::IpHash && *mode == Mode::ActivePassive),
        "{app:?}"
    );
}

#[test]
fn edge_and_web_agree_on_positions() {
    let config = config();
    let edge = edge(&config, "two");
    let web = super::web::options(&config, Path::new("/srv/site")).unwrap();
    assert_eq!(edge.sites.len(), web.sites.len());
    for (edge, web) in edge.sites.iter().zip(&web.sites) {
        let edge: Vec<_> = edge.routes.iter().map(|r| r.path.to_string()).collect();
        let web: Vec<_> = web.routes.iter().map(|r| r.path.to_string()).collect();
        assert_eq!(edge, web);
    }
    assert_eq!(web.sites[0].routes[0].index, ["start.html"]);
    assert_eq!(web.sites[0].error_pages[0].0.as_u16(), 404);
}

#[test]
fn a_database_server_knows_all_of_them() {
    let config = config();
    let secrets = Secrets::generate().unwrap();
    let options = |name| {
        super::postgres::options(&config, &server(&config, name), &secrets)
            .unwrap()
            .unwrap()
    };
    let two = options("two");
    let names: Vec<_> = two.servers.iter().map(|peer| peer.name.as_str()).collect();
    assert_eq!(names, ["one", "two", "three"]);
    assert_eq!(options("one").servers, two.servers);
    assert_eq!(two.data_dir, Path::new("/srv/state/two/postgres"));
    assert_eq!(
        two.listen.len(),
        1,
        "the loopback address of a demo server is its own"
    );
    two.validate().unwrap();
}

fn release(dir: &Path) -> Release {
    Release {
        id: ReleaseId::parse("0123456789ab").unwrap(),
        dir: dir.to_owned(),
    }
}

#[test]
fn config_and_procfile_make_the_apps() {
    let dir = tempfile::tempdir().unwrap();
    let procfile = "web: ./from-procfile\nworker: ./work\nrelease: ./migrate\n";
    fs::write(dir.path().join("Procfile"), procfile).unwrap();
    let apps = super::app::apps(&config(), &release(dir.path())).unwrap();
    let told: Vec<_> = apps
        .apps
        .iter()
        .map(|a| (a.name.as_str(), a.command.to_string(), a.kind, a.instances))
        .collect();
    let expected = [
        ("web", "./bin/server".to_owned(), AppKind::Web, 3),
        ("worker", "./work".to_owned(), AppKind::Worker, 2),
    ];
    assert_eq!(told, expected);
    let (command, _) = apps.release_command.unwrap();
    assert_eq!(command.to_string(), "./migrate");
}

#[test]
fn an_app_without_a_command_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let text = CONFIG.replace("run = \"./bin/server\"", "");
    let config = Config::parse("trilith.toml", text, Path::new("/srv"))
        .unwrap()
        .config;
    let error = super::app::apps(&config, &release(dir.path()))
        .err()
        .unwrap();
    assert!(
        matches!(&error, NodeError::NoCommand { app, .. } if app == "web"),
        "{error}"
    );
    fs::write(dir.path().join("Procfile"), "web ./server\n").unwrap();
    let error = super::app::apps(&config, &release(dir.path()))
        .err()
        .unwrap();
    assert!(matches!(&error, NodeError::Procfile { .. }), "{error}");
}

#[test]
fn apps_are_told_the_sql_entry() {
    let config = config();
    let password = Password::new("secret").unwrap();
    let env = super::app::database_env(&config, &server(&config, "two"), Some(&password));
    assert_eq!(
        env["DATABASE_URL"],
        "postgresql://app:secret@127.0.1.2:5432/app"
    );
    assert_eq!(
        env["DATABASE_REPLICA_URL"],
        "postgresql://app:secret@127.0.1.2:5434/app"
    );
    assert_eq!(env["PGPASSWORD"], "secret");
    assert!(super::app::database_env(&config, &server(&config, "two"), None).is_empty());
}

#[test]
fn the_sql_entry_follows_what_is_seen() {
    let seen = |name: &str, state, streaming, lag_bytes| ServerView {
        name: ServerName::new(name).unwrap(),
        address: ([127, 0, 1, 1], 5433).into(),
        state,
        lsn: None,
        lag_bytes,
        streaming,
        system_id: Some(1),
    };
    let view = ClusterView {
        servers: vec![
            seen("one", ServerState::Primary, None, None),
            seen("two", ServerState::Replica, Some(true), None),
            seen("three", ServerState::Replica, Some(true), Some(0)),
            seen("four", ServerState::Replica, Some(false), Some(0)),
            seen("five", ServerState::Down { why: String::new() }, None, None),
        ],
    };
    let name = |name: &str| ServerName::new(name).unwrap();
    let record = |open| Record {
        term: 3,
        primary: name("one"),
        sync: SyncSet::alone(),
        open,
        base: None,
        expected: BTreeSet::new(),
        next: None,
        asynchronous: false,
        forced: false,
        timeline: 1,
        retaken: 0,
    };
    let targets = |lease: Option<&str>, open| {
        let store = StoreView {
            lease: lease.map(|holder| (name(holder), Epoch(7))),
            record: Some((record(open), Revision(5))),
            ..StoreView::default()
        };
        let targets = super::sql::targets(&store, &view, &name("three"));
        let local = |r: &Target| match r.local {
            true => format!("{} here", r.name),
            false => r.name.to_string(),
        };
        let replicas: Vec<_> = targets.replicas.iter().map(local).collect();
        (
            targets.primary.map(|primary| primary.name.to_string()),
            targets
                .tenure
                .map(|tenure| (tenure.server.to_string(), tenure.epoch)),
            replicas.join(", "),
        )
    };
    let one = || Some("one".to_owned());
    let held = |by: &str| Some((by.to_owned(), 7));
    assert_eq!(
        targets(Some("one"), true),
        (one(), held("one"), "three here, two".into())
    );
    // The lease alone lets nobody in: it confirms first what it has.
    assert_eq!(targets(Some("one"), false).0, None);
    // The record is still the former primary's.
    let other = targets(Some("two"), true);
    assert_eq!((other.0, other.1), (None, held("two")));
    // Without a primary any replica is as good as there can be.
    assert_eq!(
        targets(None, true),
        (None, None, "three here, four, two".into())
    );
}
