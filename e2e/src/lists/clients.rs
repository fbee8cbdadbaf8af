//! Clients at work on the lists.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::{History, Line, Op, Stage};
use crate::random::Random;
use crate::sql::{Sql, Trouble};

/// Lists that are in use at the same time.
const KEYS: i64 = 6;
/// A list gets so many appends, and then another one is used in its place.
const APPENDS_PER_LIST: i64 = 40;
const OPS_MAX: u64 = 5;
/// Between two transactions of a client.
const PAUSE: Duration = Duration::from_millis(20);
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);
/// A statement that waits longer for somebody else's lock is not worth waiting for.
const LOCK_TIMEOUT: &str = "1s";

/// What the clients ask of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// PostgreSQL's default.
    ReadCommitted,
    Serializable,
}

impl Isolation {
    /// What such transactions get from one PostgreSQL that nothing happens to, all of whom start there:
    /// what was acknowledged before a transaction began is seen by it.
    pub(super) fn model(self) -> &'static str {
        match self {
            Self::ReadCommitted => "strong-read-committed",
            Self::Serializable => "strict-serializable",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::ReadCommitted => "READ COMMITTED",
            Self::Serializable => "SERIALIZABLE",
        }
    }

    fn table(self) -> &'static str {
        match self {
            Self::ReadCommitted => "lists_read_committed",
            Self::Serializable => "lists_serializable",
        }
    }
}

/// Who works where.
#[derive(Clone, Debug)]
pub struct Options {
    pub isolation: Isolation,
    /// Connection strings; a client stays with its own.
    pub places: Vec<String>,
    pub clients: usize,
    pub seed: u64,
}

/// Clients under way, until [`Clients::stop`].
pub struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    options: Options,
    history: Mutex<History>,
    next_process: AtomicI64,
    next_value: AtomicI64,
    stop: AtomicBool,
}

/// One of them.
struct Client {
    shared: Arc<Shared>,
    place: String,
    process: i64,
    random: Random,
}

/// How far a transaction came.
enum Came {
    Committed,
    Aborted,
    /// The connection is of no use any more.
    AbortedAndLost,
    Unknown,
}

impl Clients {
    /// Makes the table and starts.
    pub fn start(options: Options) -> Result<Self> {
        let table = options.isolation.table();
        let place = options.places.first().context("no places")?;
        Sql::connect(place)?.ask(&format!(
            "DROP TABLE IF EXISTS {table}; \
             CREATE TABLE {table} (key bigint PRIMARY KEY, list bigint[] NOT NULL)"
        ))?;
        let clients = options.clients;
        let shared = Arc::new(Shared {
            history: Mutex::default(),
            next_process: AtomicI64::new(0),
            next_value: AtomicI64::new(0),
            stop: AtomicBool::new(false),
            options,
        });
        let client = |number: usize| {
            let places = &shared.options.places;
            let mut client = Client {
                place: places[number % places.len()].clone(),
                process: shared.next_process.fetch_add(1, Ordering::Relaxed),
                random: Random::new(shared.options.seed ^ ((number as u64 + 1) << 32)),
                shared: Arc::clone(&shared),
            };
            thread::spawn(move || client.work())
        };
        Ok(Self {
            threads: (0..clients).map(client).collect(),
            shared,
        })
    }

    /// How many transactions have been acknowledged.
    pub fn committed(&self) -> usize {
        self.shared.history().committed()
    }

    /// Ends them, reads every list once more in a transaction that is part of the history, and says what
    /// the lists were.
    pub fn stop(mut self) -> Result<(History, BTreeMap<i64, Vec<i64>>)> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow!("a client panicked"))?;
        }
        let place = &self.shared.options.places[0];
        let lists = read_all(&Sql::connect(place)?, self.shared.options.isolation)?;
        let mut history = std::mem::take(&mut *self.shared.history());
        history.settle(&lists);
        let process = self.shared.next_process.fetch_add(1, Ordering::Relaxed);
        let read = |known: bool| {
            let read = lists.iter().map(|(key, list)| Op::Read {
                key: *key,
                list: known.then(|| list.clone()),
            });
            read.collect()
        };
        for (stage, ops) in [
            (Stage::Invoked, read(false)),
            (Stage::Committed, read(true)),
        ] {
            history.lines.push(Line {
                process,
                stage,
                ops,
            });
        }
        Ok((history, lists))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// The appends among themselves in the order of their lists: deadlocks are of no interest here.
fn in_order(ops: &mut [Op]) {
    let is_append = |op: &Op| matches!(op, Op::Append { .. });
    let mut appends: Vec<Op> = ops.iter().filter(|op| is_append(op)).cloned().collect();
    appends.sort_by_key(|op| match op {
        Op::Append { key, value } => (*key, *value),
        Op::Read { .. } => (0, 0),
    });
    let places = ops.iter_mut().filter(|op| is_append(op));
    for (place, append) in places.zip(appends) {
        *place = append;
    }
}

/// Every list, as this session sees it.
pub fn read_all(sql: &Sql, isolation: Isolation) -> Result<BTreeMap<i64, Vec<i64>>> {
    let table = isolation.table();
    let rows = sql.ask(&format!("SELECT key, list FROM {table}"))?;
    rows.iter()
        .map(|row| match row.as_slice() {
            [key, list] => Ok((key.parse()?, parse(list)?)),
            _ => Err(anyhow!("{row:?}")),
        })
        .collect()
}

