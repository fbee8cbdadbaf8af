//! The store in one process, for tests: of those who use a [`Store`], and as the reference that the other
//! implementations are compared with.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use trilith_base::{BootTime, ServerName};

use crate::error::StoreError;
use crate::name::Key;
use crate::store::{BoxFuture, Member, Membership, Store};
use crate::txn::{Command, Outcome, Txn, Write};
use crate::view::{Epoch, Revision, View};

/// One server's handle on a state that all handles of [`MemoryStore::cluster`] share.
///
/// Time passes only in [`MemoryStore::advance`]. Whatever can go wrong with a real store can be ordered
/// here, per server: [`cut_off`](Self::cut_off), [`stop`](Self::stop), [`lose_answers`](Self::lose_answers),
/// [`lose_requests`](Self::lose_requests), [`delay`](Self::delay).
///
/// The first server that is neither stopped nor cut off leads, as long as more than half of them are
/// neither. A new leader gives every lease its full time again, as the real ones do.
#[derive(Clone)]
pub struct MemoryStore {
    me: ServerName,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    clock: watch::Sender<BootTime>,
}

#[derive(Default)]
struct State {
    view: View,
    now: BootTime,
    /// When the leader lets a lease run out.
    deadlines: BTreeMap<Key, (Epoch, BootTime)>,
    servers: Vec<Server>,
    leader: Option<ServerName>,
    term: u64,
}

struct Server {
    name: ServerName,
    address: SocketAddr,
    stopped: bool,
    cut_off: bool,
    lost_answers: usize,
    lost_requests: usize,
    delay: Duration,
    view: watch::Sender<Arc<View>>,
    membership: watch::Sender<Arc<Membership>>,
}

impl MemoryStore {
    /// A handle for each server, in that order. It begins empty, at time zero.
    pub fn cluster(servers: impl IntoIterator<Item = ServerName>) -> Vec<Self> {
        let mut state = State::default();
        for (name, port) in servers.into_iter().zip(7401..) {
            state.servers.push(Server {
                name,
                address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                stopped: false,
                cut_off: false,
                lost_answers: 0,
                lost_requests: 0,
                delay: Duration::ZERO,
                view: watch::Sender::default(),
                membership: watch::Sender::default(),
            });
        }
        state.settle();
        let names: Vec<_> = state.servers.iter().map(|s| s.name.clone()).collect();
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            clock: watch::Sender::default(),
        });
        let handle = |me| Self {
            me,
            shared: shared.clone(),
        };
        names.into_iter().map(handle).collect()
    }

    /// A cluster of one server.
    pub fn single(server: ServerName) -> Self {
        let state = Self::cluster([server.clone()]);
        let shared = state[0].shared.clone();
        Self { me: server, shared }
    }

    pub fn name(&self) -> &ServerName {
        &self.me
    }

    /// It is `now`, for the whole cluster: leases run out, delayed answers arrive. It never goes back.
    pub fn advance(&self, now: BootTime) {
        let mut state = self.lock();
        state.now = state.now.max(now);
        state.expire();
        state.settle();
        let now = state.now;
        drop(state);
        self.shared.clock.send_replace(now);
    }

    /// The cluster's time.
    pub fn now(&self) -> BootTime {
        self.lock().now
    }

    /// Whether this server reaches no other. Its calls return [`StoreError::NoLeader`], those under way
    /// [`StoreError::Unknown`]; it sees nothing of what the others do.
    pub fn cut_off(&self, cut: bool) {
        self.change(|server| server.cut_off = cut);
    }

    /// All servers are cut off, or none.
    pub fn cut_off_all(&self, cut: bool) {
        let mut state = self.lock();
        for server in &mut state.servers {
            server.cut_off = cut;
        }
        state.settle();
    }

    /// This server's part ends: [`StoreError::Stopped`] until [`start`](Self::start).
    pub fn stop(&self) {
        self.change(|server| server.stopped = true);
    }

    pub fn start(&self) {
        self.change(|server| server.stopped = false);
    }

    /// The next `calls` of this server are carried out, and return [`StoreError::Unknown`].
    pub fn lose_answers(&self, calls: usize) {
        self.change(|server| server.lost_answers = calls);
    }

    /// The next `calls` of this server are not carried out, and return [`StoreError::Unknown`].
    pub fn lose_requests(&self, calls: usize) {
        self.change(|server| server.lost_requests = calls);
    }

    /// This server's calls are carried out at once, but return only after `time` has passed.
    pub fn delay(&self, time: Duration) {
        self.change(|server| server.delay = time);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Server)) {
        let mut state = self.lock();
        if let Some(server) = state.server(&self.me) {
            change(server);
        }
        state.settle();
    }

    async fn call<T>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // Others come in between, as they do with a real one.
        yield_once().await;
        let (result, lost, until) = {
            let mut state = self.lock();
            state.admit(&self.me)?;
            let now = state.now;
            let Some(server) = state.server(&self.me) else {
                return Err(StoreError::Stopped);
            };
            if take_one(&mut server.lost_requests) {
                return Err(StoreError::Unknown);
            }
            let lost = take_one(&mut server.lost_answers);
            let until = (!server.delay.is_zero()).then(|| now + server.delay);
            let result = work(&mut state);
            state.settle();
            (result, lost, until)
        };
        if let Some(until) = until {
            let mut clock = self.shared.clock.subscribe();
            // The sender lives in `self`.
            let _ = clock.wait_for(|now| *now >= until).await;
            if self.lock().admit(&self.me).is_err() {
                return Err(StoreError::Unknown);
            }
        }
        if lost {
            return Err(StoreError::Unknown);
        }
        result
    }
}

