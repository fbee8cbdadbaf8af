//! A lab: servers with real addresses on this machine, each in a network namespace of its own, on a
//! switch that links can be pulled out of.
//!
//! The switch is a bridge in a namespace too, so that the machine's own network sees nothing of it:
//! no interface, no route, no firewall rule of the machine's matters, and labs with the same
//! addresses run side by side. Names derive from the demo's folder.

mod cut;
mod inside;
mod plan;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub use cut::{Cut, Direction, only_address};
pub use inside::Namespace;
pub use plan::Step;

use crate::failure::{Failure, Outcome, at};
use crate::terminal;

/// In the demo's folder: the namespaces of its lab, one a line.
const RECORD: &str = "lab.namespaces";
const SWITCH: &str = "switch";
const CLIENT: &str = "client";
/// What all names of namespaces begin with.
const PREFIX: &str = "trilith-";
/// The client's address is this one of the network.
const CLIENT_LAST: u8 = 200;

/// The names of a lab. That it is there is another matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lab {
    /// Eight hexadecimal digits.
    id: String,
    /// Also the names of the switch's ports.
    servers: Vec<String>,
}

/// A lab that goes with this value, unless [`Built::keep`] was called.
#[derive(Debug)]
pub struct Built {
    pub lab: Lab,
    state: PathBuf,
    keep: bool,
}

impl Lab {
    pub fn of_folder(state: &Path, servers: impl IntoIterator<Item = String>) -> Self {
        Self {
            id: format!("{:08x}", hash(state)),
            servers: servers.into_iter().collect(),
        }
    }

    /// The lab that is recorded in a demo's folder; `None` when the demo has none.
    pub fn recorded(state: &Path) -> Outcome<Option<Self>> {
        let names = recorded_names(state)?;
        let mut lab: Option<Self> = None;
        for name in &names {
            let Some((id, last)) = name[PREFIX.len()..].split_once('-') else {
                continue;
            };
            let lab = lab.get_or_insert_with(|| Self {
                id: id.to_owned(),
                servers: Vec::new(),
            });
            if ![SWITCH, CLIENT].contains(&last) {
                lab.servers.push(last.to_owned());
            }
        }
        Ok(lab)
    }

    /// Where a server lives.
    pub fn namespace(&self, server: &str) -> Namespace {
        Namespace::new(format!("{PREFIX}{}-{server}", self.id))
    }

    /// Where its users are.
    pub fn client(&self) -> Namespace {
        self.namespace(CLIENT)
    }

    fn switch(&self) -> Namespace {
        self.namespace(SWITCH)
    }

    fn namespaces(&self) -> Vec<Namespace> {
        let names = [SWITCH, CLIENT].into_iter();
        names
            .chain(self.servers.iter().map(String::as_str))
            .map(|name| self.namespace(name))
            .collect()
    }

    /// Builds it: `addresses` are those of the servers, in their order, all in one /24.
    ///
    /// # Errors
    /// What is missing (root, iproute2), or what `ip` said. Then nothing is left of it.
    pub fn build(self, state: &Path, addresses: &[Ipv4Addr]) -> Outcome<Built> {
        check_possible()?;
        if let Some(taken) = self.namespaces().iter().find(|name| name.exists()) {
            return Err(Failure::failed(format!(
                "there is a network namespace {taken} already, and this folder does not know it"
            ))
            .next(format!("ip netns delete {taken}")));
        }
        // Written before, so that whatever ends this process, the next one knows what to remove.
        let path = state.join(RECORD);
        let names: Vec<String> = self.namespaces().iter().map(|n| format!("{n}\n")).collect();
        fs::write(&path, names.concat()).map_err(at(&path))?;
        let steps = plan::build(&self, addresses);
        let built = Built {
            lab: self,
            state: state.to_owned(),
            keep: false,
        };
        run_all(&steps).map_err(|failure| {
            failure.next("trilith demo   (without --lab: on loopback addresses, as any user)")
        })?;
        Ok(built)
    }
}

impl Built {
    /// It stays when this process ends; [`remove`] takes it away.
    pub fn keep(mut self) {
        self.keep = true;
    }
}

impl Drop for Built {
    fn drop(&mut self) {
        if !self.keep
            && let Err(failure) = remove(&self.state)
        {
            terminal::error_line(&failure.message);
        }
    }
}

/// Removes the lab of a demo's folder, if there is one. Returns whether there was. Processes in it
/// must have been ended before.
pub fn remove(state: &Path) -> Outcome<bool> {
    let names = recorded_names(state)?;
    let mut failed = None;
    for name in &names {
        let namespace = Namespace::new(name.clone());
        if namespace.exists() {
            failed = run_all(&[plan::delete(&namespace)]).err().or(failed);
        }
    }
    if let Some(failure) = failed {
        return Err(failure);
    }
    let path = state.join(RECORD);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at(&path)(error)),
        _ => Ok(!names.is_empty()),
    }
}

/// Names in the record. What does not look like ours is not touched.
fn recorded_names(state: &Path) -> Outcome<Vec<String>> {
    let path = state.join(RECORD);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text
            .lines()
            .filter(|l| is_ours(l))
            .map(str::to_owned)
            .collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(at(&path)(error)),
    }
}

fn is_ours(name: &str) -> bool {
    let parts = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('-'));
    parts.is_some_and(|(id, last)| {
        id.len() == 8
            && id.bytes().all(|byte| byte.is_ascii_hexdigit())
            && trilith_base::ServerName::new(last).is_ok()
    })
}

/// Runs them in order, up to the first that fails.
pub fn run_all(steps: &[Step]) -> Outcome {
    steps.iter().try_for_each(run)
}

fn run(step: &Step) -> Outcome {
    let output = Command::new(step.program)
        .args(&step.arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => missing(step.program),
            _ => Failure::failed(format!("{}: {error}", step.program)),
        })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::failed(format!("`{step}` failed: {}", said.trim())))
}

/// Whether a lab can be made here at all.
fn check_possible() -> Outcome {
    if !nix::unistd::Uid::effective().is_root() {
        return Err(Failure::failed(
            "a lab is made of network namespaces, and making them needs root",
        )
        .next("sudo trilith demo --lab")
        .next("trilith demo   (without --lab: on loopback addresses, as any user)"));
    }
    for program in ["ip", "tc"] {
        let asked = Command::new(program)
            .arg("-V")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if asked.is_err() {
            return Err(missing(program));
        }
    }
    Ok(())
}

fn missing(program: &str) -> Failure {
    Failure::failed(format!(
        "the program `{program}` is missing, which makes labs"
    ))
    .next("apt-get install iproute2")
}

/// FNV-1a: a name from a path that stays the same.
fn hash(path: &Path) -> u32 {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests;
