//! The holder of the floating address dies, hangs, or is cut off, and its users hardly notice.
//!
//! Each fault is injected by `trilith drill`, several times in one cluster: the address moves on with
//! each of them, so all servers get their turn.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use trilith_e2e::{Client, Demo, DemoOptions, Kill, drills_per_fault, holds_within, no_labs_here};

const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough for the address to move, and for an orphan to take it.
const LASTS: &str = "5s";

fn holders(demo: &Demo) -> Result<Vec<String>> {
    let status = demo.status()?;
    let servers = status["servers"].as_array().context("no servers")?;
    let holds = |server: &&serde_json::Value| {
        let addresses = server["addresses"].as_array().into_iter().flatten();
        addresses
            .filter(|address| address["state"] == "held" || address["state"] == "orphan")
            .count()
            > 0
    };
    Ok(servers
        .iter()
        .filter(holds)
        .filter_map(|server| Some(server["name"].as_str()?.to_owned()))
        .collect())
}

#[test]
fn the_holder_is_killed_or_hangs() -> Result<()> {
    let demo = Demo::start(DemoOptions::default())?;
    let times = drills_per_fault();
    let results = [
        demo.drills("kill -9", &["--kill", "holder", "--for", LASTS], times),
        demo.drills("SIGSTOP", &["--hang", "holder", "--for", LASTS], times),
    ];
    results.into_iter().collect::<Result<Vec<()>>>()?;
    end(demo)
}

#[test]
fn all_servers_are_killed_at_once() -> Result<()> {
    let mut demo = Demo::start(DemoOptions::default())?;
    let servers = demo.servers()?;
    demo.client()
        .post_form("/entries", &[("name", "Ada"), ("message", "before it")])?;
    for server in &servers {
        demo.kill(server, Kill::Agent)?;
    }
    for server in &servers {
        demo.run_server(server)?;
    }
    demo.await_ready()?;
    holds_within(
        "one holds the address",
        PATIENCE,
        || holders(&demo),
        |holders| holders.len() == 1,
    )?;
    let page = demo.client().get("/")?.expect(200)?.text();
    ensure!(page.contains("before it"), "{page}");
    demo.stop()
}

/// Without a majority nobody may take the floating address, but what a server knows is enough to go on.
#[test]
fn a_server_whose_majority_is_gone_goes_on_serving() -> Result<()> {
    let mut demo = Demo::start(DemoOptions::default())?;
    let servers = demo.servers()?;
    let (alone, others) = servers.split_first().context("no servers")?;
    for server in others {
        demo.kill(server, Kill::Agent)?;
    }
    holds_within(
        "it knows that it is alone, and has given the address up",
        PATIENCE,
        || {
            let status = demo.status()?;
            Ok(status["store"]["has_quorum"] == true || !holders(&demo)?.is_empty())
        },
        |not_yet| !not_yet,
    )?;
    let own = (demo.block().address(1), demo.block().http_port());
    let mut client = Client::new(own.into());
    for _ in 0..50 {
        client.get("/whoami")?.expect(200)?;
        client.get("/assets/site.css")?.expect(200)?;
    }
    for server in others {
        demo.run_server(server)?;
    }
    demo.await_ready()?;
    ensure!(
        holders(&demo)?.len() == 1,
        "who holds it? {:?}",
        holders(&demo)?
    );
    ensure!(demo.server_state(alone)? == "ready");
    end(demo)
}

#[test]
fn the_holder_is_cut_off() -> Result<()> {
    if let Some(why) = no_labs_here() {
        eprintln!("skipped: network namespaces cannot be made here: {why}");
        return Ok(());
    }
    let demo = Demo::start(DemoOptions {
        lab: true,
        ..DemoOptions::default()
    })?;
    let times = drills_per_fault();
    let results = [
        demo.drills(
            "no cable",
            &["--partition", "holder", "--for", LASTS],
            times,
        ),
        demo.drills(
            "nobody hears it",
            &["--partition", "holder", "--one-way=out", "--for", LASTS],
            times,
        ),
        demo.drills(
            "it hears nobody",
            &["--partition", "holder", "--one-way=in", "--for", LASTS],
            times,
        ),
        demo.drills(
            "apart from the other servers",
            &["--isolate-minority", "holder", "--for", LASTS],
            times,
        ),
        demo.drills("kill -9, l2", &["--kill", "holder", "--for", LASTS], times),
        demo.drills("SIGSTOP, l2", &["--hang", "holder", "--for", LASTS], times),
    ];
    results.into_iter().collect::<Result<Vec<()>>>()?;
    end(demo)
}

/// Everybody is back, and one holds the address.
fn end(mut demo: Demo) -> Result<()> {
    for server in demo.servers()? {
        ensure!(
            demo.server_state(&server)? == "ready",
            "{server} is not back"
        );
    }
    let holders = holders(&demo)?;
    ensure!(holders.len() == 1, "held by {holders:?}");
    demo.stop()
}
