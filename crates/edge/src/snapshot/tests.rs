use trilith_balance::{Health, Millis, Standing};
use trilith_base::ServerName;

use super::*;
use crate::options::{Site, UpstreamHealth, UpstreamServer};

fn name(name: &str) -> ServerName {
    ServerName::new(name).unwrap()
}

fn route(path: &str, action: Action) -> Route {
    Route {
        path: path.parse().unwrap(),
        action,
        strip_prefix: None,
        body_max: 1 << 20,
    }
}

fn app(app: &str, balance: Algorithm, mode: Mode) -> Action {
    Action::App {
        app: app.to_owned(),
        balance,
        mode,
    }
}

fn options(routes: Vec<Route>) -> Options {
    let mut options = Options::new(name("one"));
    options.sites.push(Site {
        host: "www.foobar.com".to_owned(),
        aliases: vec!["foobar.com".to_owned()],
        https_redirect: false,
        routes,
    });
    options.web_servers = ["one", "two", "three"]
        .iter()
        .zip(1..)
        .map(|(server, n)| WebServer {
            name: name(server),
            address: ([127, 0, 1, n], 7400).into(),
            tls: None,
        })
        .collect();
    options
}

fn upstream(ports: &[u16], checked: bool) -> Upstream {
    Upstream {
        name: "legacy".to_owned(),
        servers: ports
            .iter()
            .map(|port| UpstreamServer {
                address: ([127, 0, 0, 1], *port).into(),
                weight: 1,
                backup: false,
                max_connections: None,
            })
            .collect(),
        balance: Algorithm::RoundRobin,
        mode: Mode::ActiveActive,
        health: checked.then(|| UpstreamHealth {
            path: "/".to_owned(),
            policy: Default::default(),
        }),
        connect_timeout: std::time::Duration::from_secs(1),
        response_timeout: std::time::Duration::from_secs(1),
    }
}

const RR: Algorithm = Algorithm::RoundRobin;
const AA: Mode = Mode::ActiveActive;

#[test]
fn routes_that_balance_alike_share_their_turns_and_all_share_the_servers() {
    let snapshot = Snapshot::build(
        options(vec![
            route("/", app("web", RR, AA)),
            route("/api/*", app("web", RR, AA)),
            route("/sticky/*", app("web", Algorithm::IpHash, AA)),
            route("/admin/*", app("admin", RR, AA)),
            route(
                "/*",
                Action::Files {
                    balance: RR,
                    mode: AA,
                },
            ),
        ]),
        false,
        None,
    )
    .unwrap();
    let plans: Vec<_> = snapshot
        .balancers
        .iter()
        .map(|plan| {
            (
                snapshot.pools[plan.pool].id.name().to_owned(),
                plan.algorithm,
            )
        })
        .collect();
    assert_eq!(
        plans,
        [
            ("web".to_owned(), RR),
            ("web".to_owned(), Algorithm::IpHash),
            ("admin".to_owned(), RR),
            ("files".to_owned(), RR),
        ]
    );
    assert_eq!(snapshot.pools.len(), 3);
    let paths: Vec<_> = snapshot
        .pools
        .iter()
        .map(|pool| pool.check.as_ref().unwrap().path.as_str())
        .collect();
    assert_eq!(
        paths,
        [
            "/.trilith/health?app=web",
            "/.trilith/health?app=admin",
            "/.trilith/health"
        ]
    );
    assert!(
        !snapshot.pools[0].backends[0].is_local,
        "there is no web server here"
    );
}

#[test]
fn the_web_server_of_this_process_is_called_directly() {
    let files = Action::Files {
        balance: RR,
        mode: AA,
    };
    let routes = vec![route("/a/*", files), route("/*", app("web", RR, AA))];
    let snapshot = Snapshot::build(options(routes), true, None).unwrap();
    let (_, _, plan) = snapshot.sites[0].routes.get("/a/x").unwrap();
    assert!(matches!(plan.action, PlannedAction::LocalFiles));
    let local: Vec<_> = snapshot.pools[0]
        .backends
        .iter()
        .map(|backend| backend.is_local)
        .collect();
    assert_eq!(local, [true, false, false]);
}

#[test]
fn hosts_lead_to_sites() {
    let snapshot = Snapshot::build(options(vec![]), false, None).unwrap();
    assert!(
        snapshot
            .hosts
            .get("WWW.foobar.com:8080")
            .unwrap()
            .is_canonical
    );
    assert!(!snapshot.hosts.get("foobar.com").unwrap().is_canonical);
    assert!(snapshot.hosts.get("other.example").is_none());
}

#[test]
fn what_does_not_fit_together_is_said() {
    let upstream_route = || vec![route("/*", Action::Upstream("legacy".to_owned()))];
    let mut empty = options(upstream_route());
    empty.upstreams.push(upstream(&[], false));
    let mut no_web = options(vec![route("/*", app("web", RR, AA))]);
    no_web.web_servers.clear();
    let mut twice = options(vec![]);
    twice.sites.push(twice.sites[0].clone());
    let same_path = options(vec![
        route("/*", app("web", RR, AA)),
        route("/*", app("web", RR, AA)),
    ]);
    for (options, words) in [
        (options(upstream_route()), "no upstream `legacy`"),
        (empty, "has no servers"),
        (no_web, "no server has the role \"web\""),
        (twice, "named twice"),
        (same_path, "routed twice"),
    ] {
        let error = Snapshot::build(options, false, None)
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_reload_forgets_nothing() {
    let with = |ports: &[u16], checked| {
        let mut options = options(vec![route("/*", Action::Upstream("legacy".to_owned()))]);
        options.upstreams.push(upstream(ports, checked));
        options
    };
    let now = Millis(1);
    let before = Snapshot::build(with(&[1001, 1002], true), false, None).unwrap();
    let states = |snapshot: &Snapshot| -> Vec<Standing> {
        let servers = snapshot.pools[0].members.servers();
        servers.iter().map(|s| s.state.standing(now)).collect()
    };
    before.pools[0].members.servers()[0]
        .state
        .set_health(Health::Up, now);
    before.pools[0].members.servers()[1]
        .state
        .set_health(Health::Down, now);
    let picked = before.balancers[0]
        .balancer
        .pick(now, 0, &Default::default());
    assert_eq!(picked, Ok(0));

    // In another order, with a new one.
    let after = Snapshot::build(with(&[1002, 1003, 1001], true), false, Some(&before)).unwrap();
    assert_eq!(
        states(&after),
        [
            Standing::Down,
            Standing::Checking,
            Standing::Usable { permille: 1000 }
        ]
    );
    assert_eq!(after.pools[0].members.servers()[2].state.in_flight(), 1);
    before.pools[0].end(0);
    assert_eq!(after.pools[0].members.in_flight(), 0);
    assert!(Arc::ptr_eq(&before.pools[0].queue, &after.pools[0].queue));

    // Without checks nobody would ever bring a server up that was down.
    let unchecked = Snapshot::build(with(&[1002], false), false, Some(&after)).unwrap();
    assert_eq!(states(&unchecked), [Standing::Usable { permille: 1000 }]);
}

#[test]
fn trust_is_for_the_named_only() {
    let mut options = options(vec![]);
    options.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
    let snapshot = Snapshot::build(options, false, None).unwrap();
    for (ip, trusted) in [
        ("10.1.2.3", true),
        ("::ffff:10.1.2.3", true),
        ("fd12::1", true),
        ("192.0.2.1", false),
    ] {
        assert_eq!(snapshot.is_trusted(ip.parse().unwrap()), trusted, "{ip}");
    }
}
