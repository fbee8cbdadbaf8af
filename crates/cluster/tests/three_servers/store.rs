//! Kills, restarts and lost majorities.

use std::time::Duration;

use super::support::{self, Lab, key, name, retry};
use trilith_base::BootTime;
use trilith_consensus::{Epoch, Outcome, Store, StoreError, Txn, Write};

const TTL: Duration = Duration::from_millis(1300);

fn put(at: &str, value: &str) -> Txn {
    Txn::new().then(Write::Put {
        key: key(at),
        value: value.as_bytes().into(),
    })
}

async fn commit(lab: &Lab, server: &str, txn: Txn) -> Outcome {
    let server = lab.server(server);
    retry(|| server.commit(txn.clone())).await
}

async fn value(lab: &Lab, server: &str, at: &str) -> Option<String> {
    let server = lab.server(server);
    let view = retry(|| server.read()).await;
    view.get(at)
        .map(|entry| String::from_utf8(entry.value.to_vec()).unwrap())
}

async fn grant(lab: &Lab, server: &str, lease: &str) -> Option<Epoch> {
    match commit(lab, server, Txn::grant(key(lease), name(server), TTL)).await {
        Outcome::Done { revision } => Some(Epoch(revision.0)),
        Outcome::Refused { .. } => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_agree() {
    let lab = Lab::started(&["a", "b", "c"]).await;
    for server in ["a", "b", "c"] {
        let done = commit(&lab, server, put(&format!("by/{server}"), server)).await;
        assert!(matches!(done, Outcome::Done { .. }));
    }
    for reader in ["a", "b", "c"] {
        for writer in ["a", "b", "c"] {
            let at = format!("by/{writer}");
            assert_eq!(value(&lab, reader, &at).await.as_deref(), Some(writer));
        }
    }
    lab.stop_all().await;
    assert!(lab.fatal.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_is_enough_for_itself() {
    let lab = Lab::started(&["a"]).await;
    commit(&lab, "a", put("x", "1")).await;
    let epoch = grant(&lab, "a", "vip/1").await.unwrap();
    lab.server("a").renew(&key("vip/1"), epoch).await.unwrap();
    lab.stop("a").await;
    lab.start("a").await;
    assert_eq!(value(&lab, "a", "x").await.as_deref(), Some("1"));
    lab.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_dies() {
    let lab = Lab::started(&["a", "b", "c"]).await;
    commit(&lab, "b", put("x", "1")).await;
    let first = lab.leader().await;
    let survivor = lab.follower().await;
    let epoch = grant(&lab, survivor.as_str(), "vip/1").await.unwrap();
    lab.stop(first.as_str()).await;
    // The lease outlives the leader: its holder renews at the next one.
    let server = lab.server(survivor.as_str());
    retry(|| server.renew(&key("vip/1"), epoch)).await;
    assert_eq!(
        value(&lab, survivor.as_str(), "x").await.as_deref(),
        Some("1")
    );
    commit(&lab, survivor.as_str(), put("x", "2")).await;
    lab.start(first.as_str()).await;
    assert_eq!(value(&lab, first.as_str(), "x").await.as_deref(), Some("2"));
    lab.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_ends_and_is_granted_anew() {
    let lab = Lab::started(&["a", "b", "c"]).await;
    let holder = lab.server("a");
    let begin = BootTime::now();
    let epoch = grant(&lab, "a", "vip/1").await.unwrap();
    // Renewed for longer than it would last by itself.
    while BootTime::now().since(begin) < TTL * 2 {
        holder.renew(&key("vip/1"), epoch).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(grant(&lab, "b", "vip/1").await, None, "still held");
    let renewed = BootTime::now();
    retry(|| holder.renew(&key("vip/1"), epoch)).await;
    let mut views = lab.server("c").view();
    let gone = views.wait_for(|view| view.lease("vip/1").is_none());
    tokio::time::timeout(support::PATIENCE, gone)
        .await
        .unwrap()
        .unwrap();
    assert!(BootTime::now().since(renewed) >= TTL, "not before its time");
    let next = grant(&lab, "b", "vip/1").await.unwrap();
    assert!(next > epoch);
    let late = holder.renew(&key("vip/1"), epoch).await;
    assert_eq!(late, Err(StoreError::LeaseLost));
    lab.server("b").renew(&key("vip/1"), next).await.unwrap();
    lab.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_renewed_without_a_majority() {
    let lab = Lab::started(&["a", "b", "c"]).await;
    let leader = lab.leader().await;
    let epoch = grant(&lab, leader.as_str(), "vip/1").await.unwrap();
    lab.cut(leader.as_str());
    let alone = lab.server(leader.as_str());
    for _ in 0..3 {
        let refused = alone.renew(&key("vip/1"), epoch).await;
        assert!(
            matches!(refused, Err(StoreError::NoLeader { .. })),
            "{refused:?}"
        );
    }
    assert!(alone.read().await.is_err(), "what it has may be old");
    // The others see the lease end, and one of them takes it.
    let running = lab.running();
    let other = running.iter().find(|server| **server != leader).unwrap();
    let other = other.as_str();
    support::eventually("the lease is free", || async {
        grant(&lab, other, "vip/1").await
    })
    .await;
    lab.heal();
    let late = retry(|| async {
        match alone.renew(&key("vip/1"), epoch).await {
            Err(StoreError::LeaseLost) => Ok(true),
            other => other.map(|()| false),
        }
    });
    assert!(late.await, "the old holder learns that it is lost");
    lab.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_there_after_a_restart_of_all() {
    let lab = Lab::started(&["a", "b", "c"]).await;
    for n in 0..20 {
        commit(&lab, "a", put(&format!("n/{n}"), &n.to_string())).await;
    }
    let epoch = grant(&lab, "a", "vip/1").await.unwrap();
    lab.stop_all().await;
    for server in ["a", "b", "c"] {
        lab.start(server).await;
    }
    for n in 0..20 {
        let at = format!("n/{n}");
        assert_eq!(value(&lab, "c", &at).await, Some(n.to_string()));
    }
    // However long it took: nobody took the lease away meanwhile, and a new leader starts its time
    // anew.
    let holder = lab.server("a");
    retry(|| holder.renew(&key("vip/1"), epoch)).await;
    lab.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lost_its_disk_comes_back() {
    let lab = Lab::started(&["a", "b", "c"]).await;
    commit(&lab, "a", put("x", "1")).await;
    let before = lab.server("b").status().borrow().id;
    lab.stop("b").await;
    lab.wipe("b");
    let b = lab.start("b").await;
    let after = b.status().borrow().id;
    assert_ne!(before, after);
    lab.members("b", "votes under its new id", |m| {
        let voters: Vec<_> = m.members.iter().filter(|m| m.voter).collect();
        voters.len() == 3 && voters.iter().any(|m| m.id == after) && m.members.len() == 3
    })
    .await;
    assert_eq!(value(&lab, "b", "x").await.as_deref(), Some("1"));
    lab.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_set_aside() {
    let lab = Lab::started(&["a", "b", "c"]).await;
    commit(&lab, "a", put("x", "1")).await;
    lab.stop("c").await;
    let file = lab.folder("c").join("store.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    let half = bytes.len() / 2;
    for byte in &mut bytes[4096..half] {
        *byte ^= 0x55;
    }
    std::fs::write(&file, bytes).unwrap();
    let c = lab.start("c").await;
    let aside = c.status().borrow().set_aside.clone().unwrap();
    assert!(std::path::Path::new(&aside).exists());
    assert_eq!(value(&lab, "c", "x").await.as_deref(), Some("1"));
    lab.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sixth_server_learns() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let lab = Lab::started(&names).await;
    commit(&lab, "a", put("x", "1")).await;
    lab.members("f", "is a learner", |m| {
        let f = m.members.iter().find(|m| m.name.as_str() == "f");
        f.is_some_and(|f| !f.voter) && m.members.iter().filter(|m| m.voter).count() == 5
    })
    .await;
    assert_eq!(value(&lab, "f", "x").await.as_deref(), Some("1"));
    commit(&lab, "f", put("x", "2")).await;
    assert_eq!(value(&lab, "b", "x").await.as_deref(), Some("2"));
    lab.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_come_and_go() {
    let lab = Lab::started(&["a", "b", "c"]).await;
    commit(&lab, "a", put("x", "1")).await;
    lab.listed
        .send_replace(support::listed(&["a", "b", "c", "d"]));
    lab.start("d").await;
    lab.members("a", "d votes", |m| {
        (m.members.iter()).any(|m| m.name.as_str() == "d" && m.voter)
    })
    .await;
    assert_eq!(value(&lab, "d", "x").await.as_deref(), Some("1"));
    // One that leads may go, too.
    let leader = lab.leader().await;
    let mut left = lab.listed.borrow().clone();
    left.retain(|server| server.name != leader);
    let some = left[0].name.clone();
    lab.listed.send_replace(left);
    lab.members(some.as_str(), "the leader is gone", |m| {
        m.members.len() == 3 && !m.members.iter().any(|m| m.name == leader)
    })
    .await;
    lab.stop(leader.as_str()).await;
    commit(&lab, some.as_str(), put("x", "2")).await;
    lab.stop_all().await;
}

/// The network held up what a server said before it lost its disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_earlier_life_that_is_heard_late_does_not_stay() {
    use trilith_cluster::msg::{Admit, Ask, Reply, Request};
    let lab = Lab::started(&["a", "b", "c"]).await;
    let leader = lab.leader().await;
    let follower = lab.follower().await;
    let late = Request {
        cluster: "test".to_owned(),
        ask: Ask::Admit(Admit {
            id: 4711,
            address: lab.options(follower.as_str()).address.to_string(),
        }),
        ..Request::default()
    };
    let reply = lab.server(leader.as_str()).handle(&follower, late).await;
    assert!(
        matches!(&reply, Reply::Admitted(a) if !a.member),
        "{reply:?}"
    );
    lab.members(leader.as_str(), "it is heard", |m| m.members.len() == 4)
        .await;
    lab.members("a", "it is gone", |m| {
        m.members.len() == 3 && m.members.iter().all(|m| m.voter)
    })
    .await;
    lab.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_change_nothing() {
    use trilith_cluster::msg::{Ask, FailureKind, Reply, Request};
    let lab = Lab::started(&["a", "b", "c"]).await;
    let a = lab.server("a");
    let before = a.membership().borrow().clone();
    let forbidden =
        |reply: Reply| matches!(reply, Reply::Failed(f) if f.kind == FailureKind::Forbidden);
    let hello = |cluster: &str| Request {
        cluster: cluster.to_owned(),
        ..Request::default()
    };
    assert!(forbidden(a.handle(&name("b"), hello("other")).await));
    assert!(forbidden(a.handle(&name("z"), hello("test")).await));
    let mine = a.status().borrow().id;
    let c = lab.server("c").status().borrow().id;
    let vote = |from, node| Request {
        from,
        to: mine,
        ask: Ask::Vote(trilith_cluster::msg::VoteAsk {
            vote: trilith_cluster::msg::Vote {
                term: 1 << 40,
                node,
                committed: false,
            },
            last: None,
        }),
        ..hello("test")
    };
    // `b` speaks for `c`, or for nobody known, or for the server it speaks to.
    assert!(forbidden(a.handle(&name("b"), vote(c, c)).await));
    assert!(!matches!(a.handle(&name("b"), vote(77, 77)).await, Reply::Vote(v) if v.granted));
    assert!(forbidden(a.handle(&name("b"), vote(77, mine)).await));
    assert_eq!(a.membership().borrow().term, before.term);
    commit(&lab, "a", put("x", "1")).await;
    lab.stop_all().await;
}
