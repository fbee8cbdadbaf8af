//! The primary's PostgreSQL, agent or server dies, hangs or is handed over: nothing that was acknowledged
//! is lost, no two servers take writes at once, writes go on soon, and who was primary follows the next.

#![allow(clippy::print_stderr)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;
use trilith_e2e::{
    Demo, DemoOptions, Inserts, Kill, Sql, drills_per_fault_of_database, eventually, holds_within,
    no_labs_here, run,
};

/// Until everything is whole again after a fault.
const PATIENCE: Duration = Duration::from_secs(90);
/// Long enough for somebody else to take over, and for the old primary to be left behind.
const LASTS: &str = "8s";
/// Rows a second, where a test brings its own faults.
const RATE: u32 = 50;
/// The longest time without a write around a fault of the primary's server.
const PAUSE_MAX: Duration = Duration::from_secs(8);
/// Around a switchover.
const SWITCHOVER_PAUSE_MAX: Duration = Duration::from_secs(1);

#[test]
fn the_primary_is_killed_or_hangs() -> Result<()> {
    let demo = Demo::start(DemoOptions::default())?;
    let times = drills_per_fault_of_database();
    let fault = |what, flag| demo.primary_drills(what, &[flag, "--for", LASTS], times);
    let results = [
        fault("kill -9 of PostgreSQL", "--kill-postgres"),
        fault("kill -9 of the agent", "--kill"),
        fault("kill -9 of everything", "--kill-server"),
        fault("SIGSTOP of the agent", "--hang"),
        fault("SIGSTOP of PostgreSQL", "--hang-postgres"),
    ];
    results.into_iter().collect::<Result<Vec<()>>>()?;
    end(demo)
}

#[test]
fn the_primary_is_cut_off() -> Result<()> {
    if let Some(why) = no_labs_here() {
        eprintln!("skipped: network namespaces cannot be made here: {why}");
        return Ok(());
    }
    let mut demo = Demo::start(DemoOptions {
        lab: true,
        ..DemoOptions::default()
    })?;
    let times = drills_per_fault_of_database();
    let fault = |what, flags: &[&str]| {
        let arguments = [flags, &["--for", LASTS]].concat();
        demo.primary_drills(what, &arguments, times)
    };
    let results = [
        fault("no cable", &["--partition"]),
        fault("nobody hears it", &["--partition", "--one-way=out"]),
        fault("it hears nobody", &["--partition", "--one-way=in"]),
        fault(
            "apart from the other servers",
            &["--isolate-minority", "primary"],
        ),
        fault("power failure", &["--kill-server"]),
    ];
    results.into_iter().collect::<Result<Vec<()>>>()?;
    demo.stop()
}

#[test]
fn the_primary_is_handed_over_and_lost_twice_and_everybody_dies_at_once() -> Result<()> {
    let mut demo = Demo::start(DemoOptions::default())?;
    demo.await_standing(PATIENCE)?;
    for _ in 0..drills_per_fault_of_database() {
        switchover(&demo)?;
        two_in_a_row(&mut demo)?;
        all_at_once(&mut demo)?;
    }
    end(demo)
}

/// To a named server, and then to whoever comes first.
fn switchover(demo: &Demo) -> Result<()> {
    let inserts = Inserts::start(demo, RATE)?;
    let to = demo.replica()?;
    demo.switchover(Some(&to))?;
    ensure!(demo.primary()? == to, "it is {}, not {to}", demo.primary()?);
    inserts.go_on(demo)?;
    demo.await_standing(PATIENCE)?;
    demo.switchover(None)?;
    ensure!(demo.primary()? != to, "it is {to} again");
    inserts.go_on(demo)?;
    demo.await_standing(PATIENCE)?;
    let inserted = inserts.stop()?;
    eprintln!("two switchovers: gap {:?}", inserted.longest_gap);
    ensure!(
        inserted.longest_gap < SWITCHOVER_PAUSE_MAX,
        "{:#}",
        inserted.report
    );
    Ok(())
}

/// The next primary dies while the first is still dead, as far as PostgreSQL goes.
fn two_in_a_row(demo: &mut Demo) -> Result<()> {
    let inserts = Inserts::start(demo, RATE)?;
    let first = demo.primary()?;
    demo.kill_postgres(&first)?;
    inserts.go_on(demo)?;
    let second = demo.primary()?;
    demo.kill(&second, Kill::Everything)?;
    inserts.go_on(demo)?;
    demo.run_server(&second)?;
    let standing = demo.await_standing(PATIENCE)?;
    let inserted = inserts.stop()?;
    eprintln!(
        "two in a row, {first}, {second}, now {}: gap {:?}",
        standing.primary, inserted.longest_gap
    );
    ensure!(inserted.longest_gap < PAUSE_MAX, "{:#}", inserted.report);
    Ok(())
}

