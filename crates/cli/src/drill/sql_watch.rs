//! Who takes writes, seen at every PostgreSQL itself: whatever the sql entries or a balancer make of
//! it, a client that is connected already could.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, sleep};

use super::sql_load::Shared;
use super::sql_report::{Answer, Log, Running};
use super::sql_session::{Place, Session};
use super::{CONNECT_TIMEOUT, SAMPLE_INTERVAL, SQL_RETRY_MAX};
use crate::failure::{Failure, Outcome};

/// Rows of the watch have numbers from here on, so that they meet no others.
const FIRST_ID: i64 = 1 << 48;

/// A look at every place each [`SAMPLE_INTERVAL`], until it is stopped: if its PostgreSQL says that it
/// is a primary, a row is written there.
pub struct Watch {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<(Log, Running)>>>,
}

impl Watch {
    /// Returns when every place has been seen once: one that cannot be looked at proves nothing.
    pub fn start(shared: &Shared, places: &[Place]) -> Outcome<Self> {
        let seen = Arc::new(AtomicUsize::new(0));
        let mut watch = Self {
            stop: Arc::clone(&shared.stop),
            threads: Vec::new(),
        };
        for (place, number) in places.iter().zip(1..) {
            let mut eye = Eye {
                shared: shared.clone(),
                place: place.clone(),
                next_id: FIRST_ID * number,
                log: Log::default(),
                running: Running {
                    server: place.name.clone(),
                    spans: Vec::new(),
                },
                primary: false,
                seen: Some(Arc::clone(&seen)),
            };
            let thread = thread::Builder::new()
                .name("sql-watch".to_owned())
                .spawn(move || {
                    if let Some(namespace) = &eye.place.namespace {
                        namespace.enter()?;
                    }
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()?;
                    runtime.block_on(eye.look());
                    Ok((eye.log, eye.running))
                })
                .map_err(Failure::failed)?;
            watch.threads.push(thread);
        }
        let since = Instant::now();
        while seen.load(Relaxed) < places.len() {
            if since.elapsed() > 3 * CONNECT_TIMEOUT {
                let names: Vec<_> = places.iter().map(|place| place.name.as_str()).collect();
                return Err(Failure::failed(format!(
                    "not every PostgreSQL can be looked at ({})",
                    names.join(", ")
                )));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(watch)
    }

    pub fn stop(mut self) -> Outcome<(Log, Vec<Running>)> {
        self.stop.store(true, Relaxed);
        let (mut log, mut running) = (Log::default(), Vec::new());
        for thread in std::mem::take(&mut self.threads) {
            let Ok(part) = thread.join() else {
                return Err(Failure::failed("the watch has come to a bad end"));
            };
            let part = part.map_err(|e| Failure::failed(format!("lost sight of a server: {e}")))?;
            log.add(part.0);
            running.push(part.1);
        }
        Ok((log, running))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

struct Eye {
    shared: Shared,
    place: Place,
    next_id: i64,
    log: Log,
    running: Running,
    /// Whether it was a primary at the last look.
    primary: bool,
    /// To be counted up at the first look.
    seen: Option<Arc<AtomicUsize>>,
}

impl Eye {
    async fn look(&mut self) {
        let mut clock = interval(SAMPLE_INTERVAL);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.shared.stop.load(Relaxed) {
            if let Ok(session) = self.place.connect().await {
                while !self.shared.stop.load(Relaxed) {
                    clock.tick().await;
                    if !self.look_once(&session).await {
                        break;
                    }
                }
            } else {
                self.log.connects_failed += 1;
            }
            self.primary = false;
            sleep(SQL_RETRY_MAX).await;
        }
    }

    /// Whether the session is still good.
    async fn look_once(&mut self, session: &Session) -> bool {
        let asked = self.shared.begin.elapsed();
        let sql = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'";
        let Ok(rows) = session.ask(sql).await else {
            return false;
        };
        if let Some(seen) = self.seen.take() {
            seen.fetch_add(1, Relaxed);
        }
        let answered = self.shared.begin.elapsed();
        let primary = rows.first().and_then(|row| row.get(0)) == Some("f");
        match self.running.spans.last_mut() {
            Some((_, to)) if primary && self.primary => *to = asked,
            _ if primary => self.running.spans.push((answered, answered)),
            _ => {}
        }
        self.primary = primary;
        if !primary {
            return true;
        }
        let id = self.next_id;
        self.next_id += 1;
        let write = self.shared.insert(session, id).await;
        let good = matches!(write.answer, Answer::Acknowledged(_));
        self.log.writes.push(write);
        good
    }
}
