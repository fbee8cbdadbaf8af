//! Whether the ports are free, and who has them when they are not.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use crate::demo::plan::{InternalPorts, Plan};
use crate::failure::{Failure, Outcome};
use crate::terminal;

/// How far up the internal ports are moved until all of them are free.
const MOVES: [u16; 4] = [0, 10_000, 20_000, 30_000];

/// Makes sure that everything of the plan can listen. Ports that nobody types are moved where they
/// are taken; for the others the user decides.
pub fn settle(plan: &mut Plan) -> Outcome {
    for address in plan.public() {
        if let Err(error) = try_listen(address) {
            return Err(refused(plan, address, &error));
        }
    }
    let mut first_taken = None;
    for by in MOVES {
        let ports = InternalPorts::moved(by);
        match first_refused(plan, ports) {
            None => {
                plan.internal = ports;
                if let Some(taken) = first_taken {
                    terminal::say(&format!("{taken}; using internal ports {by} higher"));
                }
                return Ok(());
            }
            Some((address, error)) => {
                first_taken.get_or_insert_with(|| describe(address, &error));
            }
        }
    }
    let what = first_taken.unwrap_or_default();
    Err(
        Failure::failed(format!("{what}, and {MOVES:?} higher ports are taken too"))
            .next("trilith demo --network 127.0.2.0"),
    )
}

fn first_refused(plan: &Plan, ports: InternalPorts) -> Option<(SocketAddr, io::Error)> {
    plan.servers.iter().find_map(|(_, address)| {
        ports.each().into_iter().find_map(|port| {
            let address = SocketAddr::new(IpAddr::V4(*address), port);
            try_listen(address).err().map(|error| (address, error))
        })
    })
}

fn try_listen(address: SocketAddr) -> io::Result<()> {
    TcpListener::bind(address).map(drop)
}

fn refused(plan: &Plan, address: SocketAddr, error: &io::Error) -> Failure {
    let failure = Failure::failed(describe(address, error));
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let (flag, port) = if address.port() == plan.http {
                ("--http", plan.http)
            } else {
                ("--https", plan.https)
            };
            let other = port.checked_add(1_000).unwrap_or(18_080);
            failure.next(format!("trilith demo {flag} {other}"))
        }
        io::ErrorKind::PermissionDenied => {
            failure.next("trilith demo --http 8080 --https 8443   (ports below 1024 need root)")
        }
        _ => failure.next("trilith demo --help"),
    }
}

fn describe(address: SocketAddr, error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::AddrInUse {
        return format!("cannot listen on {address}: {error}");
    }
    match who_listens(address) {
        Some(who) => format!(
            "port {} on {} is taken by {who}",
            address.port(),
            address.ip()
        ),
        None => format!("port {} on {} is taken", address.port(), address.ip()),
    }
}

/// `nginx (pid 812)`, where `/proc` tells us.
fn who_listens(address: SocketAddr) -> Option<String> {
    let inodes = listening_inodes(address);
    if inodes.is_empty() {
        return None;
    }
    let pids = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids {
        // Other users' processes are closed to us unless we are root.
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        let holds = files.flatten().any(|file| {
            fs::read_link(file.path()).is_ok_and(|target| {
                let target = target.to_string_lossy();
                let inode = target
                    .strip_prefix("socket:[")
                    .and_then(|t| t.strip_suffix(']'));
                inode.is_some_and(|inode| inodes.contains(inode))
            })
        });
        if holds {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim()));
        }
    }
    None
}

/// Inodes of the sockets that listen on that port, on any address.
fn listening_inodes(address: SocketAddr) -> BTreeSet<String> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|t| fs::read_to_string(t).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    lines
        .filter_map(|line| listening_inode(line, address.port()))
        .collect()
}

/// Reads one line of `/proc/net/tcp`: `sl local_address rem_address st ... uid timeout inode`.
fn listening_inode(line: &str, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
    let local_port = u16::from_str_radix(local_port, 16).ok()?;
    let listens = *fields.get(3)? == LISTEN && local_port == port;
    listens.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let error = try_listen(address).unwrap_err();
        let text = describe(address, &error);
        let us = format!("(pid {})", std::process::id());
        assert!(text.contains(&us), "{text}");
        assert!(text.starts_with(&format!(
            "port {} on 127.0.0.1 is taken by ",
            address.port()
        )));
    }

    #[test]
    fn proc_lines_are_read() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 \
                    00000000     0        0 12345 1 0000000000000000 100 0 0 10 0";
        assert_eq!(listening_inode(line, 8080), Some("12345".to_owned()));
        assert_eq!(listening_inode(line, 8081), None);
        assert_eq!(listening_inode(&line.replace(" 0A ", " 01 "), 8080), None);
        assert_eq!(listening_inode("", 8080), None);
    }
}
