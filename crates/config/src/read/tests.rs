use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use trilith_base::{ByteSize, ServerName};

use super::*;
use crate::{
    AppName, Balance, CodePath, FloatingAddress, Mode, OnQuorumLoss, PathPattern, RedirectStatus,
    Role, Roles, RouteAction, SiteTls, StoreKind, Synchronous, UpstreamName, VipMode, Workers,
};

const EVERYTHING: &str = include_str!("../../tests/good/everything.toml");
const DESIGN: &str = include_str!("../../tests/good/design.toml");
const DEMO: &str = include_str!("../../tests/good/demo.toml");

fn parse(text: &str) -> Config {
    Config::parse("test.toml", text, Path::new("/etc/trilith"))
        .unwrap()
        .config
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn the_parser_and_the_key_table_know_the_same_keys() {
    let cx = Context::new(Path::new("/"));
    let root = syntax::tree(&cx, EVERYTHING).unwrap();
    assert!(read(&cx, &root).is_some());
    let asked = cx.asked.borrow().clone();
    let known: BTreeSet<String> = SECTIONS
        .iter()
        .flat_map(|section| section.keys.iter().map(|key| section.dotted(key)))
        .collect();
    assert_eq!(asked, known);
}

#[test]
fn carries_what_the_file_says() {
    let config = parse(EVERYTHING);
    assert_eq!(config.cluster.data, Path::new("/etc/trilith/state"));
    assert_eq!(config.cluster.secrets, Path::new("/srv/secrets"));
    assert_eq!(
        config.cluster.workers,
        Workers::Count(4.try_into().unwrap())
    );
    let endpoints = ["http://10.0.0.5:2379", "http://etcd.internal:2379"];
    let endpoints = endpoints.map(str::to_owned).to_vec();
    assert_eq!(config.store, StoreKind::Etcd { endpoints });
    assert_eq!(config.addresses().len(), 2);
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        config.vip.mode,
        VipMode::Hook {
            take: words("/etc/trilith/take {ip} {server}"),
            release: words("/etc/trilith/release {ip}"),
        }
    );
    assert_eq!(config.vip.on_quorum_loss, OnQuorumLoss::Release);
    assert_eq!(config.ports.sql_replica, 6434);
    assert_eq!(config.code.path, Path::new("/etc/trilith/site"));
    assert_eq!(
        config.servers[1].roles,
        Roles::from_iter([Role::Db, Role::Web])
    );
    assert!(config.servers[2].roles.is_empty());

    let site = &config.sites[0];
    assert_eq!(site.host.as_str(), "www.example.com");
    assert_eq!(site.aliases.len(), 2);
    assert_eq!(
        site.tls,
        SiteTls::Files {
            certificate: "/etc/trilith/tls/example.pem".into(),
            key: "/srv/tls/example.key".into(),
        }
    );
    assert!(!site.https_redirect);
    assert_eq!(
        site.error_pages[&404],
        CodePath::new("errors/404.html").unwrap()
    );
    assert_eq!(site.error_pages.len(), 2);

    let [files, api, legacy, old, ping] = &site.routes[..] else {
        panic!("{:?}", site.routes);
    };
    assert_eq!(files.path, PathPattern::Prefix("/assets".into()));
    assert_eq!(files.strip_prefix.as_deref(), Some("/"));
    assert_eq!(files.cache_control.as_deref(), Some("public, max-age=3600"));
    assert_eq!(
        files.action,
        RouteAction::Files {
            root: CodePath::new("public").unwrap(),
            index: vec!["index.html".into(), "index.htm".into()],
            balance: Balance::IpHash,
            mode: Mode::ActivePassive,
        }
    );
    assert_eq!(api.body_max, ByteSize(1 << 30));
    assert_eq!(
        api.action,
        RouteAction::App {
            app: AppName::new("api").unwrap(),
            balance: Balance::LeastConnections,
            mode: Mode::ActivePassive,
        }
    );
    let upstream = UpstreamName::new("legacy").unwrap();
    assert_eq!(legacy.action, RouteAction::Upstream { upstream });
    assert_eq!(
        old.action,
        RouteAction::Redirect {
            location: "https://example.org{path}".into(),
            status: RedirectStatus::MovedPermanently,
        }
    );
    assert_eq!(
        ping.action,
        RouteAction::Respond {
            status: 202,
            body: "pong".into(),
            content_type: "text/html".into(),
        }
    );

    let api = &config.apps[&AppName::new("api").unwrap()];
    assert_eq!(api.env["LOG"], "debug");
    assert_eq!(api.start_timeout, Duration::from_secs(90));
    assert_eq!(api.health.as_ref().unwrap().as_str(), "/healthz?deep=1");
    let worker = &config.apps[&AppName::new("worker").unwrap()];
    assert_eq!((worker.instances, &worker.health), (0, &None));

    let database = config.database.as_ref().unwrap();
    assert_eq!(database.synchronous, Synchronous::Off);
    let parameters = BTreeMap::from(
        [
            ("work_mem", "16MB"),
            ("max_connections", "200"),
            ("random_page_cost", "1.1"),
            ("jit", "off"),
            ("auto_explain.log_min_duration", "1s"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    assert_eq!(database.parameters, parameters);

    let upstream = &config.upstreams[0];
    assert_eq!(upstream.servers[0].weight.get(), 1);
    assert!(upstream.servers[1].backup);
    assert_eq!(
        upstream.servers[1].max_connections.map(|max| max.get()),
        Some(100)
    );
    let health = upstream.health.as_ref().unwrap();
    assert_eq!((health.rise.get(), health.fall.get()), (1, 5));
    assert_eq!(config.upstreams[1].health, None);
    assert_eq!(config.edge.trusted_proxies.len(), 3);
    assert_eq!(config.edge.body_rate_min, ByteSize(0));
    assert!(!config.edge.access_log);
}

#[test]
fn answers_questions() {
    let config = parse(DESIGN);
    let [one, two, _] = &config.servers[..] else {
        panic!("{:?}", config.servers);
    };
    assert_eq!(config.server(&two.name), Some(two));
    assert_eq!(config.server(&ServerName::new("nine").unwrap()), None);
    assert_eq!(config.with_role(Role::Web).count(), 3);
    assert_eq!(
        config
            .addresses()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["10.0.0.100/24"]
    );
    assert_eq!(one.loopback(), ip("127.0.0.1"));
    assert_eq!(
        config.state_dir(&one.name),
        Path::new("/var/lib/trilith/one")
    );
    let assets = CodePath::new("public/assets").unwrap();
    assert_eq!(
        config.code_path(&assets),
        Path::new("/srv/site/public/assets")
    );
    assert_eq!(
        config.routed_apps(),
        BTreeSet::from([&AppName::new("web").unwrap()])
    );
    assert_eq!(
        config.upstream(&config.upstreams[0].name),
        Some(&config.upstreams[0])
    );
}

#[test]
fn the_mode_of_a_floating_address_follows_from_it() {
    assert_eq!(parse(DESIGN).vip.mode, VipMode::L2 { interface: None });
    let without = parse(&DESIGN.replace("vip = ", "#vip = "));
    assert_eq!(without.vip.mode, VipMode::None);
    assert_eq!(without.floating_address(), None);
    let vip = "[vip]\nmode = \"l2\"\ninterface = \"eth0\"\n[[server]]";
    let config = parse(&DESIGN.replacen("[[server]]", vip, 1));
    let interface = Some("eth0".to_owned());
    assert_eq!(config.vip.mode, VipMode::L2 { interface });
}

#[test]
fn two_servers_need_a_third_or_an_etcd() {
    let two = "[[server]]\nname = \"one\"\naddress = \"10.0.0.1\"\n\
               [[server]]\nname = \"two\"\naddress = \"10.0.0.2\"\n";
    let parse = |text: &str| Config::parse("t.toml", text, Path::new("/"));
    let error = parse(two).unwrap_err().to_string();
    assert!(error.contains("`roles = []` is enough"), "{error}");
    let witness = "[[server]]\nname = \"three\"\naddress = \"10.0.0.3\"\nroles = []\n";
    assert!(parse(&format!("{two}{witness}")).is_ok());
    let etcd = "[cluster]\nstore = { etcd = [\"http://10.0.0.5:2379/\"] }\n";
    let config = parse(&format!("{etcd}{two}")).unwrap().config;
    let endpoints = vec!["http://10.0.0.5:2379".to_owned()];
    assert_eq!(config.store, StoreKind::Etcd { endpoints });
}

#[test]
fn servers_of_the_demo_are_their_own_loopback() {
    let config = parse(DEMO);
    assert_eq!(config.servers[1].loopback(), ip("127.0.1.2"));
    let address = ip("127.0.0.1");
    assert_eq!(
        config.addresses(),
        [FloatingAddress {
            ip: address,
            prefix: 32
        }]
    );
    assert_eq!(config.vip.mode, VipMode::Loopback);
    assert_eq!(
        config.code.path,
        Path::new("/etc/trilith/../examples/foobar")
    );
}

#[test]
fn https_redirect_is_off_without_tls() {
    let config = parse(&DESIGN.replace("tls = \"internal\"", "tls = \"off\""));
    assert!(!config.sites[0].https_redirect);
    assert!(parse(DESIGN).sites[0].https_redirect);
}

#[test]
fn line_ends_and_byte_order_marks_do_not_matter() {
    let windows = format!("\u{feff}{}", DESIGN.replace('\n', "\r\n"));
    assert_eq!(parse(&windows), parse(DESIGN));
}

#[test]
fn too_much_is_refused() {
    let server = |number: usize| {
        format!("[[server]]\nname = \"s{number}\"\naddress = \"10.0.0.{number}\"\n")
    };
    let many: String = (1..=crate::limits::SERVERS_MAX + 1).map(server).collect();
    let error = Config::parse("t.toml", &many, Path::new("/")).unwrap_err();
    assert!(
        error.to_string().contains("more than 32 `[[server]]`"),
        "{error}"
    );

    let long = "#".repeat(crate::limits::FILE_BYTES_MAX + 1);
    let error = Config::parse("t.toml", long, Path::new("/")).unwrap_err();
    assert!(
        error.to_string().contains("longer than 1024 KiB"),
        "{error}"
    );
}
