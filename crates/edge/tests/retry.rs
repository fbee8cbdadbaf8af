//! What clients see of servers that fail: as little as possible.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::*;
use tokio::io::AsyncWriteExt;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_under_load_fails_no_request() {
    for health in [None, Some(quick_health())] {
        let stubs = three().await;
        for stub in &stubs {
            stub.behave(Behaviour::AnswerAfter(Duration::from_millis(3)));
        }
        let mut options = options(&addresses(&stubs));
        options.upstreams[0].health = health;
        let lab = Lab::start(options);
        let stop = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..16)
            .map(|_| {
                let (stop, served, address) = (stop.clone(), served.clone(), lab.address);
                tokio::spawn(async move {
                    let mut stream = connect(address).await;
                    let request = format!("GET /x HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
                    while !stop.load(Ordering::Relaxed) {
                        let reply = exchange(&mut stream, &request).await;
                        assert_eq!(reply.status, 200, "{reply:?}");
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let progress = async |more: usize| {
            let goal = served.load(Ordering::Relaxed) + more;
            while served.load(Ordering::Relaxed) < goal {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        progress(300).await;
        let [a, b, _c] = stubs;
        let a_address = a.kill().await;
        progress(300).await;
        let b_address = b.kill().await;
        progress(300).await;
        let _a = Stub::start_at("a", a_address).await;
        let _b = Stub::start_at("b", b_address).await;
        progress(300).await;
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.await.unwrap();
        }
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_request_that_was_not_sent_goes_elsewhere_whatever_its_method() {
    let stubs = three().await;
    let mut servers = addresses(&stubs);
    servers[0] = nobody();
    let lab = Lab::start(options(&servers));
    for _ in 0..6 {
        let reply = post(lab.address, "/", "some body").await;
        assert_eq!(reply.status, 200);
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_get_is_repeated_when_the_server_dies_on_it() {
    let stubs = three().await;
    stubs[0].behave(Behaviour::Close);
    let lab = Lab::start(options(&addresses(&stubs)));
    let reply = get(lab.address, "/").await;
    assert_eq!(reply.status, 200);
    assert_eq!(stubs[0].requests(), 1);
    lab.finish().await;
}

#[tokio::test]
async fn a_post_is_not_repeated_once_it_was_sent() {
    let stubs = three().await;
    for stub in &stubs {
        stub.behave(Behaviour::Close);
    }
    let lab = Lab::start(options(&addresses(&stubs)));
    assert_eq!(post(lab.address, "/", "order").await.status, 502);
    assert_eq!(stubs.iter().map(Stub::requests).sum::<usize>(), 1);

    // Neither when the body was on its way in pieces.
    stubs[1].behave(Behaviour::CloseAfterHead);
    let mut stream = connect(lab.address).await;
    let head = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"5\r\norder\r\n").await.unwrap();
    assert_eq!(read_reply(&mut stream).await.unwrap().status, 502);
    assert_eq!(stubs.iter().map(Stub::requests).sum::<usize>(), 2);
    drop(stream);
    lab.finish().await;
}

#[tokio::test]
async fn a_request_that_kills_servers_kills_three_at_most() {
    let mut stubs = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        let stub = Stub::start(name).await;
        stub.behave(Behaviour::Close);
        stubs.push(stub);
    }
    let lab = Lab::start(options(&addresses(&stubs)));
    assert_eq!(get(lab.address, "/poison").await.status, 502);
    let asked: Vec<_> = stubs.iter().map(Stub::requests).collect();
    assert_eq!(asked, [1, 1, 1, 0, 0]);
    lab.finish().await;
}

#[tokio::test]
async fn no_answer_in_time_is_no_reason_to_ask_again() {
    let stubs = three().await;
    for stub in &stubs {
        stub.behave(Behaviour::AnswerAfter(Duration::from_secs(10)));
    }
    let mut options = options(&addresses(&stubs));
    options.upstreams[0].response_timeout = Duration::from_millis(100);
    let lab = Lab::start(options);
    assert_eq!(get(lab.address, "/").await.status, 504);
    assert_eq!(stubs.iter().map(Stub::requests).sum::<usize>(), 1);
    lab.finish().await;
}

#[tokio::test]
async fn what_is_not_http_is_a_bad_gateway() {
    let stub = Stub::start("a").await;
    stub.behave(Behaviour::Garbage);
    let lab = Lab::start(options(&[stub.address]));
    assert_eq!(get(lab.address, "/").await.status, 502);
    lab.finish().await;
}

#[tokio::test]
async fn a_response_that_breaks_off_is_not_started_again() {
    let stubs = three().await;
    for stub in &stubs {
        stub.behave(Behaviour::Truncate);
    }
    let lab = Lab::start(options(&addresses(&stubs)));
    let mut stream = connect(lab.address).await;
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    // The client can tell; where nothing was written yet, in so many words.
    if let Some(reply) = read_reply(&mut stream).await {
        assert_eq!(reply.status, 502);
    }
    assert_eq!(stubs.iter().map(Stub::requests).sum::<usize>(), 1);
    lab.finish().await;
}

#[tokio::test]
async fn requests_wait_for_a_server_that_restarts() {
    for checked in [false, true] {
        let stub = Stub::start("a").await;
        let mut options = options(&[stub.address]);
        options.upstreams[0].health = checked.then(quick_health);
        let lab = Lab::start(options);
        assert_eq!(get(lab.address, "/").await.status, 200);
        let address = stub.kill().await;
        let waiting: Vec<_> = (0..20)
            .map(|n| {
                let body = if n % 2 == 0 { "" } else { "body" };
                let edge = lab.address;
                tokio::spawn(async move {
                    match body {
                        "" => get(edge, "/").await,
                        body => post(edge, "/", body).await,
                    }
                })
            })
            .collect();
        lab.until(|pool| pool.waiting == 20).await;
        let _stub = Stub::start_at("a", address).await;
        for reply in waiting {
            assert_eq!(reply.await.unwrap().status, 200);
        }
        assert_eq!(lab.edge.status()[0].waiting, 0);
        lab.finish().await;
    }
}

#[tokio::test]
async fn after_the_queue_timeout_it_says_come_again() {
    let mut options = options(&[nobody(), nobody()]);
    options.queue_timeout = Duration::from_millis(150);
    let lab = Lab::start(options);
    let asked = Instant::now();
    let reply = get(lab.address, "/").await;
    assert!(asked.elapsed() >= Duration::from_millis(150));
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("retry-after"), Some("1"));
    lab.finish().await;
}

#[tokio::test]
async fn the_queue_is_bounded() {
    let stub = Stub::start("a").await;
    stub.behave(Behaviour::AnswerAfter(Duration::from_millis(500)));
    let mut options = options(&[stub.address]);
    options.upstreams[0].servers[0].max_connections = Some(1);
    options.queue_max = 2;
    let lab = Lab::start(options);
    let served: Vec<_> = (0..3)
        .map(|_| tokio::spawn(get(lab.address, "/")))
        .collect();
    lab.until(|pool| pool.waiting == 2).await;
    let refused = get(lab.address, "/").await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), Some("1"));
    for reply in served {
        assert_eq!(reply.await.unwrap().status, 200);
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_web_servers_refusal_is_no_word_for_outsiders() {
    // An upstream is not a web server of the cluster: its 503 is an answer.
    let stubs = three().await;
    stubs[0].behave(Behaviour::TryAnother);
    let lab = Lab::start(options(&addresses(&stubs)));
    let reply = get(lab.address, "/").await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("trilith-try-another"), None);
    assert_eq!(stubs[1].requests() + stubs[2].requests(), 0);
    lab.finish().await;
}

#[tokio::test]
async fn a_server_that_keeps_failing_is_left_out() {
    let stubs = three().await;
    stubs[0].behave(Behaviour::Status(502));
    let lab = Lab::start(options(&addresses(&stubs)));
    let mut bad = 0;
    for _ in 0..30 {
        bad += usize::from(get(lab.address, "/").await.status == 502);
    }
    assert_eq!(bad, 5);
    let status = lab.edge.status();
    assert!(status[0].servers[0].ejected_for.is_some());
    // The last word of all: nobody ejects what is left.
    stubs[1].behave(Behaviour::Status(502));
    stubs[2].behave(Behaviour::Status(502));
    for _ in 0..30 {
        get(lab.address, "/").await;
    }
    let status = lab.edge.status();
    let ejected = status[0].servers.iter().filter(|s| s.ejected_for.is_some());
    assert_eq!(ejected.count(), 1);
    let metrics = lab.telemetry.metrics_text().encode();
    assert!(
        metrics.contains("trilith_edge_server_ejections_total"),
        "{metrics}"
    );
    lab.finish().await;
}
