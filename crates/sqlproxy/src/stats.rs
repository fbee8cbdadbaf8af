//! Counts: written by the workers without locks, read by the control plane.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use trilith_base::ServerName;

use crate::targets::{Kind, Target};

/// Counts since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sessions accepted on the read/write port.
    pub read_write_total: u64,
    /// Sessions accepted on the read-only port.
    pub read_only_total: u64,
    /// Cancel requests.
    pub cancels_total: u64,
    /// Sessions open now, those that are held included.
    pub open: u64,
    /// Sessions held now, because no server can take them.
    pub held: u64,
    /// Sessions given up after the hold time.
    pub gave_up_total: u64,
    /// Connections refused because of `connections_max`.
    pub refused_total: u64,
    /// Connections that sent no startup packet.
    pub malformed_total: u64,
    /// Each server that was ever tried.
    pub targets: Vec<TargetStats>,
}

/// What went to one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStats {
    pub name: ServerName,
    pub address: SocketAddr,
    /// Sessions it took.
    pub sessions_total: u64,
    /// Sessions open now.
    pub open: u64,
    /// Bytes from clients to it, and back.
    pub bytes_sent_total: u64,
    pub bytes_received_total: u64,
    /// Tries that failed: no connection, no answer, or "not ready".
    pub failures_total: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub read_write: AtomicU64,
    pub read_only: AtomicU64,
    pub cancels: AtomicU64,
    pub open: AtomicU64,
    pub held: AtomicU64,
    pub gave_up: AtomicU64,
    pub refused: AtomicU64,
    pub malformed: AtomicU64,
    targets: ArcSwap<Vec<Arc<TargetCounters>>>,
}

#[derive(Debug)]
pub(crate) struct TargetCounters {
    name: ServerName,
    address: SocketAddr,
    pub sessions: AtomicU64,
    pub open: AtomicU64,
    pub bytes_sent: AtomicU64,
    pub bytes_received: AtomicU64,
    pub failures: AtomicU64,
}

impl Counters {
    pub fn accepted(&self, kind: Kind) {
        let counter = match kind {
            Kind::ReadWrite => &self.read_write,
            Kind::ReadOnly => &self.read_only,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// The counters of one server, made when it is first met.
    pub fn target(&self, target: &Target) -> Arc<TargetCounters> {
        let find = |all: &[Arc<TargetCounters>]| {
            all.iter()
                .find(|counters| counters.address == target.address && counters.name == target.name)
                .cloned()
        };
        if let Some(found) = find(&self.targets.load()) {
            return found;
        }
        let new = Arc::new(TargetCounters {
            name: target.name.clone(),
            address: target.address,
            sessions: AtomicU64::new(0),
            open: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        });
        // Another worker may add the same one meanwhile; `rcu` then runs this again and finds it.
        self.targets.rcu(|all| {
            let mut all = Vec::clone(all);
            if find(&all).is_none() {
                all.push(new.clone());
            }
            all
        });
        find(&self.targets.load()).unwrap_or(new)
    }

    pub fn snapshot(&self) -> Stats {
        let targets = self.targets.load();
        Stats {
            read_write_total: self.read_write.load(Relaxed),
            read_only_total: self.read_only.load(Relaxed),
            cancels_total: self.cancels.load(Relaxed),
            open: self.open.load(Relaxed),
            held: self.held.load(Relaxed),
            gave_up_total: self.gave_up.load(Relaxed),
            refused_total: self.refused.load(Relaxed),
            malformed_total: self.malformed.load(Relaxed),
            targets: targets
                .iter()
                .map(|counters| TargetStats {
                    name: counters.name.clone(),
                    address: counters.address,
                    sessions_total: counters.sessions.load(Relaxed),
                    open: counters.open.load(Relaxed),
                    bytes_sent_total: counters.bytes_sent.load(Relaxed),
                    bytes_received_total: counters.bytes_received.load(Relaxed),
                    failures_total: counters.failures.load(Relaxed),
                })
                .collect(),
        }
    }
}

/// One more while it lives.
pub(crate) struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    pub fn one(counter: &'a AtomicU64) -> Self {
        counter.fetch_add(1, Relaxed);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
