//! Mode `l2` in network namespaces of the test's own, on a bridge. The servers are this test program again,
//! run inside them. Skipped with a line where namespaces are not permitted.
#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::watch;
use trilith_base::ServerName;
use trilith_consensus::{BoxFuture, MemoryStore};
use trilith_telemetry::Telemetry;
use trilith_vip::{AddressOptions, Listeners, Mode, Options, Vip};

const PATIENCE: Duration = Duration::from_secs(30);
const V4: &str = "10.9.0.100";
const V6: &str = "fd00:9::100";
const V4_GATEWAY: &str = "10.9.0.254";
const V6_GATEWAY: &str = "fd00:9::254";

/// Namespaces `a`, `b`, `c`, each with one interface `v0` on a bridge in a fourth.
struct Lab {
    prefix: String,
}

impl Lab {
    fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let lab = Self {
            prefix: format!("tv{}x{count}", std::process::id()),
        };
        if let Err(problem) = lab.build() {
            eprintln!("SKIPPED: network namespaces are not permitted here: {problem}");
            return None;
        }
        Some(lab)
    }

    fn build(&self) -> Result<(), String> {
        let hub = self.namespace("hub");
        run(&format!("ip netns add {hub}"))?;
        run(&format!("ip -n {hub} link add br0 type bridge"))?;
        run(&format!("ip -n {hub} link set br0 up"))?;
        for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
            let inside = self.namespace(name);
            let number = number + 1;
            run(&format!("ip netns add {inside}"))?;
            run(&format!(
                "ip -n {hub} link add {name}0 type veth peer name v0 netns {inside}"
            ))?;
            run(&format!("ip -n {hub} link set {name}0 master br0 up"))?;
            run(&format!("ip -n {inside} link set lo up"))?;
            run(&format!(
                "ip -n {inside} addr add 10.9.0.{number}/24 dev v0"
            ))?;
            run(&format!(
                "ip -n {inside} addr add fd00:9::{number}/64 dev v0 nodad"
            ))?;
            run(&format!("ip -n {inside} link set v0 up"))?;
        }
        Ok(())
    }

    /// The bridge gets addresses, and is the default gateway of all.
    fn add_gateway(&self) {
        let hub = self.namespace("hub");
        for (ip, prefix) in [(V4_GATEWAY, "24"), (V6_GATEWAY, "64 nodad")] {
            run(&format!("ip -n {hub} addr add {ip}/{prefix} dev br0")).unwrap();
            for name in ["a", "b", "c"] {
                let inside = self.namespace(name);
                run(&format!("ip -n {inside} route add default via {ip}")).unwrap();
            }
        }
    }

    fn remove_gateway(&self) {
        let hub = self.namespace("hub");
        run(&format!("ip -n {hub} addr flush dev br0")).unwrap();
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn has(&self, name: &str, ip: &str) -> bool {
        let inside = self.namespace(name);
        let addresses = run(&format!("ip -n {inside} addr show dev v0")).unwrap();
        addresses.contains(&format!(" {ip}/32 ")) || addresses.contains(&format!(" {ip}/128 "))
    }

    fn mac(&self, name: &str) -> String {
        let inside = self.namespace(name);
        let link = run(&format!("ip -n {inside} link show dev v0")).unwrap();
        let mut words = link
            .split_whitespace()
            .skip_while(|word| *word != "link/ether");
        words.nth(1).unwrap().to_owned()
    }

    /// A server that holds the lease of the address, in that namespace.
    fn server(&self, name: &str, ip: &str) -> Server {
        self.server_with(name, ip, "")
    }

    /// The same without quorum.
    fn cut_off_server(&self, name: &str, ip: &str) -> Server {
        self.server_with(name, ip, "cut-off")
    }

    fn server_with(&self, name: &str, ip: &str, store: &str) -> Server {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.namespace(name)])
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "server_in_a_namespace",
                "--ignored",
                "--nocapture",
            ])
            .env("TRILITH_TEST_VIP", ip)
            .env("TRILITH_TEST_STORE", store)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Server { child, lines }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in ["a", "b", "c", "hub"] {
            let _ = run(&format!("ip netns del {}", self.namespace(name)));
        }
    }
}

