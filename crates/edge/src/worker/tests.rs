use std::time::Duration;

use tokio::sync::mpsc;
use trilith_base::ServerName;
use trilith_http::TlsInfo;
use trilith_telemetry::Telemetry;

use super::*;
use crate::options::{Options, Route, Site, Upstream, UpstreamServer};

fn route(path: &str, action: Action) -> Route {
    Route {
        path: path.parse().unwrap(),
        action,
        strip_prefix: None,
        body_max: 10,
    }
}

fn respond(body: &'static str) -> Action {
    Action::Respond {
        status: StatusCode::OK,
        content_type: "text/plain".to_owned(),
        body: body.into(),
    }
}

fn redirect(to: &str) -> Action {
    Action::Redirect {
        to: to.to_owned(),
        status: StatusCode::FOUND,
    }
}

fn site(host: &str, aliases: &[&str], https_redirect: bool, routes: Vec<Route>) -> Site {
    Site {
        host: host.to_owned(),
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        https_redirect,
        routes,
    }
}

/// `www.foobar.com` and `shop.example`, which wants HTTPS.
fn options() -> Options {
    let mut options = Options::new(ServerName::new("one").unwrap());
    options.https_port = 8443;
    options.queue_timeout = Duration::ZERO;
    options.sites = vec![
        site(
            "www.foobar.com",
            &["foobar.com"],
            false,
            vec![
                route("/*", respond("everything")),
                route("/exact", respond("exact")),
                route("/moved/*", redirect("https://new.example{path}")),
                route("/gone", redirect("/elsewhere")),
                route("/up/*", Action::Upstream("legacy".to_owned())),
            ],
        ),
        site(
            "shop.example",
            &["www.shop.example"],
            true,
            vec![route("/only", respond("shop"))],
        ),
    ];
    // Nobody listens on port 1 of loopback.
    options.upstreams.push(Upstream {
        name: "legacy".to_owned(),
        servers: vec![UpstreamServer {
            address: ([127, 0, 0, 1], 1).into(),
            weight: 1,
            backup: false,
            max_connections: None,
        }],
        balance: Default::default(),
        mode: Default::default(),
        health: None,
        connect_timeout: Duration::from_secs(1),
        response_timeout: Duration::from_secs(1),
    });
    options
}

fn worker(options: Options) -> Rc<Worker> {
    let shared = Shared {
        snapshot: ArcSwap::from_pointee(Snapshot::build(options, false, None).unwrap()),
        generation: AtomicU64::new(0),
        web: None,
        epoch: Instant::now(),
        ejections: mpsc::unbounded_channel().0,
    };
    let metrics = Telemetry::new("one").worker();
    Worker::new(Arc::new(shared), metrics, None, 1)
}

struct Asked<'a> {
    host: &'a str,
    method: Method,
    target: &'a str,
    /// The name in the TLS handshake; `None` is plain HTTP.
    tls: Option<Option<&'a str>>,
}

const GET: Asked<'_> = Asked {
    host: "www.foobar.com",
    method: Method::GET,
    target: "/",
    tls: None,
};

async fn ask(worker: &Worker, asked: Asked<'_>) -> (Response, Record) {
    let mut request = Request::get(asked.host, asked.target);
    request.method = asked.method;
    let mut conn = ConnInfo::unknown();
    conn.tls = asked.tls.map(|name| TlsInfo {
        server_name: name.map(str::to_owned),
        version: Some("TLSv1.3"),
    });
    request.conn = Rc::new(conn);
    worker.handle(request).await
}

