//! Streaming replication: the WAL receiver of one server, and the process that sends to it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select;
use tokio::sync::oneshot;
use trilith_ha::{History, Lsn, Position};

use super::{Confirm, Databases, ENTRY_BYTES, Entry, history};
use crate::environment::{Sleep, nanos, spawn_for};
use crate::executor::{Nanos, WORLD, executor};
use crate::limits::SENDER_TIMEOUT;
use crate::plant::Plant;
use crate::world::{World, lock, name_of};

/// Entries in a segment of the WAL.
const SEGMENT: usize = 16;
/// Between two tries to connect.
const RETRY: Duration = Duration::from_millis(200);
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);
/// Of a slow replica.
const SLOW: Duration = Duration::from_millis(60);
/// While there is nothing to send, the replica says so often how far it is.
const STATUS_EVERY: Duration = Duration::from_millis(100);

/// Connects, again and again, to whomever the configuration names.
pub fn run(world: &Arc<World>, replica: usize) {
    let world = world.clone();
    spawn_for(WORLD, async move {
        loop {
            let pause = world.draw_between(RETRY / 20, RETRY);
            Sleep::new(pause).await;
            if !world.runs(replica) {
                continue;
            }
            let wanted = {
                let mut databases = lock(&world.databases);
                let connection = databases.number();
                let process = databases.servers[replica].process.as_mut();
                process
                    .filter(|p| p.ready && p.in_recovery && !p.stopping && p.receiver.is_none())
                    .and_then(|process| Some((process.life, process.follow?, connection)))
            };
            let Some((life, source, connection)) = wanted else {
                continue;
            };
            let line = Line {
                world: world.clone(),
                replica,
                life,
                source,
                connection,
            };
            let (connected, answered) = oneshot::channel();
            spawn_for(WORLD, async move {
                if line.connect().await {
                    let _ = connected.send(());
                    line.stream().await;
                }
            });
            // One that waits for an answer does not keep the next from being tried.
            let _ = select(answered, Sleep::new(CONNECT_PATIENCE)).await;
        }
    });
}

/// What becomes of a try to connect.
enum Joins {
    Not,
    AnotherHistory,
    Follows,
}

/// One connection.
#[derive(Clone)]
struct Line {
    world: Arc<World>,
    replica: usize,
    life: u64,
    source: usize,
    connection: u64,
}

impl Line {
    async fn connect(&self) -> bool {
        let Self {
            world,
            replica,
            source,
            ..
        } = self;
        if !world.network.carry(*replica, *source).await || !world.runs(*source) {
            return false;
        }
        match self.join() {
            Joins::Not => return false,
            Joins::AnotherHistory => {
                self.confirm_another_history().await;
                return false;
            }
            Joins::Follows => {}
        }
        if !world.network.carry(*source, *replica).await {
            return false;
        }
        let mut databases = lock(&world.databases);
        let Some(process) = databases.process(*replica, self.life) else {
            return false;
        };
        let wanted = process.follow == Some(*source) && process.in_recovery;
        if wanted && process.receiver.is_none() {
            process.receiver = Some(self.connection);
            process.waits_since = None;
            return true;
        }
        false
    }

    /// At the source: whether it takes the replica, as PostgreSQL has it, by the numbers of timelines and
    /// positions.
    fn join(&self) -> Joins {
        let (replica, source) = (self.replica, self.source);
        let mut databases = lock(&self.world.databases);
        let (mine, theirs) = (&databases.servers[replica], &databases.servers[source]);
        let (had, sent) = (history(&mine.wal), theirs.history());
        if mine.system != theirs.system {
            return Joins::Not;
        }
        if !sent.contains(had.end) {
            return match begins(&sent, &had) {
                true => Joins::AnotherHistory,
                false => Joins::Not,
            };
        }
        if !starts_with(&theirs.wal, &mine.wal) {
            drop(databases);
            let (one, other) = (name_of(replica), name_of(source));
            let text = format!("{one} streams from {other} what does not follow");
            self.world.violate(text);
            return Joins::Not;
        }
        let process = databases.servers[source].process.as_mut();
        let Some(process) = process.filter(|process| process.ready) else {
            return Joins::Not;
        };
        process.add_sender(replica, self.connection, 0);
        Joins::Follows
    }

    /// It has more of an older timeline than the primary took over. PostgreSQL sends what both have, and takes
    /// the replica's word for how far it has flushed; then the older timeline ends, and with it the connection.
    async fn confirm_another_history(&self) {
        let (world, replica, source) = (&self.world, self.replica, self.source);
        if !world.network.carry(source, replica).await
            || !world.network.carry(replica, source).await
        {
            return;
        }
        let mut databases = lock(&world.databases);
        let flushed = databases.servers[replica].flushed;
        let receiving = databases.process(replica, self.life);
        if receiving.is_none_or(|process| process.follow != Some(source)) {
            return;
        }
        let process = databases.servers[source].process.as_mut();
        let Some(process) = process.filter(|process| process.ready) else {
            return;
        };
        process.add_sender(replica, self.connection, flushed);
        let conf = process.conf.clone();
        process.release(&conf, replica);
        process.forget_sender(replica, executor().now());
    }

