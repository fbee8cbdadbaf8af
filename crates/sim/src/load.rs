//! Clients: they read and write through any server that is up, and write down what they were told.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use trilith_cluster::Cluster;
use trilith_consensus::{Condition, Key, Outcome, Revision, Store, StoreError, Txn, View, Write};

use crate::environment::{SimEnvironment, Sleep, spawn_for};
use crate::executor::{WORLD, executor};
use crate::history::{End, RegisterCall};
use crate::limits::CALL_MAX;
use crate::plant::Plant;
use crate::world::{World, lock, name_of};

/// Keys that clients fight over.
pub const KEYS: usize = 4;
/// Clients at one time.
const CLIENTS: usize = 3;

pub fn key(index: usize) -> Key {
    match Key::new(&format!("k/{index}")) {
        Ok(key) => key,
        Err(error) => panic!("a key of ours: {error}"),
    }
}

/// Starts the clients; they go on until `until`, true time.
pub fn run(world: &Arc<World>, until: u64) {
    for client in 0..CLIENTS {
        let world = world.clone();
        spawn_for(WORLD, async move {
            let mut count = 0;
            while executor().now() < until {
                let think =
                    world.draw_between(Duration::from_millis(10), Duration::from_millis(500));
                Sleep::new(think).await;
                count += 1;
                one_call(&world, (client as u64 + 1) * 1_000_000 + count).await;
            }
        });
    }
}

/// One call at one server that is up. `value` is new.
async fn one_call(world: &Arc<World>, value: u64) {
    let servers = world.shape.servers;
    let first = world.draw(servers as u64) as usize;
    let found = (0..servers)
        .map(|offset| (first + offset) % servers)
        .find_map(|server| Some((server, world.cluster(server)?)));
    let Some((server, cluster)) = found else {
        return;
    };
    let index = world.draw(KEYS as u64) as usize;
    let kind = world.draw(10);
    let client = Client {
        world: world.clone(),
        server,
        cluster,
        index,
    };
    // It belongs to the server: if that dies, there is no answer.
    let call = spawn_for(executor().owner(server), async move {
        match kind {
            0..4 => drop(client.read().await),
            4..7 => client.swap(value).await,
            7..9 => client.write(value).await,
            _ => client.swap_two(value).await,
        }
    });
    // A frozen server may answer when nobody waits any more.
    if let Either::Right(_) = select(call, Sleep::new(CALL_MAX)).await {
        world.note(format_args!("a client gave up on {}", name_of(server)));
    }
}

struct Client {
    world: Arc<World>,
    server: usize,
    cluster: Arc<Cluster<SimEnvironment>>,
    index: usize,
}

impl Client {
    async fn read(&self) -> Option<Arc<View>> {
        let numbers: Vec<usize> = {
            let mut history = lock(&self.world.history);
            (0..KEYS).map(|key| history.call(key, None)).collect()
        };
        let told = lock(&self.world.history).told();
        let result = match self.world.shape.plant {
            Some(Plant::StaleRead) => Ok(self.cluster.view().borrow().clone()),
            _ => self.cluster.read().await,
        };
        let mut history = lock(&self.world.history);
        for (key, number) in numbers.into_iter().enumerate() {
            history.done(
                number,
                match &result {
                    Ok(view) => End::Call(RegisterCall::Read(value_of(view, key))),
                    Err(_) => End::Nothing,
                },
            );
        }
        let revision = result.as_ref().map(|view| view.revision.0);
        self.world.note(format_args!(
            "client at {} read: {revision:?}",
            name_of(self.server)
        ));
        let view = result.ok()?;
        if view.revision.0 < told {
            drop(history);
            let now = view.revision;
            self.world.violate(format!(
                "a read at revision {now} although {told} had been told"
            ));
            return Some(view);
        }
        history.tell(view.revision.0);
        Some(view)
    }

