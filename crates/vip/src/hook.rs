//! Mode `hook`: programs bring the address up and down, for clouds where an address is moved by a call to
//! the provider.
//!
//! The contract. The program is run with `TRILITH_VIP` (the address), `TRILITH_SERVER` (this server) and
//! `TRILITH_EPOCH` (the lease's epoch, larger with every grant; 0 when unknown) in its environment, nothing
//! on its standard input, and without a shell. Exit code 0 is success. It must be **idempotent**: it is run
//! again after a failure or a timeout, and `release` also when `take` never succeeded. `release` must leave
//! the address alone when it is another server's by then. A provider's own call form works too:
//! `hook_take = ["curl", "-fsS", "-X", "POST", "https://api.example/..."]`.

use std::net::IpAddr;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::{sleep, timeout};
use trilith_base::{Backoff, ServerName};
use trilith_consensus::Epoch;

use crate::limits::{HOOK_BACKOFF, HOOK_OUTPUT_BYTES_MAX, HOOK_OUTPUT_WAIT, HOOK_TRIES};

pub(crate) struct Hook {
    pub me: ServerName,
    pub take: Vec<String>,
    pub release: Vec<String>,
    pub timeout: Duration,
}

impl Hook {
    pub async fn take(&self, ip: IpAddr, epoch: Option<Epoch>) -> Result<(), String> {
        self.run_with_retries("take", &self.take, ip, epoch).await
    }

    pub async fn release(&self, ip: IpAddr, epoch: Option<Epoch>) -> Result<(), String> {
        self.run_with_retries("release", &self.release, ip, epoch)
            .await
    }

    async fn run_with_retries(
        &self,
        what: &str,
        argv: &[String],
        ip: IpAddr,
        epoch: Option<Epoch>,
    ) -> Result<(), String> {
        let backoff: Backoff = HOOK_BACKOFF;
        let mut tried = 0;
        loop {
            let problem = match self.run(argv, ip, epoch).await {
                Ok(output) => {
                    if !output.is_empty() {
                        tracing::info!(%ip, what, output, "hook has run");
                    }
                    return Ok(());
                }
                Err(problem) => problem,
            };
            tried += 1;
            if tried >= HOOK_TRIES {
                return Err(problem);
            }
            tracing::info!(%ip, what, problem, "hook failed, trying again");
            sleep(backoff.delay(tried - 1, 1.0)).await;
        }
    }

    /// One run. The output in either case, cut at its bound.
    async fn run(
        &self,
        argv: &[String],
        ip: IpAddr,
        epoch: Option<Epoch>,
    ) -> Result<String, String> {
        let Some((program, arguments)) = argv.split_first() else {
            return Err("no program".to_owned());
        };
        let mut child = Command::new(program)
            .args(arguments)
            .env("TRILITH_VIP", ip.to_string())
            .env("TRILITH_SERVER", self.me.as_str())
            .env("TRILITH_EPOCH", epoch.unwrap_or_default().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot run {program}: {error}"))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        let out = tokio::spawn(read_bounded(child.stdout.take()));
        let err = tokio::spawn(read_bounded(child.stderr.take()));

        let ended = timeout(self.timeout, child.wait()).await;
        if ended.is_err() {
            // Its children too: a shell script's curl would go on otherwise.
            if let Some(group) = group {
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            let _ = child.wait().await;
        }
        let mut output = finish(out).await;
        output.push_str(&finish(err).await);
        let output = output.trim().to_owned();
        match ended {
            Ok(Ok(status)) if status.success() => Ok(output),
            Ok(Ok(status)) => Err(format!("{program} ended with {status}: {output}")),
            Ok(Err(error)) => Err(format!("cannot wait for {program}: {error}")),
            Err(_) => Err(format!(
                "{program} did not end within {:?}, killed: {output}",
                self.timeout
            )),
        }
    }
}

/// The first bytes; the rest is read and thrown away, so that the program does not block on its output.
async fn read_bounded(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    let Some(mut pipe) = pipe else {
        return String::new();
    };
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        let room = HOOK_OUTPUT_BYTES_MAX.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..read.min(room)]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// A grandchild may keep the pipe open for long.
async fn finish(mut reader: tokio::task::JoinHandle<String>) -> String {
    let read = timeout(HOOK_OUTPUT_WAIT, &mut reader).await;
    if read.is_err() {
        reader.abort();
    }
    read.ok().and_then(Result::ok).unwrap_or_default()
}

#[cfg(test)]
mod tests;
