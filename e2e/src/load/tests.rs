use super::*;
use crate::stub::Stub;

#[test]
fn gaps_count_from_the_start_to_the_end() {
    let done = |at, failed: bool| Done {
        at: Duration::from_millis(at),
        latency: Duration::from_millis(1),
        failure: failed.then(|| "status 503".to_owned()),
    };
    let report = report(&[
        done(10, false),
        done(20, true),
        done(50, false),
        done(70, true),
    ]);
    assert_eq!((report.requests, report.failures.len()), (4, 2));
    assert_eq!(report.longest_gap, Duration::from_millis(40));
    assert_eq!(report.slowest, Duration::from_millis(1));
}

#[test]
fn steady_load_reaches_a_server_and_notices_its_end() {
    let stub = Stub::start("127.0.0.1:0".parse().unwrap(), "one").unwrap();
    let address = stub.address();
    let load = Load::start(move || Client::new(address), "/", 500);
    load.go_on_for(50).unwrap();
    drop(stub);
    load.go_on_for(10).unwrap();
    let report = load.stop();
    assert!(report.requests >= 60);
    assert!(!report.failures.is_empty() && report.failures.len() < report.requests);
}
