//! What must hold at every step, checked on everything that any server shows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use trilith_base::{BootTime, ServerName};
use trilith_cluster::Cluster;
use trilith_consensus::{Epoch, Key, Membership, Revision, Store, Txn, View};
use trilith_vip::Input;
use xxhash_rust::xxh3::Xxh3;

use crate::environment::{SimEnvironment, Sleep, spawn_for};
use crate::executor::executor;
use crate::plant::Plant;
use crate::world::{World, lock, name_of, server_name};

/// All that was ever seen.
#[derive(Default)]
pub struct Watcher {
    /// The state at each revision is the same on every server.
    states: BTreeMap<Revision, u64>,
    /// A lease has one holder per epoch.
    leases: BTreeMap<(Key, Epoch), ServerName>,
    /// Every leadership that was seen: term and leader.
    leaders: BTreeSet<(u64, ServerName)>,
    /// What was acknowledged: the revision of the last write of each key.
    acknowledged: BTreeMap<Key, Revision>,
    /// Where the state machines of addresses listen.
    inputs: BTreeMap<(usize, IpAddr), mpsc::UnboundedSender<Input>>,
    /// What each guard was told last.
    deadlines: BTreeMap<(usize, IpAddr), BootTime>,
    pub views: u64,
    pub grants: u64,
}

/// Follows what one server shows, for one life.
pub fn watch(world: &Arc<World>, server: usize, cluster: &Arc<Cluster<SimEnvironment>>) {
    let owner = executor().current();
    let mut views = cluster.view();
    let (follower, store) = (world.clone(), cluster.clone());
    spawn_for(owner, async move {
        let mut before = Arc::new(View::default());
        loop {
            let view = views.borrow_and_update().clone();
            if follower.shape.plant == Some(Plant::ExpiryWithoutEpoch) {
                follower.expire_again(server, &before, &view, &store);
            }
            let found = lock(&follower.watcher).see(server, &before, &view);
            if let Err(text) = found {
                follower.violate(text);
            }
            follower.check_record(&view);
            before = view;
            if views.changed().await.is_err() {
                return;
            }
        }
    });
    let mut memberships = cluster.membership();
    let follower = world.clone();
    spawn_for(owner, async move {
        let mut led = 0;
        loop {
            let membership = memberships.borrow_and_update().clone();
            if let Some(term) = follower.see_membership(server, &membership)
                && term > led
            {
                led = term;
                if follower.shape.plant == Some(Plant::LeasesExpireWithLeader) {
                    let step = Duration::from_secs(2);
                    executor().with_clock(server, |clock, _| clock.step(step));
                }
            }
            if memberships.changed().await.is_err() {
                return;
            }
        }
    });
}

impl World {
    /// [`Plant::ExpiryWithoutEpoch`]: of the leases that have ended, as the leader sees it.
    fn expire_again(
        self: &Arc<Self>,
        server: usize,
        before: &View,
        view: &View,
        store: &Arc<Cluster<SimEnvironment>>,
    ) {
        let leads = store.membership().borrow().leader.as_ref() == Some(&server_name(server));
        let over = before
            .leases
            .keys()
            .filter(|lease| leads && !view.leases.contains_key(*lease));
        for lease in over {
            let (world, lease, store) = (self.clone(), lease.clone(), store.clone());
            spawn_for(executor().current(), async move {
                let late = world.draw_between(Duration::ZERO, Duration::from_millis(300));
                Sleep::new(late).await;
                let now = store.view().borrow().lease(lease.as_str()).map(|l| l.epoch);
                if let Some(epoch) = now {
                    world.note(format_args!("an expiry of {lease} ends epoch {epoch}"));
                    let _ = store.commit(Txn::revoke(lease, epoch)).await;
                }
            });
        }
    }

    /// The term, if this server leads.
    fn see_membership(&self, server: usize, membership: &Membership) -> Option<u64> {
        let leader = membership.leader.as_ref()?;
        // A term may have several leaders, one after the other: openraft orders votes by term, then by
        // candidate.
        let leadership = (membership.term, leader.clone());
        lock(&self.watcher).leaders.insert(leadership);
        if *leader != server_name(server) {
            return None;
        }
        let (name, term) = (name_of(server), membership.term);
        self.note(format_args!("{name} leads term {term}"));
        Some(term)
    }
}

impl Watcher {
    fn see(&mut self, server: usize, before: &View, view: &View) -> Result<(), String> {
        self.views += 1;
        let name = name_of(server);
        let revision = view.revision;
        if revision < before.revision {
            let was = before.revision;
            return Err(format!(
                "{name} went back from revision {was} to {revision}"
            ));
        }
        let digest = digest(view);
        if *self.states.entry(revision).or_insert(digest) != digest {
            return Err(format!(
                "the state at revision {revision} is another one on {name}"
            ));
        }
        for (lease, now) in &view.leases {
            let key = (lease.clone(), now.epoch);
            let grants = &mut self.grants;
            let holder = self.leases.entry(key).or_insert_with(|| {
                *grants += 1;
                now.holder.clone()
            });
            if *holder != now.holder {
                let (epoch, other) = (now.epoch, &now.holder);
                return Err(format!(
                    "{lease} has two holders in epoch {epoch}: {holder}, {other}"
                ));
            }
            if let Some(earlier) = before.lease(lease.as_str())
                && earlier.epoch > now.epoch
            {
                return Err(format!("the epoch of {lease} went back on {name}"));
            }
        }
        for (key, acknowledged) in &self.acknowledged {
            let version = view.get(key.as_str()).map_or(Revision(0), |e| e.version);
            if *acknowledged <= revision && version < *acknowledged {
                return Err(format!(
                    "{name} at revision {revision} has no write of {key} that was acknowledged at {acknowledged}"
                ));
            }
        }
        Ok(())
    }

    /// A client was told that its write is done.
    pub fn acknowledge(&mut self, key: &Key, revision: Revision) {
        let last = self.acknowledged.entry(key.clone()).or_default();
        *last = revision.max(*last);
    }

    pub fn terms(&self) -> usize {
        self.leaders.len()
    }

    pub fn listen(&mut self, server: usize, ip: IpAddr, inputs: mpsc::UnboundedSender<Input>) {
        self.inputs.insert((server, ip), inputs);
    }

    pub fn conflict(&self, server: usize, ip: IpAddr) {
        if let Some(inputs) = self.inputs.get(&(server, ip)) {
            let _ = inputs.send(Input::Conflict);
        }
    }

    /// The deadline, if it is another one than before.
    pub fn set_deadline(
        &mut self,
        server: usize,
        ip: IpAddr,
        deadline: Option<BootTime>,
    ) -> Option<BootTime> {
        let before = match deadline {
            None => self.deadlines.remove(&(server, ip)),
            Some(at) => self.deadlines.insert((server, ip), at),
        };
        deadline.filter(|_| before != deadline)
    }

    pub fn deadline(&self, server: usize, ip: IpAddr) -> Option<BootTime> {
        self.deadlines.get(&(server, ip)).copied()
    }
}

fn digest(view: &View) -> u64 {
    let mut hash = Xxh3::new();
    for (key, entry) in &view.entries {
        hash.update(key.as_str().as_bytes());
        hash.update(&entry.version.0.to_le_bytes());
        hash.update(&entry.value);
    }
    for (key, lease) in &view.leases {
        hash.update(key.as_str().as_bytes());
        hash.update(lease.holder.to_string().as_bytes());
        hash.update(&lease.epoch.0.to_le_bytes());
    }
    hash.digest()
}