struct Server {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Server {
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    fn wait_for_line(&self, with: &str) {
        let end = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while let Ok(line) = self
            .lines
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            if line.contains(with) {
                return;
            }
            seen.push(line);
        }
        panic!("no line with {with:?}: {seen:#?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(command: &str) -> Result<String, String> {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .map_err(|error| format!("{command}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!(
            "{command}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "waited for: {what}");
        sleep(Duration::from_millis(20));
    }
}

struct NoListeners;

impl Listeners for NoListeners {
    fn open(&self, _: IpAddr) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn close(&self, _: IpAddr) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// No test by itself: what [`Lab::server`] runs. Ends with its standard input.
#[test]
#[ignore = "a part of the other tests"]
fn server_in_a_namespace() {
    let Ok(ip) = std::env::var("TRILITH_TEST_VIP") else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let one = ServerName::new("one").unwrap();
        let store = MemoryStore::single(one.clone());
        store.cut_off(std::env::var("TRILITH_TEST_STORE").as_deref() == Ok("cut-off"));
        let mut options = Options::new(one.clone(), vec![one], Mode::L2 { interface: None });
        let ip: IpAddr = ip.parse().unwrap();
        options.addresses.push(AddressOptions {
            ip,
            prefix: if ip.is_ipv4() { 24 } else { 64 },
            preferred: None,
        });
        let (_health, healthy) = watch::channel(true);
        let (_drain, drained) = watch::channel(false);
        let (deadline, _guard) = watch::channel(None);
        let telemetry = Telemetry::new("one");
        let edge = Arc::new(NoListeners);
        let vip = Vip::start(
            options,
            Arc::new(store),
            healthy,
            drained,
            edge,
            deadline,
            telemetry,
        )
        .await
        .unwrap();
        let mut status = vip.status();
        let (ended, mut end) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let _ = std::io::stdin().lines().count();
            let _ = ended.send(());
        });
        let mut last = String::new();
        loop {
            let line = {
                let status = status.borrow_and_update();
                let address = &status[..].first();
                address.map(|a| format!("state={} problem={:?}", a.state, a.problem))
            };
            if let Some(line) = line.filter(|line| *line != last) {
                println!("{line}");
                last = line;
            }
            tokio::select! {
                _ = status.changed() => {}
                _ = &mut end => break,
            }
        }
        vip.release_all().await;
        println!("released");
    });
}

#[test]
fn a_killed_or_frozen_process_cannot_keep_the_address() {
    let Some(lab) = Lab::new() else { return };
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        let server = lab.server("a", V4);
        server.wait_for_line("state=held");
        assert!(lab.has("a", V4));
        server.signal(signal);
        wait_for("the kernel removes it", || !lab.has("a", V4));
    }
}

#[test]
fn it_stays_as_long_as_the_lease_is_renewed_and_goes_at_the_end() {
    let Some(lab) = Lab::new() else { return };
    let mut server = lab.server("a", V4);
    server.wait_for_line("state=held");
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        assert!(lab.has("a", V4));
        sleep(Duration::from_millis(50));
    }
    drop(server.child.stdin.take());
    server.wait_for_line("released");
    assert!(!lab.has("a", V4));
}

#[test]
fn what_a_predecessor_left_is_removed() {
    let Some(lab) = Lab::new() else { return };
    let inside = lab.namespace("a");
    run(&format!("ip -n {inside} addr add {V4}/32 dev v0")).unwrap();
    let server = lab.server("a", V4);
    server.wait_for_line("state=held");
    server.signal(Signal::SIGKILL);
    // Left there for good, it would not go.
    wait_for("the kernel removes it", || !lab.has("a", V4));
}