    async fn stream(self) {
        let mut told_at = None;
        while self.once(&mut told_at).await.is_some() {}
        let (now, world) = (executor().now(), &self.world);
        // Both ends see that the connection is over, if they can.
        let reach = !world.network.is_cut(self.replica, self.source);
        let mut databases = lock(&world.databases);
        let database = &mut databases.servers[self.replica];
        if let Some(process) = &mut database.process
            && process.receiver == Some(self.connection)
        {
            process.receiver = None;
            process.waits_since = Some(now);
            // It writes to disk what it has before it ends.
            database.flushed = database.wal.len();
        }
        if reach && self.is_sent(&mut databases) {
            let process = databases.servers[self.source].process.as_mut();
            if let Some(process) = process {
                process.forget_sender(self.replica, now);
            }
        }
    }

    fn is_sent(&self, databases: &mut Databases) -> bool {
        let process = databases.servers[self.source].process.as_ref();
        let sender = process.and_then(|process| process.senders.get(&self.replica));
        sender.is_some_and(|sender| sender.connection == self.connection)
    }

    fn is_received(&self, databases: &mut Databases) -> bool {
        let process = databases.process(self.replica, self.life);
        process.is_some_and(|process| process.receiver == Some(self.connection))
    }

    /// Some entries, on disk there, and the word back.
    async fn once(&self, told_at: &mut Option<Nanos>) -> Option<()> {
        let (world, replica, source) = (&self.world, self.replica, self.source);
        let longest = match world.shape.plant {
            // What is wrong then shows while replicas are behind.
            Some(Plant::WidenedBeforeConfirmation | Plant::OpenedBeforeConfirmation) => SLOW,
            _ => Duration::from_millis(6),
        };
        let pause = world.draw_between(Duration::from_micros(300), longest);
        Sleep::new(pause).await;
        let life = {
            let mut databases = lock(&world.databases);
            if !self.is_received(&mut databases) {
                return None;
            }
            if !self.is_sent(&mut databases) {
                // The other end is gone; that is heard of only while the network carries it.
                let cut = world.network.is_cut(source, replica);
                let since = executor().now().saturating_sub(nanos(SENDER_TIMEOUT));
                return (cut && told_at.is_some_and(|at| at > since)).then_some(());
            }
            let news = databases.servers[source].flushed > databases.servers[replica].flushed;
            let due = executor().now().saturating_sub(nanos(STATUS_EVERY));
            if !news && told_at.is_some_and(|at| at > due) {
                return Some(());
            }
            databases.servers[source].life()?
        };
        if !world.works(source, life, 10, 50).await {
            return None;
        }
        let most = 1 + world.draw(8) as usize;
        let (from, batch): (usize, Vec<Entry>) = {
            let mut databases = lock(&world.databases);
            if !self.is_sent(&mut databases) || !self.is_received(&mut databases) {
                return None;
            }
            let from = databases.servers[replica].wal.len();
            let database = &databases.servers[source];
            let to = database.flushed.min(from + most);
            let batch = database.wal.get(from..to).unwrap_or_default();
            (from, batch.to_vec())
        };
        if !world.network.carry(source, replica).await {
            return None;
        }
        if !world.works(replica, self.life, 10, 100).await {
            return None;
        }
        {
            let mut databases = lock(&world.databases);
            if !self.is_received(&mut databases) {
                return None;
            }
            let database = &mut databases.servers[replica];
            if database.wal.len() == from {
                database.wal.extend(batch);
            }
        }
        if !world.works(replica, self.life, 100, 3_000).await {
            return None;
        }
        let flushed = {
            let mut databases = lock(&world.databases);
            if !self.is_received(&mut databases) {
                return None;
            }
            let database = &mut databases.servers[replica];
            database.flushed = database.wal.len();
            database.flushed
        };
        if !world.network.carry(replica, source).await {
            return None;
        }
        if !world.works(source, life, 10, 50).await {
            return None;
        }
        let now = executor().now();
        let mut databases = lock(&world.databases);
        if !self.is_sent(&mut databases) {
            return None;
        }
        let process = databases.process(source, life)?;
        let sender = process.senders.get_mut(&replica)?;
        sender.flushed = flushed;
        sender.heard_at = now;
        let conf: Confirm = sender.conf.clone();
        process.release(&conf, replica);
        *told_at = Some(now);
        Some(())
    }
}

/// Whether one with that history can begin to receive from one with the other: it asks for what it has from the
/// beginning of the last segment on (walreceiverfuncs.c, `RequestXLogStreaming`).
fn begins(theirs: &History, mine: &History) -> bool {
    let segment = SEGMENT as u64 * ENTRY_BYTES;
    let begin = mine.end.lsn.0 / segment * segment;
    theirs.contains(Position {
        lsn: Lsn(begin),
        ..mine.end
    })
}

fn starts_with(wal: &[Entry], first: &[Entry]) -> bool {
    wal.get(..first.len()) == Some(first)
}
