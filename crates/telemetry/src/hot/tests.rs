use std::time::Duration;

use crate::Telemetry;

fn site() -> crate::Labels {
    vec![("site", "www.foobar.com".to_owned())]
}

#[test]
fn threads_add_up() {
    let telemetry = Telemetry::new("one");
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let telemetry = telemetry.clone();
            std::thread::spawn(move || {
                let worker = telemetry.worker();
                let requests = worker.counter("requests", "Requests", site());
                let open = worker.gauge("connections_open", "Open", Vec::new());
                for _ in 0..1_000 {
                    requests.inc();
                    open.inc();
                    open.inc();
                    open.dec();
                }
                open.dec();
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    let text = telemetry.metrics_text().encode();
    assert!(
        text.contains("trilith_requests_total{site=\"www.foobar.com\"} 4000\n"),
        "{text}"
    );
    assert!(text.contains("trilith_connections_open 3996\n"), "{text}");
}

#[test]
fn a_gauge_may_fall_on_another_thread_than_it_rose() {
    let telemetry = Telemetry::new("one");
    telemetry.worker().gauge("level", "Level", Vec::new()).dec();
    assert!(
        telemetry
            .metrics_text()
            .encode()
            .contains("trilith_level -1\n")
    );
}

#[test]
fn histograms_have_cumulative_buckets() {
    let telemetry = Telemetry::new("one");
    let worker = telemetry.worker();
    let times = worker.histogram("request_seconds", "Time", site());
    for ms in [0, 1, 2, 20, 60_000] {
        times.observe(Duration::from_millis(ms));
    }
    let text = telemetry.metrics_text().encode();
    for (bound, count) in [
        ("0.0005", 1),
        ("0.001", 2),
        ("0.0025", 3),
        ("0.025", 4),
        ("10.0", 4),
        ("+Inf", 5),
    ] {
        let line = format!(
            "trilith_request_seconds_bucket{{le=\"{bound}\",site=\"www.foobar.com\"}} {count}\n"
        );
        assert!(text.contains(&line), "{line} in {text}");
    }
    assert!(
        text.contains("trilith_request_seconds_sum{site=\"www.foobar.com\"} 60.023\n"),
        "{text}"
    );
    assert!(
        text.contains("trilith_request_seconds_count{site=\"www.foobar.com\"} 5\n"),
        "{text}"
    );
}

#[test]
fn asking_again_goes_on_counting() {
    let telemetry = Telemetry::new("one");
    let worker = telemetry.worker();
    worker.counter("requests", "Requests", site()).inc();
    worker.counter("requests", "Requests", site()).inc();
    let text = telemetry.metrics_text().encode();
    assert!(
        text.contains("trilith_requests_total{site=\"www.foobar.com\"} 2\n"),
        "{text}"
    );
}

#[test]
fn many_metrics_fill_many_blocks() {
    let telemetry = Telemetry::new("one");
    let worker = telemetry.worker();
    for i in 0..100u64 {
        worker
            .counter("spread", "Spread", vec![("i", i.to_string())])
            .add(i);
    }
    let text = telemetry.metrics_text().encode();
    for i in 0..100 {
        assert!(text.contains(&format!("trilith_spread_total{{i=\"{i}\"}} {i}\n")));
    }
}
