//! What is measured: three servers with PostgreSQL, and a way in for applications on each.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::lab::{Lab, Node, output};

pub trait Cluster {
    fn lab(&self) -> &Lab;

    /// Who takes the writes now.
    fn primary(&self) -> Result<Node>;

    /// An error that says what is missing, when not everything is as it should be.
    fn ready(&mut self) -> Result<()>;

    /// The process that looks after PostgreSQL there.
    fn agent(&self, node: &Node) -> Result<u32>;

    fn data_dir(&self, node: &Node) -> PathBuf;

    /// Starts what runs on a server, as after a boot; what runs already stays.
    fn start_again(&mut self, node: &Node) -> Result<()>;

    /// Asks for another primary than `from`, and waits for the answer.
    fn switchover(&mut self, from: &Node) -> Result<()>;

    /// For the applications of each server: how its connections to the primary begin.
    fn entries(&self) -> Result<Vec<String>>;

    /// To each PostgreSQL itself, from its own server.
    fn direct(&self) -> Result<Vec<String>>;
}

/// The first answer of a question that PostgreSQL answers with one value.
pub fn psql(node: &Node, bin: &Path, conninfo: &str, sql: &str) -> Result<String> {
    let mut command = node.command(None, bin.join("psql"));
    command.env("PGCONNECT_TIMEOUT", "3").args([
        "-XAtq",
        "-v",
        "ON_ERROR_STOP=1",
        "-d",
        conninfo,
        "-c",
        sql,
    ]);
    output(&mut command).map(|said| said.trim().to_owned())
}

/// Newest PostgreSQL of the distribution: the folder of its programs.
pub fn postgres_bin() -> Result<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
    {
        let major = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let bin = entry.path().join("bin");
        if let (Some(major), true) = (major, bin.join("initdb").exists()) {
            found.push((major, bin));
        }
    }
    found.sort();
    let (_, bin) = found
        .pop()
        .context("no PostgreSQL in /usr/lib/postgresql")?;
    Ok(bin)
}

/// An error unless so many replicas stream from this primary.
pub fn streams(node: &Node, bin: &Path, conninfo: &str, wanted: usize) -> Result<()> {
    let sql = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' \
               AND application_name NOT LIKE '%basebackup%'";
    let count = psql(node, bin, conninfo, sql)?;
    if count != wanted.to_string() {
        bail!("{count} of {wanted} replicas stream");
    }
    Ok(())
}
