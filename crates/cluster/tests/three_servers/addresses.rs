//! Servers that move to other addresses.

use std::net::SocketAddr;

use super::support::{Lab, key, listed, retry};
use trilith_cluster::Listed;
use trilith_consensus::{Outcome, Store, Txn, Write};

const NAMES: [&str; 3] = ["a", "b", "c"];

async fn put(lab: &Lab, server: &str, value: &str) {
    let server = lab.server(server);
    let txn = Txn::new().then(Write::Put {
        key: key("x"),
        value: value.as_bytes().into(),
    });
    let done = retry(|| server.commit(txn.clone())).await;
    assert!(matches!(done, Outcome::Done { .. }));
}

async fn get(lab: &Lab, server: &str) -> String {
    let server = lab.server(server);
    let view = retry(|| server.read()).await;
    let entry = view.get("x").unwrap().clone();
    String::from_utf8(entry.value.to_vec()).unwrap()
}

fn moved() -> Vec<Listed> {
    let mut servers = listed(&NAMES);
    for server in &mut servers {
        server.address.set_port(server.address.port() + 1000);
    }
    servers
}

async fn all_are_stored_at(lab: &Lab, servers: &[Listed]) {
    let mut wanted: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    wanted.sort();
    for name in NAMES {
        lab.members(name, "the new addresses", |membership| {
            let mut stored: Vec<_> = membership.members.iter().map(|m| m.address).collect();
            stored.sort();
            stored == wanted && membership.members.iter().all(|member| member.voter)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_move_at_once() {
    let lab = Lab::started(&NAMES).await;
    put(&lab, "a", "before").await;
    lab.stop_all().await;
    lab.listed.send_replace(moved());
    for name in NAMES {
        lab.start(name).await;
    }
    lab.leader().await;
    all_are_stored_at(&lab, &moved()).await;
    for name in NAMES {
        assert_eq!(get(&lab, name).await, "before");
    }
    put(&lab, "b", "after").await;
    assert!(lab.fatal.lock().unwrap().is_empty());
    lab.stop_all().await;
}

/// The list is everywhere at once, the servers are restarted one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_move_one_by_one_after_a_reload() {
    let lab = Lab::started(&NAMES).await;
    put(&lab, "a", "before").await;
    lab.listed.send_replace(moved());
    // Nobody has moved yet.
    put(&lab, "b", "listed").await;
    for name in NAMES {
        lab.stop(name).await;
        lab.leader().await;
        put(&lab, lab.follower().await.as_str(), name).await;
        lab.start(name).await;
        assert_eq!(get(&lab, name).await, name);
    }
    all_are_stored_at(&lab, &moved()).await;
    assert!(lab.fatal.lock().unwrap().is_empty());
    lab.stop_all().await;
}