/// PostgreSQL's own form: `{1,2,3}`.
fn parse(array: &str) -> Result<Vec<i64>> {
    let inside = array.strip_prefix('{').and_then(|a| a.strip_suffix('}'));
    let inside = inside.with_context(|| format!("{array:?} is no array"))?;
    let numbers = inside.split(',').filter(|n| !n.is_empty());
    numbers.map(|n| Ok(n.parse()?)).collect()
}

impl Shared {
    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    fn work(&mut self) {
        while !self.stopped() {
            let Ok(sql) = Sql::connect(&self.place) else {
                thread::sleep(RECONNECT_PAUSE);
                continue;
            };
            let isolation = self.shared.options.isolation.name();
            let set = format!(
                "SET default_transaction_isolation = '{isolation}'; SET lock_timeout = '{LOCK_TIMEOUT}'"
            );
            let mut usable = sql.ask(&set).is_ok();
            while usable && !self.stopped() {
                usable = self.transaction(&sql);
                thread::sleep(PAUSE);
            }
            thread::sleep(RECONNECT_PAUSE);
        }
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// Whether the session is still good.
    fn transaction(&mut self, sql: &Sql) -> bool {
        let mut ops = self.make_up();
        self.note(Stage::Invoked, ops.clone());
        let came = run(sql, self.shared.options.isolation.table(), &mut ops);
        self.note_shown(&ops);
        let stage = match came {
            Came::Committed => Stage::Committed,
            Came::Aborted | Came::AbortedAndLost => Stage::Aborted,
            Came::Unknown => Stage::Unknown,
        };
        self.note(stage, ops);
        if stage == Stage::Unknown {
            let next = &self.shared.next_process;
            self.process = next.fetch_add(1, Ordering::Relaxed);
        }
        matches!(came, Came::Committed | Came::Aborted)
    }

    fn make_up(&mut self) -> Vec<Op> {
        let mut ops = Vec::new();
        for _ in 0..=self.random.below(OPS_MAX) {
            let newest = self.shared.next_value.load(Ordering::Relaxed);
            // Each of the lists in use is replaced when it is full, one after the other.
            let slot = i64::try_from(self.random.below(KEYS as u64)).unwrap_or_default();
            let generation = (newest + slot * APPENDS_PER_LIST) / (APPENDS_PER_LIST * KEYS);
            let key = generation * KEYS + slot;
            ops.push(match self.random.below(2) {
                0 => Op::Read { key, list: None },
                _ => Op::Append {
                    key,
                    value: self.shared.next_value.fetch_add(1, Ordering::Relaxed),
                },
            });
        }
        in_order(&mut ops);
        ops
    }

    fn note(&self, stage: Stage, ops: Vec<Op>) {
        self.shared.history().lines.push(Line {
            process: self.process,
            stage,
            ops,
        });
    }

    /// What others had appended and this one saw. What it had appended itself is at the end.
    fn note_shown(&self, ops: &[Op]) {
        let own = |n: &i64| {
            ops.iter()
                .any(|op| matches!(op, Op::Append { value, .. } if value == n))
        };
        let mut history = self.shared.history();
        for op in ops {
            if let Op::Read {
                key,
                list: Some(list),
            } = op
            {
                let others = list.iter().take_while(|n| !own(n)).copied();
                history.shown.push((*key, others.collect()));
            }
        }
    }
}

/// Runs it, and fills in what it reads.
fn run(sql: &Sql, table: &str, ops: &mut [Op]) -> Came {
    let failed = |sql: &Sql, trouble: Trouble| match trouble {
        // Without a COMMIT it is as if it had never begun.
        Trouble::Lost(_) => Came::AbortedAndLost,
        Trouble::Refused(_) => match sql.ask("ROLLBACK") {
            Ok(_) => Came::Aborted,
            Err(_) => Came::AbortedAndLost,
        },
    };
    if let Err(trouble) = sql.ask("BEGIN") {
        return failed(sql, trouble);
    }
    for op in ops.iter_mut() {
        let statement = match op {
            Op::Append { key, value } => format!(
                "INSERT INTO {table} AS old VALUES ({key}, ARRAY[{value}]) \
                 ON CONFLICT (key) DO UPDATE SET list = old.list || excluded.list"
            ),
            Op::Read { key, .. } => format!("SELECT list FROM {table} WHERE key = {key}"),
        };
        let rows = match sql.ask(&statement) {
            Ok(rows) => rows,
            Err(trouble) => return failed(sql, trouble),
        };
        if let Op::Read { list, .. } = op {
            let found = rows.first().and_then(|row| row.first());
            // A malformed one would be seen as an empty list, and that as a fault.
            let found = found.map(|array| parse(array).unwrap_or_default());
            *list = Some(found.unwrap_or_default());
        }
    }
    match sql.ask("COMMIT") {
        Ok(_) => Came::Committed,
        Err(Trouble::Refused(_)) => Came::Aborted,
        Err(Trouble::Lost(_)) => Came::Unknown,
    }
}
