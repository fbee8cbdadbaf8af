//! The cluster store in an etcd that runs already, over its HTTP and JSON gateway (etcd 3.4 or later).
//!
//! Entries are keys `/trilith/<cluster>/kv/<key>`. A lease is a key `/trilith/<cluster>/lease/<name>`,
//! written once, attached to a lease of etcd's; the revision of that write is its epoch. Conditions are
//! comparisons of revisions in one transaction of etcd's.
//!
//! etcd counts leases in whole seconds, and has a shortest one (1.5 of its election timeouts, rounded up:
//! 2 s unless configured otherwise). What is asked for is rounded up, and [`Lease::ttl`] says what it
//! became; a holder that counts with less than that is safe, and its successor waits longer.

mod client;
mod follow;
mod limits;
mod plan;
mod renew;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use trilith_consensus::{
    BoxFuture, Command, ENTRIES_MAX, Entry, Epoch, Key, LEASES_MAX, Membership, Outcome, Revision,
    STATE_BYTES_MAX, Store, StoreError, Txn, View,
};

use self::client::{CallError, Client, code};
use self::plan::{Backing, Granting, Place, Plan};
use self::wire::{Header, Pair};
use crate::error::Error;

#[cfg(doc)]
use trilith_consensus::Lease;

/// Where the etcd is, and what belongs to this cluster there.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// `http://host:port`, of one etcd cluster; the next one is tried when one fails. 1 to 16.
    pub endpoints: Vec<String>,
    /// The name of this cluster: several may use the same etcd. As a part of a [`Key`], without `/`.
    pub cluster: String,
}

/// A [`Store`] that keeps nothing itself.
pub struct EtcdStore {
    shared: Arc<Shared>,
    follower: JoinHandle<()>,
}

struct Shared {
    client: Client,
    place: Place,
    view: watch::Sender<Arc<View>>,
    membership: watch::Sender<Arc<Membership>>,
    /// etcd's own leases behind those of ours that were seen lately.
    backings: Mutex<BTreeMap<Key, (Epoch, i64)>>,
    /// Who answered last at each endpoint, and in which term. See `renew.rs`.
    met: Mutex<BTreeMap<usize, (u64, u64)>>,
}

impl EtcdStore {
    /// Begins to follow that etcd; it need not be there yet. To be called within a tokio runtime, which
    /// goes on doing so until the store is dropped.
    ///
    /// # Errors
    /// The options make no sense.
    pub fn start(options: &EtcdOptions) -> Result<Arc<Self>, Error> {
        let client = Client::new(&options.endpoints)?;
        let cluster = &options.cluster;
        if cluster.contains('/') || Key::new(cluster).is_err() {
            return Err(Error::Start {
                reason: format!("`{cluster}` cannot be the name of a cluster in etcd"),
            });
        }
        let shared = Arc::new(Shared {
            client,
            place: Place::new(cluster),
            view: watch::Sender::default(),
            membership: watch::Sender::default(),
            backings: Mutex::default(),
            met: Mutex::default(),
        });
        let follower = tokio::spawn(follow::follow(shared.clone()));
        Ok(Arc::new(Self { shared, follower }))
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Store for EtcdStore {
    fn read(&self) -> BoxFuture<'_, Result<Arc<View>, StoreError>> {
        Box::pin(self.shared.read())
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        Box::pin(self.shared.commit(txn))
    }

    fn renew(&self, lease: &Key, epoch: Epoch) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.shared.renew(lease.clone(), epoch))
    }

    fn view(&self) -> watch::Receiver<Arc<View>> {
        self.shared.view.subscribe()
    }

    fn membership(&self) -> watch::Receiver<Arc<Membership>> {
        self.shared.membership.subscribe()
    }
}

impl Shared {
    async fn read(self: &Arc<Self>) -> Result<Arc<View>, StoreError> {
        let end = tokio::time::Instant::now() + limits::REQUEST_TIMEOUT;
        loop {
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            match self.range(left).await {
                Ok((view, pairs)) => {
                    self.publish(&view, &pairs);
                    return Ok(view);
                }
                // What was being read is history already: read what is there now.
                Err(CallError::Refused { code, .. }) if code == code::OUT_OF_RANGE => {}
                Err(error) => return Err(read_error(error)),
            }
        }
    }

