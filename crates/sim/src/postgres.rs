//! A model of PostgreSQL on each server: the WAL as a list of entries, what of it is on disk, the process,
//! who confirms commits, and what a start, a crash, a promotion, a rewind and a copy make of it.
//!
//! The process belongs to the machine: it outlives the server's own process, and its end.

mod check;
mod clients;
mod commit;
mod life;
mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use trilith_base::BootTime;
use trilith_ha::{History, Kind, Lsn, Position, SyncSet};

pub use check::Seen;
pub use clients::run as run_clients;
pub use life::run as run_machines;

use crate::environment::Sleep;
use crate::executor::{Nanos, executor};
use crate::world::{World, lock, name_of, server_name};

/// Bytes of one entry: so large that a server falls behind by more than what counts as caught up.
const ENTRY_BYTES: u64 = 1 << 20;

/// One entry of the WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub timeline: u32,
    /// Nobody else's, ever: two histories are equal when their entries are.
    pub id: u64,
    /// A client's write; otherwise what PostgreSQL wrote for itself.
    pub write: bool,
}

/// All database servers.
#[derive(Default)]
pub struct Databases {
    pub servers: Vec<Database>,
    /// The last number given to anything.
    numbers: u64,
    /// Writes that a client was told are done, and when.
    pub acknowledged: BTreeMap<u64, Nanos>,
    /// Writes that a client was shown.
    pub shown: BTreeSet<u64>,
    pub counts: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub written: u64,
    pub read: u64,
    pub promotions: u64,
    pub fenced: u64,
    /// Servers that lost their power at a moment that matters.
    pub struck: u64,
}

/// PostgreSQL's part of one machine.
pub struct Database {
    pub state: State,
    pub system: u64,
    pub kind: Kind,
    /// It was stopped in good order.
    pub clean: bool,
    pub unfounded: bool,
    pub set_up: bool,
    pub wal: Vec<Entry>,
    /// How many entries are safely on disk.
    pub flushed: usize,
    pub checkpoint_timeline: u32,
    process: Option<Process>,
    /// Of the process, for those who wait for its end.
    lives: watch::Sender<Option<u64>>,
    pub frozen: bool,
    /// Nothing can be started.
    pub disk_full: bool,
    pub guard: Guard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Missing,
    /// An interrupted rewind.
    HalfMade,
    Ready,
}

/// The guard's process: it ends with its machine alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Guard {
    pub alive: bool,
    pub deadline: Option<BootTime>,
}

/// A postmaster and everything under it.
pub struct Process {
    pub life: u64,
    pub ready: bool,
    pub in_recovery: bool,
    /// Sessions have been ended.
    pub stopping: bool,
    pub role_since: Nanos,
    pub ready_since: Nanos,
    // As a replica.
    pub follow: Option<usize>,
    /// Connection of the WAL receiver.
    pub receiver: Option<u64>,
    pub waits_since: Option<Nanos>,
    /// It was told to end recovery, and the number that the new timeline is to have.
    pub promoting: Option<u32>,
    // As a primary.
    pub open: bool,
    pub conf: Confirm,
    /// Sessions see that commits have to wait.
    pub waits: bool,
    /// When the checkpointer gets to reading its configuration.
    pub waits_due: Nanos,
    /// What the agent wrote down beside the socket.
    pub confirmed: Option<Confirmed>,
    pub wanted: Option<SyncSet>,
    pub senders: BTreeMap<usize, Sender>,
    pub gone_since: BTreeMap<usize, Nanos>,
    /// Commits that nobody can see yet, by their place in the WAL.
    pub hidden: BTreeSet<usize>,
    /// Those of them that wait for replicas.
    pub waiting: BTreeSet<usize>,
}

/// `synchronous_standby_names`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// A replica that does not exist.
    Nobody,
    Set(SyncSet),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    pub set: SyncSet,
    pub since: usize,
    pub proven: bool,
}

/// The process that sends WAL to one replica.
pub struct Sender {
    pub connection: u64,
    pub flushed: usize,
    pub heard_at: Nanos,
    /// The configuration it works with, and when it reads the newest.
    pub conf: Confirm,
    pub conf_due: Nanos,
}

