use std::cell::Cell;
use std::fs;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use trilith_http::{Body, ConnInfo, Handler, Method, Outcome, ServerOptions, serve_connection};
use trilith_net::drain_pair;

use super::*;
use crate::options::{Action, RouteOptions, SiteOptions};
use crate::{HEALTH_PATH, INTERNAL_HOST, InternalHandler};

struct Setup {
    web: Arc<Web>,
    worker: Rc<WebWorker>,
    dir: TempDir,
}

fn route(path: &str, action: Action) -> RouteOptions {
    RouteOptions::new(path.parse().unwrap(), action)
}

fn respond(status: StatusCode, body: &'static str) -> Action {
    let content_type = "text/plain; charset=utf-8".to_owned();
    Action::Respond {
        status,
        content_type,
        body: Bytes::from_static(body.as_bytes()),
    }
}

fn redirect_to(to: &str, status: u16) -> Action {
    Action::Redirect {
        to: to.into(),
        status: StatusCode::from_u16(status).unwrap(),
    }
}

fn setup(change: impl FnOnce(&mut Options)) -> Setup {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("one/public/assets/a.css", "one");
    write("one/public/index.html", "index");
    write("one/errors/404.html", "<p>our own 404");
    write("one/errors/100%.txt", "busy");
    write("two/public/assets/a.css", "two");
    let app = |path, name: &str| route(path, Action::App(name.into()));
    let site = SiteOptions {
        host: "www.foobar.com".into(),
        aliases: vec!["foobar.com".into()],
        is_default: false,
        error_pages: vec![
            (StatusCode::NOT_FOUND, "errors/404.html".into()),
            (StatusCode::SERVICE_UNAVAILABLE, "errors/100%.txt".into()),
            (StatusCode::METHOD_NOT_ALLOWED, "errors/missing.html".into()),
        ],
        routes: vec![
            route("/assets/*", Action::Files("public/assets".into())),
            route("/", Action::Files("public/index.html".into())),
            app("/*", "web"),
            RouteOptions {
                strip_prefix: Some("/api/".into()),
                ..app("/api/*", "api")
            },
            route("/old/*", redirect_to("https://new.example{path}", 308)),
            route("/fixed", redirect_to("/elsewhere", 302)),
            route(
                "/teapot",
                respond(StatusCode::IM_A_TEAPOT, "short and stout"),
            ),
            route("/up/*", Action::Upstream),
        ],
    };
    let mut options = Options::new(dir.path().join("one"), vec![site]);
    options.file_revalidate_after = Duration::ZERO;
    change(&mut options);
    let telemetry = Telemetry::new("one");
    let web = Web::new(options, telemetry.clone()).unwrap();
    let worker = WebWorker::new(&web, &telemetry.worker());
    Setup { web, worker, dir }
}

impl Setup {
    async fn ask(&self, mut request: Request) -> Response {
        self.web.handle(&mut request, &self.worker).await
    }

    async fn get(&self, path: &str) -> Response {
        self.ask(Request::get("www.foobar.com", path)).await
    }
}

fn field<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers.get_str(name).unwrap_or_default()
}