#[test]
fn neighbours_learn_where_it_is() {
    let Some(lab) = Lab::new() else { return };
    let client = lab.namespace("c");
    let (old, new) = (lab.mac("a"), lab.mac("b"));
    for ip in [V4, V6] {
        run(&format!(
            "ip -n {client} neigh replace {ip} lladdr {old} dev v0 nud stale"
        ))
        .unwrap();
        let server = lab.server("b", ip);
        server.wait_for_line("state=held");
        wait_for("the client's neighbour table changes", || {
            let table = run(&format!("ip -n {client} neigh show {ip}")).unwrap();
            table.contains(&new)
        });
    }
}

#[test]
fn an_address_that_somebody_has_is_not_taken_before_it_is_free() {
    let Some(lab) = Lab::new() else { return };
    let other = lab.namespace("a");
    for (ip, length) in [(V4, "32"), (V6, "128 nodad")] {
        let (address, flags) = length.split_once(' ').unwrap_or((length, ""));
        run(&format!(
            "ip -n {other} addr add {ip}/{address} dev v0 {flags}"
        ))
        .unwrap();
        let server = lab.server("b", ip);
        let answers = format!("{} answers", lab.mac("a"));
        server.wait_for_line(&answers);
        assert!(!lab.has("b", ip));
        run(&format!("ip -n {other} addr del {ip}/{address} dev v0")).unwrap();
        server.wait_for_line("state=held");
        assert!(lab.has("b", ip));
    }
}

#[test]
fn a_link_that_is_down_gives_it_away() {
    let Some(lab) = Lab::new() else { return };
    let server = lab.server("a", V4);
    server.wait_for_line("state=held");
    let hub = lab.namespace("hub");
    run(&format!("ip -n {hub} link set a0 down")).unwrap();
    server.wait_for_line("state=idle");
    assert!(!lab.has("a", V4));
    run(&format!("ip -n {hub} link set a0 up")).unwrap();
    server.wait_for_line("state=held");
}

#[test]
fn an_orphan_holds_it_until_somebody_has_a_lease() {
    let Some(lab) = Lab::new() else { return };
    lab.add_gateway();
    for ip in [V4, V6] {
        let orphan = lab.cut_off_server("a", ip);
        orphan.wait_for_line("state=watching");
        orphan.wait_for_line("state=orphan");
        assert!(lab.has("a", ip));
        let server = lab.server("b", ip);
        orphan.wait_for_line("state=watching");
        server.wait_for_line("state=held");
        assert!(!lab.has("a", ip));
        assert!(lab.has("b", ip));
    }
}

/// Its line is cut one way: it asks, and hears no answer.
#[test]
fn who_is_deaf_becomes_no_orphan() {
    let Some(lab) = Lab::new() else { return };
    lab.add_gateway();
    let hub = lab.namespace("hub");
    for ip in [V4, V6] {
        let holder = lab.server("b", ip);
        holder.wait_for_line("state=held");
        run(&format!("tc -n {hub} qdisc replace dev a0 root blackhole")).unwrap();
        let deaf = lab.cut_off_server("a", ip);
        deaf.wait_for_line("state=watching");
        // Longer than an orphan waits.
        let end = Instant::now() + Duration::from_secs(6);
        while Instant::now() < end {
            assert!(!lab.has("a", ip));
            sleep(Duration::from_millis(50));
        }
        // The holder is gone, and the line is whole.
        drop(holder);
        let mend = format!("tc -n {hub} qdisc replace dev a0 root pfifo limit 1000");
        run(&mend).unwrap();
        deaf.wait_for_line("state=orphan");
        assert!(lab.has("a", ip));
    }
}

/// No gateway answers, but somebody speaks now and then.
#[test]
fn users_without_a_gateway_are_enough_for_an_orphan() {
    let Some(lab) = Lab::new() else { return };
    lab.add_gateway();
    lab.remove_gateway();
    let user = lab.namespace("b");
    let orphan = lab.cut_off_server("a", V4);
    orphan.wait_for_line("state=watching");
    let begin = Instant::now();
    while !lab.has("a", V4) {
        assert!(begin.elapsed() < PATIENCE, "no orphan");
        // Its kernel asks for a neighbour that there is not: all hear the question.
        run(&format!("ip -n {user} neigh replace 10.9.0.77 dev v0 use")).unwrap();
        sleep(Duration::from_millis(1_500));
    }
}
