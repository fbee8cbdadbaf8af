use super::*;

fn view(count: u8) -> ClusterView {
    let servers = (1..=count)
        .map(|n| {
            not_asked_yet(&Peer {
                name: ServerName::new(&format!("s{n}")).unwrap(),
                address: ([127, 0, 1, n], 5433).into(),
            })
        })
        .collect();
    ClusterView { servers }
}

fn answer(in_recovery: bool, lsn: u64, system_id: u64) -> Result<Answer, String> {
    Ok(Answer {
        in_recovery,
        lsn: Lsn(lsn),
        streaming: in_recovery,
        system_id,
    })
}

#[test]
fn lag_is_counted_against_the_primary() {
    let mut view = view(3);
    apply(&mut view, 1, answer(true, 900, 7));
    assert_eq!(view.servers[1].lag_bytes, None, "no primary yet");
    apply(&mut view, 0, answer(false, 1000, 7));
    apply(&mut view, 2, answer(true, 1001, 7));
    let lags: Vec<_> = view.servers.iter().map(|server| server.lag_bytes).collect();
    assert_eq!(lags, [None, Some(100), Some(0)]);
    assert_eq!(view.primary().unwrap().name.as_str(), "s1");

    apply(&mut view, 0, Err("connection refused".to_owned()));
    assert_eq!(view.primary(), None);
    assert_eq!(view.servers[1].lag_bytes, None);
    assert_eq!(view.replicas().count(), 2, "they still serve reads");
}

#[test]
fn two_primaries_are_none() {
    let mut view = view(2);
    apply(&mut view, 0, answer(false, 10, 7));
    apply(&mut view, 1, answer(false, 20, 7));
    assert_eq!(view.primary(), None);
    assert_eq!(view.primaries().count(), 2);
}

#[test]
fn a_replica_of_another_database_is_no_replica() {
    let mut view = view(3);
    apply(&mut view, 0, answer(false, 10, 7));
    apply(&mut view, 1, answer(true, 10, 7));
    apply(&mut view, 2, answer(true, 10, 8));
    let names: Vec<_> = view.replicas().map(|server| server.name.as_str()).collect();
    assert_eq!(names, ["s2"]);
}

#[tokio::test]
async fn a_closed_port_is_down_and_a_silent_one_too() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let peer = |name: &str, address| Peer {
        name: ServerName::new(name).unwrap(),
        address,
    };
    let targets = vec![
        peer("closed", closed),
        peer("silent", silent.local_addr().unwrap()),
    ];
    let mut options = ObserverOptions::new(targets, Password::new("x").unwrap());
    options.interval = Duration::from_millis(10);
    options.timeout = Duration::from_millis(50);
    let observer = Observer::start(options, Telemetry::new("test"));
    let why = |view: &ClusterView, index: usize| match &view.servers[index].state {
        ServerState::Down { why } => why.clone(),
        other => panic!("{other:?}"),
    };
    let mut view = observer.view();
    let seen = view
        .wait_for(|view| why(view, 0).contains("refused") && why(view, 1) == "no answer")
        .await;
    assert!(seen.is_ok());
}