async fn text(response: Response) -> String {
    String::from_utf8(response.body.collect(1 << 20).await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn hosts_lead_to_sites() {
    let setup = setup(|_| {});
    for (host, status) in [
        ("www.foobar.com", 418),
        ("WWW.foobar.com:8443", 418),
        ("foobar.com", 418),
        ("other.org", 421),
        ("", 421),
        ("trilith.internal", 421),
    ] {
        let response = setup.ask(Request::get(host, "/teapot")).await;
        assert_eq!(response.status.as_u16(), status, "{host}");
    }
    let with_default = super::tests::setup(|options| options.sites[0].is_default = true);
    let response = with_default.ask(Request::get("other.org", "/teapot")).await;
    assert_eq!(response.status.as_u16(), 418);
}

#[tokio::test]
async fn each_kind_of_route() {
    let setup = setup(|_| {});
    for (path, status, expected) in [
        ("/assets/a.css", 200, "one"),
        ("/assets", 301, ""),
        ("/assets/", 404, "<p>our own 404"),
        ("/", 200, "index"),
        ("/teapot", 418, "short and stout"),
        ("/assets/missing", 404, "<p>our own 404"),
        ("/up/x", 421, ""),
        ("/%00", 400, ""),
        ("/a%2fb", 400, ""),
        ("/../x", 400, ""),
        ("*", 400, ""),
    ] {
        let response = setup.get(path).await;
        assert_eq!(response.status.as_u16(), status, "{path}");
        let text = text(response).await;
        assert!(text.contains(expected), "{path}: {text}");
    }
}

#[tokio::test]
async fn redirects() {
    let setup = setup(|options| {
        options.sites[0].routes.extend([
            route("/a/*", redirect_to("https://b.example/$path", 301)),
            route("/q", redirect_to("/search?from={path}", 302)),
            RouteOptions {
                strip_prefix: Some("/v1".into()),
                ..route("/v1/*", redirect_to("/v2{path}", 307))
            },
        ]);
    });
    for (target, status, location) in [
        ("/old/x/y?a=1&b", 308, "https://new.example/old/x/y?a=1&b"),
        ("/old/a%20b", 308, "https://new.example/old/a%20b"),
        ("/old/x%3Fy", 308, "https://new.example/old/x%3Fy"),
        ("/a/x", 301, "https://b.example/a/x"),
        ("//a//x", 301, "https://b.example/a/x"),
        ("/fixed?a=1", 302, "/elsewhere"),
        ("/q?a=1", 302, "/search?from=/q&a=1"),
        ("/v1/x?y", 307, "/v2/x?y"),
        ("/v1", 307, "/v2/"),
    ] {
        let response = setup.get(target).await;
        assert_eq!(response.status.as_u16(), status, "{target}");
        assert_eq!(field(&response, "location"), location, "{target}");
    }
}

#[tokio::test]
async fn error_pages() {
    let setup = setup(|_| {});
    let response = setup.get("/assets/missing").await;
    assert_eq!(response.status, StatusCode::NOT_FOUND);
    assert_eq!(field(&response, "content-type"), "text/html; charset=utf-8");
    assert_eq!(text(response).await, "<p>our own 404");

    let response = setup.get("/x").await;
    assert_eq!(response.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(field(&response, TRY_ANOTHER), "1");
    assert_eq!(field(&response, "cache-control"), "no-store");
    assert_eq!(text(response).await, "busy");

    // The page is missing: the plain one, and what belongs to the status is there.
    let mut request = Request::get("www.foobar.com", "/assets/a.css");
    request.method = Method::DELETE;
    let response = setup.ask(request).await;
    assert_eq!(field(&response, "allow"), "GET, HEAD");
    assert!(
        text(response)
            .await
            .contains("<h1>405 Method Not Allowed</h1>")
    );

    let mut request = Request::get("www.foobar.com", "/assets/a.css");
    request.headers.append("Range", "bytes=3-");
    let response = setup.ask(request).await;
    assert_eq!(response.status.as_u16(), 416);
    assert_eq!(field(&response, "content-range"), "bytes */3");

    let own = setup
        .web
        .error_response(Some(0), StatusCode::NOT_FOUND, &setup.worker)
        .await;
    assert_eq!(text(own).await, "<p>our own 404");
    let plain = setup
        .web
        .error_response(None, StatusCode::NOT_FOUND, &setup.worker)
        .await;
    assert!(text(plain).await.contains("404 Not Found"));
}

#[tokio::test]
async fn the_edge_names_the_route_itself() {
    let setup = setup(|_| {});
    let mut trace = AppTrace::default();
    for (id, status) in [
        (
            RouteId {
                sites: 0,
                site: 0,
                route: 6,
            },
            418,
        ),
        (
            RouteId {
                sites: 0,
                site: 0,
                route: 99,
            },
            404,
        ),
        (
            RouteId {
                sites: 0,
                site: 9,
                route: 0,
            },
            404,
        ),
    ] {
        // The host says nothing any more.
        let mut request = Request::get("other.org", "/teapot");
        let response = setup
            .web
            .handle_route(id, &mut request, &setup.worker, &mut trace)
            .await;
        assert_eq!(response.status.as_u16(), status);
    }
}

#[tokio::test]
async fn another_release_is_served_from_the_next_request_on() {
    let setup = setup(|_| {});
    let two = setup.dir.path().join("two");
    assert_eq!(text(setup.get("/assets/a.css").await).await, "one");
    setup.web.set_code_root(&two).unwrap();
    assert_eq!(text(setup.get("/assets/a.css").await).await, "two");
    let nowhere = setup.dir.path().join("three");
    let error = setup.web.set_code_root(&nowhere).unwrap_err().to_string();
    assert!(
        error.contains("three cannot be opened: No such file"),
        "{error}"
    );
    assert_eq!(
        text(setup.get("/assets/a.css").await).await,
        "two",
        "nothing changed"
    );
}

#[test]
fn options_that_make_no_sense() {
    let build = |change: fn(&mut Options)| {
        let dir = TempDir::new().unwrap();
        let site = SiteOptions {
            host: "a.org".into(),
            ..SiteOptions::default()
        };
        let mut options = Options::new(dir.path(), vec![site]);
        change(&mut options);
        Web::new(options, Telemetry::new("one"))
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    assert_eq!(build(|_| {}), Ok(()));
    for (change, message) in [
        (
            (|o| {
                o.sites[0]
                    .routes
                    .push(route("/*", Action::Files("../x".into())))
            }) as fn(&mut Options),
            "site `a.org`: ../x does not lie in the code base",
        ),
        (
            |o| {
                o.sites[0]
                    .error_pages
                    .push((StatusCode::NOT_FOUND, "/etc/passwd".into()))
            },
            "site `a.org`: /etc/passwd does not lie in the code base",
        ),
        (
            |o| o.sites.push(o.sites[0].clone()),
            "the host `a.org` is named twice",
        ),
        (
            |o| o.code_root = "/nonexistent".into(),
            "set code.path to the folder",
        ),
    ] {
        let error = build(change).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
    // A folder that is not there yet is no error: a build may make it.
    assert_eq!(
        build(|o| o.sites[0]
            .routes
            .push(route("/*", Action::Files("dist".into())))),
        Ok(())
    );
}

/// Answers what it was asked; counts.
#[derive(Default)]
struct Echo(Rc<Cell<u32>>);

impl Handler for Echo {
    type Record = ();

    async fn handle(&self, request: Request) -> (Response, ()) {
        self.0.set(self.0.get() + 1);
        let asked = format!(
            "{} {} {}",
            request.method,
            request.host,
            request.target.as_str()
        );
        (Response::text(StatusCode::OK, asked), ())
    }

    fn finished(&self, (): (), _: Outcome) {}
}

/// Serves connections to a free port with `handler`.
async fn listen<H: Handler + 'static>(handler: H) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let handler = Rc::new(handler);
    let (trigger, drain) = drain_pair();
    tokio::task::spawn_local(async move {
        let _not_dropped = trigger;
        while let Ok((stream, _)) = listener.accept().await {
            let (handler, drain) = (handler.clone(), drain.clone());
            tokio::task::spawn_local(async move {
                let conn = Rc::new(ConnInfo::unknown());
                serve_connection(stream, conn, &*handler, &ServerOptions::default(), &drain).await;
            });
        }
    });
    address
}

fn instance(id: &str, address: std::net::SocketAddr) -> InstanceAddr {
    InstanceAddr {
        id: id.into(),
        address,
    }
}

#[tokio::test]
async fn apps_see_the_request_and_the_path_they_should() {
    LocalSet::new()
        .run_until(async {
            let setup = setup(|_| {});
            let address = listen(Echo::default()).await;
            setup
                .web
                .set_instances("web", &[instance("web.1", address)]);
            setup
                .web
                .set_instances("api", &[instance("api.1", address)]);
            for (target, seen) in [
                ("/x?y=1", "/x?y=1"),
                ("/x%20y//z", "/x%20y//z"),
                ("/x/../z?q", "/z?q"),
                ("/api/v1/x?y", "/v1/x?y"),
                ("/api", "/"),
                ("/api/a%20b", "/a%20b"),
                ("/assets/../api/x", "/x"),
                ("/apis", "/apis"),
            ] {
                let response = setup.get(target).await;
                assert_eq!(response.status, StatusCode::OK, "{target}");
                assert_eq!(text(response).await, format!("GET www.foobar.com {seen}"));
            }
            let mut request = Request::get("www.foobar.com", "/x");
            request.method = Method::POST;
            request.body = Body::full(vec![0; 17 << 20]);
            let response = setup.ask(request).await;
            assert_eq!((response.status.as_u16(), response.close), (413, true));
        })
        .await;
}

#[tokio::test]
async fn draining_sends_apps_elsewhere_and_serves_files() {
    LocalSet::new()
        .run_until(async {
            let setup = setup(|_| {});
            let address = listen(Echo::default()).await;
            assert!(setup.web.is_healthy(None) && !setup.web.is_healthy(Some("web")));
            setup
                .web
                .set_instances("web", &[instance("web.1", address)]);
            setup
                .web
                .set_instances("worker", &[instance("worker.1", address)]);
            assert!(setup.web.is_healthy(Some("web")));
            assert!(!setup.web.is_healthy(Some("api")), "no instance");
            assert!(
                !setup.web.is_healthy(Some("worker")),
                "no route leads there"
            );
            assert_eq!(setup.get("/x").await.status, StatusCode::OK);

            setup.web.set_draining(true);
            assert!(!setup.web.is_healthy(None) && !setup.web.is_healthy(Some("web")));
            let response = setup.get("/x").await;
            assert_eq!(response.status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(field(&response, TRY_ANOTHER), "1");
            assert_eq!(setup.get("/assets/a.css").await.status, StatusCode::OK);

            setup.web.set_draining(false);
            assert_eq!(setup.get("/x").await.status, StatusCode::OK);
        })
        .await;
}

/// Sends one request over a connection of its own; the status and the whole response.
async fn exchange(address: std::net::SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    (response[9..12].parse().unwrap(), response)
}

#[tokio::test]
async fn the_internal_listener() {
    LocalSet::new()
        .run_until(async {
            let setup = setup(|_| {});
            let app = listen(Echo::default()).await;
            setup.web.set_instances("web", &[instance("web.1", app)]);
            let handler = InternalHandler::new(setup.web.clone(), setup.worker.clone());
            let address = listen(handler).await;
            let ask = async |method: &str, host: &str, target: &str| {
                let request = format!(
                    "{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
                );
                exchange(address, &request).await
            };
            let health = |query: &str| format!("{HEALTH_PATH}{query}");
            for (method, host, target, status) in [
                ("GET", INTERNAL_HOST, health("?app=web"), 200),
                ("GET", "Trilith.Internal:7400", health("?app=web"), 200),
                ("HEAD", INTERNAL_HOST, health("?x=y&app=web"), 200),
                ("GET", INTERNAL_HOST, health(""), 200),
                ("GET", INTERNAL_HOST, health("?app=api"), 503),
                ("GET", INTERNAL_HOST, health("?app="), 503),
                ("GET", INTERNAL_HOST, health("?app=nobody"), 503),
                ("POST", INTERNAL_HOST, health("?app=web"), 405),
                ("GET", INTERNAL_HOST, "/".to_owned(), 404),
                ("GET", INTERNAL_HOST, "/assets/a.css".to_owned(), 404),
                ("GET", "www.foobar.com", "/assets/a.css".to_owned(), 200),
                ("GET", "www.foobar.com", "/x".to_owned(), 200),
                ("GET", "www.foobar.com", "/api/x".to_owned(), 503),
                ("GET", "other.org", "/x".to_owned(), 421),
            ] {
                let (got, text) = ask(method, host, &target).await;
                assert_eq!(got, status, "{method} {host} {target}: {text}");
            }
            let (_, text) = ask("GET", "www.foobar.com", "/api/x").await;
            assert!(text.contains("\r\ntrilith-try-another: 1\r\n"), "{text}");
            // A site's own path of that name is the site's.
            let (_, text) = ask("GET", "www.foobar.com", HEALTH_PATH).await;
            assert!(text.ends_with(HEALTH_PATH), "{text}");
            setup.web.set_draining(true);
            assert_eq!(ask("GET", INTERNAL_HOST, &health("?app=web")).await.0, 503);
        })
        .await;
}

#[tokio::test]
async fn a_file_cut_short_ends_the_connection() {
    LocalSet::new()
        .run_until(async {
            let setup = setup(|_| {});
            let path = setup.dir.path().join("one/public/assets/big");
            let size: usize = 64 << 20;
            fs::File::create(&path)
                .unwrap()
                .set_len(size as u64)
                .unwrap();
            let handler = InternalHandler::new(setup.web.clone(), setup.worker.clone());
            let address = listen(handler).await;
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = "GET /assets/big HTTP/1.1\r\nHost: www.foobar.com\r\n\r\n";
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut piece = [0; 1024];
            stream.read_exact(&mut piece).await.unwrap();
            assert!(piece.starts_with(b"HTTP/1.1 200 OK\r\n"));
            fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(1 << 20)
                .unwrap();
            let mut rest = Vec::new();
            // Either a clean end or a reset: what counts is that it ends, and short.
            let _ = stream.read_to_end(&mut rest).await;
            assert!(rest.len() < size - piece.len(), "{} bytes more", rest.len());
        })
        .await;
}

#[tokio::test]
async fn other_sites_are_served_from_the_next_request_on() {
    let setup = setup(|_| {});
    let two = setup.dir.path().join("two");
    setup.web.set_code_root(&two).unwrap();
    setup.web.set_draining(true);
    let teapot = RouteId {
        sites: 0,
        site: 0,
        route: 6,
    };
    let site = SiteOptions {
        host: "www.foobar.com".into(),
        routes: vec![
            route("/teapot", respond(StatusCode::OK, "coffee")),
            route("/*", Action::Files("public".into())),
        ],
        ..SiteOptions::default()
    };
    let mut options = Options::new("/nowhere", vec![site]);
    options.sites_id = 1;
    setup.web.check(&options).unwrap();
    setup.web.replace(&options).unwrap();
    assert_eq!(text(setup.get("/teapot").await).await, "coffee");
    assert_eq!(
        text(setup.get("/assets/a.css").await).await,
        "two",
        "the folder stays"
    );
    assert!(setup.web.is_draining(), "so does the drain");
    // An edge that found its route before the change means the path, not the position.
    let mut request = Request::get("www.foobar.com", "/teapot");
    let mut trace = AppTrace::default();
    let response = setup
        .web
        .handle_route(teapot, &mut request, &setup.worker, &mut trace)
        .await;
    assert_eq!(text(response).await, "coffee");

    options.sites_id = 2;
    options.sites[0].routes[1].action = Action::Files("../outside".into());
    assert!(setup.web.check(&options).is_err());
    assert!(setup.web.replace(&options).is_err());
    assert_eq!(text(setup.get("/teapot").await).await, "coffee");
}

#[tokio::test]
async fn instances_outlive_a_change_of_the_sites() {
    let setup = setup(|_| {});
    let address = "127.0.0.1:9".parse().unwrap();
    let id = "web.1".to_owned();
    setup
        .web
        .set_instances("web", &[InstanceAddr { id, address }]);
    let site = SiteOptions {
        host: "new.example".into(),
        routes: vec![route("/*", Action::App("web".into()))],
        ..SiteOptions::default()
    };
    let mut options = Options::new("/nowhere", vec![site]);
    options.sites_id = 1;
    setup.web.replace(&options).unwrap();
    assert!(setup.web.is_healthy(Some("web")));
    setup.web.set_draining(true);
    setup.web.replace(&options).unwrap();
    assert!(!setup.web.is_healthy(Some("web")), "it still drains");
}
