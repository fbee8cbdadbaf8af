//! What the agent sees.

use std::time::Duration;

use futures_util::future::{Either, select};
use trilith_base::BootTime;
use trilith_ha::{
    Data, LeaseSeen, Local, Observed, Parts, PrimarySeen, Process, Ready, SlotSeen, Standby,
    StoreView, SyncInForce, SyncSet, Tenure, needs_primary,
};

use super::{Agent, Work};
use crate::environment::{Sleep, Timeout};
use crate::executor::{Nanos, executor};
use crate::keeper::{Keeper, boot_time};
use crate::limits::{
    ASK_INTERVAL, ASK_TIMEOUT, ASKED_MAX, LOOK_INTERVAL_BUSY, PEER_TIMEOUT, QUICK_DEATH_MAX,
    RESTART_CALM,
};
use crate::plant::Plant;
use crate::postgres::{Confirm, Database, State, lsn};
use crate::world::{World, lock, server_name};

impl World {
    pub fn guard_is_alive(&self, server: usize) -> bool {
        lock(&self.databases).servers[server].guard.alive
    }

    pub fn life_of_postgres(&self, server: usize) -> Option<u64> {
        lock(&self.databases).servers[server].life()
    }
}

impl Agent {
    pub(super) fn life(&self) -> Option<u64> {
        self.world.life_of_postgres(self.server)
    }

    /// `None`: the deadline came meanwhile.
    pub(super) async fn observe(&mut self, leaving: bool) -> Option<Observed> {
        let store = self.read_view();
        let before = self
            .memory
            .lease(boot_time(), &store, &self.policy, self.tenure());
        let deadline = matches!(before, LeaseSeen::Mine { .. })
            .then(|| self.tenure())
            .flatten()
            .map(|tenure| tenure.deadline);
        let keeper = self.keeper.clone();
        let past: Work<'static, ()> = Box::pin(async move { past(deadline, &keeper).await });
        let local: Work<'_, Local> = Box::pin(self.look());
        let mut local = match select(local, past).await {
            Either::Left((local, _)) => local,
            Either::Right(_) => return None,
        };
        let store = self.read_view();
        let now = boot_time();
        self.memory.remember(now, &store, &local);
        self.plant(&store, &mut local);
        let primary = self.ask(now, &store, &local).await;
        let parts = Parts {
            quorum: *self.heard.borrow() && self.membership.borrow().has_quorum,
            tenure: self.tenure(),
            store,
            local,
            primary,
            leaving,
        };
        Some(self.memory.observed(boot_time(), parts, &self.policy))
    }

    fn tenure(&self) -> Option<Tenure> {
        self.keeper.tenure()
    }

    fn read_view(&mut self) -> StoreView {
        let view = self.view.borrow_and_update().clone();
        let mut store = StoreView::clone(&self.world.store_view(&view));
        if self.world.shape.plant == Some(Plant::StaleReplicaPromoted)
            && let Some((record, _)) = &mut store.record
            && store.lease.is_none()
        {
            record.sync.acks = record.sync.members.len();
        }
        store
    }

    fn plant(&self, store: &StoreView, local: &mut Local) {
        let Process::Ready(ready) = &mut local.process else {
            return;
        };
        match self.world.shape.plant {
            Some(Plant::VotesWhileReceiving) if store.lease.is_none() => {
                (ready.follows, ready.receiving, ready.settled) = (None, false, true);
            }
            Some(Plant::WidenedBeforeConfirmation) if ready.open => all_confirmed(ready),
            Some(Plant::OpenedBeforeConfirmation) if !ready.open => all_confirmed(ready),
            _ => {}
        }
    }

    async fn look(&mut self) -> Local {
        if let Some(life) = self.life() {
            let time = self
                .world
                .draw_between(Duration::from_micros(300), Duration::from_millis(8));
            Sleep::new(time).await;
            if !self.world.runs(self.server) {
                return self.look_at_silence().await;
            }
            self.settle(life).await;
        }
        self.unheard_since = None;
        self.count_failures();
        self.note_starting();
        let now = executor().now();
        let databases = lock(&self.world.databases);
        let database = &databases.servers[self.server];
        let process = self.process(database, now);
        Local {
            data: data(database),
            process,
            asides: 0,
            failures: self.failures,
        }
    }

    async fn look_at_silence(&mut self) -> Local {
        let since = *self.unheard_since.get_or_insert_with(boot_time);
        Sleep::new(ASK_TIMEOUT).await;
        let now = boot_time();
        let databases = lock(&self.world.databases);
        let database = &databases.servers[self.server];
        let process = match database.life() {
            None => Process::Stopped,
            Some(_) => Process::Silent {
                since: now.since(since),
            },
        };
        Local {
            data: data(database),
            process,
            asides: 0,
            failures: self.failures,
        }
    }

    /// Since when it has been seen not to take connections.
    fn note_starting(&mut self) {
        let databases = lock(&self.world.databases);
        let process = databases.servers[self.server].process();
        let starting = process.filter(|process| !process.ready || process.stopping);
        let known = self.starting_since;
        self.starting_since = starting.map(|process| match known {
            Some((life, since)) if life == process.life => (life, since),
            _ => (process.life, boot_time()),
        });
    }

    /// One that ended by itself soon after it was ready has failed.
    fn count_failures(&mut self) {
        let (now, nanos) = (boot_time(), executor().now());
        let databases = lock(&self.world.databases);
        let process = databases.servers[self.server].process();
        let seen = process.map(|process| {
            let ready = Duration::from_nanos(nanos.saturating_sub(process.ready_since));
            (process.life, process.ready.then(|| now - ready))
        });
        if let Some((life, ready_since)) = self.known
            && seen.map(|(life, _)| life) != Some(life)
            && ready_since.is_none_or(|since| now.since(since) < QUICK_DEATH_MAX)
        {
            self.failures += 1;
        }
        if seen.is_some_and(|(_, since)| since.is_some_and(|at| now.since(at) >= RESTART_CALM)) {
            self.failures = 0;
        }
        self.known = seen;
    }

