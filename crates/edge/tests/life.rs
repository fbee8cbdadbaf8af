//! Checks, reload, drain.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::time::Duration;

use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;
use trilith_edge::{Action, Edge, Error, Health, Listener};
use trilith_net::{Workers, drain_pair};
use trilith_telemetry::Telemetry;

fn get_path(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
}

#[tokio::test]
async fn checks_find_out_who_is_up() {
    let stubs = three().await;
    let mut options = options(&addresses(&stubs));
    options.upstreams[0].health = Some(quick_health());
    let lab = Lab::start(options);
    lab.until(|pool| pool.servers.iter().all(usable)).await;

    // Answers requests with an error, and checks too.
    stubs[1].behave(Behaviour::Status(500));
    lab.until(|pool| pool.servers[1].health == Health::Down)
        .await;
    let status = lab.edge.status();
    let check = status[0].servers[1].last_check.as_ref().unwrap();
    assert_eq!(check.problem.as_deref(), Some("status 500"));
    for _ in 0..20 {
        assert_eq!(get(lab.address, "/").await.status, 200);
    }
    assert_eq!(stubs[1].requests(), 0);

    // Hangs: the check runs into its time-out.
    stubs[2].behave(Behaviour::AnswerAfter(Duration::from_secs(20)));
    lab.until(|pool| pool.servers[2].health == Health::Down)
        .await;
    stubs[1].behave(Behaviour::Answer);
    lab.until(|pool| pool.servers[1].health == Health::Up).await;
    let metrics = lab.telemetry.metrics_text().encode();
    let expected = format!(
        "trilith_edge_server_health_changes_total{{pool=\"stubs\",server=\"{}\",to=\"down\"}} 1",
        stubs[1].address
    );
    assert!(metrics.contains(&expected), "{metrics}");
    lab.finish().await;
}

