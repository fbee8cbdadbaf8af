//! The servers of a pool: the truth that every balancer over them shares.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32};

use crate::limits::{EJECT_AFTER_FAILURES, EJECTED_PERCENT_MAX, RETRIES_ALWAYS};
use crate::server::{Failure, Millis, ServerSpec, Standing};

/// The servers of a pool. Routes that differ only in how they balance share one.
#[derive(Debug)]
pub struct Members {
    servers: Box<[ServerSpec]>,
    /// Held while somebody decides about an ejection; others go on without.
    ejecting: AtomicBool,
    retrying: AtomicU32,
}

/// A server was taken out for failed requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    pub server: usize,
    pub failure: Failure,
    pub until: Millis,
}

/// A place in the retry budget. Give it back with [`Members::end_retry`].
#[must_use = "a permit that is not given back shrinks the budget for good"]
#[derive(Debug)]
pub struct RetryPermit(());

impl Members {
    /// At most 65,535 servers; more are left out.
    pub fn new(mut servers: Vec<ServerSpec>) -> Self {
        servers.truncate(usize::from(u16::MAX));
        Self {
            servers: servers.into(),
            ejecting: AtomicBool::new(false),
            retrying: AtomicU32::new(0),
        }
    }

    pub fn servers(&self) -> &[ServerSpec] {
        &self.servers
    }

    /// Requests under way on all servers.
    pub fn in_flight(&self) -> u64 {
        self.servers
            .iter()
            .map(|s| u64::from(s.state.in_flight()))
            .sum()
    }

    /// Whether no server is usable: what is picked now is picked for want of a better one.
    pub fn is_panicking(&self, now: Millis) -> bool {
        !self.servers.iter().any(|s| is_usable(s, now))
    }

    /// A request that [`crate::Balancer::pick`] has given to `server` is over.
    pub fn end(&self, server: usize) {
        self.servers[server].state.end();
    }

    /// `server` answered a request.
    pub fn succeeded(&self, server: usize) {
        self.servers[server].state.clear_failures();
    }

    /// A request failed on `server`. After several in a row the server is ejected for a while,
    /// unless too many are or no other is usable.
    pub fn failed(&self, server: usize, failure: Failure, now: Millis) -> Option<Ejection> {
        let failures = self.servers[server].state.add_failure();
        if failures < EJECT_AFTER_FAILURES {
            return None;
        }
        // One at a time, so that two workers do not eject the last two servers at once. Who comes
        // second leaves: its next failure asks again.
        if self.ejecting.swap(true, Acquire) {
            return None;
        }
        let ejection = self.may_eject(server, now).then(|| Ejection {
            server,
            failure,
            until: self.servers[server].state.eject(failure, now),
        });
        self.ejecting.store(false, Release);
        ejection
    }

    fn may_eject(&self, server: usize, now: Millis) -> bool {
        if !is_usable(&self.servers[server], now) {
            return false;
        }
        let another = self
            .servers
            .iter()
            .enumerate()
            .any(|(i, s)| i != server && is_usable(s, now));
        let ejected = self
            .servers
            .iter()
            .filter(|s| s.state.ejected_until(now).is_some())
            .count();
        another && (ejected + 1) * 100 <= self.servers.len() * EJECTED_PERCENT_MAX
    }

    /// A place for one more retry: `percent` of the requests under way may be retries, and always
    /// [`RETRIES_ALWAYS`]. Retries beyond that would turn a slow server into an overloaded pool.
    pub fn begin_retry(&self, percent: u32) -> Option<RetryPermit> {
        let budget = (self.in_flight() * u64::from(percent) / 100).max(u64::from(RETRIES_ALWAYS));
        self.retrying
            .fetch_update(Relaxed, Relaxed, |n| {
                (u64::from(n) < budget).then_some(n + 1)
            })
            .ok()
            .map(|_| RetryPermit(()))
    }

    pub fn end_retry(&self, permit: RetryPermit) {
        let RetryPermit(()) = permit;
        self.retrying.fetch_sub(1, Relaxed);
    }

    pub fn retrying(&self) -> u32 {
        self.retrying.load(Relaxed)
    }
}

fn is_usable(server: &ServerSpec, now: Millis) -> bool {
    matches!(server.state.standing(now), Standing::Usable { .. })
}

#[cfg(test)]
pub(crate) mod tests;
