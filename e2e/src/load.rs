//! Steady load: so many requests per second, whatever comes back.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::client::Client;

/// Enough that some slow answers do not delay the others.
const CLIENTS: usize = 32;
/// Every so many requests a client opens a new connection.
const REQUESTS_PER_CONNECTION: usize = 10;

/// Load under way. It goes on until [`Load::stop`].
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    client: Box<dyn Fn() -> Client + Send + Sync>,
    path: String,
    start: Instant,
    interval: Duration,
    next: AtomicUsize,
    stop: AtomicBool,
    done: Mutex<Vec<Done>>,
}

struct Done {
    /// Since the start.
    at: Duration,
    latency: Duration,
    failure: Option<String>,
}

/// What the load met with.
#[derive(Debug)]
pub struct Report {
    pub requests: usize,
    /// When, since the start, and what.
    pub failures: Vec<(Duration, String)>,
    /// The longest time without a successful response.
    pub longest_gap: Duration,
    /// The slowest response.
    pub slowest: Duration,
}

impl Load {
    /// `GET path`, `rate` times a second, on connections that are used for ten requests each.
    /// Anything but status 200 is a failure.
    pub fn start(
        client: impl Fn() -> Client + Send + Sync + 'static,
        path: &str,
        rate: u32,
    ) -> Self {
        let shared = Arc::new(Shared {
            client: Box::new(client),
            path: path.to_owned(),
            start: Instant::now(),
            interval: Duration::from_secs(1) / rate,
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            done: Mutex::new(Vec::new()),
        });
        let threads = (0..CLIENTS)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.work())
            })
            .collect();
        Self { shared, threads }
    }

    /// How many requests have been answered, well or not.
    pub fn answered(&self) -> usize {
        self.shared
            .done
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Lets `requests` more be answered.
    pub fn go_on_for(&self, requests: usize) -> Result<()> {
        let goal = self.answered() + requests;
        let patience = self.shared.interval * u32::try_from(requests)? + Duration::from_secs(20);
        crate::wait::holds_within(
            "the load goes on",
            patience,
            || Ok(self.answered()),
            |answered| *answered >= goal,
        )?;
        Ok(())
    }

    pub fn stop(mut self) -> Report {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic in it has been printed.
            let _ = thread.join();
        }
        let mut done = std::mem::take(
            &mut *self
                .shared
                .done
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        done.sort_by_key(|done| done.at);
        report(&done)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn work(&self) {
        let mut client = (self.client)();
        let mut sent = 0;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let due = self.start + self.interval * u32::try_from(number).unwrap_or(u32::MAX);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let begin = Instant::now();
            let failure = match client.get(&self.path) {
                Ok(response) if response.status == 200 => None,
                Ok(response) => Some(format!("status {}: {}", response.status, response.text())),
                Err(e) => Some(format!("{e:#}")),
            };
            let done = Done {
                at: self.start.elapsed(),
                latency: begin.elapsed(),
                failure,
            };
            self.done
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(done);
            sent += 1;
            if sent % REQUESTS_PER_CONNECTION == 0 {
                client.disconnect();
            }
        }
    }
}

impl Report {
    /// An error that says what went wrong, unless nothing did.
    pub fn no_failures(&self) -> Result<()> {
        let shown = &self.failures[..self.failures.len().min(10)];
        ensure!(
            shown.is_empty(),
            "{} of {} requests failed (longest gap {:?}, slowest {:?}): {shown:#?}",
            self.failures.len(),
            self.requests,
            self.longest_gap,
            self.slowest,
        );
        Ok(())
    }
}

fn report(done: &[Done]) -> Report {
    let mut longest_gap = Duration::ZERO;
    let mut last = Duration::ZERO;
    for good in done.iter().filter(|done| done.failure.is_none()) {
        longest_gap = longest_gap.max(good.at.saturating_sub(last));
        last = good.at;
    }
    let end = done.last().map_or(Duration::ZERO, |done| done.at);
    Report {
        requests: done.len(),
        failures: done
            .iter()
            .filter_map(|done| Some((done.at, done.failure.clone()?)))
            .collect(),
        longest_gap: longest_gap.max(end.saturating_sub(last)),
        slowest: done
            .iter()
            .map(|done| done.latency)
            .max()
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
