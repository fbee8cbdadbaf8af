//! The faults, and how each is undone.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use trilith_config::Config;

use super::args::{Arguments, UNNAMED};
use super::processes;
use crate::failure::{Failure, Outcome};
use crate::lab::{self, Cut, Direction, Lab};
use crate::reach::Reach;

/// The words that stand for whoever that is now.
const HOLDER: &str = "holder";
const PRIMARY: &str = "primary";
/// kill -9 of all processes again, until none is left: some may have been about to start others.
const KILL_ROUNDS: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Kill {
        server: String,
    },
    /// With the cable pulled out, where there is one.
    KillServer {
        server: String,
        lab: Option<Lab>,
        address: Ipv4Addr,
    },
    KillPostgres {
        server: String,
    },
    Hang {
        server: String,
    },
    HangPostgres {
        server: String,
    },
    Cut {
        lab: Lab,
        cut: Cut,
    },
}

/// Who is what before the fault.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Of the floating address.
    pub holder: Option<String>,
    /// The database primary's server.
    pub primary: Option<String>,
}

/// A fault that has been injected. Dropped, it is undone: whatever ends the drill.
pub struct Injury<'a> {
    fault: &'a Fault,
    /// The processes that were stopped.
    stopped: Vec<Pid>,
    undone: bool,
}

impl Fault {
    /// What was asked for, with names in place of `holder` and `primary`.
    pub fn new(
        args: &Arguments,
        config: &Config,
        reach: &Reach,
        standing: &Standing,
    ) -> Outcome<Self> {
        let named = |name: &String| -> Outcome<String> {
            let meant = match (name.as_str(), args.primary) {
                (UNNAMED, true) => PRIMARY,
                (UNNAMED, false) => HOLDER,
                (name, _) => name,
            };
            let stands_for = match meant {
                HOLDER => &standing.holder,
                PRIMARY => &standing.primary,
                name => &Some(name.to_owned()),
            };
            let Some(name) = stands_for else {
                return Err(Failure::failed(format!("there is no {meant} now"))
                    .next(format!("trilith status --dir {}", args.dir.display())));
            };
            let known: Vec<_> = config.servers.iter().map(|s| s.name.as_str()).collect();
            match known.contains(&name.as_str()) {
                true => Ok(name.clone()),
                false => Err(Failure::usage(format!(
                    "there is no server {name}; there are {}, {HOLDER} and {PRIMARY}",
                    known.join(", ")
                ))),
            }
        };
        // The deadliest one is what a primary must survive.
        let the_primary = UNNAMED.to_owned();
        let default = (args.primary && !args.has_fault()).then_some(&the_primary);
        if let Some(server) = args.kill_server.as_ref().or(default) {
            let server = named(server)?;
            let address = address(config, &server);
            let lab = reach.lab.clone();
            return Ok(Self::KillServer {
                server,
                lab,
                address,
            });
        }
        for (name, fault) in [
            (
                &args.kill,
                (|server| Self::Kill { server }) as fn(String) -> Self,
            ),
            (&args.hang, |server| Self::Hang { server }),
            (&args.kill_postgres, |server| Self::KillPostgres { server }),
            (&args.hang_postgres, |server| Self::HangPostgres { server }),
        ] {
            if let Some(server) = name {
                return named(server).map(fault);
            }
        }
        let cut = match (&args.partition, args.one_way) {
            (Some(server), None) => Cut::Link {
                server: named(server)?,
            },
            (Some(server), Some(direction)) => Cut::OneWay {
                server: named(server)?,
                direction,
            },
            (None, _) => {
                let names = args.isolate_minority.iter().map(named);
                apart(config, &names.collect::<Outcome<Vec<_>>>()?)?
            }
        };
        let Some(lab) = reach.lab.clone() else {
            let dir = args.dir.display();
            return Err(Failure::failed(
                "this demo is on loopback addresses, which cannot be cut; a lab can",
            )
            .next(format!("trilith demo stop --dir {dir}"))
            .next(format!("sudo trilith demo --lab --dir {dir}")));
        };
        Ok(Self::Cut { lab, cut })
    }

