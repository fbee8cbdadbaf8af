//! The cluster: its servers, from power on to power off.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use trilith_base::ServerName;
use trilith_cluster::{Cluster, DiskPlace, Listed, Options, Timing};
use trilith_consensus::{Store, Txn, Write};
use trilith_telemetry::Telemetry;
use trilith_vip::wanted_key;

use crate::clock::Clock;
use crate::disk::{self, Disk, File, PowerLoss};
use crate::environment::{SimEnvironment, Sleep, spawn_for};
use crate::executor::{Executor, WORLD, executor};
use crate::history::History;
use crate::kernel::Kernel;
use crate::limits::RATE_PPM_MAX;
use crate::network::Network;
use crate::plant::Plant;
use crate::postgres::{Databases, Seen};
use crate::trace::Trace;
use crate::{agent, holder, watcher};

/// The servers' names: at most five.
const NAMES: [&str; 5] = ["one", "two", "three", "four", "five"];

pub fn name_of(server: usize) -> &'static str {
    NAMES.get(server).copied().unwrap_or("?")
}

/// What is drawn once per seed.
#[derive(Clone, Debug)]
pub struct Shape {
    pub servers: usize,
    /// Floating addresses.
    pub addresses: Vec<IpAddr>,
    /// As in mode `l2`: the kernel ends the addresses; otherwise as in `loopback`: a guard does.
    pub kernel_ends: bool,
    /// Take addresses without quorum when nobody answers.
    pub orphans: bool,
    /// Whether there is a database on every server, and then whether commits wait for replicas.
    pub database: Option<bool>,
    pub plant: Option<Plant>,
}

pub struct World {
    pub shape: Shape,
    pub trace: Arc<Trace>,
    pub network: Arc<Network>,
    pub disks: Vec<Arc<Disk>>,
    pub history: Mutex<History>,
    pub kernel: Mutex<Kernel>,
    pub watcher: Mutex<watcher::Watcher>,
    pub databases: Mutex<Databases>,
    /// What was seen of it in the store.
    pub seen: Mutex<Seen>,
    servers: Mutex<Vec<Server>>,
    rng: Mutex<SmallRng>,
    violation: Mutex<Option<String>>,
    listed: watch::Sender<Vec<Listed>>,
    /// Servers whose process wants to end, and why.
    fatal: Mutex<Vec<(usize, String)>>,
    rotten: Mutex<BTreeSet<usize>>,
}

