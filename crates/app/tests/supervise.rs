//! The supervisor with real processes: `/bin/sh`, and this test binary itself as a web app.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "supervise/helper.rs"]
mod helper;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use helper::{World, alive, group_of, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use trilith_app::{AppError, AppKind, InstanceState, InstanceStatus, RunAs};

fn live(one: &InstanceStatus) -> bool {
    one.state == InstanceState::Live
}

fn kill_9(pid: u32) {
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn web_instances_get_what_the_contract_promises() {
    let world = World::new();
    let mut options = world.options(vec![world.web(3)]);
    options.env.insert(
        "DATABASE_URL".to_owned(),
        "postgresql://app@127.0.0.1/app".to_owned(),
    );
    let release = options.release.clone();
    let supervisor = world.start(options).await;
    let status = world.wait(&supervisor, |all| all.iter().all(live)).await;
    let mut addresses = BTreeSet::new();
    for (number, one) in (1..).zip(&status) {
        assert_eq!(one.id.to_string(), format!("web.{number}"));
        assert_eq!(
            (one.restarts, &one.last_failure, &one.release),
            (0, &None, &release.id)
        );
        let address = one.address.unwrap();
        assert!(addresses.insert(address));
        assert!((20_000..32_000).contains(&address.port()));
        let env = helper::get(address, "/env");
        for line in [
            format!("PORT={}", address.port()),
            "HOST=127.0.0.1".to_owned(),
            format!("INSTANCE=web.{number}"),
            "SERVER=one".to_owned(),
            format!("RELEASE={}", release.id),
            format!(
                "TMPDIR={}",
                world.dir("tmp").join(one.id.to_string()).display()
            ),
            "DATABASE_URL=postgresql://app@127.0.0.1/app".to_owned(),
            format!("CWD={}", release.dir.display()),
            "UMASK=0022".to_owned(),
        ] {
            assert!(
                env.lines().any(|found| found == line),
                "{line} is not in\n{env}"
            );
        }
        assert!(!env.contains("CARGO_"), "our own environment leaks:\n{env}");
        let pid = one.pid.unwrap();
        assert_eq!(group_of(pid), Some(pid), "a process group of its own");
        assert_eq!(
            fs::read_link(format!("/proc/{pid}/fd/0")).unwrap(),
            PathBuf::from("/dev/null")
        );
    }
    supervisor.stop(async {}).await;
    assert!(status.iter().all(|one| !alive(one.pid.unwrap())));
    let log = world.log("web");
    assert!(log.contains(" web.1 stdout listening\n"), "{log}");
    assert!(
        log.contains(" web.3 trilith ended: signal 15 (SIGTERM)\n"),
        "{log}"
    );
    let metrics = world.telemetry.metrics_text().encode();
    assert!(
        metrics.contains("trilith_app_instance_ready_total{app=\"web\"} 3"),
        "{metrics}"
    );
    assert!(
        metrics.contains("trilith_app_instance_stops_total{app=\"web\"} 3"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_instance_comes_back() {
    let world = World::new();
    let supervisor = world.start(world.options(vec![world.web(2)])).await;
    let before = world.wait(&supervisor, |all| all.iter().all(live)).await;
    kill_9(before[0].pid.unwrap());
    let gone = world.wait(&supervisor, |all| !live(&all[0])).await;
    assert!(live(&gone[1]), "the other one stays");
    let after = world.wait(&supervisor, |all| live(&all[0])).await;
    assert_ne!(after[0].pid, before[0].pid);
    assert_eq!(after[0].restarts, 1);
    assert_eq!(after[0].last_failure.as_deref(), Some("signal 9 (SIGKILL)"));
    assert_eq!(after[1], before[1]);
    supervisor.stop(async {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_loop_backs_off_and_shows() {
    let world = World::new();
    let app = world.worker("echo going down; echo why >&2; exit 3");
    let supervisor = world.start(world.options(vec![app])).await;
    let attempt = |one: &InstanceStatus| match one.state {
        InstanceState::Backoff { attempt, .. } => attempt,
        _ => 0,
    };
    let backs_off = |times: u32| move |all: &[InstanceStatus]| attempt(&all[0]) == times;
    let first = world.wait(&supervisor, backs_off(1)).await;
    let third = world.wait(&supervisor, backs_off(3)).await;
    assert_eq!((first[0].restarts, third[0].restarts), (0, 2));
    assert_eq!(third[0].last_failure.as_deref(), Some("exit code 3"));
    assert_eq!(
        (third[0].pid, third[0].state.is_crash_loop()),
        (None, false)
    );
    supervisor.stop(async {}).await;
    let log = world.log("worker");
    assert_eq!(log.matches(" worker.1 stdout going down\n").count(), 3);
    assert_eq!(log.matches(" worker.1 stderr why\n").count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ignores_sigterm_is_killed_after_its_grace() {
    let world = World::new();
    let mut app = world.worker("trap '' TERM; sleep 60 & echo ready; while :; do sleep 1; done");
    app.stop_grace = Duration::from_millis(300);
    let supervisor = world.start(world.options(vec![app])).await;
    let status = world.wait(&supervisor, |all| live(&all[0])).await;
    wait_until(|| world.log("worker").contains("stdout ready")).await;
    let pid = status[0].pid.unwrap();
    let watch = supervisor.status();
    supervisor.stop(async {}).await;
    assert!(!alive(pid));
    assert_eq!(helper::members(pid), Vec::<u32>::new());
    assert_eq!(watch.borrow()[0].state, InstanceState::Stopped);
    assert!(world.log("worker").contains("ended: signal 9 (SIGKILL)"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grandchildren_end_with_the_app() {
    let world = World::new();
    let app = world.worker("sh -c 'sleep 60 & sleep 60' & sleep 60 & wait");
    let supervisor = world.start(world.options(vec![app])).await;
    let status = world.wait(&supervisor, |all| live(&all[0])).await;
    let first = status[0].pid.unwrap();
    wait_until(|| helper::members(first).len() >= 4).await;
    // The first process dies alone: its group goes with it.
    kill_9(first);
    let status = world
        .wait(&supervisor, |all| {
            live(&all[0]) && all[0].pid != Some(first)
        })
        .await;
    assert_eq!(helper::members(first), Vec::<u32>::new());
    let second = status[0].pid.unwrap();
    supervisor.stop(async {}).await;
    assert_eq!(helper::members(second), Vec::<u32>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_group_may_use_the_grace() {
    let world = World::new();
    let done = world.dir("done");
    // The shell ends with SIGTERM at once; the app it started takes its time.
    let app = world.worker(&format!(
        "sh -c 'trap \"sleep 0.5; touch {}; exit 0\" TERM; echo ready; \
         while :; do sleep 0.1; done' & wait",
        done.display()
    ));
    let supervisor = world.start(world.options(vec![app])).await;
    world.wait(&supervisor, |all| live(&all[0])).await;
    wait_until(|| world.log("worker").contains("stdout ready")).await;
    supervisor.stop(async {}).await;
    assert!(done.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_drains_first() {
    let world = World::new();
    let supervisor = world.start(world.options(vec![world.web(2)])).await;
    let status = world.wait(&supervisor, |all| all.iter().all(live)).await;
    let watch = supervisor.status();
    let during = async {
        let now = watch.borrow().clone();
        assert!(
            now.iter().all(|one| one.state == InstanceState::Draining),
            "{now:?}"
        );
        assert!(status.iter().all(|one| alive(one.pid.unwrap())));
        for one in &status {
            assert!(helper::get(one.address.unwrap(), "/env").contains("PORT="));
        }
    };
    supervisor.stop(during).await;
    assert!(
        watch
            .borrow()
            .iter()
            .all(|one| one.state == InstanceState::Stopped)
    );
    assert!(status.iter().all(|one| !alive(one.pid.unwrap())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_supervisor_stops_its_processes() {
    let world = World::new();
    let app = world.worker("sleep 60");
    let supervisor = world.start(world.options(vec![app])).await;
    let status = world.wait(&supervisor, |all| live(&all[0])).await;
    drop(supervisor);
    wait_until(|| !alive(status[0].pid.unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_never_listens_says_so() {
    let world = World::new();
    let mut app = world.worker("sleep 60");
    app.kind = AppKind::Web;
    app.start_timeout = Duration::from_millis(500);
    let supervisor = world.start(world.options(vec![app])).await;
    let backs_off = |all: &[InstanceStatus]| matches!(all[0].state, InstanceState::Backoff { .. });
    let status = world.wait(&supervisor, backs_off).await;
    let failure = status[0].last_failure.clone().unwrap();
    assert!(
        failure.starts_with("not ready within 500ms: nothing listens on 127.0.0.1:"),
        "{failure}"
    );
    supervisor.stop(async {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_program_says_so() {
    let world = World::new();
    let mut app = world.worker("x");
    app.command = trilith_app::CommandLine::parse("./bin/nothing").unwrap();
    let supervisor = world.start(world.options(vec![app])).await;
    let status = world
        .wait(&supervisor, |all| all[0].last_failure.is_some())
        .await;
    assert_eq!(
        status[0].last_failure.as_deref(),
        Some("no program `./bin/nothing` in the release folder or on PATH")
    );
    supervisor.stop(async {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_turns_sick_leaves_the_rotation_and_comes_back() {
    let world = World::new();
    let supervisor = world.start(world.options(vec![world.web(1)])).await;
    let before = world.wait(&supervisor, |all| live(&all[0])).await;
    let address = before[0].address.unwrap();
    helper::get(address, "/break");
    let sick = world.wait(&supervisor, |all| !live(&all[0])).await;
    assert_eq!(
        (sick[0].state, sick[0].pid),
        (InstanceState::Unhealthy, before[0].pid)
    );
    helper::get(address, "/repair");
    let well = world.wait(&supervisor, |all| live(&all[0])).await;
    assert_eq!((well[0].pid, well[0].restarts), (before[0].pid, 0));
    supervisor.stop(async {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_replaces_what_a_killed_supervisor_left() {
    let world = World::new();
    // A second process runs a supervisor on the same folders, and is killed.
    let mut predecessor = world.start_in_another_process();
    let mut pids = Vec::new();
    wait_until(|| {
        pids = world.recorded_pids();
        pids.len() == 2 && pids.iter().all(|&pid| helper::members(pid).len() == 2)
    })
    .await;
    predecessor.kill().unwrap();
    predecessor.wait().unwrap();
    assert!(
        pids.iter().all(|&pid| alive(pid)),
        "apps outlive their supervisor"
    );
    let supervisor = world.start(world.options(vec![world.web(2)])).await;
    assert!(pids.iter().all(|&pid| helper::members(pid).is_empty()));
    let status = world.wait(&supervisor, |all| all.iter().all(live)).await;
    let new: BTreeSet<u32> = status.iter().map(|one| one.pid.unwrap()).collect();
    assert_eq!(new, world.recorded_pids().into_iter().collect());
    supervisor.stop(async {}).await;
    assert_eq!(world.recorded_pids(), Vec::<u32>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_root_apps_run_as_somebody_else() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let world = World::new();
    let mut app = world.worker("id -u; id -g; id -G; touch $TMPDIR/mine && echo wrote; sleep 60");
    let nobody = RunAs::lookup("nobody").unwrap();
    app.user = Some(nobody.clone());
    let error = world
        .try_start(world.options(vec![app.clone()]))
        .await
        .err();
    assert!(
        matches!(error, Some(AppError::Unreachable { .. })),
        "{error:?}"
    );
    world.open_to_everybody();
    let supervisor = world.start(world.options(vec![app])).await;
    wait_until(|| world.log("worker").contains("wrote")).await;
    supervisor.stop(async {}).await;
    let log = world.log("worker");
    let found: Vec<&str> = log
        .lines()
        .filter_map(|line| line.split_once(" stdout "))
        .map(|(_, text)| text)
        .collect();
    let (uid, gid) = (nobody.uid.to_string(), nobody.gid.to_string());
    assert_eq!(
        found,
        [uid.as_str(), &gid, &gid, "wrote"],
        "and no supplementary groups"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impossible_options_are_refused() {
    let world = World::new();
    let good = world.worker("sleep 60");
    let mut bad_name = good.clone();
    bad_name.name = "a/b".to_owned();
    let mut bad_health = good.clone();
    bad_health.health_path = "/a b\r\nX: y".to_owned();
    let mut bad_env = good.clone();
    bad_env.env.insert("A=B".to_owned(), String::new());
    let mut too_many = good.clone();
    too_many.instances = 257;
    for apps in [
        vec![bad_name],
        vec![bad_health],
        vec![bad_env],
        vec![too_many],
        vec![good.clone(), good],
    ] {
        let error = world.try_start(world.options(apps)).await.err();
        assert!(matches!(error, Some(AppError::BadApp { .. })), "{error:?}");
    }
    assert!(matches!(
        RunAs::lookup("no-such-user-here"),
        Err(AppError::NoSuchUser { .. })
    ));
}

/// Not a test: what this binary does when a test starts it as an app or as another supervisor.
#[test]
fn helper_process() {
    helper::main();
}
