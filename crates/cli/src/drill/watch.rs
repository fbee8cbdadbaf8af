//! Who holds the floating address, seen from outside: whatever the servers say about themselves, a
//! frozen one says nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use trilith_config::Config;

use super::SAMPLE_INTERVAL;
use super::netlink::{Addresses, Listeners};
use super::report::Change;
use crate::failure::{Failure, Outcome};
use crate::reach::Reach;

/// A look every [`SAMPLE_INTERVAL`], until it is stopped.
pub struct Watch {
    stop: Arc<AtomicBool>,
    changes: Arc<Mutex<Vec<Change>>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Watch {
    pub fn start(config: &Config, reach: &Reach, address: IpAddr, begin: Instant) -> Outcome<Self> {
        let mut eyes = Eyes::open(config, reach, address)
            .map_err(|error| Failure::failed(format!("cannot see who holds {address}: {error}")))?;
        let stop = Arc::new(AtomicBool::new(false));
        let changes = Arc::new(Mutex::new(Vec::new()));
        let (stopped, seen) = (Arc::clone(&stop), Arc::clone(&changes));
        let first = eyes.look_twice().map_err(Failure::failed)?;
        add(&seen, begin, first);
        let thread = thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || {
                while !stopped.load(Relaxed) {
                    let holders = eyes.look_twice()?;
                    add(&seen, begin, holders);
                    thread::sleep(SAMPLE_INTERVAL);
                }
                Ok(())
            })
            .map_err(Failure::failed)?;
        Ok(Self {
            stop,
            changes,
            thread: Some(thread),
        })
    }

    /// Places in the config file of those who hold it now.
    pub fn holders(&self) -> Vec<usize> {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes
            .last()
            .map(|c| c.holders.clone())
            .unwrap_or_default()
    }

    pub fn stop(mut self) -> Outcome<Vec<Change>> {
        self.stop.store(true, Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        if let Some(Ok(Err(error))) = ended {
            return Err(Failure::failed(format!(
                "lost sight of the servers: {error}"
            )));
        }
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *changes))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

fn add(changes: &Mutex<Vec<Change>>, begin: Instant, holders: Vec<usize>) {
    let mut changes = changes.lock().unwrap_or_else(PoisonError::into_inner);
    if changes.last().is_none_or(|last| last.holders != holders) {
        changes.push(Change {
            at: begin.elapsed(),
            holders,
        });
    }
}

enum Eyes {
    /// In a lab the holder has the address on an interface: one socket per server's namespace.
    Addresses {
        address: IpAddr,
        servers: Vec<Addresses>,
    },
    /// On loopback every server has it, and the holder alone listens there.
    Listeners {
        address: IpAddr,
        port: u16,
        kernel: Listeners,
        /// State folders of the servers.
        folders: Vec<PathBuf>,
        /// Whose socket that is.
        owners: BTreeMap<u32, usize>,
    },
}

impl Eyes {
    fn open(config: &Config, reach: &Reach, address: IpAddr) -> io::Result<Self> {
        if reach.lab.is_some() {
            let servers = config
                .servers
                .iter()
                .map(|server| reach.inside(Some(server.name.as_str()), Addresses::open)?);
            return Ok(Self::Addresses {
                address,
                servers: servers.collect::<io::Result<_>>()?,
            });
        }
        let folders = config.servers.iter();
        Ok(Self::Listeners {
            address,
            port: config.ports.http,
            kernel: Listeners::open()?,
            folders: folders.map(|s| config.state_dir(&s.name)).collect(),
            owners: BTreeMap::new(),
        })
    }

    /// The servers are looked at one after another. So that an address that moves between two looks is
    /// not taken for one with two holders, two are believed only when both still are a look later.
    fn look_twice(&mut self) -> io::Result<Vec<usize>> {
        let first = self.look()?;
        if first.len() < 2 {
            return Ok(first);
        }
        let second = self.look()?;
        Ok(if second == first { first } else { second })
    }

    fn look(&mut self) -> io::Result<Vec<usize>> {
        match self {
            Self::Addresses { address, servers } => {
                let mut holders = Vec::new();
                for (index, server) in servers.iter().enumerate() {
                    if server.has(*address)? {
                        holders.push(index);
                    }
                }
                Ok(holders)
            }
            Self::Listeners {
                address,
                port,
                kernel,
                folders,
                owners,
            } => {
                let inodes = kernel.on(*address, *port)?;
                if inodes.iter().any(|inode| !owners.contains_key(inode)) {
                    *owners = find_owners(folders);
                }
                let mut holders: Vec<usize> = inodes
                    .iter()
                    .filter_map(|inode| owners.get(inode).copied())
                    .collect();
                holders.sort_unstable();
                holders.dedup();
                Ok(holders)
            }
        }
    }
}

/// The sockets of every server's process.
fn find_owners(folders: &[PathBuf]) -> BTreeMap<u32, usize> {
    let mut owners = BTreeMap::new();
    for (index, folder) in folders.iter().enumerate() {
        let Ok(Some(pid)) = trilith_node::pidfile::holder(&folder.join("run")) else {
            continue;
        };
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        for file in files.flatten() {
            let Ok(target) = fs::read_link(file.path()) else {
                continue;
            };
            let target = target.to_string_lossy();
            let inode = target
                .strip_prefix("socket:[")
                .and_then(|t| t.strip_suffix(']'));
            if let Some(inode) = inode.and_then(|inode| inode.parse().ok()) {
                owners.insert(inode, index);
            }
        }
    }
    owners
}
