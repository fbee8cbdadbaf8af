//! Running `initdb`, `pg_basebackup`, `pg_rewind` and other programs that end by themselves.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use trilith_ha::PrimarySeen;

use crate::binaries::Binaries;
use crate::conf::{conninfo, pgpass};
use crate::control::ControlData;
use crate::error::{Error, FileContext};
use crate::files::{Owner, remove_if_there, sibling, sync_parent};
use crate::inspect::start_time;
use crate::limits::{INITDB_TIMEOUT, PROGRAM_LINE_BYTES_MAX, PROGRAM_OUTPUT_LINES_MAX};
use crate::options::{ADMIN_ROLE, MAINTENANCE_DATABASE, Options, Peer, slot_name};
use crate::postmaster::{prepare, remove_stale_lock};
use crate::remote::{ask_primary, timed_out};
use crate::tls::write_files;

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
        write_files(self.options, self.owner)?;
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

    /// Takes the data directory back to where its history and the primary's part, and lets it follow the
    /// primary's from there on. PostgreSQL must not run in it; after a crash it is recovered first.
    /// Not durable yet. `on_percent` hears how far it is.
    ///
    /// Afterwards our files in it are the primary's, or gone: write the configuration, sync the
    /// file system, and then call [`rewound`]. Until that a directory is half of both, as [`is_half_rewound`]
    /// tells. It is not when pg_rewind gives up before it changes anything.
    ///
    /// Returns whether anything had to be changed.
    ///
    /// # Errors
    /// Among others: the primary has not made a checkpoint on its timeline yet; this server no longer has
    /// the WAL since the parting.
    pub async fn rewind(
        &self,
        primary: &Peer,
        mut on_percent: impl FnMut(u8),
    ) -> Result<bool, Error> {
        let data_dir = &self.options.data_dir;
        write_files(self.options, self.owner)?;
        let control = self.control_data().await?;
        let seen = ask_primary(self.options, primary).await?;
        can_rewind_to(&control, &seen)?;

        remove_stale_lock(data_dir)?;
        let marker = rewind_marker(data_dir);
        self.owner.write_file(&marker, "", 0o600)?;
        if !control.state.is_clean() {
            // pg_rewind recovers it in single-user mode, which refuses to be a replica.
            remove_if_there(&data_dir.join("standby.signal"))?;
        }
        let pass_file = TemporaryFile::write(
            self.owner,
            self.private.join("rewind.pgpass"),
            &pgpass(self.options),
        )?;
        let source = conninfo(self.options, primary, "trilith_rewind", &pass_file.path);
        let mut args: Vec<OsString> = vec!["--target-pgdata".into(), data_dir.into()];
        args.extend([
            "--source-server".into(),
            format!("{source} dbname={MAINTENANCE_DATABASE}").into(),
            "--progress".into(),
            "--no-sync".into(),
        ]);
        let (mut unchanged, mut needed) = (true, true);
        let on_line = |line: &str| {
            unchanged &= is_before_changes(line);
            needed &= !line.contains("no rewind required");
            if let Some(percent) = percent(line) {
                on_percent(percent);
            }
        };
        let ended = self.run_to_end("pg_rewind", &args, on_line).await?;
        if ended.success {
            return Ok(needed);
        }
        if unchanged && ended.by_itself {
            // The usual case: the primary went away. It need not be copied for that.
            rewound(data_dir)?;
        }
        Err(ended.failed("pg_rewind"))
    }

    async fn run(
        &self,
        program: &'static str,
        args: &[OsString],
        on_line: impl FnMut(&str),
    ) -> Result<(), Error> {
        let ended = self.run_to_end(program, args, on_line).await?;
        match ended.success {
            true => Ok(()),
            false => Err(ended.failed(program)),
        }
    }

    async fn run_to_end(
        &self,
        program: &'static str,
        args: &[OsString],
        on_line: impl FnMut(&str),
    ) -> Result<Ended, Error> {
        let mut command = self.command(program, args);
        command.stdout(Stdio::null());
        let child = spawn(program, &mut command)?;
        let group = Group::record(child, &self.private.join(HELPER_FILE))?;
        finish(program, group, |_| {}, on_line).await
    }

    /// Runs a program that changes nothing, for what it prints. It may well fail: that is for the caller
    /// to judge.
    pub async fn read(
        &self,
        program: &'static str,
        args: &[OsString],
        patience: Duration,
        on_line: impl FnMut(&str),
    ) -> Result<Ended, Error> {
        let mut command = self.command(program, args);
        command.stdout(Stdio::piped());
        // Not recorded: when we are killed it ends by itself, and it may run beside one that is.
        let group = Group::new(spawn(program, &mut command)?);
        let done = timeout(patience, finish(program, group, on_line, |_| {})).await;
        done.unwrap_or_else(|_| Err(timed_out(program, patience)))
    }

    fn command(&self, program: &'static str, args: &[OsString]) -> Command {
        let mut command = Command::new(self.binaries.dir.join(program));
        command
            .args(args)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        prepare(&mut command, self.owner);
        command
    }
}

fn spawn(program: &'static str, command: &mut Command) -> Result<Child, Error> {
    command.spawn().map_err(|error| Error::Program {
        program,
        output: format!("it cannot be run: {error}"),
    })
}

