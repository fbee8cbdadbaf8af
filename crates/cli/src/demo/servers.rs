//! The server processes that a demo started: and only those.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use trilith_config::Config;

use super::place::Place;
use super::signals::Signals;
use super::{CONFIG_FILE, POLL_INTERVAL, stop};
use crate::failure::{Failure, Outcome, at};
use crate::reach::Reach;
use crate::terminal;

/// A log larger than this is set aside at the next start.
const LOG_BYTES_MAX: u64 = 16 << 20;
const TAIL_LINES: usize = 20;
const TAIL_BYTES: u64 = 16 * 1024;
/// After a SIGKILL the process is gone as soon as the kernel gets to it.
const KILL_WAIT: Duration = Duration::from_secs(5);

pub struct Servers {
    reach: Reach,
    state: PathBuf,
    running: Vec<Server>,
}

struct Server {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
}

impl Servers {
    pub fn spawn(place: &Place, config: &Config, reach: Reach) -> Outcome<Self> {
        let mut servers = Self {
            reach,
            state: place.state.clone(),
            running: Vec::new(),
        };
        for server in &config.servers {
            match spawn_one(&servers.state, &servers.reach, server.name.as_str()) {
                Ok(child) => servers.running.push(Server {
                    name: server.name.to_string(),
                    child,
                    ended: None,
                }),
                Err(failure) => {
                    servers.signal(Signal::SIGTERM);
                    servers.wait(KILL_WAIT);
                    return Err(failure);
                }
            }
        }
        Ok(servers)
    }

    /// The first server that has ended, and how.
    pub fn ended(&mut self) -> Option<(String, String)> {
        self.reap();
        let server = self.running.iter().find(|server| server.ended.is_some())?;
        Some((server.name.clone(), describe(server.ended?)))
    }

    /// The end of a server's log.
    pub fn log_tail(&self, name: &str) -> Vec<String> {
        let path = log_path(&self.state, name);
        let read = || -> std::io::Result<String> {
            let mut file = File::open(&path)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_else(|error| format!("{}: {error}", path.display()));
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        lines[from..]
            .iter()
            .map(|line| (*line).to_owned())
            .collect()
    }

    /// Lets them go on without us.
    pub fn leave_running(self) {
        // A `Child` that is dropped is neither stopped nor waited for.
        drop(self);
    }

    /// Stops all of them in an orderly way, and then what the dead ones among them left behind. A
    /// further Ctrl-C makes it quicker, a third one kills.
    pub fn stop(mut self, config: &Config, signals: &Signals) -> Outcome {
        terminal::say("stopping ...");
        let seen = signals.count();
        self.signal(Signal::SIGTERM);
        let begin = Instant::now();
        let mut sent = 1;
        while !self.all_ended() {
            let pressed = signals.count() - seen;
            let wanted = stop::urgency(begin.elapsed(), pressed);
            if wanted > sent {
                sent = wanted;
                self.signal(if sent >= 3 {
                    Signal::SIGKILL
                } else {
                    Signal::SIGTERM
                });
            }
            if begin.elapsed() > stop::GIVE_UP {
                break;
            }
            thread::sleep(POLL_INTERVAL / 4);
        }
        // What a drill started in place of one of ours.
        stop::stop_servers(&self.state, signals)?;
        let left: Vec<&str> = self
            .running
            .iter()
            .filter(|s| s.ended.is_none())
            .map(|s| &*s.name)
            .collect();
        if !left.is_empty() {
            return Err(Failure::failed(format!(
                "these servers do not end: {}",
                left.join(", ")
            )));
        }
        for server in &config.servers {
            stop::clean_up(&self.state, config, &server.name);
        }
        terminal::say("stopped; the data stays for the next time");
        Ok(())
    }

    fn signal(&mut self, signal: Signal) {
        self.reap();
        for server in self.running.iter().filter(|server| server.ended.is_none()) {
            // Not reaped, so the number is still that of our child.
            let _ = kill(Pid::from_raw(server.child.id() as i32), signal);
        }
    }

    fn wait(&mut self, time: Duration) {
        let begin = Instant::now();
        while !self.all_ended() && begin.elapsed() < time {
            thread::sleep(POLL_INTERVAL / 4);
        }
    }

    fn all_ended(&mut self) -> bool {
        self.reap();
        self.running.iter().all(|server| server.ended.is_some())
    }

    fn reap(&mut self) {
        for server in &mut self.running {
            if server.ended.is_none() {
                server.ended = server.child.try_wait().ok().flatten();
            }
        }
    }
}

/// Starts one server of the folder, as a service manager would: in a session of its own.
pub fn spawn_one(state: &Path, reach: &Reach, name: &str) -> Outcome<Child> {
    let program = std::env::current_exe().map_err(Failure::failed)?;
    let dir = state.join(name);
    let path = log_path(state, name);
    let log_dir = dir.join("log");
    fs::create_dir_all(&log_dir).map_err(at(&log_dir))?;
    if fs::metadata(&path).is_ok_and(|m| m.len() > LOG_BYTES_MAX) {
        fs::rename(&path, path.with_extension("log.1")).map_err(at(&path))?;
    }
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(at(&path))?;
    let mut command = Command::new(&program);
    command
        .arg("run")
        .arg("--config")
        .arg(state.join(CONFIG_FILE))
        .arg("--use-file")
        .args(["--server", name, "--new-session"])
        .current_dir(&dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(at(&path))?)
        .stderr(log);
    reach
        .inside(Some(name), || command.spawn())
        .and_then(|spawned| spawned)
        .map_err(at(&program))
}

fn log_path(state: &Path, name: &str) -> PathBuf {
    state.join(name).join("log/trilith.log")
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(signal) => signal.to_string(),
            Err(_) => format!("signal {signal}"),
        },
        (None, None) => status.to_string(),
    }
}
