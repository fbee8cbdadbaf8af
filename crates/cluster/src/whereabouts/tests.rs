use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::msg::{FailureKind, Reply, Request};

const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

fn address(port: u16) -> SocketAddr {
    SocketAddr::new(HERE.ip(), port)
}

fn peer(port: u16) -> Peer {
    Peer {
        name: ServerName::new("b").unwrap(),
        address: address(port),
    }
}

/// Answers at some addresses, and remembers where it was called.
#[derive(Default)]
struct Town {
    home: Mutex<BTreeSet<u16>>,
    /// Calls that are never answered.
    hangs: Mutex<BTreeSet<u16>>,
    called: Mutex<Vec<u16>>,
}

impl Transport for Town {
    fn call<'a>(
        &'a self,
        to: &'a Peer,
        _request: Request,
    ) -> BoxFuture<'a, Result<Reply, CallError>> {
        Box::pin(async move {
            let port = to.address.port();
            self.called.lock().unwrap().push(port);
            if self.hangs.lock().unwrap().contains(&port) {
                std::future::pending::<()>().await;
            }
            match self.home.lock().unwrap().contains(&port) {
                true => Ok(Reply::failed(FailureKind::Retry, "an answer")),
                false => Err(CallError::NotSent("nobody there".to_owned())),
            }
        })
    }
}

struct World {
    town: Arc<Town>,
    listed: watch::Sender<Vec<Listed>>,
    whereabouts: Whereabouts,
}

impl World {
    fn new(home: &[u16]) -> Self {
        let town = Arc::new(Town::default());
        let listed = watch::Sender::default();
        let whereabouts = Whereabouts::new(town.clone(), listed.subscribe());
        let world = Self {
            town,
            listed,
            whereabouts,
        };
        world.home(home);
        world
    }

    fn home(&self, ports: &[u16]) {
        *self.town.home.lock().unwrap() = ports.iter().copied().collect();
    }

    fn list(&self, port: u16) {
        self.listed.send_replace(vec![Listed {
            name: peer(0).name,
            address: address(port),
            votes: true,
        }]);
    }

    /// Calls so many times with that address stored; where, and whether the last was answered.
    async fn call(&self, times: usize, stored: u16) -> (Vec<u16>, bool) {
        let mut answered = false;
        for _ in 0..times {
            let to = peer(stored);
            let call = self.whereabouts.call(&to, Request::default());
            let result = tokio::time::timeout(Duration::from_millis(20), call).await;
            answered = matches!(result, Ok(Ok(_)));
        }
        let called = std::mem::take(&mut *self.town.called.lock().unwrap());
        (called, answered)
    }
}

#[tokio::test]
async fn without_a_listed_address_the_stored_one_is_called() {
    let world = World::new(&[1]);
    assert_eq!(world.call(2, 1).await, (vec![1, 1], true));
    world.home(&[2]);
    assert_eq!(world.call(3, 2).await, (vec![1, 2, 2], true));
    world.home(&[3]);
    assert_eq!(world.call(3, 3).await, (vec![2, 3, 3], true));
}

#[tokio::test]
async fn the_listed_address_comes_first() {
    let world = World::new(&[1, 2]);
    world.list(2);
    assert_eq!(world.call(3, 1).await, (vec![2, 2, 2], true));
    world.home(&[2]);
    assert_eq!(world.call(2, 1).await, (vec![2, 2], true));
}

#[tokio::test]
async fn the_stored_address_is_called_when_the_listed_one_fails() {
    let world = World::new(&[1]);
    world.list(2);
    assert_eq!(world.call(3, 1).await, (vec![2, 1, 1], true));
    world.home(&[]);
    assert_eq!(world.call(4, 1).await, (vec![1, 2, 1, 2], false));
    world.home(&[2]);
    assert_eq!(world.call(3, 1).await, (vec![1, 2, 2], true));
}

#[tokio::test]
async fn between_reload_and_restart_it_is_called_where_it_answered() {
    let world = World::new(&[1]);
    world.list(1);
    assert_eq!(world.call(1, 1).await, (vec![1], true));
    // The list has the new address, and so have the members soon.
    world.list(2);
    assert_eq!(world.call(2, 1).await, (vec![2, 1], true));
    assert_eq!(world.call(2, 2).await, (vec![1, 1], true));
    world.home(&[2]);
    assert_eq!(world.call(3, 2).await, (vec![1, 2, 2], true));
}

#[tokio::test]
async fn a_call_that_is_dropped_has_failed() {
    let world = World::new(&[1]);
    world.town.hangs.lock().unwrap().insert(2);
    world.list(2);
    assert_eq!(world.call(2, 1).await, (vec![2, 1], true));
}

#[tokio::test]
async fn what_is_remembered_has_an_end() {
    let world = World::new(&[1]);
    for n in 0..3 * PEERS_MAX {
        let to = Peer {
            name: ServerName::new(&format!("s{n}")).unwrap(),
            address: HERE,
        };
        world
            .whereabouts
            .call(&to, Request::default())
            .await
            .unwrap();
        assert!(world.whereabouts.lock().len() <= PEERS_MAX);
    }
}
