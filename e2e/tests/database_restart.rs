//! Settings that take effect at a restart alone: `trilith reload`, then `trilith db restart --pending`, under
//! load. Nothing that was acknowledged is lost, and writes go on soon.

#![allow(clippy::print_stderr)]

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use trilith_e2e::{Demo, DemoOptions, Inserts, Sql, eventually, run, trilith};

/// Until everything is whole again.
const PATIENCE: Duration = Duration::from_secs(90);
/// Each server's restart, one after the other, on a busy machine.
const RESTART_PATIENCE: Duration = Duration::from_secs(240);
/// Rows a second.
const RATE: u32 = 50;
/// The longest time without a write.
const PAUSE_MAX: Duration = Duration::from_secs(3);

#[test]
fn servers_restart_one_by_one_for_new_settings() -> Result<()> {
    let mut demo = Demo::start(DemoOptions::default())?;
    let first = demo.await_standing(PATIENCE)?.primary;

    let gap = restart_for(&mut demo, 250)?;
    let second = demo.primary()?;
    eprintln!("max_connections up: gap {gap:?}, from {first} to {second}");
    ensure!(second != first, "{first} is the primary still");
    ensure!(gap < PAUSE_MAX, "{gap:?} without a write");

    // Replicas cannot have less than their primary, which restarts first, and in place.
    let gap = restart_for(&mut demo, 120)?;
    let third = demo.primary()?;
    eprintln!("max_connections down: gap {gap:?}, from {second} to {third}");
    ensure!(third == second, "{third} took over from {second}");
    ensure!(gap < PAUSE_MAX, "{gap:?} without a write");

    let said = demo.db(&["restart", "--pending"])?.success()?;
    ensure!(said.stdout.contains("no setting waits"), "{said:?}");
    demo.stop()
}

/// The longest time without a write meanwhile.
fn restart_for(demo: &mut Demo, max_connections: u32) -> Result<Duration> {
    let inserts = Inserts::start(demo, RATE)?;
    set_max_connections(demo, max_connections)?;
    let servers = demo.servers()?;
    eventually("all servers wait for a restart", PATIENCE, || {
        let waits = pending(demo)?;
        ensure!(waits == servers, "{waits:?}");
        Ok(())
    })?;
    let mut command = trilith()?;
    command.args(["db", "restart", "--pending", "--dir"]);
    let done = run(command.arg(demo.dir()), RESTART_PATIENCE)?.success()?;
    eprintln!("{}{}", done.stderr, done.stdout);
    inserts.go_on(demo)?;
    demo.await_standing(PATIENCE)?;
    for server in &servers {
        let sql = Sql::connect(&demo.postgres(server)?)?;
        let value = sql.value("SHOW max_connections")?;
        ensure!(
            value == max_connections.to_string(),
            "{server} has {value}, not {max_connections}"
        );
    }
    eventually("no setting waits", PATIENCE, || {
        let waits = pending(demo)?;
        ensure!(waits.is_empty(), "{waits:?}");
        Ok(())
    })?;
    let inserted = inserts.stop()?;
    ensure!(inserted.acknowledged > 0, "{:#}", inserted.report);
    Ok(inserted.longest_gap)
}

/// In the file, then on all servers.
fn set_max_connections(demo: &Demo, value: u32) -> Result<()> {
    let mut config = demo.config()?;
    let mut table = &mut config;
    for key in ["database", "parameters"] {
        let next = table
            .entry(key)
            .or_insert_with(|| toml::Table::new().into());
        table = next.as_table_mut().context("a table")?;
    }
    table.insert("max_connections".to_owned(), value.to_string().into());
    fs::write(demo.config_file(), toml::to_string(&config)?)?;
    let mut command = trilith()?;
    command.args(["reload", "--dir"]);
    run(command.arg(demo.dir()), PATIENCE)?.success()?;
    Ok(())
}

/// Servers with settings that wait for a restart, in the order of the file.
fn pending(demo: &Demo) -> Result<Vec<String>> {
    let status = demo.status()?;
    let servers = status["servers"].as_array().cloned().unwrap_or_default();
    let waits = servers.iter().filter(|server| {
        let waits = server["database"]["local"]["pending_restart"].as_array();
        waits.is_some_and(|waits| !waits.is_empty())
    });
    let names = waits.filter_map(|server| server["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}