    /// The whole state at one revision, page by page, linearizable. The leases' pairs come with it.
    async fn range(&self, time: Duration) -> Result<(Arc<View>, Vec<Pair>), CallError> {
        let mut view = View::default();
        let mut leases = Vec::new();
        let mut from = self.place.prefix.clone();
        let (mut limit, mut revision) = (limits::PAGE_ENTRIES, 0);
        for _ in 0..limits::PAGES_MAX {
            let request = wire::range(&from, &self.place.prefix, limit, revision);
            let answer = match self.client.ask("/v3/kv/range", &request, time).await {
                // Too much for one message between the gateway and etcd.
                Err(CallError::Refused { code, .. })
                    if code == code::RESOURCE_EXHAUSTED && limit > 1 =>
                {
                    limit /= 4;
                    continue;
                }
                answer => answer?,
            };
            if revision == 0 {
                revision = wire::header(&answer).revision;
            }
            let pairs = wire::pairs(&answer);
            for pair in &pairs {
                self.place.insert(&mut view, pair);
            }
            let last = pairs.last().map(|pair| pair.key.clone());
            leases.extend(pairs.into_iter().filter(|pair| pair.lease != 0));
            match last {
                Some(last) if answer["more"].as_bool().unwrap_or_default() => {
                    // The smallest text after it.
                    from = last + "\0";
                }
                _ => {
                    view.revision = Revision(revision);
                    return Ok((Arc::new(view), leases));
                }
            }
        }
        Err(CallError::Lost("etcd holds too much".into()))
    }

    /// Makes a state known, unless a later one is.
    fn publish(&self, view: &Arc<View>, leases: &[Pair]) {
        self.remember(leases);
        self.view.send_if_modified(|known| {
            let newer = known.revision < view.revision;
            if newer {
                *known = view.clone();
            }
            newer
        });
    }