    /// Reads, then writes if nobody else has meanwhile.
    async fn swap(&self, to: u64) {
        let Some(view) = self.read().await else {
            return;
        };
        let name = key(self.index);
        let from = value_of(&view, self.index);
        let version = view.get(name.as_str()).map(|entry| entry.version);
        let txn = Txn::compare_and_set(name, version, to.to_string().into_bytes());
        let call = RegisterCall::Swap { from, to };
        let calls = vec![(self.index, call, Some(RegisterCall::NoSwap { from }))];
        self.commit(txn, calls).await;
    }

    /// Writes over whatever is there.
    async fn write(&self, value: u64) {
        let txn = Txn::new().then(Write::Put {
            key: key(self.index),
            value: value.to_string().into_bytes().into(),
        });
        let calls = vec![(self.index, RegisterCall::Write(value), None)];
        self.commit(txn, calls).await;
    }

    /// Two keys, both or none.
    async fn swap_two(&self, to: u64) {
        let Some(view) = self.read().await else {
            return;
        };
        let mut txn = Txn::new();
        let mut calls = Vec::new();
        for index in [self.index, (self.index + 1) % KEYS] {
            let name = key(index);
            txn = txn.when(match view.get(name.as_str()) {
                None => Condition::Absent { key: name.clone() },
                Some(entry) => Condition::Unchanged {
                    key: name.clone(),
                    version: entry.version,
                },
            });
            txn = txn.then(Write::Put {
                key: name,
                value: to.to_string().into_bytes().into(),
            });
            let from = value_of(&view, index);
            calls.push((index, RegisterCall::Swap { from, to }, None));
        }
        self.commit(txn, calls).await;
    }

    /// `calls`: what it means for each key when it was done, and when it was refused.
    async fn commit(&self, txn: Txn, calls: Vec<(usize, RegisterCall, Option<RegisterCall>)>) {
        let (numbers, told) = {
            let mut history = lock(&self.world.history);
            let numbers: Vec<usize> = calls
                .iter()
                .map(|(key, done, _)| history.call(*key, Some(*done)))
                .collect();
            (numbers, history.told())
        };
        let mut result = self.cluster.commit(txn.clone()).await;
        if self.world.shape.plant == Some(Plant::BlindRetry)
            && matches!(result, Err(StoreError::Unknown))
        {
            result = self.cluster.commit(txn).await;
        }
        let name = name_of(self.server);
        self.world
            .note(format_args!("client at {name} wrote {calls:?}: {result:?}"));
        let mut history = lock(&self.world.history);
        for (number, (_, done, refused)) in numbers.into_iter().zip(&calls) {
            let end = match (&result, refused) {
                (Ok(Outcome::Done { .. }), _) => End::Call(*done),
                (Ok(Outcome::Refused { .. }), Some(refused)) => End::Call(*refused),
                (Ok(Outcome::Refused { .. }), None) => End::Nothing,
                (Err(StoreError::Unknown | StoreError::Stopped), _) => End::Open,
                (Err(_), _) => End::Nothing,
            };
            history.done(number, end);
        }
        let Ok(Outcome::Done { revision }) = result else {
            return;
        };
        if revision.0 <= told {
            drop(history);
            self.world.violate(format!(
                "a write at {revision} although {told} had been told"
            ));
            return;
        }
        history.tell(revision.0);
        drop(history);
        self.acknowledge(&calls, revision);
    }

    fn acknowledge(
        &self,
        calls: &[(usize, RegisterCall, Option<RegisterCall>)],
        revision: Revision,
    ) {
        let mut watcher = lock(&self.world.watcher);
        for (index, ..) in calls {
            watcher.acknowledge(&key(*index), revision);
        }
    }
}

/// What a view says of a key.
pub fn value_of(view: &View, index: usize) -> Option<u64> {
    let entry = view.get(key(index).as_str())?;
    // What nobody wrote is no number: it will not be found in the history.
    let text = std::str::from_utf8(&entry.value).ok();
    Some(text.and_then(|text| text.parse().ok()).unwrap_or(u64::MAX))
}
