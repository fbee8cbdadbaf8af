//! Running `initdb`, `pg_basebackup` and other programs that end by themselves.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::binaries::Binaries;
use crate::conf::{conninfo, pgpass};
use crate::error::{Error, FileContext};
use crate::files::Owner;
use crate::inspect::start_time;
use crate::limits::{INITDB_TIMEOUT, PROGRAM_LINE_BYTES_MAX, PROGRAM_OUTPUT_LINES_MAX};
use crate::options::{ADMIN_ROLE, Options, Peer, slot_name};
use crate::postmaster::prepare;
use crate::remote::timed_out;

/// Where and as whom the programs run.
#[derive(Clone, Copy)]
pub(crate) struct Programs<'a> {
    pub binaries: &'a Binaries,
    pub owner: &'a Owner,
    pub options: &'a Options,
    /// The private folder for password files of a moment.
    pub private: &'a Path,
}

impl Programs<'_> {
    /// Makes a new database in the empty folder `target`. Not durable yet.
    pub async fn initdb(&self, target: &Path) -> Result<(), Error> {
        let password = TemporaryFile::write(
            self.owner,
            self.private.join("initdb.password"),
            self.options.secrets.superuser.expose(),
        )?;
        let initdb = |locale: &str| {
            let mut args: Vec<OsString> = [
                "--username",
                ADMIN_ROLE,
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--data-checksums",
                "--no-instructions",
                "--no-sync",
                "--locale",
                locale,
                "--pwfile",
            ]
            .map(OsString::from)
            .into();
            args.push(password.path.clone().into());
            args.extend(["-D".into(), target.as_os_str().to_owned()]);
            async move {
                let run = self.run("initdb", &args, |_| {});
                let done = timeout(INITDB_TIMEOUT, run).await;
                done.unwrap_or_else(|_| Err(timed_out("initdb", INITDB_TIMEOUT)))
            }
        };
        match initdb("C.UTF-8").await {
            // The C library brings it, unless it is an old one.
            Err(Error::Program { output, .. }) if output.contains("invalid locale") => {
                initdb("C").await
            }
            other => other,
        }
    }

    /// Copies the primary into the empty folder `target`, the WAL written meanwhile included. Not
    /// durable yet. `on_percent` hears how far it is.
    pub async fn base_backup(
        &self,
        primary: &Peer,
        target: &Path,
        mut on_percent: impl FnMut(u8),
    ) -> Result<(), Error> {
        let pass_file = TemporaryFile::write(
            self.owner,
            self.private.join("basebackup.pgpass"),
            &pgpass(self.options),
        )?;
        // Not the replica's own name: what copies must not count as what confirms commits.
        let source = conninfo(self.options, primary, "trilith_basebackup", &pass_file.path);
        let slot = slot_name(&self.options.server);
        let mut args: Vec<OsString> = [
            "--dbname",
            source.as_str(),
            "--wal-method=stream",
            "--slot",
            slot.as_str(),
            "--checkpoint=fast",
            "--progress",
            "--no-password",
            "--no-sync",
        ]
        .map(OsString::from)
        .into();
        args.extend(["-D".into(), target.as_os_str().to_owned()]);
        self.run("pg_basebackup", &args, |line| {
            if let Some(percent) = percent(line) {
                on_percent(percent);
            }
        })
        .await
    }

    /// Whether PostgreSQL would start with the configuration files as they are now.
    pub async fn check_config(&self) -> Result<(), Error> {
        let data_dir = self.options.data_dir.as_os_str().to_owned();
        // Printing one setting reads all of them.
        let args = ["-D".into(), data_dir, "-C".into(), "port".into()];
        self.run("postgres", &args, |_| {}).await
    }

    async fn run(
        &self,
        program: &'static str,
        args: &[OsString],
        mut on_line: impl FnMut(&str),
    ) -> Result<(), Error> {
        let mut command = Command::new(self.binaries.dir.join(program));
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        prepare(&mut command, self.owner);
        let failed = |output: String| Error::Program { program, output };
        let mut child = command
            .spawn()
            .map_err(|error| failed(format!("it cannot be run: {error}")))?;
        let stderr = child.stderr.take();
        let mut group = Group::record(child, &self.private.join(HELPER_FILE))?;

        let mut said: Vec<String> = Vec::new();
        if let Some(stderr) = stderr {
            for_each_line(stderr, |line| {
                on_line(line);
                if percent(line).is_none() && !line.trim().is_empty() {
                    if said.len() == PROGRAM_OUTPUT_LINES_MAX {
                        said.remove(0);
                    }
                    said.push(line.trim().to_owned());
                }
            })
            .await
            .map_err(|error| failed(error.to_string()))?;
        }
        let status = group
            .wait()
            .await
            .map_err(|error| failed(error.to_string()))?;
        if status.success() {
            return Ok(());
        }
        if said.is_empty() {
            return Err(failed(status.to_string()));
        }
        Err(failed(said.join(" | ")))
    }
}