    /// Keeps in mind which lease of etcd's is behind which of ours.
    fn remember<'a>(&self, pairs: impl IntoIterator<Item = &'a Pair>) {
        let mut backings = lock(&self.backings);
        for pair in pairs.into_iter().filter(|pair| pair.lease != 0) {
            let name = self.place.lease_name(&pair.key);
            if let Some(name) = name {
                backings.insert(name, (Epoch(pair.modified), pair.lease));
            }
        }
        if backings.len() > 2 * LEASES_MAX {
            let view = self.view.borrow().clone();
            backings.retain(|name, (epoch, _)| {
                let lease = view.leases.get(name);
                lease.is_some_and(|lease| lease.epoch == *epoch)
            });
        }
    }

    async fn commit(self: &Arc<Self>, txn: Txn) -> Result<Outcome, StoreError> {
        txn.check()?;
        self.check_bounds(&txn).await?;
        let plan = Plan::new(&self.place, &txn);
        let mut backings = Vec::new();
        if !plan.is_hopeless() {
            for grant in &plan.grants {
                match self.back(grant).await {
                    Ok(backing) => backings.push(backing),
                    Err(error) => {
                        self.drop_backings(backings);
                        return Err(error);
                    }
                }
            }
        }
        let request = plan.request(&self.place, &backings);
        let time = limits::REQUEST_TIMEOUT;
        let answer = self.client.ask_once("/v3/kv/txn", &request, time).await;
        let outcome = match answer {
            Ok(answer) => plan.outcome(&answer).ok_or(StoreError::Unknown),
            Err(CallError::NotSent(reason)) => Err(StoreError::NoLeader { reason }),
            Err(CallError::Refused { code, message }) if code::NOTHING_DONE.contains(&code) => {
                Err(refused_txn(&request, message))
            }
            Err(_) => Err(StoreError::Unknown),
        };
        match &outcome {
            Ok(Outcome::Done { revision }) => {
                let mut known = lock(&self.backings);
                let ended: Vec<_> = plan
                    .revokes
                    .iter()
                    .filter_map(|(lease, epoch)| known.get(lease).filter(|(e, _)| e == epoch))
                    .map(|(_, id)| *id)
                    .collect();
                for (grant, backing) in plan.grants.iter().zip(&backings) {
                    known.insert(grant.lease.clone(), (Epoch(revision.0), backing.id));
                }
                drop(known);
                self.drop_leases(ended);
            }
            // It may have been granted: then it runs out by itself.
            Err(StoreError::Unknown) => {}
            _ => self.drop_backings(backings),
        }
        outcome
    }

    /// The bounds of the whole state, which etcd does not know. As long as that is less than half full, a
    /// glance at what is known is enough. What others write at this very moment is not seen: these are
    /// bounds against mistakes, and may be overrun by a few writes.
    async fn check_bounds(self: &Arc<Self>, txn: &Txn) -> Result<(), StoreError> {
        let unconditional = Command::Txn(Txn {
            conditions: Vec::new(),
            writes: txn.writes.clone(),
        });
        let mut after = (**self.view.borrow()).clone();
        let is_known = after.revision.0 > 0;
        let at = Revision(after.revision.0 + 1);
        if is_known && after.apply(at, &unconditional).is_ok() {
            let bytes = |(key, entry): (&Key, &Entry)| key.as_str().len() + entry.value.len();
            let bytes: usize = after.entries.iter().map(bytes).sum();
            let roomy = bytes < STATE_BYTES_MAX / 2
                && after.entries.len() < ENTRIES_MAX / 2
                && after.leases.len() < LEASES_MAX / 2;
            if roomy {
                return Ok(());
            }
        }
        let mut after = (*self.read().await?).clone();
        let at = Revision(after.revision.0 + 1);
        after.apply(at, &unconditional).map(drop)
    }

    /// Makes a lease in etcd, to hang ours on.
    async fn back(&self, grant: &Granting) -> Result<Backing, StoreError> {
        let seconds = grant.ttl.as_millis().div_ceil(1000).max(1);
        let request = json!({ "TTL": seconds.to_string() });
        let time = limits::REQUEST_TIMEOUT;
        // Asked twice it makes two, and the one nobody uses runs out.
        let answer = self.client.ask("/v3/lease/grant", &request, time).await;
        let answer = answer.map_err(read_error)?;
        let backing = Backing {
            id: wire::signed(&answer, "ID"),
            ttl: Duration::from_secs(wire::unsigned(&answer, "TTL")),
        };
        if backing.id == 0 || backing.ttl < grant.ttl {
            let reason = format!("etcd made a lease of {:?} instead", backing.ttl);
            return Err(StoreError::Invalid { reason });
        }
        Ok(backing)
    }

    fn drop_backings(self: &Arc<Self>, backings: Vec<Backing>) {
        self.drop_leases(backings.iter().map(|backing| backing.id).collect());
    }

    /// Tidies up. When it fails, they run out.
    fn drop_leases(self: &Arc<Self>, ids: Vec<i64>) {
        if ids.is_empty() {
            return;
        }
        let shared = self.clone();
        tokio::spawn(async move {
            for id in ids {
                let request = json!({ "ID": id.to_string() });
                let time = limits::REQUEST_TIMEOUT;
                let _ = shared.client.ask("/v3/lease/revoke", &request, time).await;
            }
        });
    }

    /// The keys that are there and when they were written, linearizable.
    async fn keys(&self, time: Duration) -> Result<(Header, Vec<Pair>), CallError> {
        let request = wire::range_of_keys(&self.place.prefix);
        let answer = self.client.ask("/v3/kv/range", &request, time).await?;
        Ok((wire::header(&answer), wire::pairs(&answer)))
    }
}

/// Nothing was changed by it, so nothing is unknown.
fn read_error(error: CallError) -> StoreError {
    match error {
        CallError::Refused { code, message } if code::NOTHING_DONE.contains(&code) => {
            StoreError::Invalid {
                reason: format!("etcd refuses: {message}"),
            }
        }
        error => StoreError::NoLeader {
            reason: error.to_string(),
        },
    }
}

fn refused_txn(request: &Value, message: String) -> StoreError {
    /// `--max-request-bytes` of etcd, unless configured otherwise.
    const REQUEST_BYTES_MAX: usize = 1536 * 1024;
    if message.contains("request is too large") {
        return StoreError::TooLarge {
            what: "bytes of a transaction for etcd",
            is: request.to_string().len(),
            max: REQUEST_BYTES_MAX,
        };
    }
    StoreError::Invalid {
        reason: format!("etcd refuses: {message}"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
