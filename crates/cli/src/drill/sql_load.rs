//! Steady load on a database: rows with unique numbers, from several connections, every
//! acknowledgement recorded.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_postgres::SimpleQueryRow;

use super::sql_report::{Answer, Log, Tenure, Write};
use super::sql_session::{Place, Session, Trouble};
use super::{READ_EVERY, SQL_RETRY_MAX, SQL_RETRY_MIN, WRITES_MAX};
use crate::failure::{Failure, Outcome};

pub const TABLE: &str = "trilith_drill";

/// What every writer of a drill shares.
#[derive(Clone)]
pub struct Shared {
    /// Names the rows of this drill. Nothing in it needs quoting.
    pub run: Arc<str>,
    /// All times count from here.
    pub begin: Instant,
    /// What servers are called, by `address:port` of their PostgreSQL.
    pub names: Arc<BTreeMap<String, String>>,
    pub stop: Arc<AtomicBool>,
    tenures: Arc<Mutex<BTreeMap<Tenure, Arc<Tenure>>>>,
    acknowledged: Arc<AtomicUsize>,
    writes: Arc<AtomicUsize>,
}

/// Load under way, until it is stopped.
pub struct Load {
    shared: Shared,
    threads: Vec<JoinHandle<io::Result<Log>>>,
}

impl Shared {
    pub fn new(run: &str, begin: Instant, names: BTreeMap<String, String>) -> Self {
        Self {
            run: run.into(),
            begin,
            names: Arc::new(names),
            stop: Arc::default(),
            tenures: Arc::default(),
            acknowledged: Arc::default(),
            writes: Arc::default(),
        }
    }

    /// Writes a row and takes the time.
    pub async fn insert(&self, session: &Session, id: i64) -> Write {
        let sql = insert_sql(&self.run, id);
        let sent = self.begin.elapsed();
        let answer = match session.ask(&sql).await {
            Ok(rows) => match rows.first().and_then(|row| self.tenure(row)) {
                Some(tenure) => Answer::Acknowledged(tenure),
                None => Answer::Unknown("an answer without the row".to_owned()),
            },
            Err(Trouble::Refused(why)) => Answer::Failed(why),
            Err(Trouble::Lost(why)) => Answer::Unknown(why),
        };
        Write {
            id,
            sent,
            done: self.begin.elapsed(),
            answer,
        }
    }

    fn tenure(&self, row: &SimpleQueryRow) -> Option<Arc<Tenure>> {
        let address = row.try_get(0).ok()??;
        let timeline = u32::from_str_radix(row.try_get(1).ok()??, 16).ok()?;
        let server = self.names.get(address).map_or(address, String::as_str);
        let tenure = Tenure {
            server: server.to_owned(),
            timeline,
        };
        let mut known = self.tenures.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = known.entry(tenure.clone()).or_insert_with(|| tenure.into());
        Some(Arc::clone(shared))
    }
}

/// The row says who took it: the address that PostgreSQL was reached at, and the timeline that its log
/// is on, from the first eight digits of the name of the file it writes.
fn insert_sql(run: &str, id: i64) -> String {
    format!(
        "INSERT INTO {TABLE} (run, id) VALUES ('{run}', {id}) RETURNING \
         coalesce(host(inet_server_addr()), 'local') || ':' || coalesce(inet_server_port(), 0), \
         left(pg_walfile_name(pg_current_wal_lsn()), 8)"
    )
}

