//! Stopping the servers of a folder, whoever started them, and what killed ones left behind.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use trilith_base::ServerName;
use trilith_config::Config;

use super::place::Place;
use super::signals::Signals;
use super::{CONFIG_FILE, POLL_INTERVAL};
use crate::config_file;
use crate::failure::{Failure, Outcome, at};
use crate::lab;
use crate::terminal;

/// An orderly stop: requests are answered, apps end, PostgreSQL writes its last checkpoint.
const ORDERLY: Duration = Duration::from_secs(60);
/// After the second signal: whatever can be left out is left out.
const QUICK: Duration = Duration::from_secs(20);
/// After SIGKILL.
pub const GIVE_UP: Duration = Duration::from_secs(90);

/// Which signal is due: 1 the first SIGTERM, 2 the second, which means "quicker", 3 SIGKILL.
pub fn urgency(since: Duration, pressed: usize) -> u8 {
    let by_time = match since {
        time if time < ORDERLY => 1,
        time if time < ORDERLY + QUICK => 2,
        _ => 3,
    };
    // Each Ctrl-C goes one step further.
    by_time.max(1 + pressed.min(2) as u8)
}

/// Names of the servers that run with this state, if any.
pub fn running(state: &Path) -> Outcome<Option<Vec<String>>> {
    let names: Vec<String> = holders(state)?.into_iter().map(|(name, _)| name).collect();
    Ok((!names.is_empty()).then_some(names))
}

/// `trilith demo stop`. Nothing to stop is fine.
pub fn stop(dir: &Path, signals: &Signals) -> Outcome {
    let Some(place) = Place::existing(dir)? else {
        terminal::say(&format!("nothing to stop: there is no {}", dir.display()));
        return Ok(());
    };
    let stopped = stop_servers(&place.state, signals)?;
    let cleaned = clean_up_processes(&place.state);
    let had_lab = lab::remove(&place.state)?;
    if stopped.is_empty() && cleaned == 0 && !had_lab {
        terminal::say(&format!("nothing runs in {}", dir.display()));
    } else {
        terminal::say(&format!("stopped the demo in {}", dir.display()));
    }
    Ok(())
}

pub fn stop_servers(state: &Path, signals: &Signals) -> Outcome<Vec<String>> {
    let begin = Instant::now();
    let mut stopped = Vec::new();
    let mut sent = 0;
    loop {
        let holders = holders(state)?;
        if holders.is_empty() {
            return Ok(stopped);
        }
        let wanted = urgency(begin.elapsed(), signals.count());
        for (name, pid) in &holders {
            let new = !stopped.contains(name);
            if new || wanted > sent {
                let signal = if wanted >= 3 {
                    Signal::SIGKILL
                } else {
                    Signal::SIGTERM
                };
                kill(Pid::from_raw(*pid as i32), signal).map_err(|errno| {
                    Failure::failed(format!(
                        "cannot stop the server {name} (pid {pid}): {errno}"
                    ))
                    .next("the same as the user who started it, or as root")
                })?;
                // One that a drill left stopped has to run to see it.
                let _ = kill(Pid::from_raw(*pid as i32), Signal::SIGCONT);
                if new {
                    terminal::say(&format!("stopping {name} (pid {pid})"));
                    stopped.push(name.clone());
                }
            }
        }
        sent = wanted;
        if begin.elapsed() > GIVE_UP {
            let names: Vec<_> = holders.iter().map(|(name, _)| name.as_str()).collect();
            return Err(Failure::failed(format!(
                "these servers do not end: {}",
                names.join(", ")
            )));
        }
        thread::sleep(POLL_INTERVAL / 4);
    }
}

/// Every server that holds the lock of its folder below `state`: its name and pid.
fn holders(state: &Path) -> Outcome<Vec<(String, u32)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(state).map_err(at(state))?.flatten() {
        let run_dir = entry.path().join("run");
        // A lock without a number is held by a server that begins or ends at this moment.
        if let Ok(Some(pid)) = trilith_node::pidfile::holder(&run_dir) {
            found.push((entry.file_name().to_string_lossy().into_owned(), pid));
        }
    }
    found.sort();
    Ok(found)
}

/// Ends and removes what a start that was killed left: processes, and then its lab.
pub fn clean_up_after_last_time(state: &Path) -> Outcome {
    clean_up_processes(state);
    if lab::remove(state)? {
        terminal::say("removed the lab of a demo that was killed");
    }
    Ok(())
}

/// Ends what killed servers of the last start left running. Returns how many had left something.
fn clean_up_processes(state: &Path) -> usize {
    let path = state.join(CONFIG_FILE);
    if !path.exists() {
        return 0;
    }
    let Ok(Ok(loaded)) = config_file::parse(&path) else {
        // Written by another version, perhaps; what it ran cannot be told.
        return 0;
    };
    let config = loaded.config;
    let names = config.servers.iter().map(|server| &server.name);
    names.filter(|name| clean_up(state, &config, name)).count()
}

/// The same for one server. Whether there was something.
pub fn clean_up(state: &Path, config: &Config, server: &ServerName) -> bool {
    if !state.join(server.as_str()).is_dir() {
        return false;
    }
    match trilith_node::stop_left_behind(config, server) {
        Ok(left) => {
            for what in &left {
                terminal::say(&format!(
                    "{server}: ended {what}, left behind by a killed server"
                ));
            }
            !left.is_empty()
        }
        Err(error) => {
            terminal::say(&format!("{server}: {error}"));
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_runs_out_by_time_or_by_hand() {
        assert_eq!(urgency(Duration::ZERO, 0), 1);
        assert_eq!(urgency(Duration::ZERO, 1), 2);
        assert_eq!(urgency(Duration::ZERO, 7), 3);
        assert_eq!(urgency(ORDERLY, 0), 2);
        assert_eq!(urgency(ORDERLY + QUICK, 0), 3);
    }

    #[test]
    fn an_empty_folder_has_nothing_running() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(running(dir.path()).unwrap(), None);
        assert_eq!(clean_up_processes(dir.path()), 0);
        clean_up_after_last_time(dir.path()).unwrap();
    }
}
