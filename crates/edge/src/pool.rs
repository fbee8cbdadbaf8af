//! A pool: servers that are interchangeable for some routes, with what all workers know of them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use trilith_balance::{Ejection, Failure, HealthPolicy, Members, Millis};

use crate::options::PeerTls;

/// What a pool serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PoolId {
    /// Files of the code base, by web servers.
    Files,
    /// An app, by web servers.
    App(Arc<str>),
    Upstream(Arc<str>),
}

impl PoolId {
    pub fn name(&self) -> &str {
        match self {
            Self::Files => "files",
            Self::App(name) | Self::Upstream(name) => name,
        }
    }

    /// The app that web servers are asked about.
    pub fn app(&self) -> Option<&str> {
        match self {
            Self::App(name) => Some(name),
            _ => None,
        }
    }

    pub fn is_web(&self) -> bool {
        !matches!(self, Self::Upstream(_))
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Debug)]
pub(crate) struct ServerPool {
    pub id: PoolId,
    /// Positions are those of `backends`.
    pub members: Arc<Members>,
    pub backends: Vec<Backend>,
    /// `None`: no active checks.
    pub check: Option<CheckSpec>,
    pub connect_timeout: Duration,
    pub response_timeout: Duration,
    pub queue: Arc<Queue>,
}

/// One server of a pool, as far as it is no number.
#[derive(Debug)]
pub(crate) struct Backend {
    /// The server's name, or its address where it has none: for logs and metrics.
    pub name: Arc<str>,
    pub address: SocketAddr,
    pub tls: Option<PeerTls>,
    /// The web server in this process.
    pub is_local: bool,
    pub probe: Arc<Probe>,
}

/// How the servers of a pool are checked.
#[derive(Clone, Debug)]
pub(crate) struct CheckSpec {
    pub policy: HealthPolicy,
    pub host: String,
    pub path: String,
    /// The highest status that is healthy; the lowest is 200.
    pub status_max: u16,
}

impl ServerPool {
    /// A request failed on `server`. What follows from it for other requests.
    pub fn failed(&self, server: usize, failure: Failure, now: Millis) -> Option<Ejection> {
        self.backends[server].probe.suspect();
        self.members.failed(server, failure, now)
    }

    /// A request that was given to `server` is over.
    pub fn end(&self, server: usize) {
        self.members.end(server);
        self.queue.tell_room();
    }
}

/// What the data plane and the checks of a server tell each other.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    suspected: AtomicBool,
    check_now: Notify,
    /// Written by the checks, read for `status`; requests do not touch it.
    last: Mutex<Option<CheckResult>>,
}

#[derive(Clone, Debug)]
pub(crate) struct CheckResult {
    pub at: Instant,
    /// `Err`: what was wrong.
    pub outcome: Result<(), String>,
    pub took: Duration,
}

impl Probe {
    /// A request failed here: ask for a check at once.
    pub fn suspect(&self) {
        if !self.suspected.swap(true, Ordering::Relaxed) {
            self.check_now.notify_one();
        }
    }

    /// Something speaks for this server, or for its like: ask for a check at once.
    pub fn ask(&self) {
        self.check_now.notify_one();
    }

    /// Whether it was suspected since the last time this was asked.
    pub fn take_suspicion(&self) -> bool {
        self.suspected.swap(false, Ordering::Relaxed)
    }

    pub async fn wait_until_asked(&self) {
        self.check_now.notified().await;
    }

    pub fn set_last(&self, result: CheckResult) {
        *self.last.lock().unwrap_or_else(|e| e.into_inner()) = Some(result);
    }

    pub fn last(&self) -> Option<CheckResult> {
        self.last.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

/// Requests waiting until a server of the pool can take them.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: AtomicU32,
    /// One server has room for one more.
    room: Notify,
    /// How often there was news of servers.
    news_count: AtomicU64,
    news: Notify,
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitFor {
    /// All usable servers have enough to do, or there are enough retries under way.
    Room,
    /// It has failed on every server that may be asked: room on one of them would not help.
    News,
}

impl Queue {
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// A place, unless `max` are waiting.
    pub fn enter(self: &Arc<Self>, max: u32) -> Option<Waiting> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= max {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Waiting {
            queue: self.clone(),
        })
    }

    /// One server has room for one more request, or one retry is over.
    pub fn tell_room(&self) {
        // The usual case costs one load of a cache line that nobody writes.
        if self.waiting() > 0 {
            self.room.notify_one();
        }
    }

    /// A server came, went, or is used again.
    pub fn tell_news(&self) {
        self.news_count.fetch_add(1, Ordering::Release);
        self.news.notify_waiters();
    }

    pub fn news_count(&self) -> u64 {
        self.news_count.load(Ordering::Acquire)
    }
}

/// One request's place in a [`Queue`].
#[derive(Debug)]
pub(crate) struct Waiting {
    queue: Arc<Queue>,
}

impl Waiting {
    /// Until there is what it waits for, or `at_most` has passed. `seen` is the
    /// [`Queue::news_count`] that the request knows already.
    pub async fn wait(&self, wanted: WaitFor, seen: u64, at_most: Duration) {
        let queue = &self.queue;
        let mut news = std::pin::pin!(queue.news.notified());
        // From here on no news is missed; what came before shows in the count.
        news.as_mut().enable();
        if queue.news_count() != seen {
            return;
        }
        let waited = async {
            match wanted {
                WaitFor::News => news.await,
                WaitFor::Room => tokio::select! {
                    () = news => {}
                    () = queue.room.notified() => {}
                },
            }
        };
        let _ = tokio::time::timeout(at_most, waited).await;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.queue.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