impl Databases {
    pub fn new(servers: usize) -> Self {
        let server = |_| Database {
            state: State::Missing,
            system: 0,
            kind: Kind::Replica,
            clean: true,
            unfounded: false,
            set_up: false,
            wal: Vec::new(),
            flushed: 0,
            checkpoint_timeline: 0,
            process: None,
            lives: watch::channel(None).0,
            frozen: false,
            disk_full: false,
            guard: Guard::default(),
        };
        Self {
            servers: (0..servers).map(server).collect(),
            ..Self::default()
        }
    }

    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub fn process(&mut self, server: usize, life: u64) -> Option<&mut Process> {
        let process = self.servers[server].process.as_mut();
        process.filter(|process| process.life == life)
    }

    /// Writes an entry, which is not on disk yet. Returns the place behind it.
    pub fn append(&mut self, server: usize, timeline: u32, write: bool) -> (usize, u64) {
        let id = self.number();
        let database = &mut self.servers[server];
        database.wal.push(Entry {
            timeline,
            id,
            write,
        });
        (database.wal.len(), id)
    }
}

impl Database {
    pub fn life(&self) -> Option<u64> {
        self.process.as_ref().map(|process| process.life)
    }

    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    pub fn begin_process(&mut self, process: Process) {
        self.lives.send_replace(Some(process.life));
        self.process = Some(process);
    }

    /// Whether there was one.
    pub fn end_process(&mut self) -> bool {
        self.lives.send_replace(None);
        self.process.take().is_some()
    }

    /// The data are gone, and their disk is an empty one.
    pub fn lose_data(&mut self) {
        self.end_process();
        self.wal.clear();
        (self.flushed, self.state, self.system) = (0, State::Missing, 0);
        (self.kind, self.clean, self.unfounded) = (Kind::Replica, true, false);
        self.set_up = false;
    }

    /// What is safely on this disk.
    pub fn history(&self) -> History {
        history(&self.wal[..self.flushed])
    }

    pub fn is_primary(&self) -> bool {
        let process = self.process.as_ref();
        process.is_some_and(|process| process.ready && !process.in_recovery)
    }

    pub fn is_open(&self) -> bool {
        let open = |process: &Process| process.open && !process.stopping;
        self.is_primary() && self.process.as_ref().is_some_and(open)
    }

    /// Client writes that sessions see.
    pub fn visible(&self) -> BTreeSet<u64> {
        let hidden = |at: usize| {
            let process = self.process.as_ref();
            process.is_some_and(|process| process.hidden.contains(&at))
        };
        let entries = self.wal.iter().enumerate();
        let seen = entries.filter(|(index, entry)| entry.write && !hidden(index + 1));
        seen.map(|(_, entry)| entry.id).collect()
    }

    /// Of what is not on disk, a crash leaves any part.
    fn crash(&mut self, draw: impl Fn(u64) -> u64) {
        if self.end_process() {
            let unsafe_part = self.wal.len() - self.flushed;
            let kept = draw(unsafe_part as u64 + 1) as usize;
            self.wal.truncate(self.flushed + kept);
            self.clean = false;
        }
        self.frozen = false;
    }
}

impl Process {
    fn add_sender(&mut self, replica: usize, connection: u64, flushed: usize) {
        let now = executor().now();
        let sender = Sender {
            connection,
            flushed,
            heard_at: now,
            conf: self.conf.clone(),
            conf_due: now,
        };
        self.senders.insert(replica, sender);
        self.gone_since.remove(&replica);
    }

    fn forget_sender(&mut self, replica: usize, now: Nanos) {
        if self.senders.remove(&replica).is_some() {
            self.gone_since.insert(replica, now);
        }
    }

    fn alone(&self) -> bool {
        matches!(&self.conf, Confirm::Set(set) if set.is_alone())
    }

