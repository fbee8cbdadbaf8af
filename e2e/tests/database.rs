//! The primary's PostgreSQL, agent or server dies, hangs or is handed over: nothing that was acknowledged
//! is lost, no two servers take writes at once, writes go on soon, and who was primary follows the next.

#![allow(clippy::print_stderr)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::geteuid;
use trilith_e2e::{
    Demo, DemoOptions, Inserts, Kill, PauseGoal, Sql, drills_per_fault_of_database, holds_within,
    no_labs_here, run,
};

/// Until everything is whole again after a fault.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a fault lasts: long enough for somebody else to take over, and for the old primary to be left
/// behind.
const LASTS: &str = "6s";
/// PostgreSQL is started again where it died.
const DEATH_LASTS: &str = "2s";
/// A PostgreSQL that hangs is believed to be busy for 5 s.
const HANG_LASTS: &str = "8s";
/// Rows a second, where a test brings its own faults.
const RATE: u32 = 50;
#[test]
fn the_primary_is_killed_or_hangs() -> Result<()> {
    let demo = Demo::start(DemoOptions::default())?;
    let times = drills_per_fault_of_database();
    let faults = [
        (
            "kill -9 of PostgreSQL",
            "--kill-postgres",
            DEATH_LASTS,
            PauseGoal::POSTGRES_DEAD,
        ),
        (
            "kill -9 of the agent",
            "--kill",
            LASTS,
            PauseGoal::SERVER_GONE,
        ),
        (
            "kill -9 of everything",
            "--kill-server",
            LASTS,
            PauseGoal::SERVER_GONE,
        ),
        (
            "SIGSTOP of the agent",
            "--hang",
            LASTS,
            PauseGoal::SERVER_GONE,
        ),
        (
            "SIGSTOP of PostgreSQL",
            "--hang-postgres",
            HANG_LASTS,
            PauseGoal::POSTGRES_HANGS,
        ),
    ];
    let results = faults.map(|(what, flag, lasts, goal)| {
        demo.primary_drills(what, &[flag, "--for", lasts], times, goal)
    });
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
        demo.primary_drills(what, &arguments, times, PauseGoal::SERVER_GONE)
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
    let (mut handed_over, mut lost_twice, mut lost_all) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..drills_per_fault_of_database() {
        let to = demo.replica()?;
        handed_over.push(switchover(&mut demo, Some(&to))?);
        handed_over.push(switchover(&mut demo, None)?);
        lost_twice.push(two_in_a_row(&mut demo)?);
        demo.delete_asides()?;
        lost_all.push(all_at_once(&mut demo)?);
    }
    PauseGoal::SWITCHOVER.judge("switchover", &handed_over)?;
    PauseGoal::SERVER_GONE.judge("two in a row, the longer pause", &lost_twice)?;
    eprintln!("everybody at once: {lost_all:?}");
    end(demo)
}

/// To a named server, or to whoever comes first. The pause.
fn switchover(demo: &mut Demo, to: Option<&str>) -> Result<Duration> {
    let inserts = Inserts::start(demo, RATE)?;
    let before = demo.primary()?;
    demo.switchover(to)?;
    // What a server says of itself is a moment old.
    holds_within(
        "the other one is seen",
        PATIENCE,
        || demo.primary(),
        |now| *now != before && to.is_none_or(|to| now == to),
    )?;
    inserts.go_on(demo)?;
    demo.await_standing(PATIENCE)?;
    Ok(inserts.stop()?.longest_gap)
}

/// The next primary dies as soon as it has taken a few writes. The longer pause.
fn two_in_a_row(demo: &mut Demo) -> Result<Duration> {
    let inserts = Inserts::start(demo, RATE)?;
    let first = demo.primary()?;
    demo.kill(&first, Kill::Everything)?;
    let second = holds_within(
        "another one takes over",
        PATIENCE,
        || demo.primary(),
        |primary| *primary != first,
    )?;
    demo.run_server(&first)?;
    inserts.go_on(demo)?;
    demo.kill(&second, Kill::Everything)?;
    inserts.go_on(demo)?;
    demo.run_server(&second)?;
    let standing = demo.await_standing(PATIENCE)?;
    let inserted = inserts.stop()?;
    eprintln!("two in a row: {first}, {second}, now {}", standing.primary);
    Ok(inserted.longest_gap)
}

/// A power failure of the whole room. Writes go on once the servers are back.
fn all_at_once(demo: &mut Demo) -> Result<Duration> {
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
    Ok(inserts.stop()?.longest_gap)
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
    // Room for the data twice: a rewind that was cut short is followed by a copy.
    let disk = SmallDisk::mount(&folder, "1200m");
    disk.and_then(|disk| {
        let result = fill_up(&mut demo, &victim, &disk);
        let stopped = demo.stop();
        drop(disk);
        result.and(stopped)
    })
}

fn fill_up(demo: &mut Demo, victim: &str, disk: &SmallDisk) -> Result<()> {
    demo.start_again()?;
    let mut pauses = Vec::new();
    for _ in 0..drills_per_fault_of_database() {
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
        let standing = demo.await_standing(PATIENCE)?;
        demo.delete_asides()?;
        pauses.push(inserts.stop()?.longest_gap);
        eprintln!(
            "disk of {victim} full, {next} took over, {} is the primary",
            standing.primary
        );
    }
    PauseGoal::DISK_FULL.judge("disk full", &pauses)
}

/// Everything is whole.
fn end(mut demo: Demo) -> Result<()> {
    demo.await_standing(PATIENCE)?;
    demo.stop()
}
