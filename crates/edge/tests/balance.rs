//! Who gets the requests.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use support::*;
use trilith_edge::{Algorithm, Mode};

fn server_of(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body.lines().next().unwrap().to_owned()
}

fn counts(servers: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for server in servers {
        *counts.entry(server).or_default() += 1;
    }
    counts
}

fn evenly(count: usize, servers: &[&str]) -> BTreeMap<String, usize> {
    servers.iter().map(|s| ((*s).to_owned(), count)).collect()
}

#[tokio::test]
async fn sixty_requests_are_twenty_each_over_connections_and_workers() {
    let stubs = three().await;
    let lab = Lab::start(options(&addresses(&stubs)));
    // Each over a connection of its own, so all workers take part; then all at once; then over one.
    let mut servers = Vec::new();
    for _ in 0..60 {
        servers.push(server_of(&get(lab.address, "/").await));
    }
    assert_eq!(counts(servers), evenly(20, &["a", "b", "c"]));

    let at_once: Vec<_> = (0..60)
        .map(|_| tokio::spawn(get(lab.address, "/")))
        .collect();
    let mut servers = Vec::new();
    for reply in at_once {
        servers.push(server_of(&reply.await.unwrap()));
    }
    assert_eq!(counts(servers), evenly(20, &["a", "b", "c"]));

    let mut stream = connect(lab.address).await;
    let mut servers = Vec::new();
    for _ in 0..60 {
        let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        servers.push(server_of(&exchange(&mut stream, &request).await));
    }
    assert_eq!(counts(servers), evenly(20, &["a", "b", "c"]));
    drop(stream);
    assert_eq!(lab.finish().await.left, 0);
}

#[tokio::test]
async fn weights_are_shares() {
    let stubs = three().await;
    let mut options = options(&addresses(&stubs));
    for (server, weight) in options.upstreams[0].servers.iter_mut().zip([3, 2, 1]) {
        server.weight = weight;
    }
    let lab = Lab::start(options);
    let mut servers = Vec::new();
    for _ in 0..60 {
        servers.push(server_of(&get(lab.address, "/").await));
    }
    let expected = [("a", 30), ("b", 20), ("c", 10)].map(|(s, n)| (s.to_owned(), n));
    assert_eq!(counts(servers), BTreeMap::from(expected));
    lab.finish().await;
}

#[tokio::test]
async fn ip_hash_keeps_a_client_on_its_server() {
    let stubs = three().await;
    let mut options = options(&addresses(&stubs));
    options.upstreams[0].balance = Algorithm::IpHash;
    let lab = Lab::start(options);
    let client = |n| IpAddr::V4(Ipv4Addr::new(127, 0, 9, n));
    let mut homes = BTreeMap::new();
    for n in 1..=30 {
        let home = server_of(&get_from(client(n), lab.address, "/").await);
        for _ in 0..3 {
            assert_eq!(
                server_of(&get_from(client(n), lab.address, "/").await),
                home
            );
        }
        homes.insert(n, home);
    }
    assert_eq!(
        counts(homes.values().cloned()).len(),
        3,
        "all of them are somebody's home"
    );

    // Whoever was at home there goes elsewhere, the others stay.
    let [a, _b, _c] = stubs;
    a.kill().await;
    for (n, home) in homes {
        let now = server_of(&get_from(client(n), lab.address, "/").await);
        assert!(now != "a" && (home == "a" || now == home));
    }
    lab.finish().await;
}

#[tokio::test]
async fn least_connections_avoids_the_busy_server() {
    let stubs = three().await;
    let mut options = options(&addresses(&stubs));
    options.upstreams[0].balance = Algorithm::LeastConnections;
    let lab = Lab::start(options);
    stubs[0].behave(Behaviour::AnswerAfter(Duration::from_millis(400)));
    let slow = tokio::spawn(get(lab.address, "/"));
    lab.until(|pool| pool.servers.iter().any(|s| s.in_flight == 1))
        .await;
    let mut servers = Vec::new();
    for _ in 0..10 {
        servers.push(server_of(&get(lab.address, "/").await));
    }
    assert_eq!(counts(servers), evenly(5, &["b", "c"]));
    assert_eq!(server_of(&slow.await.unwrap()), "a");
    lab.finish().await;
}

#[tokio::test]
async fn a_backup_serves_only_while_the_others_are_gone() {
    let stubs = three().await;
    let mut options = options(&addresses(&stubs));
    options.upstreams[0].servers[2].backup = true;
    options.upstreams[0].health = Some(quick_health());
    let lab = Lab::start(options);
    lab.until(|pool| pool.servers.iter().all(usable)).await;
    let ask = async |lab: &Lab| {
        let mut servers = Vec::new();
        for _ in 0..10 {
            servers.push(server_of(&get(lab.address, "/").await));
        }
        counts(servers)
    };
    assert_eq!(ask(&lab).await, evenly(5, &["a", "b"]));
    let [a, b, _c] = stubs;
    let a_address = a.kill().await;
    assert_eq!(ask(&lab).await, evenly(10, &["b"]));
    b.kill().await;
    assert_eq!(ask(&lab).await, evenly(10, &["c"]));
    let a = Stub::start_at("a", a_address).await;
    lab.until(|pool| usable(&pool.servers[0])).await;
    assert_eq!(ask(&lab).await, evenly(10, &["a"]));
    drop(a);
    lab.finish().await;
}

#[tokio::test]
async fn active_passive_uses_one_server_at_a_time() {
    let stubs = three().await;
    let mut options = options(&addresses(&stubs));
    options.upstreams[0].mode = Mode::ActivePassive;
    let lab = Lab::start(options);
    let [a, b, _c] = stubs;
    for _ in 0..10 {
        assert_eq!(server_of(&get(lab.address, "/").await), "a");
    }
    a.kill().await;
    for _ in 0..10 {
        assert_eq!(server_of(&get(lab.address, "/").await), "b");
    }
    b.kill().await;
    assert_eq!(server_of(&get(lab.address, "/").await), "c");
    lab.finish().await;
}

#[tokio::test]
async fn a_full_server_makes_requests_wait_for_their_turn() {
    let stub = Stub::start("a").await;
    stub.behave(Behaviour::AnswerAfter(Duration::from_millis(20)));
    let mut options = options(&[stub.address]);
    options.upstreams[0].servers[0].max_connections = Some(2);
    let lab = Lab::start(options);
    let all: Vec<_> = (0..12)
        .map(|_| tokio::spawn(get(lab.address, "/")))
        .collect();
    for reply in all {
        assert_eq!(server_of(&reply.await.unwrap()), "a");
    }
    assert_eq!(lab.edge.status()[0].waiting, 0);
    let metrics = lab.telemetry.metrics_text().encode();
    assert!(
        metrics.contains("trilith_edge_queued_total{pool=\"stubs\"}"),
        "{metrics}"
    );
    lab.finish().await;
}