    /// A replica has confirmed: the process that heard it lets commits go. How many have to confirm is what
    /// that process knows; whether a replica counts is what the process of that one knows (syncrep.c,
    /// `SyncRepGetCandidateStandbys`).
    fn release(&mut self, conf: &Confirm, by: usize) {
        let Confirm::Set(set) = conf else {
            return;
        };
        let counts = |replica: usize, conf: &Confirm| match conf {
            Confirm::Set(set) => set.members.contains(&server_name(replica)),
            Confirm::Nobody => false,
        };
        if set.is_alone() || !counts(by, conf) {
            return;
        }
        let senders = self.senders.iter();
        let members = senders.filter(|(replica, sender)| counts(**replica, &sender.conf));
        let mut flushed: Vec<usize> = members.map(|(_, sender)| sender.flushed).collect();
        flushed.sort_unstable_by(|a, b| b.cmp(a));
        if let Some(up_to) = flushed.get(set.acks - 1) {
            self.waiting.retain(|place| place > up_to);
        }
    }
}

pub fn lsn(place: usize) -> Lsn {
    Lsn(place as u64 * ENTRY_BYTES)
}

pub fn history(wal: &[Entry]) -> History {
    let mut ended = Vec::new();
    for (index, pair) in wal.windows(2).enumerate() {
        if pair[0].timeline != pair[1].timeline {
            ended.push(Position {
                timeline: pair[0].timeline,
                lsn: lsn(index + 1),
            });
        }
    }
    let end = Position {
        timeline: wal.last().map_or(1, |entry| entry.timeline),
        lsn: lsn(wal.len()),
    };
    History::new(ended, end)
}

/// Where two histories part, by the numbers of their timelines: what `pg_rewind` goes by.
pub fn fork(one: &History, other: &History) -> usize {
    let all = |history: &History| {
        let mut all = history.ended.clone();
        all.push(history.end);
        all
    };
    let (mut place, mut begin) = (0, (0, 0));
    for (a, b) in all(one).iter().zip(all(other)) {
        if a.timeline != b.timeline || begin.0 != begin.1 {
            break;
        }
        place = a.lsn.0.min(b.lsn.0);
        begin = (a.lsn.0, b.lsn.0);
    }
    usize::try_from(place / ENTRY_BYTES).unwrap_or(usize::MAX)
}

impl World {
    /// Whether that server's PostgreSQL gets to do anything.
    pub fn runs(&self, server: usize) -> bool {
        let asleep = lock(&self.kernel).sleeps(server);
        !asleep && !lock(&self.databases).servers[server].frozen
    }

    /// Work of a PostgreSQL takes its time. Returns whether it is still the same one then.
    pub async fn works(
        self: &Arc<Self>,
        server: usize,
        life: u64,
        shortest: u64,
        longest: u64,
    ) -> bool {
        let time = self.draw_between(
            Duration::from_micros(shortest),
            Duration::from_micros(longest),
        );
        Sleep::new(time).await;
        while !self.runs(server) {
            if lock(&self.databases).process(server, life).is_none() {
                return false;
            }
            Sleep::new(Duration::from_millis(5)).await;
        }
        lock(&self.databases).process(server, life).is_some()
    }

    /// Which process there is.
    pub fn lives_of_postgres(&self, server: usize) -> watch::Receiver<Option<u64>> {
        lock(&self.databases).servers[server].lives.subscribe()
    }

    /// SIGKILL to every process of it.
    pub fn kill_postgres(&self, server: usize, why: &str) {
        let mut databases = lock(&self.databases);
        if databases.servers[server].process.is_none() {
            return;
        }
        databases.servers[server].crash(|bound| self.draw(bound));
        drop(databases);
        self.note(format_args!(
            "postgres of {} is killed: {why}",
            name_of(server)
        ));
    }

    pub fn freeze_postgres(&self, server: usize, frozen: bool) {
        let mut databases = lock(&self.databases);
        let database = &mut databases.servers[server];
        database.frozen = frozen && database.process.is_some();
    }

    /// The machine is gone: the guard with it.
    pub fn machine_ended(&self, server: usize) {
        if self.shape.database.is_none() {
            return;
        }
        self.kill_postgres(server, "the machine ended");
        lock(&self.databases).servers[server].guard = Guard::default();
    }
}
