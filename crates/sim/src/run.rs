//! One seed from start to verdict.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use trilith_consensus::{Membership, Store, Txn, Write};

use crate::environment::{Sleep, nanos, spawn_for};
use crate::executor::{Executor, Nanos, WORLD};
use crate::faults;
use crate::limits::{
    DATABASE_FAULTS_FOR, DATABASE_FOUNDED_WITHIN, DATABASE_HEALED_WITHIN, FAULTS_FOR,
    FOUNDED_WITHIN, HEALED_WITHIN, STACK_BYTES, WRITES_MIN,
};
use crate::load;
use crate::plant::Plant;
use crate::postgres;
use crate::trace::Trace;
use crate::world::{Shape, World, lock, name_of, server_name};

#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    pub plant: Option<Plant>,
    /// With a database on every server.
    pub database: bool,
    /// Keep the trace.
    pub trace: bool,
}

/// What came out of one seed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub seed: u64,
    /// What did not hold; `None`: all did.
    pub violation: Option<String>,
    /// Every event of the run, if it was wanted.
    pub trace: String,
    pub servers: usize,
    pub faults: usize,
    /// From the end of the last fault until everything worked again.
    pub healed_after: Duration,
    /// The longest that two servers had an address under a lease: one of them had just woken.
    pub two_holders_for: Duration,
    pub messages: u64,
    pub calls: usize,
    pub unanswered: usize,
    pub terms: usize,
    pub grants: u64,
    pub syncs: u64,
    pub polls: u64,
    // The database.
    pub writes: u64,
    pub reads: u64,
    pub promotions: u64,
    /// How often another server became the primary.
    pub failovers: u64,
    /// Of `faults`, those of PostgreSQL and what operators asked of it.
    pub database_faults: usize,
    /// How often the guard had to stop PostgreSQL.
    pub fenced: u64,
}

/// Simulates one cluster on a thread of its own.
pub fn run(seed: u64, settings: Settings) -> Report {
    let thread = std::thread::Builder::new()
        .name(format!("seed {seed}"))
        .stack_size(STACK_BYTES)
        .spawn(move || simulate(seed, settings));
    let report = thread.map(std::thread::JoinHandle::join);
    match report {
        Ok(Ok(report)) => report,
        Ok(Err(_)) => broken(seed, "the simulation itself panicked"),
        Err(error) => broken(seed, &format!("no thread: {error}")),
    }
}

fn broken(seed: u64, why: &str) -> Report {
    Report {
        seed,
        violation: Some(why.to_owned()),
        ..Report::default()
    }
}

fn shape(seed: u64, settings: Settings) -> Shape {
    let Settings {
        plant, database, ..
    } = settings;
    let mut rng = SmallRng::seed_from_u64(seed ^ 0x7368_6170_6500);
    let servers = if rng.random_bool(0.7) { 3 } else { 5 };
    let addresses = (0..rng.random_range(1..=2_u8))
        .map(|index| IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100 + index)))
        .collect();
    let kernel_ends = rng.random_bool(0.5);
    Shape {
        servers,
        addresses,
        kernel_ends,
        orphans: kernel_ends && rng.random_bool(0.5),
        // One in eight has asynchronous replication.
        database: database.then(|| plant.is_some() || rng.random_bool(0.875)),
        plant,
    }
}

fn simulate(seed: u64, settings: Settings) -> Report {
    let executor = Executor::install(seed);
    let trace = Arc::new(Trace::new(settings.trace));
    let shape = shape(seed, settings);
    let course = Course::of(&shape);
    let (from, until) = (course.founded, course.faults_for);
    let events = faults::plan(seed, shape.servers, shape.addresses.len(), from, until);
    let mut report = Report {
        seed,
        servers: shape.servers,
        faults: events.len(),
        ..Report::default()
    };
    trace.add(format_args!("{shape:?}"));
    let world = World::new(seed, shape, &executor, trace.clone());
    let healed = Arc::new(Mutex::new(None));
    spawn_for(WORLD, direct(world.clone(), course, events, healed.clone()));
    if settings.database {
        postgres::run_machines(&world);
        let events = faults::database::plan(seed, world.shape.servers, from, until);
        report.database_faults = events.len();
        report.faults += events.len();
        faults::database::run(&world, events);
    }
    let mut result = Ok(());
    let end = nanos(course.end());
    while result.is_ok() && executor.now() < end && lock(&healed).is_none() {
        let next = (executor.now() + 100_000_000).min(end);
        result = executor.run_until(next, || {
            world.end_the_fatal();
            world.check_holders();
            world.check_primaries();
            world.violation().map_or(Ok(()), Err)
        });
    }
    let healed = *lock(&healed);
    if result.is_ok() {
        result = match healed {
            Some(_) => lock(&world.history).check(),
            None => Err(executor.within(WORLD, || what_is_not_healed(&world))),
        };
    }
    let counts = lock(&world.databases).counts;
    let struck = usize::try_from(counts.struck).unwrap_or(usize::MAX);
    report.database_faults += struck;
    report.faults += struck;
    if result.is_ok() && settings.database && counts.written < WRITES_MIN {
        let written = counts.written;
        result = Err(format!(
            "only {written} writes of the database were acknowledged"
        ));
    }
    if let Err(text) = result {
        world.note(format_args!("FAILED {text}"));
        report.violation = Some(text);
    }
    report.healed_after = healed.map_or(course.healed_within, |at| {
        Duration::from_nanos(at).saturating_sub(course.faults_for)
    });
    report.two_holders_for = lock(&world.kernel).longest_with_two();
    report.messages = world.network.counts().0;
    (report.calls, report.unanswered) = lock(&world.history).counts();
    report.terms = lock(&world.watcher).terms();
    report.grants = lock(&world.watcher).grants;
    report.syncs = world.disks.iter().map(|disk| disk.syncs()).sum();
    report.polls = executor.polls();
    report.failovers = lock(&world.seen).failovers();
    (report.writes, report.reads) = (counts.written, counts.read);
    (report.promotions, report.fenced) = (counts.promotions, counts.fenced);
    world.finish();
    executor.finish();
    drop(world);
    report.trace = trace.take();
    report
}