#[tokio::test]
async fn a_failed_request_has_its_server_checked_at_once() {
    let stubs = three().await;
    let mut options = options(&addresses(&stubs));
    let mut health = quick_health();
    health.policy.interval = Duration::from_secs(60);
    health.policy.fast_interval = Duration::from_secs(60);
    options.upstreams[0].health = Some(health);
    let lab = Lab::start(options);
    lab.until(|pool| pool.servers.iter().all(usable)).await;
    let [a, _b, _c] = stubs;
    a.kill().await;
    // Long before the next regular check, and without waiting for three bad ones.
    while lab.edge.status()[0].servers[0].health == Health::Up {
        assert_eq!(get(lab.address, "/").await.status, 200);
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_reload_closes_nothing_and_forgets_nothing() {
    let stubs = three().await;
    let with = |servers: &[Stub]| {
        let mut options = options(&addresses(servers));
        options.upstreams[0].health = Some(quick_health());
        options
    };
    let lab = Lab::start(with(&stubs[..2]));
    lab.until(|pool| pool.servers.iter().all(usable)).await;
    let mut stream = connect(lab.address).await;
    assert_eq!(exchange(&mut stream, &get_path("/")).await.status, 200);

    // A request is under way during the reload.
    stubs[0].behave(Behaviour::AnswerAfter(Duration::from_millis(200)));
    stubs[1].behave(Behaviour::AnswerAfter(Duration::from_millis(200)));
    stream
        .write_all(get_path("/slow").as_bytes())
        .await
        .unwrap();
    lab.until(|pool| pool.servers.iter().any(|s| s.in_flight == 1))
        .await;
    let mut options = with(&stubs);
    options.listeners = vec![Listener {
        address: ([127, 0, 0, 1], 0).into(),
        tls: false,
    }];
    assert!(!lab.edge.replace(options).unwrap().needs_restart);
    let status = lab.edge.status();
    assert_eq!(status[0].servers.len(), 3);
    assert!(
        usable(&status[0].servers[0]),
        "known to be up without a check"
    );
    assert_eq!(
        status[0].servers.iter().map(|s| s.in_flight).sum::<u32>(),
        1
    );
    assert_eq!(read_reply(&mut stream).await.unwrap().status, 200);

    // The new server takes its share, over the old connection too.
    lab.until(|pool| usable(&pool.servers[2])).await;
    for _ in 0..3 {
        assert_eq!(exchange(&mut stream, &get_path("/")).await.status, 200);
    }
    assert_eq!(stubs[2].requests(), 1);

    // What does not fit together changes nothing.
    let mut bad = with(&stubs);
    bad.sites[0].routes[0].action = Action::Upstream("missing".to_owned());
    let error = lab.edge.replace(bad).unwrap_err();
    assert!(matches!(error, Error::UnknownUpstream { .. }));
    assert_eq!(exchange(&mut stream, &get_path("/")).await.status, 200);
    drop(stream);
    lab.finish().await;
}

#[tokio::test]
async fn a_drain_finishes_what_is_under_way_and_takes_no_more() {
    let stub = Stub::start("a").await;
    stub.behave(Behaviour::AnswerAfter(Duration::from_millis(200)));
    let lab = Lab::start(options(&[stub.address]));
    let address = lab.address;
    let mut idle = connect(address).await;
    assert_eq!(exchange(&mut idle, &get_path("/")).await.status, 200);
    let mut busy = connect(address).await;
    busy.write_all(get_path("/").as_bytes()).await.unwrap();
    lab.until(|pool| pool.servers[0].in_flight == 1).await;

    let finished = tokio::spawn(lab.finish());
    // The idle connection is closed, the busy one answered and then closed.
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap_or(0), 0);
    let reply = read_reply(&mut busy).await.unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("connection"), Some("close"));
    assert_eq!(busy.read(&mut [0; 1]).await.unwrap_or(0), 0);
    drop((idle, busy));
    assert_eq!(finished.await.unwrap().left, 0);
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_drain_does_not_wait_for_ever() {
    let stub = Stub::start("a").await;
    stub.behave(Behaviour::AnswerAfter(Duration::from_secs(60)));
    let mut options = options(&[stub.address]);
    options.drain_timeout = Duration::from_millis(100);
    let lab = Lab::start(options);
    let mut busy = connect(lab.address).await;
    busy.write_all(get_path("/").as_bytes()).await.unwrap();
    lab.until(|pool| pool.servers[0].in_flight == 1).await;
    assert_eq!(lab.finish().await.left, 1);
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = options(&[nobody()]);
    options.listeners.push(Listener {
        address: taken.local_addr().unwrap(),
        tls: false,
    });
    let edge = Edge::new(options.clone(), None, Telemetry::new("one"), None).unwrap();
    let workers = Workers::start(1, "lab").unwrap();
    let (_trigger, drain) = drain_pair();
    let Err(error) = edge.serve(&workers, drain) else {
        panic!("somebody else has that port");
    };
    let text = error.to_string();
    assert!(
        text.contains(&taken.local_addr().unwrap().to_string()),
        "{text}"
    );
    workers.stop().await;

    options.listeners[0].tls = true;
    let Err(error) = Edge::new(options, None, Telemetry::new("one"), None) else {
        panic!("there are no certificates");
    };
    assert!(matches!(error, Error::NoCertificates { .. }));
}

#[tokio::test]
async fn gauges_show_the_servers() {
    let stub = Stub::start("a").await;
    let lab = Lab::start(options(&[stub.address]));
    let expected = format!(
        "trilith_edge_server_usable{{pool=\"stubs\",server=\"{}\"}} 1",
        stub.address
    );
    for _ in 0..500 {
        if lab.telemetry.metrics_text().encode().contains(&expected) {
            lab.finish().await;
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("no {expected}");
}

#[tokio::test]
async fn floating_addresses_come_and_go() {
    let stubs = three().await;
    let lab = Lab::start(options(&addresses(&stubs)));
    let floating = lab.running.floating();
    let ip = std::net::IpAddr::from([127, 9, 8, 7]);
    let address = std::net::SocketAddr::new(ip, lab.address.port());
    for _ in 0..3 {
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
        floating.open(ip).unwrap();
        floating.open(ip).unwrap();
        assert_eq!(floating.addresses(), [ip]);
        let mut stream = connect(address).await;
        assert_eq!(exchange(&mut stream, &get_path("/")).await.status, 200);
        floating.close(ip).await;
        floating.close(ip).await;
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
        // Somebody else could take it, and who is connected stays so.
        drop(std::net::TcpListener::bind(address).unwrap());
        assert_eq!(exchange(&mut stream, &get_path("/")).await.status, 200);
    }
    assert!(floating.workers_answer(Duration::from_secs(60)).await);
    // Open or not, the drain ends it.
    floating.open(ip).unwrap();
    lab.finish().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    assert!(!floating.workers_answer(Duration::from_secs(60)).await);
}

#[tokio::test]
async fn a_floating_address_that_somebody_has_is_not_shared() {
    let stubs = three().await;
    let lab = Lab::start(options(&addresses(&stubs)));
    let ip = std::net::IpAddr::from([127, 9, 8, 6]);
    let address = std::net::SocketAddr::new(ip, lab.address.port());
    let other = std::net::TcpListener::bind(address).unwrap();
    assert!(matches!(
        lab.running.floating().open(ip),
        Err(Error::Listen { .. })
    ));
    drop(other);
    lab.running.floating().open(ip).unwrap();
    lab.finish().await;
}
