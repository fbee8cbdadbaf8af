//! What the cluster store costs as the cluster grows: latency of commits, reads and renewals, and processor
//! time per server. All servers in one process, each on a thread of its own, over mutual TLS on loopback, each
//! with its file on the disk. Writes a table for docs/scaling.md to stdout.
//!
//! cargo run --release -p trilith-cluster --example growth -- [FOLDER [SECONDS]]
#![allow(clippy::unwrap_used, reason = "a measuring tool; what fails ends it")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Write as _, stdout};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{PeerPort, identity, name};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};
use trilith_cluster::{Cluster, DiskPlace, HttpTransport, Listed, Options, Timing, router};
use trilith_consensus::{Epoch, Key, Outcome, Store, Txn, Write};
use trilith_telemetry::Telemetry;
use trilith_tls::Ca;

/// Servers in all; of those, at most five vote.
const SIZES: [usize; 4] = [1, 3, 5, 25];
const VOTERS_MAX: usize = 5;
const LEASE_TTL: Duration = Duration::from_millis(1300);
const RENEW_EVERY: Duration = Duration::from_millis(200);
const AT_ONCE: usize = 32;
const ATTEMPTS: usize = 3;
/// Founding and admitting everybody.
const PATIENCE: Duration = Duration::from_secs(180);

struct Server {
    name: String,
    store: Arc<Cluster>,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Lab {
    servers: Vec<Server>,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = arguments.next().map_or(10, |text| text.parse().unwrap());
    let time = Duration::from_secs(seconds);
    let folder = tempfile::tempdir_in(folder).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("driver")
        .enable_all()
        .build()
        .unwrap();
    let mut out = stdout();
    writeln!(out, "{}\n", machine()).unwrap();
    writeln!(
        out,
        "| servers | bare durable write | commit, one at a time | commits per second, {AT_ONCE} at a time | read | renewal | \
         CPU idle: leader, voter, learner | CPU with leases: leader, voter, learner |\n\
         |---|---|---|---|---|---|---|---|"
    )
    .unwrap();
    for size in SIZES {
        // On a busy machine there may be an election in between: what was measured means nothing then.
        let row = (0..ATTEMPTS).find_map(|attempt| {
            let folder = folder.path().join(format!("{size}-{attempt}"));
            runtime.block_on(measure(&folder, size, time))
        });
        let row = row.unwrap_or(format!("| {size} | this machine is too busy |"));
        writeln!(out, "{row}").unwrap();
        out.flush().unwrap();
    }
}

/// A row of the table; `None` when there was an election.
async fn measure(folder: &Path, size: usize, time: Duration) -> Option<String> {
    fs::create_dir_all(folder).unwrap();
    let bare = disk(folder);
    let lab = Lab::start(folder, size).await;
    let (leader, term) = lab.settled().await;
    sleep(Duration::from_secs(2)).await;

    let idle = lab.processor(leader, sleep(time)).await;
    let renewals = lab.hold_leases();
    // Granted, and every connection made.
    sleep(Duration::from_secs(2)).await;
    let busy = lab.processor(leader, sleep(time)).await;
    // Asked at a voter that does not lead, where there is one.
    let asked = (0..size.min(VOTERS_MAX))
        .find(|n| *n != leader)
        .unwrap_or(leader);
    let commits = lab.commits(asked, time).await;
    let reads = lab.reads(asked, time / 2).await;
    let renewals = renewals.end().await;
    let throughput = lab.throughput(asked, time).await;
    let at_the_end = lab.settled().await;
    lab.stop().await;
    if at_the_end != (leader, term) {
        return None;
    }

    let voters = size.min(VOTERS_MAX);
    let servers = match size - voters {
        0 => voters.to_string(),
        learners => format!("{voters} + {learners} learners"),
    };
    Some(format!(
        "| {servers} | {bare} | {commits} | {throughput:.0} | {reads} | {renewals} | {idle} | {busy} |"
    ))
}

impl Lab {
    async fn start(folder: &Path, size: usize) -> Self {
        fs::create_dir_all(folder.join("ca")).unwrap();
        let ca = Ca::create(&folder.join("ca"), "growth", std::time::SystemTime::now()).unwrap();
        let ca = Arc::new(ca);
        let port = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            (listener.local_addr().unwrap(), listener)
        };
        // Held until all are known, so that they differ.
        let ports: Vec<(SocketAddr, _)> = (0..size).map(|_| port()).collect();
        let listed: Vec<_> = ports
            .iter()
            .enumerate()
            .map(|(n, (address, _))| Listed {
                name: name(&format!("s{n:02}")),
                address: *address,
                votes: true,
            })
            .collect();
        drop(ports);
        let listed = watch::Sender::new(listed);
        let mut servers = Vec::new();
        for n in 0..size {
            servers.push(Server::start(folder, n, &ca, &listed).await);
        }
        Self { servers }
    }

