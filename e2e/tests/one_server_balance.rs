//! Balancing over servers outside the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use trilith_e2e::{Block, Client, Load, OneServer, Stub, holds_within};

/// Three backends at fixed addresses, so that one can go and come back.
struct Backends {
    addresses: Vec<SocketAddr>,
    stubs: BTreeMap<&'static str, Stub>,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

impl Backends {
    fn start(block: &Block) -> Result<Self> {
        let mut backends = Self {
            addresses: Vec::new(),
            stubs: BTreeMap::new(),
        };
        for (i, name) in NAMES.into_iter().enumerate() {
            let address = SocketAddr::from((block.address(10 + u8::try_from(i)?), 9000));
            backends.addresses.push(address);
            backends.stubs.insert(name, Stub::start(address, name)?);
        }
        Ok(backends)
    }

    fn stop(&mut self, name: &str) {
        self.stubs.remove(name);
    }

    fn start_again(&mut self, name: &'static str) -> Result<()> {
        let i = NAMES
            .iter()
            .position(|n| *n == name)
            .context("no such backend")?;
        self.stubs
            .insert(name, Stub::start(self.addresses[i], name)?);
        Ok(())
    }
}

/// `extra` goes into the upstream; `servers` into its list.
fn site(servers: &str, extra: &str) -> String {
    format!(
        "[[upstream]]\nname = \"pool\"\nservers = [{servers}]\n\
         health = {{ path = \"/healthz\", interval = \"500ms\", rise = 2, fall = 2, timeout = \"500ms\" }}\n\
         {extra}\n\n[[site]]\nhost = \"site.test\"\ntls = \"off\"\n\n\
         [[site.route]]\npath = \"/*\"\nupstream = \"pool\"\n"
    )
}

fn plain(backends: &Backends) -> String {
    let quoted: Vec<String> = backends
        .addresses
        .iter()
        .map(|a| format!("\"{a}\""))
        .collect();
    quoted.join(", ")
}

/// Which backend answers.
fn ask(client: &mut Client) -> Result<String> {
    let json = client.get("/")?.expect(200)?.json()?;
    Ok(json["stub"]
        .as_str()
        .context("no stub in the answer")?
        .to_owned())
}

fn counts(client: &mut Client, requests: usize) -> Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        *counts.entry(ask(client)?).or_insert(0) += 1;
    }
    Ok(counts)
}

#[test]
fn round_robin_follows_the_weights() -> Result<()> {
    let block = Block::take()?;
    let backends = Backends::start(&block)?;
    let [a, b, c] = [0, 1, 2].map(|i| backends.addresses[i]);
    let servers = format!("{{ address = \"{a}\", weight = 4 }}, \"{b}\", \"{c}\"");
    let server = OneServer::start(block, &site(&servers, "balance = \"round-robin\""), |_| {
        Ok(())
    })?;
    server.await_upstreams()?;
    // One connection stays with one worker, so the count is exact.
    let found = counts(&mut server.client(), 60)?;
    let expected = [("a", 40), ("b", 10), ("c", 10)];
    for (name, count) in expected {
        let found = found.get(name).copied().unwrap_or(0);
        ensure!(
            found.abs_diff(count) <= 1,
            "{name}: {found} requests instead of {count}"
        );
    }
    server.finish()
}

#[test]
fn ip_hash_keeps_a_client_on_its_server() -> Result<()> {
    let block = Block::take()?;
    let mut backends = Backends::start(&block)?;
    let config = site(&plain(&backends), "balance = \"ip-hash\"");
    let server = OneServer::start(block, &config, |_| Ok(()))?;
    server.await_upstreams()?;
    let clients = 24;
    let choices = || -> Result<Vec<String>> {
        (0..clients)
            .map(|i| {
                let mut client = server.client().from(server.block().client(i));
                let mut names = BTreeSet::new();
                for _ in 0..5 {
                    names.insert(ask(&mut client)?);
                    // Whichever worker takes the next connection must know the same.
                    client.disconnect();
                }
                ensure!(names.len() == 1, "client {i} was sent to {names:?}");
                names.pop_first().context("no answer")
            })
            .collect()
    };
    let before = choices()?;
    let used: BTreeSet<&String> = before.iter().collect();
    ensure!(used.len() == 3, "24 clients use only {used:?}");

    // Without one server, the clients of the others stay where they are.
    backends.stop("b");
    holds_within(
        "no client is sent to b",
        Duration::from_secs(10),
        &choices,
        |choices| !choices.contains(&"b".to_owned()),
    )?;
    let without = choices()?;
    let moved = before
        .iter()
        .zip(&without)
        .filter(|(a, b)| a != b && *a != "b")
        .count();
    ensure!(
        moved <= 4,
        "{moved} clients of healthy servers were moved: {before:?} {without:?}"
    );

    backends.start_again("b")?;
    holds_within(
        "everybody is back",
        Duration::from_secs(20),
        &choices,
        |choices| *choices == before,
    )?;
    server.stop()
}

