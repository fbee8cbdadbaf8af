//! Clients of the database: at each server, through its SQL entry, they write and read, and write down
//! what they were told.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use trilith_base::ServerName;
use trilith_consensus::{Epoch, Store};

use super::commit::commit;
use crate::environment::{Sleep, nanos, spawn_for};
use crate::executor::{WORLD, executor};
use crate::limits::{AFTER_SUSPEND, CALL_MAX, GUARD_ACTS};
use crate::plant::Plant;
use crate::world::{World, lock, name_of, server_name};

/// At each server.
const CLIENTS: usize = 2;

/// A session through an entry: it lives as long as the lease that it was made under, as that server sees it.
#[derive(Clone, PartialEq, Eq)]
struct Session {
    at: usize,
    life: u64,
    tenure: (ServerName, Epoch),
}

/// They go on until `until`, true time.
pub fn run(world: &Arc<World>, until: u64) {
    for server in 0..world.shape.servers {
        for _ in 0..CLIENTS {
            let client = Client {
                world: world.clone(),
                server,
            };
            spawn_for(WORLD, async move {
                let mut session = None;
                while executor().now() < until {
                    let (shortest, longest) =
                        (Duration::from_millis(10), Duration::from_millis(250));
                    Sleep::new(client.world.draw_between(shortest, longest)).await;
                    session = client.one_call(session).await;
                }
            });
        }
    }
}

#[derive(Clone)]
struct Client {
    world: Arc<World>,
    server: usize,
}

impl Client {
    async fn one_call(&self, session: Option<Session>) -> Option<Session> {
        let session = session.filter(|session| self.may_last(session));
        let session = match session {
            Some(session) => session,
            None => self.connect().await?,
        };
        // The entry belongs to the server: if that dies, or freezes, there is no answer.
        let call = match self.world.draw(3) {
            0 => self.clone().read(session.clone()),
            _ => self.clone().write(session.clone()),
        };
        let call = spawn_for(executor().owner(self.server), call);
        match select(call, Sleep::new(CALL_MAX / 2)).await {
            Either::Left((Ok(true), _)) => Some(session),
            _ => None,
        }
    }

    /// As this server sees it.
    fn tenure(&self) -> Option<(ServerName, Epoch, bool)> {
        let cluster = self.world.cluster(self.server)?;
        let view = self.world.store_view(&cluster.view().borrow());
        let (holder, epoch) = view.lease.clone()?;
        let open = view.record.as_ref().is_some_and(|(record, _)| record.open);
        Some((holder, epoch, open))
    }

    fn may_last(&self, session: &Session) -> bool {
        let plant = self.world.shape.plant;
        if plant.is_some_and(Plant::has_two_primaries) {
            // Nobody ends its sessions either.
            return true;
        }
        let tenure = self.tenure().map(|(holder, epoch, _)| (holder, epoch));
        tenure.as_ref() == Some(&session.tenure)
    }

    async fn connect(&self) -> Option<Session> {
        let (holder, epoch, open) = self.tenure()?;
        let servers = 0..self.world.shape.servers;
        let at = servers.into_iter().find(|at| server_name(*at) == holder)?;
        if !open || !self.carry(self.server, at).await || !self.world.runs(at) {
            return None;
        }
        let life = {
            let databases = lock(&self.world.databases);
            let database = &databases.servers[at];
            database.is_open().then(|| database.life())??
        };
        let tenure = (holder, epoch);
        let session = Session { at, life, tenure };
        let there = self.carry(at, self.server).await;
        (there && self.may_last(&session)).then_some(session)
    }

    async fn carry(&self, from: usize, to: usize) -> bool {
        from == to || self.world.network.carry(from, to).await
    }

    /// Whether the session goes on.
    fn call(
        self,
        session: Session,
        write: bool,
    ) -> std::pin::Pin<Box<dyn Future<Output = bool> + Send>> {
        Box::pin(async move {
            match write {
                true => self.do_write(session).await,
                false => self.do_read(session).await,
            }
            .is_some()
        })
    }

    fn write(self, session: Session) -> std::pin::Pin<Box<dyn Future<Output = bool> + Send>> {
        self.call(session, true)
    }

    fn read(self, session: Session) -> std::pin::Pin<Box<dyn Future<Output = bool> + Send>> {
        self.call(session, false)
    }

    async fn do_write(&self, session: Session) -> Option<()> {
        let (world, at, life) = (self.world.clone(), session.at, session.life);
        if !self.carry(self.server, at).await || !world.runs(at) {
            return None;
        }
        // The commit goes on whether or not anybody waits for it.
        let committing = world.clone();
        let commit = spawn_for(WORLD, async move { commit(&committing, at, life).await });
        let id = commit.await.ok()??;
        if !self.carry(at, self.server).await || !self.may_last(&session) {
            return None;
        }
        let mut databases = lock(&world.databases);
        databases.acknowledged.insert(id, executor().now());
        databases.counts.written += 1;
        drop(databases);
        let (at, here) = (name_of(at), name_of(self.server));
        world.note(format_args!("client at {here}: write {id} done at {at}"));
        Some(())
    }

    async fn do_read(&self, session: Session) -> Option<()> {
        let (world, at, life) = (&self.world, session.at, session.life);
        let began = executor().now();
        if !self.carry(self.server, at).await || !world.runs(at) {
            return None;
        }
        let seen = {
            let mut databases = lock(&world.databases);
            let process = databases.process(at, life)?;
            if process.stopping {
                return None;
            }
            databases.servers[at].visible()
        };
        if !self.carry(at, self.server).await || !self.may_last(&session) {
            return None;
        }
        let woke = {
            let grace = nanos(AFTER_SUSPEND + GUARD_ACTS);
            lock(&world.kernel).woke_within(at, executor().now(), grace)
        };
        let mut databases = lock(&world.databases);
        let missing: Vec<u64> = databases
            .acknowledged
            .iter()
            .filter(|(id, when)| **when < began && !seen.contains(id))
            .map(|(id, _)| *id)
            .collect();
        databases.shown.extend(&seen);
        databases.counts.read += 1;
        drop(databases);
        let old = world.shape.plant.is_some_and(Plant::has_two_primaries);
        if world.is_synchronous() && !missing.is_empty() && !woke && !old {
            let at = name_of(at);
            world.violate(format!(
                "a read at {at} without writes {missing:?}, done before"
            ));
        }
        Some(())
    }
}
