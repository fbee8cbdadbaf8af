//! The processes of a server, so that a fault can hit just them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::lab::Namespace;

/// The postmaster that works in `data_dir`, if one runs. What `postmaster.pid` says is believed only
/// when the process is a `postgres` in that folder: after a crash the number may be anybody's.
pub fn postmaster(data_dir: &Path) -> Option<u32> {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    let pid: u32 = text.lines().next()?.trim().parse().ok()?;
    (pid > 1 && works_in(pid, data_dir)).then_some(pid)
}

/// All processes of the PostgreSQL in `data_dir`, the postmaster first.
pub fn postgres(data_dir: &Path) -> Vec<u32> {
    let first = postmaster(data_dir);
    let mut found: Vec<u32> = first.into_iter().collect();
    let others = all().filter(|pid| Some(*pid) != first && works_in(*pid, data_dir));
    found.extend(others);
    found
}

/// Every process of a server: `agent` and its descendants, those of its PostgreSQL, those that name
/// its folder in their command line, and in a lab whatever runs in its namespace. Never this one.
pub fn of_server(agent: Option<u32>, folder: &Path, namespace: Option<&Namespace>) -> Vec<u32> {
    let inside = namespace.and_then(|namespace| fs::metadata(namespace.path()).ok());
    let parents: Vec<(u32, u32)> = all().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found: BTreeSet<u32> = parents
        .iter()
        .map(|(pid, _)| *pid)
        .filter(|pid| {
            let lives_there = inside.as_ref().is_some_and(|inside| {
                let own = fs::metadata(format!("/proc/{pid}/ns/net"));
                own.is_ok_and(|own| (own.dev(), own.ino()) == (inside.dev(), inside.ino()))
            });
            lives_there || Some(*pid) == agent || names(*pid, folder)
        })
        .collect();
    found.extend(postgres(&folder.join("postgres")));
    loop {
        let more: Vec<u32> = parents
            .iter()
            .filter(|(pid, parent)| found.contains(parent) && !found.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    found.remove(&std::process::id());
    found.into_iter().collect()
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn works_in(pid: u32, data_dir: &Path) -> bool {
    let Ok(program) = fs::read_link(format!("/proc/{pid}/exe")) else {
        return false;
    };
    // After an upgrade of the package the old program goes on as "/.../postgres (deleted)".
    let name = program.file_name().map(|name| name.to_string_lossy());
    if name.is_none_or(|name| name.trim_end_matches(" (deleted)") != "postgres") {
        return false;
    }
    let works_in = fs::metadata(format!("/proc/{pid}/cwd"));
    let (Ok(works_in), Ok(data)) = (works_in, fs::metadata(data_dir)) else {
        return false;
    };
    (works_in.dev(), works_in.ino()) == (data.dev(), data.ino())
}

/// Whether it is a helper of ours (`trilith guard ... DATA_DIR`): the same program as this one, with
/// something of the folder among its arguments.
fn names(pid: u32, folder: &Path) -> bool {
    let exe = |pid: &str| fs::metadata(format!("/proc/{pid}/exe")).map(|m| (m.dev(), m.ino()));
    if !matches!((exe(&pid.to_string()), exe("self")), (Ok(its), Ok(own)) if its == own) {
        return false;
    }
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    arguments
        .split(|byte| *byte == 0)
        .filter_map(|argument| std::str::from_utf8(argument).ok())
        .any(|argument| Path::new(argument).starts_with(folder))
}

/// Field 4 of `/proc/<pid>/stat`; the second one is a name in parentheses that may contain anything.
fn parent(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    struct Shell(Child);

    impl Drop for Shell {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_server_is_its_agent_and_what_that_started() {
        let folder = tempfile::tempdir().unwrap();
        // The inner one ends when the outer one's end closes its input.
        let shell = Command::new("sh")
            .args(["-c", "cat & read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map(Shell)
            .unwrap();
        let agent = shell.0.id();
        let child = (0..500).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            all().find(|pid| parent(*pid) == Some(agent))
        });
        let found = of_server(Some(agent), folder.path(), None);
        let child = child.expect("the shell starts a child");
        assert_eq!(
            found.iter().copied().collect::<BTreeSet<_>>(),
            BTreeSet::from([agent, child])
        );
        assert!(of_server(None, folder.path(), None).is_empty());
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(child as i32),
            nix::sys::signal::Signal::SIGKILL,
        );
    }

    #[test]
    fn a_pid_file_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(postmaster(folder.path()), None);
        for text in [
            format!("{}\n", std::process::id()),
            "-7\n".into(),
            "x".into(),
        ] {
            fs::write(folder.path().join("postmaster.pid"), text).unwrap();
            assert_eq!(postmaster(folder.path()), None);
        }
    }
}