#[test]
fn a_backup_is_used_only_while_the_active_ones_are_gone() -> Result<()> {
    let block = Block::take()?;
    let mut backends = Backends::start(&block)?;
    let [a, b, c] = [0, 1, 2].map(|i| backends.addresses[i]);
    let servers = format!(
        "\"{a}\", {{ address = \"{b}\", backup = true }}, {{ address = \"{c}\", backup = true }}"
    );
    let extra = "mode = \"active-passive\"";
    let server = OneServer::start(block, &site(&servers, extra), |_| Ok(()))?;
    server.await_upstreams()?;
    let mut client = server.client();
    ensure!(
        counts(&mut client, 30)?.into_keys().eq(["a".to_owned()]),
        "a backup was used"
    );

    backends.stop("a");
    // Not one request fails: what cannot reach the active one goes to a backup at once.
    let found = counts(&mut client, 30)?;
    ensure!(found.keys().all(|name| name != "a"), "{found:?}");

    backends.start_again("a")?;
    holds_within(
        "the active server is used again",
        Duration::from_secs(20),
        || ask(&mut server.client()),
        |name| name == "a",
    )?;
    let found = counts(&mut server.client(), 30)?;
    ensure!(
        found.into_keys().eq(["a".to_owned()]),
        "a backup is still used"
    );
    server.stop()
}

#[test]
fn a_server_that_goes_is_not_noticed() -> Result<()> {
    let block = Block::take()?;
    let mut backends = Backends::start(&block)?;
    let config = site(&plain(&backends), "balance = \"least-connections\"");
    let server = OneServer::start(block, &config, |_| Ok(()))?;
    server.await_upstreams()?;
    let address = server.address();
    let load = Load::start(move || Client::new(address).host("site.test"), "/", 200);
    load.go_on_for(100)?;
    for name in ["b", "c"] {
        backends.stop(name);
        load.go_on_for(300)?;
        backends.start_again(name)?;
        load.go_on_for(300)?;
    }
    load.stop().no_failures()?;
    server.stop()
}

#[test]
fn the_backend_learns_who_the_client_is() -> Result<()> {
    let block = Block::take()?;
    let backends = Backends::start(&block)?;
    let server = OneServer::start(block, &site(&plain(&backends), ""), |_| Ok(()))?;
    let from = server.block().client(3);
    let forged = [
        ("X-Forwarded-For", "1.2.3.4"),
        ("X-Forwarded-Proto", "https"),
        ("Connection", "x-hop"),
        ("X-Hop", "1"),
    ];
    let json = server
        .client()
        .from(from)
        .send("GET", "/a?b=c", &forged, b"")?
        .expect(200)?
        .json()?;
    ensure!(json["path"] == "/a?b=c", "{json}");
    let headers: Vec<String> = json["headers"]
        .as_array()
        .context("no headers")?
        .iter()
        .filter_map(|line| Some(line.as_str()?.to_ascii_lowercase()))
        .collect();
    for expected in [
        format!("x-forwarded-for: {from}"),
        "x-forwarded-proto: http".to_owned(),
        "x-forwarded-host: site.test".to_owned(),
        "host: site.test".to_owned(),
    ] {
        ensure!(
            headers.contains(&expected),
            "{expected:?} is not among {headers:#?}"
        );
    }
    ensure!(
        headers
            .iter()
            .any(|line| line.starts_with("x-request-id: ")),
        "{headers:#?}"
    );
    for gone in ["1.2.3.4", "x-hop", "trilith-try-another"] {
        ensure!(
            !headers.iter().any(|line| line.contains(gone)),
            "{gone} is among {headers:#?}"
        );
    }
    server.finish()
}