/// How long each part of a run takes.
#[derive(Clone, Copy)]
struct Course {
    founded: Duration,
    faults_for: Duration,
    healed_within: Duration,
}

impl Course {
    fn of(shape: &Shape) -> Self {
        match shape.database {
            None => Self {
                founded: FOUNDED_WITHIN,
                faults_for: FAULTS_FOR,
                healed_within: HEALED_WITHIN,
            },
            Some(_) => Self {
                founded: DATABASE_FOUNDED_WITHIN,
                faults_for: DATABASE_FAULTS_FOR,
                healed_within: DATABASE_HEALED_WITHIN,
            },
        }
    }

    fn end(&self) -> Duration {
        self.faults_for + self.healed_within
    }
}

/// The course of a run: found the cluster, break it, heal it, wait until everything works.
async fn direct(
    world: Arc<World>,
    course: Course,
    events: Vec<faults::Event>,
    healed: Arc<Mutex<Option<Nanos>>>,
) {
    for server in 0..world.shape.servers {
        let (world, after) = (world.clone(), Duration::from_millis(world.draw(400)));
        spawn_for(WORLD, async move {
            Sleep::new(after).await;
            world.start(server);
        });
    }
    faults::run(&world, events);
    Sleep::new(FOUNDED_WITHIN).await;
    if !world.views_agree() {
        world.violate(format!(
            "no cluster after {FOUNDED_WITHIN:?} without a fault"
        ));
    }
    load::run(&world, nanos(course.end()));
    if world.shape.database.is_some() {
        postgres::run_clients(&world, nanos(course.end()));
        Sleep::new(course.founded - FOUNDED_WITHIN).await;
        if let Some(why) = world.database_lacks() {
            world.violate(format!(
                "no database after {:?} without a fault: {why}",
                course.founded
            ));
        }
    }
    Sleep::new(course.faults_for - course.founded).await;
    faults::heal(&world);
    loop {
        Sleep::new(Duration::from_millis(200)).await;
        if works(&world).await {
            let now = crate::executor::executor().now();
            *lock(&healed) = Some(now);
            world.note(format_args!("everything works"));
            return;
        }
    }
}

/// Whether every server reads and writes, everybody votes, and every address has one holder.
async fn works(world: &Arc<World>) -> bool {
    if !(world.views_agree() && world.holders_are_one() && world.database_lacks().is_none()) {
        return false;
    }
    for server in 0..world.shape.servers {
        let Some(cluster) = world.cluster(server) else {
            return false;
        };
        let owner = crate::executor::executor().owner(server);
        let asked = world.clone();
        let done = spawn_for(owner, async move {
            let key = load::key(load::KEYS + server);
            let put = Write::Put {
                key: key.clone(),
                value: b"works".as_slice().into(),
            };
            let written = cluster.commit(Txn::new().then(put)).await;
            let view = cluster.read().await;
            asked.note(format_args!("{} works: {written:?}", name_of(server)));
            written.is_ok() && view.is_ok_and(|view| view.get(key.as_str()).is_some())
        });
        if !matches!(done.await, Ok(true)) {
            return false;
        }
    }
    true
}

impl World {
    fn memberships(&self) -> Vec<Option<Arc<Membership>>> {
        (0..self.shape.servers)
            .map(|server| Some(self.cluster(server)?.membership().borrow().clone()))
            .collect()
    }

    /// Whether all servers run, follow one leader, and vote.
    fn views_agree(&self) -> bool {
        let all = self.memberships();
        let Some(Some(first)) = all.first() else {
            return false;
        };
        all.iter().flatten().count() == self.shape.servers
            && first.leader.is_some()
            && all.iter().flatten().all(|one| {
                one.has_quorum
                    && one.leader == first.leader
                    && one.members.len() == self.shape.servers
                    && (0..self.shape.servers).all(|server| {
                        let name = server_name(server);
                        one.members.iter().any(|m| m.name == name && m.voter)
                    })
            })
    }

    fn holders_are_one(&self) -> bool {
        let now = crate::executor::executor().now();
        let kernel = lock(&self.kernel);
        let mut addresses = self.shape.addresses.iter();
        addresses.all(|ip| kernel.holders(*ip, now).len() == 1)
    }
}

fn what_is_not_healed(world: &World) -> String {
    let now = crate::executor::executor().now();
    let within = Course::of(&world.shape).healed_within;
    let mut text = format!("not everything works {within:?} after the last fault:");
    if let Some(why) = world.database_lacks() {
        text += &format!(" {why};");
    }
    for (server, membership) in world.memberships().into_iter().enumerate() {
        text += &match membership {
            None => format!(" {} is down;", name_of(server)),
            Some(m) => {
                let voters = m
                    .members
                    .iter()
                    .filter(|m| m.voter)
                    .map(|m| m.name.to_string());
                format!(
                    " {}: leader {:?}, term {}, quorum {}, voters {:?} of {};",
                    name_of(server),
                    m.leader.as_ref().map(ToString::to_string),
                    m.term,
                    m.has_quorum,
                    voters.collect::<Vec<_>>(),
                    m.members.len(),
                )
            }
        };
    }
    for ip in &world.shape.addresses {
        let holders = lock(&world.kernel).holders(*ip, now);
        text += &format!(
            " {ip} is on {:?};",
            holders.into_iter().map(name_of).collect::<Vec<_>>()
        );
    }
    text
}
