//! What clients meet: TLS, redirects, limits, what is said behind their back, the access log.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use trilith_edge::{Listener, Site};
use trilith_telemetry::{AccessLogFile, AccessLogOptions, Telemetry};
use trilith_tls::{Ca, SiteCertificate, SiteCertificates};

const SHOP: &str = "shop.example";

/// Certificates for both sites, and a client that trusts them.
fn certificates(dir: &Path) -> (SiteCertificates, TlsConnector) {
    let ca = Ca::create(dir, "lab", SystemTime::now()).unwrap();
    let sites = [HOST, SHOP].map(|host| SiteCertificate {
        hosts: vec![host.to_owned()],
        certified: Arc::new(
            ca.issue_site(&[host.to_owned()], SystemTime::now())
                .unwrap(),
        ),
    });
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate().clone()).unwrap();
    let provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
    let client = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (
        SiteCertificates::new(&sites),
        TlsConnector::from(Arc::new(client)),
    )
}

async fn connect_tls(tls: &TlsConnector, address: SocketAddr, name: &str) -> TlsStream<TcpStream> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    tls.connect(name, connect(address).await).await.unwrap()
}

fn get_of(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[tokio::test]
async fn https_and_the_way_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let (certificates, tls) = certificates(dir.path());
    let stub = Stub::start("a").await;
    let mut options = options(&[stub.address]);
    options.sites.push(Site {
        host: SHOP.to_owned(),
        aliases: Vec::new(),
        https_redirect: true,
        routes: options.sites[0].routes.clone(),
    });
    options.tls = Some(certificates.server_config().unwrap());
    options.listeners = [false, true]
        .map(|tls| Listener {
            address: ([127, 0, 0, 1], 0).into(),
            tls,
        })
        .into();
    let lab = Lab::start(options);
    let https = lab.running.listeners()[1].address;

    let mut plain = connect(lab.address).await;
    let reply = exchange(&mut plain, &get_of(SHOP, "/cart?x=1")).await;
    assert_eq!(reply.status, 308);
    assert_eq!(
        reply.header("location"),
        Some("https://shop.example/cart?x=1")
    );
    assert_eq!(exchange(&mut plain, &get_of(HOST, "/")).await.status, 200);

    let mut secure = connect_tls(&tls, https, SHOP).await;
    let reply = exchange(&mut secure, &get_of(SHOP, "/cart")).await;
    assert_eq!(reply.status, 200);
    assert!(
        reply.body.contains("X-Forwarded-Proto: https\r\n"),
        "{reply:?}"
    );
    // The same connection carries no other site.
    let reply = exchange(&mut secure, &get_of(HOST, "/")).await;
    assert_eq!(reply.status, 421);
    let reply = exchange(&mut secure, &get_of(SHOP, "/cart")).await;
    assert_eq!(reply.status, 200);

    // What is no TLS at all is dropped, and nobody else notices.
    let mut noise = connect(https).await;
    noise.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut sink = Vec::new();
    let _ = noise.read_to_end(&mut sink).await;
    let reply = exchange(&mut secure, &get_of(SHOP, "/cart")).await;
    assert_eq!(reply.status, 200);
    drop((plain, secure, noise));
    lab.finish().await;
}

