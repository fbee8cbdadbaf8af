use super::*;

fn servers() -> Vec<MemoryStore> {
    let names = ["one", "two", "three"].map(|name| ServerName::new(name).unwrap());
    MemoryStore::cluster(names)
}

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn at(millis: u64) -> BootTime {
    BootTime(Duration::from_millis(millis))
}

fn no_leader<T: std::fmt::Debug>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::NoLeader { .. }))
}

async fn grant(store: &MemoryStore, name: &str, ttl: u64) -> Epoch {
    let txn = Txn::grant(key(name), store.name().clone(), Duration::from_millis(ttl));
    match store.commit(txn).await.unwrap() {
        Outcome::Done { revision } => Epoch(revision.0),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_lease_runs_out_at_its_time_and_not_before() {
    let [one, two, _] = &servers()[..] else {
        unreachable!()
    };
    let epoch = grant(one, "vip", 1000).await;
    one.advance(at(600));
    one.renew(&key("vip"), epoch).await.unwrap();
    one.advance(at(1599));
    assert!(two.view().borrow().lease("vip").is_some());
    two.advance(at(1600));
    assert!(one.view().borrow().lease("vip").is_none());
    let renewed = one.renew(&key("vip"), epoch).await;
    assert_eq!(renewed, Err(StoreError::LeaseLost));
}

#[tokio::test]
async fn a_minority_learns_nothing_and_changes_nothing() {
    let servers = servers();
    let (one, two) = (&servers[0], &servers[1]);
    one.cut_off(true);
    assert!(no_leader(one.read().await));
    assert!(!one.membership().borrow().has_quorum);
    assert_eq!(two.membership().borrow().leader, Some(two.name().clone()));
    two.commit(Txn::compare_and_set(key("a"), None, *b"1"))
        .await
        .unwrap();
    assert_eq!(one.view().borrow().get("a"), None);
    one.cut_off(false);
    assert!(one.view().borrow().get("a").is_some());
    // Who leads goes on leading.
    assert_eq!(one.membership().borrow().leader, Some(two.name().clone()));

    two.stop();
    assert_eq!(two.read().await, Err(StoreError::Stopped));
    servers[2].cut_off(true);
    assert!(no_leader(one.read().await));
    two.start();
    assert!(one.read().await.is_ok());
}

#[tokio::test]
async fn a_new_leader_gives_leases_their_full_time() {
    let servers = servers();
    grant(&servers[0], "vip", 1000).await;
    servers[0].advance(at(900));
    servers[0].cut_off_all(true);
    servers[0].advance(at(5000));
    servers[0].cut_off_all(false);
    servers[0].advance(at(5999));
    assert!(servers[1].view().borrow().lease("vip").is_some());
    servers[0].advance(at(6000));
    assert!(servers[1].view().borrow().lease("vip").is_none());
}

#[tokio::test]
async fn lost_requests_and_lost_answers_look_alike() {
    let servers = servers();
    let (one, two) = (&servers[0], &servers[1]);
    let put = |name| Txn::compare_and_set(key(name), None, *b"1");
    one.lose_requests(1);
    assert_eq!(one.commit(put("a")).await, Err(StoreError::Unknown));
    one.lose_answers(1);
    assert_eq!(one.commit(put("b")).await, Err(StoreError::Unknown));
    let view = two.read().await.unwrap();
    assert!(view.get("a").is_none() && view.get("b").is_some());
    assert!(one.commit(put("a")).await.is_ok());
}

#[tokio::test]
async fn a_delayed_answer_waits_for_the_clock() {
    let servers = servers();
    let one = &servers[0];
    one.delay(Duration::from_millis(50));
    let (cutter, other) = (one.clone(), servers[1].clone());
    let slow = tokio::spawn({
        let one = one.clone();
        async move {
            one.commit(Txn::compare_and_set(key("a"), None, *b"1"))
                .await
        }
    });
    let mut view = other.view();
    view.wait_for(|view| view.get("a").is_some()).await.unwrap();
    assert!(!slow.is_finished());
    cutter.advance(at(50));
    assert!(slow.await.unwrap().is_ok());

    let cut = tokio::spawn({
        let one = one.clone();
        async move {
            one.commit(Txn::compare_and_set(key("b"), None, *b"1"))
                .await
        }
    });
    view.wait_for(|view| view.get("b").is_some()).await.unwrap();
    cutter.cut_off(true);
    cutter.advance(at(100));
    assert_eq!(cut.await.unwrap(), Err(StoreError::Unknown));
}