async fn body(mut response: Response) -> String {
    let body = std::mem::take(&mut response.body);
    String::from_utf8(body.collect(10_000).await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn routes_by_host_and_path() {
    let worker = worker(options());
    for (host, target, status, text) in [
        ("www.foobar.com", "/", 200, "everything"),
        ("WWW.FooBar.com:8080", "/exact?x=1", 200, "exact"),
        ("www.foobar.com", "/ex%61ct", 200, "exact"),
        ("www.foobar.com", "/a/../exact", 200, "exact"),
        ("www.foobar.com", "/..", 400, "400 Bad Request"),
        ("www.foobar.com", "/a%2fb", 400, "400 Bad Request"),
        ("unknown.example", "/", 404, "404 Not Found"),
        ("trilith.internal", "/.trilith/health", 404, "404 Not Found"),
        ("", "/", 404, "404 Not Found"),
    ] {
        let asked = Asked {
            host,
            target,
            ..GET
        };
        let (response, record) = ask(&worker, asked).await;
        assert_eq!(response.status.as_u16(), status, "{host} {target}");
        assert_eq!(record.status, response.status);
        assert!(body(response).await.starts_with(text), "{host} {target}");
    }
}

#[tokio::test]
async fn a_request_without_host_goes_to_the_only_site() {
    let mut options = options();
    options.sites.truncate(1);
    let worker = worker(options);
    let asked = Asked { host: "", ..GET };
    let (response, record) = ask(&worker, asked).await;
    assert_eq!(response.status, StatusCode::OK);
    assert_eq!(record.request.host, "www.foobar.com");
}

#[tokio::test]
async fn sends_to_the_name_and_scheme_of_the_site() {
    let worker = worker(options());
    let tls = |name| Some(Some(name));
    for (host, target, tls, location) in [
        ("foobar.com", "/a?b=c", None, "http://www.foobar.com/a?b=c"),
        ("foobar.com:8080", "/", None, "http://www.foobar.com:8080/"),
        (
            "foobar.com:8443",
            "/",
            tls("foobar.com"),
            "https://www.foobar.com:8443/",
        ),
        (
            "shop.example:8080",
            "/x",
            None,
            "https://shop.example:8443/x",
        ),
        (
            "www.shop.example",
            "/x",
            None,
            "https://shop.example:8443/x",
        ),
        (
            "www.shop.example",
            "//evil.example/x",
            tls("www.shop.example"),
            "https://shop.example//evil.example/x",
        ),
    ] {
        let asked = Asked {
            host,
            target,
            tls,
            ..GET
        };
        let (response, _) = ask(&worker, asked).await;
        assert_eq!(response.status, StatusCode::PERMANENT_REDIRECT, "{host}");
        assert_eq!(response.headers.get_str("location"), Some(location));
    }
}

#[tokio::test]
async fn https_by_a_trusted_proxy_is_https() {
    let mut options = options();
    options.trusted_proxies = vec!["0.0.0.0/32".parse().unwrap()];
    let worker = worker(options);
    for (proto, status) in [("https", 200), ("http", 308)] {
        let mut request = Request::get("shop.example", "/only");
        request.headers.append("X-Forwarded-Proto", proto);
        let (response, record) = worker.handle(request).await;
        assert_eq!(response.status.as_u16(), status);
        assert_eq!(record.is_https, proto == "https");
    }
}

#[tokio::test]
async fn a_connection_for_one_site_carries_no_other() {
    let worker = worker(options());
    for (name, host, status) in [
        (Some("www.foobar.com"), "www.foobar.com", 200),
        (Some("WWW.foobar.com"), "www.foobar.com:8443", 200),
        (Some("shop.example"), "www.foobar.com", 421),
        (Some("www.foobar.com"), "unknown.example", 421),
        // Names that are no site's say nothing: the TLS layer let them pass.
        (Some("localhost"), "www.foobar.com", 200),
        (None, "www.foobar.com", 200),
    ] {
        let asked = Asked {
            host,
            tls: Some(name),
            ..GET
        };
        let (response, _) = ask(&worker, asked).await;
        assert_eq!(response.status.as_u16(), status, "{name:?} {host}");
    }
}

#[tokio::test]
async fn redirects_of_the_config() {
    let worker = worker(options());
    for (target, location) in [
        ("/moved/a%20b?q=1", "https://new.example/moved/a%20b?q=1"),
        ("/moved/x/../y", "https://new.example/moved/y"),
        ("/gone?q=1", "/elsewhere"),
    ] {
        let (response, _) = ask(&worker, Asked { target, ..GET }).await;
        assert_eq!(response.status, StatusCode::FOUND);
        assert_eq!(response.headers.get_str("location"), Some(location));
    }
}

#[tokio::test]
async fn refuses_methods_that_are_not_for_origins() {
    let worker = worker(options());
    for method in [Method::TRACE, Method::CONNECT] {
        let (response, _) = ask(&worker, Asked { method, ..GET }).await;
        assert_eq!(response.status, StatusCode::METHOD_NOT_ALLOWED);
        assert!(response.headers.contains("allow"));
    }
    let asked = Asked {
        method: Method::OPTIONS,
        target: "*",
        ..GET
    };
    let (response, _) = ask(&worker, asked).await;
    assert_eq!(response.status, StatusCode::NO_CONTENT);
    let (response, _) = ask(&worker, Asked { target: "*", ..GET }).await;
    assert_eq!(response.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn refuses_long_bodies() {
    let worker = worker(options());
    let mut request = Request::get("www.foobar.com", "/up/x");
    request.method = Method::POST;
    request.body = Body::full("eleven byte");
    let (response, record) = worker.handle(request).await;
    assert_eq!(response.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(response.close);
    assert_eq!(record.trip.tries, 0);
    assert_eq!(record.trip.termination, Termination::ClientBodyTooLarge);
}

#[tokio::test]
async fn errors_speak_the_language_of_the_client() {
    let worker = worker(options());
    let mut request = Request::get("unknown.example", "/");
    request.headers.append("Accept", "text/html,*/*;q=0.8");
    let (response, _) = worker.handle(request).await;
    assert_eq!(
        response.headers.get_str("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(response.headers.get_str("cache-control"), Some("no-store"));
    assert!(body(response).await.contains("<h1>404 Not Found</h1>"));
}

#[tokio::test]
async fn without_any_server_it_says_come_again() {
    let worker = worker(options());
    let asked = Asked {
        target: "/up/x",
        ..GET
    };
    let (response, record) = ask(&worker, asked).await;
    assert_eq!(response.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers.get_str("retry-after"), Some("1"));
    assert_eq!(record.trip.termination, Termination::UpstreamConnect);
    assert_eq!(record.trip.tries, 1);
    assert_eq!(record.view.snapshot.pools[0].members.in_flight(), 0);
    assert_eq!(record.view.snapshot.pools[0].queue.waiting(), 0);
}

#[test]
fn what_an_upstream_is_asked_for() {
    let check = |strip: Option<&str>, target: &str, expected: &str| {
        let mut options = options();
        options.sites[0].routes[4].strip_prefix = strip.map(str::to_owned);
        let snapshot = Snapshot::build(options, false, None).unwrap();
        let request = Request::get("www.foobar.com", target);
        let path = normalise_path(request.target.path()).unwrap().into_owned();
        let (_, _, plan) = snapshot.sites[0].routes.get(&path).unwrap();
        let PlannedAction::Balance(at) = plan.action else {
            panic!("{target} is for the upstream");
        };
        let rewritten = upstream_target(&snapshot, at, plan, &path, &request);
        let sent = rewritten.as_ref().unwrap_or(&request.target);
        assert_eq!(sent.as_str(), expected, "{target} without {strip:?}");
    };
    check(None, "/up/a%20b?x=/../y", "/up/a%20b?x=/../y");
    check(None, "/up//a", "/up//a");
    check(None, "/x/../up/a", "/up/a");
    check(None, "/up/%2e%2e/up/a%20b?q", "/up/a%20b?q");
    check(Some("/up"), "/up/a%20b?q=1", "/a%20b?q=1");
    check(Some("/up"), "/up", "/");
    check(Some("/up"), "/%75p/a%2Cb?q", "/a,b?q");
}