/// How a program ended.
pub(crate) struct Ended {
    pub success: bool,
    /// It was not killed.
    by_itself: bool,
    how: String,
    /// The last lines of its standard error, progress left out.
    pub said: Vec<String>,
}

impl Ended {
    /// What it said, in one line.
    pub fn text(&self) -> String {
        self.said.join(" | ")
    }

    pub fn failed(self, program: &'static str) -> Error {
        let output = match self.said.is_empty() {
            true => self.how,
            false => self.text(),
        };
        Error::Program { program, output }
    }
}

/// Reads all that a program prints, and waits for its end.
async fn finish(
    program: &'static str,
    mut group: Group,
    on_stdout: impl FnMut(&str),
    mut on_stderr: impl FnMut(&str),
) -> Result<Ended, Error> {
    let mut said: Vec<String> = Vec::new();
    let on_stderr = |line: &str| {
        on_stderr(line);
        if percent(line).is_none() && !line.trim().is_empty() {
            if said.len() == PROGRAM_OUTPUT_LINES_MAX {
                said.remove(0);
            }
            said.push(line.trim().to_owned());
        }
    };
    let (stdout, stderr) = (group.child.stdout.take(), group.child.stderr.take());
    let read = async {
        tokio::try_join!(
            for_each_line_of(stdout, on_stdout),
            for_each_line_of(stderr, on_stderr)
        )?;
        group.wait().await
    };
    let status = read.await.map_err(|error| Error::Program {
        program,
        output: error.to_string(),
    })?;
    Ok(Ended {
        success: status.success(),
        by_itself: status.code().is_some(),
        how: status.to_string(),
        said,
    })
}

async fn for_each_line_of(
    from: Option<impl AsyncRead + Unpin>,
    on_line: impl FnMut(&str),
) -> std::io::Result<()> {
    match from {
        Some(from) => for_each_line(from, on_line).await,
        None => Ok(()),
    }
}

/// Before the checkpoint that follows a promotion, the primary's control file names its old timeline.
/// pg_rewind (before version 16) takes that for its history, finds nothing to do, and succeeds.
fn can_rewind_to(control: &ControlData, primary: &PrimarySeen) -> Result<(), Error> {
    let blocked = |what: String, hint: &str| Error::Blocked {
        what,
        hint: hint.to_owned(),
    };
    let (name, timeline) = (&primary.server, primary.history.end.timeline);
    if !primary.is_primary {
        let hint = "it is done as soon as that server is the primary";
        return Err(blocked(format!("{name} is no primary to rewind to"), hint));
    }
    if primary.system_id != control.system_id {
        let hint = "have this server copied anew";
        return Err(blocked(format!("{name} has another database"), hint));
    }
    if primary.checkpoint_timeline != timeline {
        let what = format!("{name} has made no checkpoint on its timeline {timeline} yet");
        return Err(blocked(what, "it is done as soon as it has"));
    }
    Ok(())
}

/// Whether pg_rewind had not begun to change the directory when it said that. It begins after it has told how
/// much there is to copy, and from then on nothing leads back (pg_rewind.c, `main`). A line that is not known
/// may come from then. What has no name before it is of the PostgreSQL that recovers the directory first, or
/// goes on from the line before.
fn is_before_changes(line: &str) -> bool {
    const BEFORE: [&str; 11] = [
        "connected to server",
        "executing ",
        "servers diverged at WAL location ",
        "rewinding from last common checkpoint at ",
        "reading source file list",
        "reading target file list",
        "reading WAL in target",
        "error: ",
        "fatal: ",
        "detail: ",
        "hint: ",
    ];
    match line.trim().strip_prefix("pg_rewind: ") {
        Some(said) => BEFORE.iter().any(|before| said.starts_with(before)),
        None => percent(line).is_none(),
    }
}

fn rewind_marker(data_dir: &Path) -> PathBuf {
    sibling(data_dir, "rewinding")
}

/// Whether a rewind of that directory was begun and not finished: PostgreSQL must not be started in it, it
/// would take it for whole. Rewind it again, or have it copied anew.
pub(crate) fn is_half_rewound(data_dir: &Path) -> bool {
    rewind_marker(data_dir).exists()
}

/// The rewound directory has its configuration again, and is durable; or it was not changed; or there is
/// another one in its place.
pub(crate) fn rewound(data_dir: &Path) -> Result<(), Error> {
    let marker = rewind_marker(data_dir);
    remove_if_there(&marker)?;
    sync_parent(&marker)
}

/// Remembers the helper that runs, for the case that we are killed.
const HELPER_FILE: &str = "helper.pid";

/// A helper and its process group, both killed when dropped early.
struct Group {
    child: Child,
    pid: Option<Pid>,
    file: Option<PathBuf>,
}

impl Group {
    fn new(child: Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self {
            child,
            pid: id.and_then(Pid::from_raw),
            file: None,
        }
    }

    fn record(child: Child, file: &Path) -> Result<Self, Error> {
        let id = child.id().unwrap_or_default();
        let mut group = Self::new(child);
        group.file = Some(file.to_owned());
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
        if let Some(file) = &self.file {
            let _ = fs::remove_file(file);
        }
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
pub(crate) mod tests;