impl Store for MemoryStore {
    fn read(&self) -> BoxFuture<'_, Result<Arc<View>, StoreError>> {
        Box::pin(self.call(|state| Ok(Arc::new(state.view.clone()))))
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        Box::pin(self.call(|state| state.commit(txn)))
    }

    fn renew(&self, lease: &Key, epoch: Epoch) -> BoxFuture<'_, Result<(), StoreError>> {
        let lease = lease.clone();
        Box::pin(self.call(move |state| state.renew(&lease, epoch)))
    }

    fn view(&self) -> watch::Receiver<Arc<View>> {
        let mut state = self.lock();
        let server = state.server(&self.me);
        server.map_or_else(|| watch::channel(Arc::default()).1, |s| s.view.subscribe())
    }

    fn membership(&self) -> watch::Receiver<Arc<Membership>> {
        let mut state = self.lock();
        let server = state.server(&self.me);
        server.map_or_else(
            || watch::channel(Arc::default()).1,
            |s| s.membership.subscribe(),
        )
    }
}

impl State {
    fn server(&mut self, name: &ServerName) -> Option<&mut Server> {
        self.servers.iter_mut().find(|server| server.name == *name)
    }

    /// Whether that server can ask anything at the moment.
    fn admit(&mut self, name: &ServerName) -> Result<(), StoreError> {
        let no_leader = |reason: &str| {
            Err(StoreError::NoLeader {
                reason: reason.to_owned(),
            })
        };
        match self.server(name) {
            None => return Err(StoreError::Stopped),
            Some(server) if server.stopped => return Err(StoreError::Stopped),
            Some(server) if server.cut_off => return no_leader("this server is cut off"),
            Some(_) => {}
        }
        match self.leader {
            Some(_) => Ok(()),
            None => no_leader("no majority"),
        }
    }

    fn next(&self) -> Revision {
        Revision(self.view.revision.0 + 1)
    }

    fn commit(&mut self, txn: Txn) -> Result<Outcome, StoreError> {
        txn.check()?;
        let granted: Vec<_> = txn.writes.iter().filter_map(granted).collect();
        let outcome = self.view.apply(self.next(), &Command::Txn(txn))?;
        if let Outcome::Done { revision } = outcome {
            for (lease, ttl) in granted {
                let deadline = (Epoch(revision.0), self.now + ttl);
                self.deadlines.insert(lease, deadline);
            }
        }
        Ok(outcome)
    }

    fn renew(&mut self, name: &Key, epoch: Epoch) -> Result<(), StoreError> {
        let lease = self.view.leases.get(name).filter(|l| l.epoch == epoch);
        let lease = lease.ok_or(StoreError::LeaseLost)?;
        let deadline = (epoch, self.now + lease.ttl);
        self.deadlines.insert(name.clone(), deadline);
        Ok(())
    }

    fn expire(&mut self) {
        if self.leader.is_none() {
            return;
        }
        let due: Vec<_> = self
            .deadlines
            .iter()
            .filter(|(_, (_, deadline))| self.now >= *deadline)
            .map(|(lease, (epoch, _))| (lease.clone(), *epoch))
            .collect();
        for (lease, epoch) in due {
            self.deadlines.remove(&lease);
            // It changes nothing when the lease was given back meanwhile.
            let _ = self
                .view
                .apply(self.next(), &Command::Expire { lease, epoch });
        }
    }

    /// After any change: who leads, and what everybody sees.
    fn settle(&mut self) {
        let up = |s: &&Server| !s.stopped && !s.cut_off;
        let majority = self.servers.iter().filter(up).count() * 2 > self.servers.len();
        let stays = |s: &&Server| Some(&s.name) == self.leader.as_ref();
        let leader = majority
            .then(|| {
                let mut candidates = self.servers.iter().filter(up);
                let stays = candidates.clone().find(stays);
                stays.or_else(|| candidates.next())
            })
            .flatten()
            .map(|s| s.name.clone());
        if leader.is_some() && leader != self.leader {
            self.term += 1;
            for (name, lease) in &self.view.leases {
                let deadline = (lease.epoch, self.now + lease.ttl);
                self.deadlines.insert(name.clone(), deadline);
            }
        }
        self.leader = leader;
        self.publish();
    }

    fn publish(&self) {
        let view = Arc::new(self.view.clone());
        let member = |s: &Server| Member {
            name: s.name.clone(),
            address: s.address,
            id: u64::from(s.address.port()),
            voter: true,
        };
        let members: Vec<_> = self.servers.iter().map(member).collect();
        for server in &self.servers {
            let has_quorum = !server.stopped && !server.cut_off && self.leader.is_some();
            let membership = Membership {
                members: members.clone(),
                leader: self.leader.clone().filter(|_| has_quorum),
                term: self.term,
                has_quorum,
            };
            server.membership.send_if_modified(|known| {
                let changed = **known != membership;
                *known = Arc::new(membership);
                changed
            });
            if !has_quorum {
                continue;
            }
            server.view.send_if_modified(|known| {
                let changed = known.revision < view.revision;
                if changed {
                    *known = view.clone();
                }
                changed
            });
        }
    }
}

fn granted(write: &Write) -> Option<(Key, Duration)> {
    match write {
        Write::Grant { lease, ttl, .. } => Some((lease.clone(), *ttl)),
        _ => None,
    }
}

fn take_one(count: &mut usize) -> bool {
    let some = *count > 0;
    *count = count.saturating_sub(1);
    some
}

async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests;
