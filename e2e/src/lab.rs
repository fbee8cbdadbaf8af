//! What a lab of the demo consists of, and whether it can be made here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::command::run;

const PATIENCE: Duration = Duration::from_secs(10);

/// Why labs cannot be made on this machine by this user; `None` when they can.
pub fn no_labs_here() -> Option<String> {
    let name = format!("trilith-e2e-{}", std::process::id());
    let ip = |arguments: &[&str]| run(Command::new("ip").args(arguments), PATIENCE)?.success();
    if let Err(error) = ip(&["netns", "add", &name]) {
        return Some(format!("{error:#}"));
    }
    let works = ip(&[
        "-n",
        &name,
        "link",
        "add",
        "bridge",
        "type",
        "bridge",
        "mcast_snooping",
        "0",
    ])
    .and_then(|_| {
        ip(&[
            "-n", &name, "link", "add", "port0", "type", "veth", "peer", "name", "port1",
        ])
    })
    .and_then(|_| {
        let mut tc = Command::new("tc");
        tc.args([
            "-n",
            &name,
            "qdisc",
            "replace",
            "dev",
            "port0",
            "root",
            "blackhole",
        ]);
        run(&mut tc, PATIENCE)?.success()
    });
    let removed = ip(&["netns", "delete", &name]);
    works.and(removed).err().map(|error| format!("{error:#}"))
}

/// The namespaces that a demo's folder says are its own.
pub(crate) fn namespaces(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(dir.join("lab.namespaces")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Fails if one of them is still there.
pub(crate) fn ensure_gone(names: &[String]) -> Result<()> {
    let left: Vec<_> = names.iter().filter(|name| place(name).exists()).collect();
    ensure!(left.is_empty(), "network namespaces left behind: {left:?}");
    Ok(())
}

/// For a test that failed, once its processes are dead.
pub(crate) fn remove(names: &[String]) {
    for name in names.iter().filter(|name| place(name).exists()) {
        let _ = run(Command::new("ip").args(["netns", "delete", name]), PATIENCE);
    }
}

fn place(name: &str) -> PathBuf {
    Path::new("/var/run/netns").join(name)
}