/// A power failure of the whole room. Writes go on once the servers are back.
fn all_at_once(demo: &mut Demo) -> Result<()> {
    let inserts = Inserts::start(demo, RATE)?;
    let servers = demo.servers()?;
    for server in &servers {
        demo.kill(server, Kill::Everything)?;
    }
    for server in &servers {
        demo.run_server(server)?;
    }
    inserts.go_on(demo)?;
    demo.await_standing(PATIENCE)?;
    let inserted = inserts.stop()?;
    eprintln!("everybody at once: gap {:?}", inserted.longest_gap);
    Ok(())
}

/// A file system of its own at a server's state folder. Unmounted when dropped.
struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// With what is in the folder already.
    fn mount(at: &Path, size: &str) -> Result<Self> {
        let aside = at.with_extension("aside");
        fs::rename(at, &aside)?;
        fs::create_dir(at)?;
        fs::set_permissions(at, fs::metadata(&aside)?.permissions())?;
        command(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                &format!("size={size},mode=0755"),
                "trilith-e2e",
            ],
            &[at],
        )?;
        let disk = Self { at: at.to_owned() };
        command("cp", &["-a"], &[&aside.join("."), at])?;
        fs::remove_dir_all(aside)?;
        Ok(disk)
    }

    /// Until not a byte more goes in. The file that did it.
    fn fill(&self) -> Result<PathBuf> {
        let path = self.at.join("somebody-elses.log");
        let mut file = File::create(&path)?;
        let block = vec![b'x'; 1 << 16];
        while file.write_all(&block).is_ok() {}
        while file.write_all(b"x").is_ok() {}
        Ok(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: in a test that failed something may still be there.
        if let Err(error) = command("umount", &["--lazy"], &[&self.at]) {
            eprintln!("{error:#}");
        }
    }
}

fn command(program: &str, arguments: &[&str], paths: &[&Path]) -> Result<()> {
    let mut command = Command::new(program);
    run(command.args(arguments).args(paths), PATIENCE)?
        .success()
        .map(|_| ())
        .with_context(|| format!("{program} {arguments:?} {paths:?}"))
}

#[test]
fn the_primary_s_disk_is_full() -> Result<()> {
    if !geteuid().is_root() {
        eprintln!("skipped: only root can mount a small file system to fill");
        return Ok(());
    }
    let mut demo = Demo::start(DemoOptions::default())?;
    let victim = demo.await_standing(PATIENCE)?.primary;
    demo.stop()?;
    let folder = demo.state_folder(&victim)?;
    // Dropped after the demo: what a failed test leaves there must be gone first.
    let disk = SmallDisk::mount(&folder, "600m");
    disk.and_then(|disk| {
        let result = fill_up(&mut demo, &victim, &disk);
        let stopped = demo.stop();
        drop(disk);
        result.and(stopped)
    })
}

fn fill_up(demo: &mut Demo, victim: &str, disk: &SmallDisk) -> Result<()> {
    demo.start_again()?;
    if demo.await_standing(PATIENCE)?.primary != victim {
        demo.switchover(Some(victim))?;
        demo.await_standing(PATIENCE)?;
    }
    let inserts = Inserts::start(demo, RATE)?;
    let file = disk.fill()?;
    // The log goes on in the files it has, and needs a new one soon.
    let sql = Sql::connect(&demo.postgres(victim)?)?;
    let log = "SELECT pg_logical_emit_message(false, 'e2e', repeat('x', 4000000))";
    while sql.ask(log).is_ok() {}
    let next = holds_within(
        "another one takes over",
        PATIENCE,
        || demo.primary(),
        |primary| primary != victim,
    )?;
    inserts.go_on(demo)?;
    // What an operator does.
    fs::remove_file(file)?;
    let standing = eventually("the server with the full disk is back", PATIENCE, || {
        demo.standing()
    })?;
    let inserted = inserts.stop()?;
    eprintln!(
        "disk of {victim} full, {next} took over, {} is the primary: gap {:?}",
        standing.primary, inserted.longest_gap
    );
    ensure!(inserted.longest_gap < PAUSE_MAX, "{:#}", inserted.report);
    Ok(())
}

/// Everything is whole.
fn end(mut demo: Demo) -> Result<()> {
    demo.await_standing(PATIENCE)?;
    demo.stop()
}