#[tokio::test]
async fn servers_are_told_who_asks() {
    let stub = Stub::start("a").await;
    let mut options = options(&[stub.address]);
    options.trusted_proxies = vec!["127.0.7.0/24".parse().unwrap()];
    let lab = Lab::start(options);
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: 203.0.113.9\r\n\
         X-Forwarded-Proto: https\r\nX-Request-Id: from-before\r\nConnection: keep-alive, x-hop\r\n\
         X-Hop: secret\r\nUser-Agent: lab\r\n\r\n"
    );
    let ask = async |from: [u8; 4]| {
        let mut stream = connect_from(IpAddr::from(from), lab.address).await;
        exchange(&mut stream, &request).await
    };
    assert_eq!(ask([127, 0, 0, 1]).await.status, 200);
    let head = stub.last_head();
    for line in [
        "Host: www.foobar.com",
        "User-Agent: lab",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Host: www.foobar.com",
    ] {
        assert!(head.lines().any(|l| l == line), "{line} in {head}");
    }
    assert!(
        !head.contains("secret") && !head.contains("from-before"),
        "{head}"
    );

    ask([127, 0, 7, 1]).await;
    let head = stub.last_head();
    for line in [
        "X-Forwarded-For: 203.0.113.9, 127.0.7.1",
        "X-Forwarded-Proto: https",
        "X-Request-Id: from-before",
    ] {
        assert!(head.lines().any(|l| l == line), "{line} in {head}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn long_bodies_are_refused_in_either_framing() {
    let stub = Stub::start("a").await;
    let mut options = options(&[stub.address]);
    options.sites[0].routes[0].body_max = 10;
    let lab = Lab::start(options);
    assert_eq!(post(lab.address, "/", "ten bytes.").await.status, 200);
    assert_eq!(stub.requests(), 1);
    assert_eq!(post(lab.address, "/", "eleven byte").await.status, 413);
    assert_eq!(stub.requests(), 1);

    let chunked = |body: &str| {
        let head = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n");
        format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
    };
    let mut stream = connect(lab.address).await;
    let reply = exchange(&mut stream, &chunked("ten bytes.")).await;
    assert_eq!(reply.status, 200);
    let reply = exchange(&mut stream, &chunked("eleven byte")).await;
    assert_eq!(reply.status, 413);
    assert_eq!(reply.header("connection"), Some("close"));
    lab.finish().await;
}

#[tokio::test]
async fn a_body_streams_through() {
    let stub = Stub::start("a").await;
    let lab = Lab::start(options(&[stub.address]));
    let body = "x".repeat(900_000);
    assert_eq!(post(lab.address, "/", &body).await.status, 200);
    lab.finish().await;
}

#[tokio::test]
async fn one_address_has_so_many_connections() {
    let stub = Stub::start("a").await;
    let mut options = options(&[stub.address]);
    options.client.connections_per_ip_max = 2;
    options.trusted_proxies = vec!["127.0.7.0/24".parse().unwrap()];
    let lab = Lab::start(options);
    let open = async |from: [u8; 4]| {
        let mut stream = connect_from(IpAddr::from(from), lab.address).await;
        stream
            .write_all(get_of(HOST, "/").as_bytes())
            .await
            .unwrap();
        let served = read_reply(&mut stream).await.is_some();
        (stream, served)
    };
    let first = open([127, 0, 0, 1]).await;
    let second = open([127, 0, 0, 1]).await;
    assert!(first.1 && second.1);
    assert!(!open([127, 0, 0, 1]).await.1, "a third is one too many");
    assert!(open([127, 0, 0, 2]).await.1, "others are not concerned");
    let proxied = [
        open([127, 0, 7, 1]).await,
        open([127, 0, 7, 1]).await,
        open([127, 0, 7, 1]).await,
    ];
    assert!(proxied.iter().all(|(_, served)| *served), "a proxy is many");
    let metrics = lab.telemetry.metrics_text().encode();
    assert!(
        metrics.contains("trilith_edge_connections_refused_total 1"),
        "{metrics}"
    );
    drop((first, second, proxied));
    lab.finish().await;
}

#[tokio::test]
async fn the_access_log_tells_it_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = AccessLogFile::open(AccessLogOptions::new(&path), &Telemetry::new("one")).unwrap();
    let stubs = three().await;
    let mut options = options(&[nobody(), stubs[1].address]);
    options.upstreams[0].response_timeout = Duration::from_millis(200);
    let lab = Lab::start_with(options, None, Some(log.clone()));
    let request = format!(
        "GET /a?b=c HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: lab\r\nReferer: http://x/\r\n\r\n"
    );
    let mut stream = connect(lab.address).await;
    exchange(&mut stream, &request).await;
    stubs[1].behave(Behaviour::AnswerAfter(Duration::from_secs(3)));
    exchange(&mut stream, &get_of(HOST, "/slow")).await;
    exchange(&mut stream, &get_of("unknown.example", "/")).await;
    stream.write_all(b"nonsense\r\n\r\n").await.unwrap();
    read_reply(&mut stream).await;
    drop(stream);
    lab.finish().await;
    log.close();

    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let ends: Vec<_> = lines.iter().map(|l| (&l["status"], &l["end"])).collect();
    assert_eq!(
        format!("{ends:?}")
            .replace("Number", "")
            .replace("String", ""),
        "[((200), (\"complete\")), ((504), (\"upstream-timeout\")), \
         ((404), (\"complete\")), ((400), (\"bad-request\"))]"
    );
    let first = &lines[0];
    let server = stubs[1].address.to_string();
    for (field, expected) in [
        ("client", "127.0.0.1"),
        ("scheme", "http"),
        ("method", "GET"),
        ("host", HOST),
        ("path", "/a?b=c"),
        ("pool", "stubs"),
        ("upstream", &server),
        ("user_agent", "lab"),
        ("referer", "http://x/"),
    ] {
        assert_eq!(first[field], expected, "{field} of {first}");
    }
    assert_eq!(first["tries"], 2);
    assert_eq!(first["request_id"].as_str().unwrap().len(), 32);
    for time in [
        "t_queue_ms",
        "t_connect_ms",
        "t_first_byte_ms",
        "t_total_ms",
    ] {
        assert!(first[time].is_number(), "{time} of {first}");
    }
}