struct Server {
    cluster: Option<Arc<Cluster<SimEnvironment>>>,
    up: bool,
    /// SIGSTOP.
    paused: bool,
    /// The whole machine.
    suspended: bool,
    health: watch::Sender<bool>,
    drain: watch::Sender<bool>,
    /// The process is to end in good order.
    leave: watch::Sender<bool>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// Makes the servers; none of them runs yet.
    pub fn new(seed: u64, shape: Shape, executor: &Executor, trace: Arc<Trace>) -> Arc<Self> {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x776f_726c_6400);
        let ends: Vec<(ServerName, SocketAddr)> = (0..shape.servers)
            .map(|server| (server_name(server), address_of(server)))
            .collect();
        for _ in 0..shape.servers {
            let rate = rng.random_range(-RATE_PPM_MAX..=RATE_PPM_MAX);
            let boot = Duration::from_secs(rng.random_range(10..10_000_000));
            executor.add_server(Clock::new(rate, crate::environment::nanos(boot), 0));
        }
        let disks: Vec<Arc<Disk>> = (0..shape.servers)
            .map(|_| Disk::new(rng.random(), shape.plant == Some(Plant::LyingDisk)))
            .collect();
        disk::install(disks.clone());
        let listed = ends.iter().map(|(name, address)| Listed {
            name: name.clone(),
            address: *address,
            votes: true,
        });
        let listed = watch::channel(listed.collect()).0;
        let network = Network::new(rng.random(), ends, shape.plant, trace.clone());
        let servers = (0..shape.servers).map(|_| Server {
            cluster: None,
            up: false,
            paused: false,
            suspended: false,
            health: watch::channel(true).0,
            drain: watch::channel(false).0,
            leave: watch::channel(false).0,
        });
        Arc::new(Self {
            trace,
            network,
            disks,
            history: Mutex::default(),
            kernel: Mutex::new(Kernel::new(shape.servers)),
            watcher: Mutex::default(),
            seen: Mutex::default(),
            databases: Mutex::new(Databases::new(shape.servers)),
            servers: Mutex::new(servers.collect()),
            rng: Mutex::new(rng),
            violation: Mutex::default(),
            listed,
            fatal: Mutex::default(),
            rotten: Mutex::default(),
            shape,
        })
    }

    pub fn note(&self, line: std::fmt::Arguments<'_>) {
        self.trace.add(line);
    }

    /// A number below `bound`, for the network's, the clients' and the faults' decisions.
    pub fn draw(&self, bound: u64) -> u64 {
        lock(&self.rng).random_range(0..bound.max(1))
    }

    pub fn draw_between(&self, shortest: Duration, longest: Duration) -> Duration {
        lock(&self.rng).random_range(shortest..=longest)
    }

    pub fn violate(&self, text: String) {
        self.note(format_args!("VIOLATION {text}"));
        lock(&self.violation).get_or_insert(text);
    }

    pub fn violation(&self) -> Option<String> {
        lock(&self.violation).clone()
    }

    pub fn cluster(&self, server: usize) -> Option<Arc<Cluster<SimEnvironment>>> {
        lock(&self.servers)[server].cluster.clone()
    }

    pub fn is_up(&self, server: usize) -> bool {
        lock(&self.servers)[server].up
    }

    pub fn set_health(&self, server: usize, is: bool) {
        lock(&self.servers)[server].health.send_replace(is);
    }

    pub fn set_drain(&self, server: usize, is: bool) {
        lock(&self.servers)[server].drain.send_replace(is);
    }

    /// The server is asked to end: its agent hands over first.
    pub fn set_leave(&self, server: usize) {
        lock(&self.servers)[server].leave.send_replace(true);
    }

    // A server's life.

    /// The process starts.
    pub fn start(self: &Arc<Self>, server: usize) {
        let (health, drain, leave) = {
            let mut servers = lock(&self.servers);
            let this = &mut servers[server];
            if this.up {
                return;
            }
            this.up = true;
            this.paused = false;
            this.leave = watch::channel(false).0;
            (
                this.health.subscribe(),
                this.drain.subscribe(),
                this.leave.subscribe(),
            )
        };
        self.note(format_args!("start {}", name_of(server)));
        if self.shape.plant == Some(Plant::ForgottenVote) {
            crate::forget::forget_vote(&self.disks[server]);
        }
        let owner = executor().owner(server);
        let world = self.clone();
        spawn_for(owner, async move {
            let options = world.options(server);
            let transport = world.network.transport(server);
            match Cluster::<SimEnvironment>::start(options, transport).await {
                Ok(cluster) => {
                    lock(&world.servers)[server].cluster = Some(cluster.clone());
                    world.network.listen(server, Some(cluster.clone()));
                    watcher::watch(&world, server, &cluster);
                    for ip in 0..world.shape.addresses.len() {
                        holder::run(&world, server, ip, &cluster, health.clone(), drain.clone());
                    }
                    if let Some(synchronous) = world.shape.database {
                        agent::run(&world, server, &cluster, synchronous, leave);
                    }
                }
                Err(error) => world.fatal(server, error.to_string()),
            }
        });
    }

    fn options(self: &Arc<Self>, server: usize) -> Options {
        let world = Arc::downgrade(self);
        Options {
            me: server_name(server),
            address: address_of(server),
            cluster: "simulated".to_owned(),
            servers: self.listed.subscribe(),
            disk: DiskPlace::Medium(Arc::new(File::new(self.disks[server].clone()))),
            on_fatal: Arc::new(move |why| {
                if let Some(world) = world.upgrade() {
                    world.fatal(server, why);
                }
            }),
            timing: Timing::default(),
            telemetry: Telemetry::new(name_of(server)),
        }
    }

    fn fatal(&self, server: usize, why: String) {
        lock(&self.fatal).push((server, why));
    }

    /// Ends the processes that asked for it. Neither silence nor power loss nor a slow disk is a reason
    /// for that; only bytes that changed by themselves are.
    pub fn end_the_fatal(self: &Arc<Self>) {
        let list = std::mem::take(&mut *lock(&self.fatal));
        for (server, why) in list {
            if lock(&self.rotten).contains(&server) {
                self.end_and_restart(server, &why);
            } else {
                self.violate(format!("{} ended itself: {why}", name_of(server)));
            }
        }
    }

    fn end_and_restart(self: &Arc<Self>, server: usize, why: &str) {
        self.note(format_args!("{} ends: {why}", name_of(server)));
        self.kill(server);
        let world = self.clone();
        let after = self.draw_between(Duration::from_millis(100), Duration::from_secs(2));
        spawn_for(WORLD, async move {
            Sleep::new(after).await;
            world.start(server);
        });
    }

    /// Stored bytes change by themselves.
    pub fn rot(&self, server: usize) {
        self.disks[server].rot();
        lock(&self.rotten).insert(server);
    }

    /// kill -9.
    pub fn kill(&self, server: usize) {
        self.note(format_args!("kill {}", name_of(server)));
        {
            let mut servers = lock(&self.servers);
            servers[server].up = false;
            servers[server].paused = false;
            servers[server].suspended = false;
        }
        // Work of the dying may still reach the disk; its tasks see nothing of it.
        self.disks[server].kill();
        self.network.listen(server, None);
        let cluster = lock(&self.servers)[server].cluster.take();
        let executor = executor();
        let owner = executor.owner(server);
        executor.end_life(server);
        executor.within(owner, || drop(cluster));
        executor.with_clock(server, |clock, now| clock.wake(now));
        if lock(&self.kernel).sleeps(server) {
            self.machine_ended(server);
        }
        let keeps = self.shape.plant == Some(Plant::ImmortalAddress);
        lock(&self.kernel).process_ended(server, self.shape.kernel_ends, keeps);
        self.check_holders();
    }

    /// The machine loses its power; its clock begins anew.
    pub fn lose_power(&self, server: usize) {
        self.kill(server);
        let how = match self.draw(3) {
            0 => PowerLoss::Nothing,
            1 => PowerLoss::Prefix,
            _ => PowerLoss::Torn,
        };
        self.note(format_args!("power lost at {}: {how:?}", name_of(server)));
        self.disks[server].lose_power(how);
        let boot = Duration::from_secs(5 + self.draw(30));
        executor().with_clock(server, |clock, now| {
            clock.reboot(now, crate::environment::nanos(boot));
        });
        lock(&self.kernel).machine_ended(server);
        self.machine_ended(server);
    }

    /// SIGSTOP and SIGCONT.
    pub fn pause(&self, server: usize, paused: bool) {
        let stands_still = {
            let mut servers = lock(&self.servers);
            let this = &mut servers[server];
            if !this.up || this.paused == paused {
                return;
            }
            this.paused = paused;
            paused || this.suspended
        };
        let word = if paused { "pause" } else { "resume" };
        self.note(format_args!("{word} {}", name_of(server)));
        executor().set_paused(server, stands_still);
    }

    /// The machine sleeps, and wakes: nothing on it runs meanwhile, its kernel included.
    pub fn suspend(&self, server: usize, suspended: bool) {
        let executor = executor();
        let stands_still = {
            let mut servers = lock(&self.servers);
            let this = &mut servers[server];
            if !this.up || this.suspended == suspended {
                return;
            }
            this.suspended = suspended;
            suspended || this.paused
        };
        let word = if suspended { "suspend" } else { "wake" };
        self.note(format_args!("{word} {}", name_of(server)));
        executor.set_paused(server, stands_still);
        executor.with_clock(server, |clock, now| {
            if suspended {
                clock.suspend(now);
            } else {
                clock.wake(now);
            }
        });
        lock(&self.kernel).suspend(server, suspended, executor.now());
        self.check_holders();
    }

    // Floating addresses.

    /// An operator asks some server to move an address.
    pub fn wish(self: &Arc<Self>, address: usize, to: usize) {
        let first = self.draw(self.shape.servers as u64) as usize;
        let Some(cluster) = self.cluster(first) else {
            return;
        };
        let txn = Txn::new().then(Write::Put {
            key: wanted_key(self.shape.addresses[address]),
            value: name_of(to).as_bytes().into(),
        });
        spawn_for(
            executor().owner(first),
            async move { cluster.commit(txn).await },
        );
    }

    /// Called at every step, and whenever an address may have come or gone.
    pub fn check_holders(&self) {
        let reach = |one: usize, two: usize| {
            !self.network.is_cut(one, two) && !self.network.is_cut(two, one)
        };
        let found = {
            let mut kernel = lock(&self.kernel);
            let now = executor().now();
            let two = kernel.two_holders(now);
            two.or_else(|| kernel.orphan_that_stays(now, reach))
        };
        if let Some(text) = found {
            self.violate(text);
        }
    }

    /// Ends the process that still serves an address at its deadline: what `trilith guard` does.
    pub fn guard(self: &Arc<Self>, server: usize, why: &str) {
        if self.is_up(server) {
            self.end_and_restart(server, why);
        }
    }

    /// Takes everything apart, so that nothing is left when the seed is over.
    pub fn finish(&self) {
        for server in 0..self.shape.servers {
            self.disks[server].kill();
            self.network.listen(server, None);
            let cluster = lock(&self.servers)[server].cluster.take();
            let executor = executor();
            let owner = executor.owner(server);
            executor.end_life(server);
            executor.within(owner, || drop(cluster));
        }
        disk::install(Vec::new());
    }
}

pub fn server_name(server: usize) -> ServerName {
    match ServerName::new(name_of(server)) {
        Ok(name) => name,
        Err(error) => panic!("a name of ours: {error}"),
    }
}

fn address_of(server: usize) -> SocketAddr {
    let last = u8::try_from(server + 1).unwrap_or(u8::MAX);
    SocketAddr::new(Ipv4Addr::new(10, 0, 0, last).into(), 7400)
}