    fn process(&self, database: &Database, now: Nanos) -> Process {
        let Some(process) = database.process() else {
            return Process::Stopped;
        };
        let ago = |since: Nanos| Duration::from_nanos(now.saturating_sub(since));
        // Either way it says that it does not take connections.
        if !process.ready || process.stopping {
            let now = boot_time();
            let since = self.starting_since.map_or(now, |(_, since)| since);
            return Process::Starting {
                since: now.since(since),
            };
        }
        let confirmed = process.confirmed.as_ref();
        let set = match (confirmed, &process.conf) {
            (Some(confirmed), _) => confirmed.set.clone(),
            (None, Confirm::Set(set)) => set.clone(),
            (None, Confirm::Nobody) => SyncSet::alone(),
        };
        let history = database.history();
        let others = (0..self.world.shape.servers).filter(|other| *other != self.server);
        let standbys = others.map(|other| {
            let sender = process.senders.get(&other);
            let gone_since = process.gone_since.get(&other).copied();
            Standby {
                name: server_name(other),
                streaming: sender.is_some(),
                flushed: lsn(sender.map_or(0, |sender| sender.flushed)),
                gone_for: match sender {
                    Some(_) => Duration::ZERO,
                    None => ago(gone_since.unwrap_or_default().max(process.role_since)),
                },
            }
        });
        let receiving = process.receiver.is_some();
        let waits = process.follow.is_some() && !receiving;
        let waits_since = process.waits_since.unwrap_or(process.ready_since);
        Process::Ready(Box::new(Ready {
            in_recovery: process.in_recovery,
            system_id: database.system,
            since: ago(process.role_since),
            follows: process.follow.map(server_name),
            receiving: receiving || process.follow.is_some(),
            not_streaming: if waits {
                ago(waits_since)
            } else {
                Duration::ZERO
            },
            settled: !receiving,
            open: process.open,
            sync: SyncInForce {
                set,
                since: lsn(confirmed.map_or(database.flushed, |confirmed| confirmed.since)),
            },
            standbys: if process.in_recovery {
                Vec::new()
            } else {
                standbys.collect()
            },
            set_up: database.set_up,
            checkpointed: database.checkpoint_timeline == history.end.timeline,
            lowers: false,
            history,
        }))
    }

    /// What the primary says, if there is something that this server has to know of it.
    async fn ask(
        &mut self,
        now: BootTime,
        store: &StoreView,
        local: &Local,
    ) -> Option<PrimarySeen> {
        let holder = store.holder().filter(|holder| **holder != self.policy.me)?;
        if !needs_primary(store, local, &self.policy.me) {
            return None;
        }
        let due = self.asked.at.is_none_or(|at| now.since(at) >= ASK_INTERVAL);
        if due {
            self.asked.at = Some(now);
            let servers = 0..self.world.shape.servers;
            let at = servers.into_iter().find(|at| server_name(*at) == *holder)?;
            let asking: Work<'_, _> = Box::pin(self.ask_primary(at));
            let seen = Timeout::new(Sleep::new(PEER_TIMEOUT), asking).await;
            self.asked.seen = seen.ok().flatten().map(|seen| (boot_time(), seen));
        }
        let (at, seen) = self.asked.seen.as_ref()?;
        let fresh = now.since(*at) < ASKED_MAX && seen.server == *holder;
        fresh.then(|| seen.clone())
    }

    async fn ask_primary(&self, at: usize) -> Option<PrimarySeen> {
        let world = &self.world;
        if !world.network.carry(self.server, at).await || !world.runs(at) {
            return None;
        }
        let seen = {
            let databases = lock(&world.databases);
            let database = &databases.servers[at];
            let process = database.process().filter(|p| p.ready && !p.stopping)?;
            PrimarySeen {
                server: server_name(at),
                is_primary: !process.in_recovery,
                system_id: database.system,
                history: database.history(),
                checkpoint_timeline: database.checkpoint_timeline,
                oldest: lsn(0),
                slot: SlotSeen::Ready,
            }
        };
        world.network.carry(at, self.server).await.then_some(seen)
    }
}

/// What a primary believes that does not ask how far its replicas are.
fn all_confirmed(ready: &mut Ready) {
    ready.sync.since = lsn(0);
    let end = ready.end().lsn;
    for standby in &mut ready.standbys {
        standby.flushed = end;
    }
}

fn data(database: &Database) -> Data {
    match database.state {
        State::Missing => Data::Missing,
        State::HalfMade => Data::HalfMade {
            what: "an interrupted rewind".to_owned(),
        },
        State::Ready => Data::Ready {
            system_id: database.system,
            kind: database.kind,
            clean: database.clean,
            history: database.history(),
            unfounded: database.unfounded,
        },
    }
}

/// Completes when the deadline is past and no renewal has moved it.
async fn past(deadline: Option<BootTime>, keeper: &Keeper) {
    let Some(mut deadline) = deadline else {
        return std::future::pending().await;
    };
    loop {
        let left = deadline.since(boot_time());
        if left.is_zero() {
            return;
        }
        // The clock of the tasks stands still in a suspend.
        Sleep::new(left.min(LOOK_INTERVAL_BUSY)).await;
        match keeper.tenure() {
            Some(now) => deadline = deadline.max(now.deadline),
            None => return,
        }
    }
}
