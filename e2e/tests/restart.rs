//! What a demo wrote is there the next time.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use trilith_e2e::{Demo, DemoOptions, eventually, run, trilith};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn entries_survive_a_restart_and_the_config_may_change_between() -> Result<()> {
    let mut demo = Demo::start(DemoOptions::default())?;
    demo.client().post_form(
        "/entries",
        &[("name", "Ada"), ("message", "written in the first run")],
    )?;
    demo.stop()?;

    demo.start_again()?;
    let page = demo.client().get("/")?.expect(200)?.text();
    ensure!(page.contains("written in the first run"), "{page}");
    demo.stop()?;

    demo.edit_config(|config| set_balance(config, "ip-hash"))?;
    demo.run_servers()?;
    let page = demo.client().get("/")?.expect(200)?.text();
    ensure!(page.contains("written in the first run"), "{page}");
    each_client_stays_on_one_server(&demo)?;
    demo.check_logs()?;
    // One after the other: the last is without a majority, and tells that.
    demo.stop_apart()?;
    demo.stop()
}

#[test]
fn what_was_agreed_on_survives_a_move_of_all_servers() -> Result<()> {
    let mut demo = Demo::start(DemoOptions::default())?;
    demo.client().get("/")?.expect(200)?;
    let first = versions_after(&demo, 0)?;
    demo.stop()?;

    let before = demo.block().network();
    demo.move_away()?;
    ensure!(before != demo.block().network(), "it did not move");
    demo.start_again()?;
    demo.client().get("/")?.expect(200)?;
    // The config of before is still a version of the cluster, the new one is the next.
    let second = versions_after(&demo, first.len())?;
    ensure!(second.ends_with(&first), "{first:?}, then {second:?}");
    demo.finish()
}

/// Once there are more than so many.
fn versions_after(demo: &Demo, count: usize) -> Result<Vec<(u64, String)>> {
    eventually("the config is published", PATIENCE, || {
        let versions = versions(demo)?;
        ensure!(versions.len() > count, "only {versions:?}");
        Ok(versions)
    })
}

/// Of the cluster's config: number and checksum, the newest first.
fn versions(demo: &Demo) -> Result<Vec<(u64, String)>> {
    let mut command = trilith()?;
    command.args(["config", "history", "--json", "--config"]);
    command.arg(demo.config_file());
    let output = run(&mut command, PATIENCE)?.success()?;
    let history: serde_json::Value = serde_json::from_str(&output.stdout)?;
    let versions = history["versions"].as_array().context("no versions")?;
    let version = |entry: &serde_json::Value| {
        let sum = entry["sha256"].as_str().context("no checksum")?;
        let number = entry["version"].as_u64().context("no number")?;
        Ok((number, sum.to_owned()))
    };
    versions.iter().map(version).collect()
}

fn set_balance(config: &mut toml::Table, balance: &str) {
    let routes = config
        .get_mut("site")
        .and_then(|sites| sites.as_array_mut())
        .into_iter()
        .flatten()
        .filter_map(|site| site.get_mut("route")?.as_array_mut())
        .flatten()
        .filter_map(|route| route.as_table_mut())
        .filter(|route| route.contains_key("app"));
    for route in routes {
        route.insert("balance".to_owned(), balance.into());
    }
}

fn each_client_stays_on_one_server(demo: &Demo) -> Result<()> {
    let mut used = BTreeSet::new();
    for i in 0..24 {
        let mut client = demo.client_from(demo.block().client(i));
        let mut servers = BTreeSet::new();
        for _ in 0..5 {
            let answer = client.get("/whoami")?.expect(200)?.json()?;
            servers.insert(answer["server"].as_str().context("no server")?.to_owned());
            client.disconnect();
        }
        ensure!(servers.len() == 1, "client {i} was sent to {servers:?}");
        used.append(&mut servers);
    }
    ensure!(used.len() == 3, "24 clients use only {used:?}");
    Ok(())
}
