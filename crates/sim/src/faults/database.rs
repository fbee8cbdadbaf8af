//! What goes wrong with PostgreSQL, and what operators ask for.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use trilith_consensus::{Store, Txn, Write};
use trilith_ha::StoreView;
use trilith_ha::operator::{Ask, Checked, Paused, check};

use crate::environment::{Sleep, nanos, spawn_for};
use crate::executor::{WORLD, executor};
use crate::limits::{DATABASE_FAULTS_FOR, DATABASE_FOUNDED_WITHIN};
use crate::world::{World, lock, name_of, server_name};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL to the postmaster, the operating system's out-of-memory killer for example.
    Crash(usize),
    /// SIGSTOP to all of its processes.
    Freeze(usize),
    /// PostgreSQL ends, and cannot be started.
    DiskFull(usize),
    /// The machine comes back without the data: another disk. Only while the others can do without it.
    DataLoss(usize),
    Switchover(Option<usize>),
    /// Without accepting losses.
    Failover(usize),
    Reinit(usize),
    /// Of one server, or of all, one after the other.
    Restart(Option<usize>),
    /// Nobody takes over meanwhile.
    Pause,
    /// The server ends in good order, and comes back.
    Leave(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: Duration,
    pub lasts: Duration,
    /// It strikes whoever is the primary then, if anybody is.
    pub at_primary: bool,
    pub fault: Fault,
}

pub fn plan(seed: u64, servers: usize, from: Duration, until: Duration) -> Vec<Event> {
    let mut rng = SmallRng::seed_from_u64(seed ^ 0x6461_7461_6261_7365);
    let mut events = Vec::new();
    let longest_gap = rng.random_range(1_000..8_000_u64);
    let mut at = from + Duration::from_millis(100);
    while at < until {
        let lasts = Duration::from_millis(match rng.random_range(0..3) {
            0 => rng.random_range(10..1_000),
            1 => rng.random_range(1_000..4_000),
            _ => rng.random_range(4_000..8_000),
        });
        let one = rng.random_range(0..servers);
        let fault = match rng.random_range(0..100) {
            0..25 => Fault::Crash(one),
            25..40 => Fault::Freeze(one),
            40..46 => Fault::DiskFull(one),
            46..52 => Fault::DataLoss(one),
            52..64 => Fault::Switchover(rng.random_bool(0.7).then_some(one)),
            64..74 => Fault::Failover(one),
            74..79 => Fault::Reinit(one),
            79..84 => Fault::Restart(rng.random_bool(0.4).then_some(one)),
            84..88 => Fault::Pause,
            _ => Fault::Leave(one),
        };
        events.push(Event {
            at,
            lasts,
            at_primary: rng.random_bool(0.5),
            fault,
        });
        at += Duration::from_millis(rng.random_range(100..longest_gap));
    }
    events
}

pub fn run(world: &Arc<World>, events: Vec<Event>) {
    for event in events {
        let world = world.clone();
        spawn_for(WORLD, async move {
            Sleep::new(event.at).await;
            world.note(format_args!("fault {event}"));
            strike(&world, &event).await;
        });
    }
}

async fn strike(world: &Arc<World>, event: &Event) {
    let aimed = |server: usize| {
        let databases = lock(&world.databases);
        let primary = databases.servers.iter().position(|one| one.is_primary());
        primary.filter(|_| event.at_primary).unwrap_or(server)
    };
    let rest = || Sleep::new(event.lasts);
    match &event.fault {
        Fault::Crash(server) => world.kill_postgres(aimed(*server), "a crash"),
        Fault::Freeze(server) => {
            let server = aimed(*server);
            world.freeze_postgres(server, true);
            rest().await;
            world.freeze_postgres(server, false);
        }
        Fault::DiskFull(server) => {
            let server = aimed(*server);
            lock(&world.databases).servers[server].disk_full = true;
            world.kill_postgres(server, "the disk is full");
            rest().await;
            lock(&world.databases).servers[server].disk_full = false;
        }
        Fault::DataLoss(server) => {
            let server = aimed(*server);
            if !world.can_lose_data(server) {
                return world.note(format_args!("nobody can do without {}", name_of(server)));
            }
            world.lose_power(server);
            lock(&world.databases).servers[server].lose_data();
            rest().await;
            world.start(server);
        }
        Fault::Switchover(to) => {
            let to = to.map(server_name);
            ask(world, Ask::Switchover { to }).await;
        }
        Fault::Failover(to) => {
            let (to, accept_loss) = (server_name(*to), false);
            ask(world, Ask::Failover { to, accept_loss }).await;
        }
        Fault::Reinit(server) => {
            let server = server_name(*server);
            ask(world, Ask::Reinit { server }).await;
        }
        Fault::Restart(server) => {
            let servers = server.map(server_name).into_iter().collect();
            ask(world, Ask::Restart { servers }).await;
        }
        Fault::Pause => {
            let note = Paused::default();
            ask(world, Ask::Pause { note }).await;
            rest().await;
            ask(world, Ask::Resume).await;
        }
        Fault::Leave(server) => {
            let server = aimed(*server);
            if !world.is_up(server) {
                return;
            }
            world.set_leave(server);
            rest().await;
            world.kill(server);
            rest().await;
            world.start(server);
        }
    }
}