    /// One that nobody reaches while it lasts.
    pub fn out_of_reach(&self) -> Option<&str> {
        match self {
            Self::Cut {
                cut: Cut::Link { server } | Cut::OneWay { server, .. },
                ..
            }
            | Self::KillServer {
                server,
                lab: Some(_),
                ..
            } => Some(server),
            _ => None,
        }
    }

    /// `standing` says what else to tell of the servers.
    pub fn describe(&self, standing: &Standing) -> String {
        let (what, servers) = match self {
            Self::Kill { server } => ("kill -9 of", vec![server]),
            Self::KillServer { server, lab, .. } => match lab {
                Some(_) => ("power failure of", vec![server]),
                None => ("kill -9 of everything on", vec![server]),
            },
            Self::KillPostgres { server } => ("kill -9 of PostgreSQL on", vec![server]),
            Self::Hang { server } => ("SIGSTOP of", vec![server]),
            Self::HangPostgres { server } => ("SIGSTOP of PostgreSQL on", vec![server]),
            Self::Cut { cut, .. } => match cut {
                Cut::Link { server } => ("no cable at", vec![server]),
                Cut::OneWay { server, direction } => match direction {
                    Direction::In => ("nothing arrives at", vec![server]),
                    Direction::Out => ("nothing leaves", vec![server]),
                },
                Cut::Apart { minority, .. } => (
                    "no way to the other servers from",
                    minority.iter().map(|(name, _)| name).collect(),
                ),
            },
        };
        let names: Vec<_> = servers
            .iter()
            .map(|name| {
                if standing.primary.as_ref() == Some(name) {
                    format!("{name}, the database primary")
                } else if standing.holder.as_ref() == Some(name) {
                    format!("{name}, which holds the floating address")
                } else {
                    (*name).clone()
                }
            })
            .collect();
        format!("{what} {}", names.join(" and "))
    }

    pub fn inject(&self, state: &Path) -> Outcome<Injury<'_>> {
        let mut injury = Injury {
            fault: self,
            stopped: Vec::new(),
            undone: false,
        };
        match self {
            Self::Kill { server } => {
                signal(pid(state, server)?, Signal::SIGKILL)?;
                injury.undone = true;
            }
            Self::KillServer { server, lab, .. } => {
                // The cable first: a machine without power says no goodbye.
                if let Some((lab, cut)) = power_cut(server, lab.as_ref()) {
                    lab::run_all(&cut.cut(lab))?;
                }
                kill_all(state, server, lab.as_ref())?;
            }
            Self::KillPostgres { server } => {
                signal(postmaster(state, server)?, Signal::SIGKILL)?;
                injury.undone = true;
            }
            Self::Hang { server } => {
                let pid = pid(state, server)?;
                injury.stopped.push(pid);
                signal(pid, Signal::SIGSTOP)?;
            }
            Self::HangPostgres { server } => {
                // The postmaster first, so that it starts no further ones.
                let first = postmaster(state, server)?;
                injury.stopped.push(first);
                signal(first, Signal::SIGSTOP)?;
                for pid in processes::postgres(&state.join(server).join("postgres")) {
                    let pid = as_pid(pid)?;
                    injury.stopped.push(pid);
                    // It may end by itself in between.
                    let _ = kill(pid, Signal::SIGSTOP);
                }
            }
            Self::Cut { lab, cut } => lab::run_all(&cut.cut(lab))?,
        }
        Ok(injury)
    }
}

