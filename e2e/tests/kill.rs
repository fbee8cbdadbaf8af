//! A server dies under load, and nobody notices.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use trilith_e2e::{Client, Demo, DemoOptions, Kill, Load, holds_within};

const PATIENCE: Duration = Duration::from_secs(60);

fn nobody_notices(kill: Kill) -> Result<()> {
    let mut demo = Demo::start(DemoOptions::default())?;
    let servers = demo.servers()?;
    // The first holds the floating address and the primary.
    let victim = servers.last().context("no servers")?.clone();
    demo.client().post_form(
        "/entries",
        &[("name", "Ada"), ("message", "before the fault")],
    )?;

    let floating = demo.block().floating_http();
    let load = Load::start(move || Client::new(floating), "/", 200);
    load.go_on_for(400)?;
    demo.kill(&victim, kill)?;
    load.go_on_for(1000)?;
    holds_within(
        "it is known to be down",
        PATIENCE,
        || demo.server_state(&victim),
        |s| s == "down",
    )?;

    demo.run_server(&victim)?;
    holds_within(
        "it is back",
        PATIENCE,
        || demo.server_state(&victim),
        |s| s == "ready",
    )?;
    holds_within(
        "it is used again",
        PATIENCE,
        || Ok(demo.client().get("/whoami")?.expect(200)?.json()?["server"].clone()),
        |server| *server == victim.as_str(),
    )?;
    load.go_on_for(200)?;
    load.stop().no_failures()?;

    // Its database follows again, and nothing is lost.
    holds_within(
        "its replica follows",
        PATIENCE,
        || Ok(demo.status()?["database"]["servers"].clone()),
        |databases| {
            databases.as_array().is_some_and(|databases| {
                databases.len() == 3
                    && databases
                        .iter()
                        .all(|database| database["reachable"] == true)
            })
        },
    )?;
    let page = demo.client().get("/")?.expect(200)?.text();
    ensure!(page.contains("before the fault"), "{page}");
    demo.stop()
}

#[test]
fn kill_9_of_a_server_s_process() -> Result<()> {
    nobody_notices(Kill::Agent)
}

#[test]
fn kill_9_of_everything_on_a_server() -> Result<()> {
    nobody_notices(Kill::Everything)
}