/// Of so many moments that matter one is struck; with a mistake put in, of so few.
const STRUCK_ONE_OF: u64 = 40;
const STRUCK_ONE_OF_PLANTED: u64 = 4;
/// How long after such a moment.
const STRUCK_WITHIN: Duration = Duration::from_millis(300);

/// That server has just taken the lease or changed what the store says of the synchronous set: a good moment
/// to lose its power.
pub fn at_a_moment_that_matters(world: &Arc<World>, server: usize) {
    let one_of = match world.shape.plant {
        Some(_) => STRUCK_ONE_OF_PLANTED,
        None => STRUCK_ONE_OF,
    };
    let now = executor().now();
    let from = nanos(DATABASE_FOUNDED_WITHIN);
    let until = nanos(DATABASE_FAULTS_FOR - STRUCK_WITHIN);
    if now < from || now >= until || world.draw(one_of) != 0 {
        return;
    }
    let after = world.draw_between(Duration::ZERO, STRUCK_WITHIN);
    let lasts = world.draw_between(Duration::from_millis(10), Duration::from_secs(8));
    lock(&world.databases).counts.struck += 1;
    let world = world.clone();
    spawn_for(WORLD, async move {
        Sleep::new(after).await;
        let name = name_of(server);
        world.note(format_args!("struck at a moment that matters: {name}"));
        world.lose_power(server);
        Sleep::new(lasts).await;
        world.start(server);
    });
}

/// An operator asks at a server that is up.
async fn ask(world: &Arc<World>, ask: Ask) {
    let servers = world.shape.servers;
    let first = world.draw(servers as u64) as usize;
    let found = (0..servers)
        .map(|offset| (first + offset) % servers)
        .find_map(|server| Some((server, world.cluster(server)?)));
    let Some((server, cluster)) = found else {
        return;
    };
    let listed: Vec<_> = (0..servers).map(server_name).collect();
    let view = StoreView::read(&cluster.view().borrow());
    let txn = match check(&ask, &view, &listed) {
        Ok(Checked::Do(order)) => order.txn,
        Ok(Checked::Already(why)) => {
            return world.note(format_args!("{ask:?}: already: {why}"));
        }
        Err(refusal) => return world.note(format_args!("{ask:?}: {}", refusal.why)),
    };
    let asking = world.clone();
    let asked = spawn_for(executor().owner(server), async move {
        let done = cluster.commit(txn).await;
        let at = name_of(server);
        asking.note(format_args!("{ask:?} at {at}: {done:?}"));
    });
    let _ = asked.await;
}

/// Ends what may still be wrong.
pub fn heal(world: &Arc<World>) {
    for server in 0..world.shape.servers {
        world.freeze_postgres(server, false);
        lock(&world.databases).servers[server].disk_full = false;
    }
    let world = world.clone();
    spawn_for(WORLD, async move {
        // A pause that nobody ends is no fault of the planner's.
        loop {
            Sleep::new(Duration::from_millis(500)).await;
            let Some(cluster) = world.cluster(0) else {
                continue;
            };
            let resume = Txn::new().then(Write::Delete {
                key: trilith_ha::paused_key(),
            });
            let done = spawn_for(executor().owner(0), async move {
                cluster.commit(resume).await.is_ok()
            });
            if matches!(done.await, Ok(true)) {
                return;
            }
        }
    });
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let aimed = if self.at_primary {
            " (the primary)"
        } else {
            ""
        };
        write!(f, "{:?}{aimed} for {:?}", self.fault, self.lasts)
    }
}
