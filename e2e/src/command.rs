//! Running a program to its end.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::process::Process;

/// What a program that ended left.
#[derive(Debug)]
pub struct Output {
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Both outputs of a program that reported success.
    pub fn success(self) -> Result<Self> {
        ensure!(
            self.code == Some(0),
            "exit code {:?}\nstdout: {}\nstderr: {}",
            self.code,
            self.stdout.trim_end(),
            self.stderr.trim_end()
        );
        Ok(self)
    }
}

/// Runs it for at most `patience`. Its output goes through files, so that a process it leaves behind
/// does not keep us waiting.
pub fn run(command: &mut Command, patience: Duration) -> Result<Output> {
    let (stdout, stderr) = (
        tempfile::NamedTempFile::new()?,
        tempfile::NamedTempFile::new()?,
    );
    let mut child = command
        .stdin(Stdio::null())
        .stdout(File::create(stdout.path())?)
        .stderr(File::create(stderr.path())?)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let deadline = Instant::now() + patience;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            Process::signal(child.id(), Signal::SIGKILL)?;
            child.wait()?;
            bail!(
                "{command:?} did not end within {patience:?}\nstdout: {}\nstderr: {}",
                std::fs::read_to_string(stdout.path())?,
                std::fs::read_to_string(stderr.path())?
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    Ok(Output {
        code: status.code(),
        stdout: std::fs::read_to_string(stdout.path())?,
        stderr: std::fs::read_to_string(stderr.path())?,
    })
}

/// The program under test: `TRILITH_BIN`, or what cargo built beside this test.
pub fn trilith() -> Result<Command> {
    let path = match std::env::var_os("TRILITH_BIN") {
        Some(path) => PathBuf::from(path),
        None => built("trilith", "trilith-cli")?,
    };
    let mut command = Command::new(path);
    command.env("NO_COLOR", "1");
    Ok(command)
}

/// A program in the folder that this test's own program came from.
pub(crate) fn built(program: &str, package: &str) -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    // target/debug/deps/site-0123456789abcdef
    let folder = test
        .parent()
        .and_then(|deps| deps.parent())
        .context("no target folder")?;
    let path = folder.join(program);
    ensure!(
        path.is_file(),
        "{} is not there; the end-to-end tests need it built: cargo build --package {package}",
        path.display()
    );
    Ok(path)
}