impl Injury<'_> {
    /// Undoes it. A dead process is started again by whoever watches over that.
    pub fn undo(mut self) -> Outcome {
        self.undo_once()
    }

    fn undo_once(&mut self) -> Outcome {
        if std::mem::replace(&mut self.undone, true) {
            return Ok(());
        }
        for pid in &self.stopped {
            // Its guard may have killed it meanwhile, and then there is nothing to wake up.
            let _ = kill(*pid, Signal::SIGCONT);
        }
        match self.fault {
            Fault::Cut { lab, cut } => lab::run_all(&cut.mend(lab)),
            Fault::KillServer {
                server,
                lab,
                address,
            } => match power_cut(server, lab.as_ref()) {
                Some((lab, cut)) => {
                    // A machine that boots has its own address alone.
                    lab::run_all(&lab::only_address(lab, server, *address))?;
                    lab::run_all(&cut.mend(lab))
                }
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

impl Drop for Injury<'_> {
    fn drop(&mut self) {
        if let Err(failure) = self.undo_once() {
            crate::terminal::error_line(&failure.message);
        }
    }
}

fn apart(config: &Config, minority: &[String]) -> Outcome<Cut> {
    let (inside, outside): (Vec<_>, Vec<_>) = config
        .servers
        .iter()
        .map(|server| {
            let name = server.name.to_string();
            let address = address(config, &name);
            (name, address)
        })
        .partition(|(name, _)| minority.contains(name));
    if inside.len() >= outside.len() {
        return Err(Failure::usage(format!(
            "{} of {} servers are no minority",
            inside.len(),
            config.servers.len()
        )));
    }
    Ok(Cut::Apart {
        minority: inside,
        majority: outside,
    })
}

/// Of a server in a lab, where all are of IPv4.
fn address(config: &Config, name: &str) -> Ipv4Addr {
    let server = config.servers.iter().find(|s| s.name.as_str() == name);
    match server.map(|server| server.address) {
        Some(IpAddr::V4(address)) => address,
        _ => Ipv4Addr::UNSPECIFIED,
    }
}

fn power_cut<'a>(server: &str, lab: Option<&'a Lab>) -> Option<(&'a Lab, Cut)> {
    let server = server.to_owned();
    lab.map(|lab| (lab, Cut::Link { server }))
}

fn kill_all(state: &Path, server: &str, lab: Option<&Lab>) -> Outcome {
    let agent = u32::try_from(pid(state, server)?.as_raw()).map_err(Failure::failed)?;
    let namespace = lab.map(|lab| lab.namespace(server));
    let folder = state.join(server);
    for _ in 0..KILL_ROUNDS {
        let left = processes::of_server(Some(agent), &folder, namespace.as_ref());
        let left: Vec<u32> = left.into_iter().filter(|pid| !is_zombie(*pid)).collect();
        if left.is_empty() {
            return Ok(());
        }
        for pid in left {
            // It may have ended meanwhile.
            let _ = kill(as_pid(pid)?, Signal::SIGKILL);
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Err(Failure::failed(format!("processes of {server} do not end")))
}

/// Dead, and not yet waited for by whoever started it.
fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_none_or(|state| state.starts_with(['Z', 'X']))
}

fn postmaster(state: &Path, server: &str) -> Outcome<Pid> {
    match processes::postmaster(&state.join(server).join("postgres")) {
        Some(pid) => as_pid(pid),
        None => Err(Failure::failed(format!(
            "no PostgreSQL runs on the server {server}"
        ))),
    }
}

fn as_pid(pid: u32) -> Outcome<Pid> {
    i32::try_from(pid)
        .map(Pid::from_raw)
        .map_err(Failure::failed)
}

/// The process of a server that runs.
fn pid(state: &Path, server: &str) -> Outcome<Pid> {
    let holder = trilith_node::pidfile::holder(&state.join(server).join("run"));
    match holder {
        Ok(Some(pid)) => as_pid(pid),
        Ok(None) => Err(Failure::failed(format!("the server {server} does not run"))),
        Err(error) => Err(Failure::failed(format!("{server}: {error}"))),
    }
}

fn signal(pid: Pid, signal: Signal) -> Outcome {
    kill(pid, signal).map_err(|errno| {
        Failure::failed(format!("cannot send {signal} to process {pid}: {errno}"))
            .next("the same as the user who started the demo, or as root")
    })
}