    /// Waits until everybody is a member and knows the leader: which server, in which term.
    async fn settled(&self) -> (usize, u64) {
        let begin = Instant::now();
        loop {
            let memberships: Vec<_> = self
                .servers
                .iter()
                .map(|server| server.store.membership().borrow().clone())
                .collect();
            let (leader, term) = (memberships[0].leader.clone(), memberships[0].term);
            let agreed = memberships.iter().all(|membership| {
                let voters = membership.members.iter().filter(|m| m.voter).count();
                membership.leader == leader
                    && membership.members.len() == self.servers.len()
                    && voters == self.servers.len().min(VOTERS_MAX)
            });
            if let (Some(leader), true) = (leader, agreed) {
                let is = |server: &Server| server.name == leader.as_str();
                return (self.servers.iter().position(is).unwrap(), term);
            }
            assert!(begin.elapsed() < PATIENCE, "{memberships:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Processor time per server meanwhile, in percent of a core: the leader, the median of the other
    /// voters, the median of the learners.
    async fn processor(&self, leader: usize, meanwhile: impl Future<Output = ()>) -> String {
        let (begin, before) = (Instant::now(), processor_times());
        meanwhile.await;
        let (elapsed, after) = (begin.elapsed(), processor_times());
        let share = |server: &Server| {
            let spent =
                |times: &BTreeMap<String, u64>| times.get(&server.name).copied().unwrap_or(0);
            let spent = spent(&after).saturating_sub(spent(&before));
            spent as f64 / elapsed.as_nanos() as f64 * 100.0
        };
        let shares = |servers: &[Server], except: usize| {
            let others = servers.iter().enumerate().filter(|(n, _)| *n != except);
            let mut shares: Vec<_> = others.map(|(_, server)| share(server)).collect();
            shares.sort_by(f64::total_cmp);
            let middle = shares.get(shares.len() / 2);
            middle.map_or("-".to_owned(), |share| format!("{share:.1} %"))
        };
        let voters = self.servers.len().min(VOTERS_MAX);
        format!(
            "{:.1} %, {}, {}",
            share(&self.servers[leader]),
            shares(&self.servers[..voters], leader),
            shares(&self.servers[voters..], usize::MAX),
        )
    }

    /// Every server holds one lease, as it does when each has a floating address.
    fn hold_leases(&self) -> Renewals {
        let (stop, stopped) = watch::channel(false);
        let tasks = self.servers.iter().map(|server| {
            let (store, me) = (server.store.clone(), server.name.clone());
            let mut stopped = stopped.clone();
            server.runtime.spawn(async move {
                let lease = Key::new(&format!("vip/{me}")).unwrap();
                let mut epoch = grant(&store, &lease, &me).await;
                let mut times = Vec::new();
                let mut lost = 0;
                let mut tick = interval(RENEW_EVERY);
                tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
                while !*stopped.borrow_and_update() {
                    tick.tick().await;
                    let begin = Instant::now();
                    match store.renew(&lease, epoch).await {
                        Ok(()) => times.push(begin.elapsed()),
                        Err(_) => {
                            lost += 1;
                            epoch = grant(&store, &lease, &me).await;
                        }
                    }
                }
                (times, lost)
            })
        });
        Renewals {
            tasks: tasks.collect(),
            stop,
        }
    }

    async fn commits(&self, server: usize, time: Duration) -> Times {
        let store = self.servers[server].store.clone();
        self.repeat(server, time, move |n| {
            let (store, txn) = (store.clone(), put("growth/one", n));
            async move {
                // It fails in an election alone, and then nothing of this counts.
                let _ = store.commit(txn).await;
            }
        })
        .await
    }

    async fn reads(&self, server: usize, time: Duration) -> Times {
        let store = self.servers[server].store.clone();
        self.repeat(server, time, move |_| {
            let store = store.clone();
            async move {
                let _ = store.read().await;
            }
        })
        .await
    }

    /// One after the other, for so long.
    async fn repeat<F: Future<Output = ()> + Send>(
        &self,
        server: usize,
        time: Duration,
        work: impl Fn(usize) -> F + Send + 'static,
    ) -> Times {
        let task = self.servers[server].runtime.spawn(async move {
            let end = Instant::now() + time;
            let mut times = Vec::new();
            while Instant::now() < end {
                let begin = Instant::now();
                work(times.len()).await;
                times.push(begin.elapsed());
            }
            times
        });
        Times(task.await.unwrap())
    }

    async fn throughput(&self, server: usize, time: Duration) -> f64 {
        let begin = Instant::now();
        let tasks: Vec<_> = (0..AT_ONCE)
            .map(|task| {
                let store = self.servers[server].store.clone();
                let key = format!("growth/{task}");
                self.servers[server].runtime.spawn(async move {
                    let mut done = 0;
                    while begin.elapsed() < time {
                        let _ = store.commit(put(&key, done)).await;
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        let mut done = 0;
        for task in tasks {
            done += task.await.unwrap();
        }
        done as f64 / begin.elapsed().as_secs_f64()
    }

    async fn stop(self) {
        for server in &self.servers {
            let store = server.store.clone();
            server
                .runtime
                .spawn(async move { store.shutdown().await })
                .await
                .unwrap();
        }
        for mut server in self.servers {
            drop(server.store);
            let _ = server.stop.take().unwrap().send(());
            server.thread.take().unwrap().join().unwrap();
        }
    }
}

struct Renewals {
    tasks: Vec<JoinHandle<(Vec<Duration>, usize)>>,
    stop: watch::Sender<bool>,
}

impl Renewals {
    async fn end(self) -> String {
        self.stop.send_replace(true);
        let (mut all, mut failed) = (Vec::new(), 0);
        for task in self.tasks {
            let (times, lost) = task.await.unwrap();
            all.extend(times);
            failed += lost;
        }
        let times = Times(all);
        match failed {
            0 => times.to_string(),
            failed => format!("{times}, {failed} failed"),
        }
    }
}

/// p50 and p99.
struct Times(Vec<Duration>);

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut times = self.0.clone();
        times.sort();
        let at = |share: f64| {
            let place = (times.len() as f64 * share) as usize;
            let time = times.get(place.min(times.len().saturating_sub(1)));
            time.copied().unwrap_or_default().as_secs_f64() * 1000.0
        };
        write!(f, "{:.1} / {:.1} ms", at(0.5), at(0.99))
    }
}

impl Server {
    async fn start(
        folder: &Path,
        n: usize,
        ca: &Arc<Ca>,
        listed: &watch::Sender<Vec<Listed>>,
    ) -> Self {
        let listed_here = listed.borrow()[n].clone();
        let me = listed_here.name.to_string();
        let options = Options {
            me: listed_here.name,
            address: listed_here.address,
            cluster: "growth".into(),
            servers: listed.subscribe(),
            disk: DiskPlace::Folder(folder.join(&me)),
            on_fatal: Arc::new(|reason| panic!("{reason}")),
            timing: Timing::default(),
            telemetry: Telemetry::new(&me),
        };
        let identity = identity(ca, &me);
        let (ready, started) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let thread_name = me.clone();
        let thread = std::thread::Builder::new().name(me.clone()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .thread_name(&thread_name)
                // What has ended is not counted any more.
                .thread_keep_alive(Duration::from_secs(3600))
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let address = options.address;
                let telemetry = options.telemetry.clone();
                let transport = Arc::new(HttpTransport::new(&identity).unwrap());
                let store = Cluster::start(options, transport).await.unwrap();
                let tls = identity.server_config().unwrap();
                let port = PeerPort::start_at(address, tls, router(store.clone(), telemetry)).await;
                let _ = ready.send((store, Handle::current()));
                let _ = stopped.await;
                port.stop().await;
            });
        });
        let thread = thread.unwrap();
        let (store, runtime) = started.await.unwrap();
        Self {
            name: me,
            store,
            runtime,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

fn put(key: &str, n: usize) -> Txn {
    Txn::new().then(Write::Put {
        key: Key::new(key).unwrap(),
        value: format!("value {n}").into_bytes().into(),
    })
}

async fn grant(store: &Cluster, lease: &Key, me: &str) -> Epoch {
    loop {
        let txn = Txn::grant(lease.clone(), name(me), LEASE_TTL);
        match store.commit(txn).await {
            Ok(Outcome::Done { revision }) => return Epoch(revision.0),
            // The last one has to run out first.
            _ => sleep(RENEW_EVERY).await,
        }
    }
}

/// Nanoseconds on a processor so far, by the name of the thread: proc(5), `schedstat`.
fn processor_times() -> BTreeMap<String, u64> {
    let mut times = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        let read = |file| fs::read_to_string(task.join(file)).unwrap_or_default();
        let nanos = read("schedstat")
            .split(' ')
            .next()
            .and_then(|text| text.parse::<u64>().ok());
        *times.entry(read("comm").trim().to_owned()).or_default() += nanos.unwrap_or_default();
    }
    times
}

/// What one durable write of 4 KiB takes here, without anybody else's help.
fn disk(folder: &Path) -> Times {
    let file = fs::File::create(folder.join("probe")).unwrap();
    // The blocks are there before: the store writes within its file, too.
    file.write_all_at(&[7; 16 * 4096], 0).unwrap();
    file.sync_all().unwrap();
    let mut times = Vec::new();
    for n in 0..200 {
        let begin = Instant::now();
        file.write_all_at(&[7; 4096], n % 16 * 4096).unwrap();
        file.sync_data().unwrap();
        times.push(begin.elapsed());
    }
    Times(times)
}

fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model
        .and_then(|text| text.split_once(':'))
        .map_or("unknown", |(_, name)| name);
    let cores = cpuinfo
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!("{}, {cores} cores, load {load} before.", model.trim())
}