/// Remembers the helper that runs, for the case that we are killed.
const HELPER_FILE: &str = "helper.pid";

/// A helper and its process group, both killed when dropped early.
struct Group {
    child: Child,
    pid: Option<Pid>,
    file: PathBuf,
}

impl Group {
    fn record(child: Child, file: &Path) -> Result<Self, Error> {
        let id = child.id().unwrap_or_default();
        let group = Self {
            child,
            pid: i32::try_from(id).ok().and_then(Pid::from_raw),
            file: file.to_owned(),
        };
        let started = start_time(id).unwrap_or_default();
        fs::write(file, format!("{id} {started}\n")).at("write", file)?;
        Ok(group)
    }

    async fn wait(&mut self) -> std::io::Result<std::process::ExitStatus> {
        let status = self.child.wait().await;
        // From here on the number may name another group.
        self.pid = None;
        status
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            // Not waited for yet, so it is still this group. It may have ended, which is as good.
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = fs::remove_file(&self.file);
    }
}

/// Kills a helper that a killed process left running: it would go on filling a folder that is about to
/// be removed.
pub(crate) fn kill_left_helper(private: &Path) {
    let file = private.join(HELPER_FILE);
    let Ok(text) = fs::read_to_string(&file) else {
        return;
    };
    let mut numbers = text.split_whitespace();
    let pid: Option<u32> = numbers.next().and_then(|word| word.parse().ok());
    let started: Option<u64> = numbers.next().and_then(|word| word.parse().ok());
    if let (Some(pid), Some(started)) = (pid, started)
        && start_time(pid) == Some(started)
        && let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw)
    {
        // It may end this very moment.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = fs::remove_file(&file);
}

/// A file that holds a password while a program needs it.
struct TemporaryFile {
    path: PathBuf,
}

impl TemporaryFile {
    fn write(owner: &Owner, path: PathBuf, text: &str) -> Result<Self, Error> {
        let file = Self { path };
        owner.write_file(&file.path, text, 0o600)?;
        Ok(file)
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Progress lines end with a carriage return on some terminals, so both ends count.
async fn for_each_line(
    mut from: impl AsyncRead + Unpin,
    mut on_line: impl FnMut(&str),
) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    let mut line: Vec<u8> = Vec::new();
    loop {
        let count = from.read(&mut buffer).await?;
        for byte in &buffer[..count] {
            if matches!(byte, b'\n' | b'\r') {
                on_line(&String::from_utf8_lossy(&line));
                line.clear();
            } else if line.len() < PROGRAM_LINE_BYTES_MAX {
                line.push(*byte);
            }
        }
        if count == 0 {
            if !line.is_empty() {
                on_line(&String::from_utf8_lossy(&line));
            }
            return Ok(());
        }
    }
}

/// `  12345/67890 kB (18%), 0/1 tablespace (...)` -> 18.
fn percent(line: &str) -> Option<u8> {
    let (amounts, rest) = line.split_once(" kB (")?;
    let (number, _) = rest.split_once("%)")?;
    amounts.trim().contains('/').then_some(())?;
    number.parse().ok().map(|percent: u8| percent.min(100))
}

#[cfg(test)]
mod tests;
