//! Posts under way: so many a second, each with a text of its own, every acknowledgement recorded.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::client::{Client, Response};
use crate::wait::holds_within;

const CLIENTS: usize = 12;
/// Every so many posts a client opens a new connection.
const POSTS_PER_CONNECTION: usize = 10;
const GOES_ON_PATIENCE: Duration = Duration::from_secs(60);

type Doing = dyn Fn(&mut Client, &str) -> Result<Response> + Send + Sync;

/// Load under way, until [`Posts::stop`].
pub struct Posts {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    client: Box<dyn Fn() -> Client + Send + Sync>,
    send: Box<Doing>,
    good: u16,
    start: Instant,
    interval: Duration,
    next: AtomicUsize,
    stop: AtomicBool,
    done: Mutex<Vec<Post>>,
}

/// One of them. Times count from the start of the load.
#[derive(Clone, Debug)]
pub struct Post {
    pub text: String,
    pub sent: Duration,
    pub done: Duration,
    /// Nothing when it was acknowledged.
    pub failure: Option<String>,
}

/// What became of all of them, in the order in which they were sent.
#[derive(Debug)]
pub struct Posted {
    pub posts: Vec<Post>,
}

impl Posts {
    /// `send` is called with a text that no other post has, `rate` times a second. Any answer but `good`
    /// is a failure.
    pub fn start(
        client: impl Fn() -> Client + Send + Sync + 'static,
        send: impl Fn(&mut Client, &str) -> Result<Response> + Send + Sync + 'static,
        good: u16,
        rate: u32,
    ) -> Self {
        let shared = Arc::new(Shared {
            client: Box::new(client),
            send: Box::new(send),
            good,
            start: Instant::now(),
            interval: Duration::from_secs(1) / rate,
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            done: Mutex::default(),
        });
        let thread = |_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.work())
        };
        Self {
            threads: (0..CLIENTS).map(thread).collect(),
            shared,
        }
    }

    /// Since the start of the load.
    pub fn now(&self) -> Duration {
        self.shared.start.elapsed()
    }

    /// Waits until so many more are acknowledged.
    pub fn go_on_for(&self, posts: usize) -> Result<()> {
        let acknowledged = || {
            let done = self.shared.done.lock();
            let done = done.unwrap_or_else(PoisonError::into_inner);
            Ok(done.iter().filter(|post| post.failure.is_none()).count())
        };
        let goal = acknowledged()? + posts;
        let enough = |now: &usize| *now >= goal;
        holds_within(
            "posts are acknowledged",
            GOES_ON_PATIENCE,
            acknowledged,
            enough,
        )?;
        Ok(())
    }

    pub fn stop(mut self) -> Posted {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic in it has been printed.
            let _ = thread.join();
        }
        let done = self.shared.done.lock();
        let mut posts = std::mem::take(&mut *done.unwrap_or_else(PoisonError::into_inner));
        posts.sort_by_key(|post| post.sent);
        Posted { posts }
    }
}

impl Drop for Posts {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn work(&self) {
        let mut client = (self.client)();
        let mut count = 0;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let due = self.start + self.interval * u32::try_from(number).unwrap_or(u32::MAX);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let text = format!("post number {number}.");
            let sent = self.start.elapsed();
            let failure = match (self.send)(&mut client, &text) {
                Ok(response) if response.status == self.good => None,
                Ok(response) => Some(format!("status {}: {}", response.status, response.text())),
                Err(error) => Some(format!("{error:#}")),
            };
            let post = Post {
                text,
                sent,
                done: self.start.elapsed(),
                failure,
            };
            let done = self.done.lock();
            done.unwrap_or_else(PoisonError::into_inner).push(post);
            count += 1;
            if count % POSTS_PER_CONNECTION == 0 {
                client.disconnect();
            }
        }
    }
}

impl Posted {
    pub fn acknowledged(&self) -> impl Iterator<Item = &Post> {
        self.posts.iter().filter(|post| post.failure.is_none())
    }

    pub fn failed(&self) -> impl Iterator<Item = &Post> {
        self.posts.iter().filter(|post| post.failure.is_some())
    }

    /// From and to: the longest time without an acknowledgement, of those that hold a moment between
    /// `from` and `to`.
    pub fn pause(&self, from: Duration, to: Duration) -> (Duration, Duration) {
        let mut times: Vec<Duration> = self.acknowledged().map(|post| post.done).collect();
        times.sort_unstable();
        let gaps = times.windows(2).map(|pair| (pair[0], pair[1]));
        let touches = gaps.filter(|gap| gap.1 >= from && gap.0 <= to);
        touches.max_by_key(|gap| gap.1 - gap.0).unwrap_or_default()
    }
}
