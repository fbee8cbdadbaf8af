//! The faults, and how each is undone.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use trilith_config::Config;

use super::args::Arguments;
use crate::failure::{Failure, Outcome};
use crate::lab::{self, Cut, Direction, Lab};
use crate::reach::Reach;

/// What the word `holder` stands for.
const HOLDER: &str = "holder";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Kill { server: String },
    Hang { server: String },
    Cut { lab: Lab, cut: Cut },
}

/// A fault that has been injected. Dropped, it is undone: whatever ends the drill.
pub struct Injury<'a> {
    fault: &'a Fault,
    /// The process that was stopped.
    stopped: Option<Pid>,
    undone: bool,
}

impl Fault {
    /// What was asked for, with names in place of `holder`.
    pub fn new(args: &Arguments, config: &Config, reach: &Reach, holder: &str) -> Outcome<Self> {
        let named = |name: &String| -> Outcome<String> {
            let name = if name == HOLDER {
                holder
            } else {
                name.as_str()
            };
            let known: Vec<_> = config.servers.iter().map(|s| s.name.as_str()).collect();
            match known.contains(&name) {
                true => Ok(name.to_owned()),
                false => Err(Failure::usage(format!(
                    "there is no server {name}; there are {}, and {HOLDER}",
                    known.join(", ")
                ))),
            }
        };
        if let Some(server) = &args.kill {
            return Ok(Self::Kill {
                server: named(server)?,
            });
        }
        if let Some(server) = &args.hang {
            return Ok(Self::Hang {
                server: named(server)?,
            });
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
            } => Some(server),
            _ => None,
        }
    }

    pub fn describe(&self, holder: &str) -> String {
        let (what, servers) = match self {
            Self::Kill { server } => ("kill -9 of", vec![server]),
            Self::Hang { server } => ("SIGSTOP of", vec![server]),
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
            .map(|name| match *name == holder {
                true => format!("{name}, which holds the floating address"),
                false => (*name).clone(),
            })
            .collect();
        format!("{what} {}", names.join(" and "))
    }

    pub fn inject(&self, state: &Path) -> Outcome<Injury<'_>> {
        let mut injury = Injury {
            fault: self,
            stopped: None,
            undone: false,
        };
        match self {
            Self::Kill { server } => {
                signal(pid(state, server)?, Signal::SIGKILL)?;
                injury.undone = true;
            }
            Self::Hang { server } => {
                let pid = pid(state, server)?;
                injury.stopped = Some(pid);
                signal(pid, Signal::SIGSTOP)?;
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
        if let Fault::Cut { lab, cut } = self.fault {
            lab::run_all(&cut.mend(lab))?;
        }
        if let Some(pid) = self.stopped {
            // Its guard may have killed it meanwhile, and then there is nothing to wake up.
            let _ = kill(pid, Signal::SIGCONT);
        }
        Ok(())
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
            let address = match server.address {
                IpAddr::V4(address) => address,
                IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
            };
            (server.name.to_string(), address)
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

/// The process of a server that runs.
fn pid(state: &Path, server: &str) -> Outcome<Pid> {
    let holder = trilith_node::pidfile::holder(&state.join(server).join("run"));
    match holder {
        Ok(Some(pid)) => i32::try_from(pid)
            .map(Pid::from_raw)
            .map_err(Failure::failed),
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