impl Load {
    /// `connections` are spread over the places evenly; together they write `rate` rows a second.
    pub fn start(shared: Shared, places: &[Place], connections: u32, rate: u32) -> Outcome<Self> {
        let mut load = Self {
            shared: shared.clone(),
            threads: Vec::new(),
        };
        let period = Duration::from_secs(1) * connections / rate;
        for (place, first) in places.iter().zip(0_u32..) {
            let numbers: Vec<u32> = (first..connections).step_by(places.len()).collect();
            let (place, shared) = (Arc::new(place.clone()), shared.clone());
            let thread = thread::Builder::new()
                .name("sql-load".to_owned())
                .spawn(move || {
                    if let Some(namespace) = &place.namespace {
                        namespace.enter()?;
                    }
                    // All of it on this thread: its sockets are to be of this thread's namespace.
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()?;
                    Ok(runtime.block_on(async {
                        let mut writers = JoinSet::new();
                        for number in numbers {
                            let start = period * number / connections;
                            let writer = Writer::new(shared.clone(), Arc::clone(&place), number);
                            writers.spawn(writer.run(start, period));
                        }
                        let mut log = Log::default();
                        while let Some(ended) = writers.join_next().await {
                            log.add(ended.unwrap_or_default());
                        }
                        log
                    }))
                })
                .map_err(Failure::failed)?;
            load.threads.push(thread);
        }
        Ok(load)
    }

    /// How many rows have been acknowledged until now.
    pub fn acknowledged(&self) -> usize {
        self.shared.acknowledged.load(Relaxed)
    }

    /// Waits for the statements under way; they end within their timeouts.
    pub fn stop(mut self) -> Outcome<Log> {
        self.shared.stop.store(true, Relaxed);
        let mut log = Log::default();
        for thread in std::mem::take(&mut self.threads) {
            match thread.join() {
                Ok(part) => log.add(part.map_err(|e| Failure::failed(format!("the load: {e}")))?),
                Err(_) => return Err(Failure::failed("the load has come to a bad end")),
            }
        }
        Ok(log)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
    }
}

impl Log {
    pub fn add(&mut self, other: Self) {
        self.writes.extend(other.writes);
        self.reads += other.reads;
        self.reads_missing += other.reads_missing;
        self.connects_failed += other.connects_failed;
    }
}

/// One connection, made again whenever it breaks.
struct Writer {
    shared: Shared,
    place: Arc<Place>,
    next_id: i64,
    log: Log,
}

impl Writer {
    fn new(shared: Shared, place: Arc<Place>, number: u32) -> Self {
        Self {
            shared,
            place,
            next_id: i64::from(number) << 32,
            log: Log::default(),
        }
    }

    async fn run(mut self, start: Duration, period: Duration) -> Log {
        sleep(start).await;
        let mut clock = interval(period);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retry = SQL_RETRY_MIN;
        while !self.stopped() {
            let Ok(session) = self.place.connect().await else {
                self.log.connects_failed += 1;
                sleep(retry).await;
                retry = (retry * 2).min(SQL_RETRY_MAX);
                continue;
            };
            let mut written: u64 = 0;
            while !self.stopped() {
                clock.tick().await;
                let Some(id) = self.write(&session).await else {
                    break;
                };
                written += 1;
                retry = SQL_RETRY_MIN;
                if written.is_multiple_of(READ_EVERY) && !self.read(&session, id).await {
                    break;
                }
            }
            // One that connects and then breaks must not spin.
            sleep(retry).await;
            retry = (retry * 2).min(SQL_RETRY_MAX);
        }
        self.log
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Relaxed)
    }

    /// The number of the row; `None` when it was not acknowledged.
    async fn write(&mut self, session: &Session) -> Option<i64> {
        if self.shared.writes.fetch_add(1, Relaxed) >= WRITES_MAX {
            self.shared.stop.store(true, Relaxed);
            return None;
        }
        let id = self.next_id;
        self.next_id += 1;
        let write = self.shared.insert(session, id).await;
        let acknowledged = matches!(write.answer, Answer::Acknowledged(_));
        self.shared
            .acknowledged
            .fetch_add(usize::from(acknowledged), Relaxed);
        self.log.writes.push(write);
        acknowledged.then_some(id)
    }

    /// Whether the connection is still good.
    async fn read(&mut self, session: &Session, id: i64) -> bool {
        let run = &self.shared.run;
        let sql = format!("SELECT id FROM {TABLE} WHERE run = '{run}' AND id = {id}");
        let Ok(rows) = session.ask(&sql).await else {
            return false;
        };
        self.log.reads += 1;
        self.log.reads_missing += usize::from(rows.is_empty());
        true
    }
}
