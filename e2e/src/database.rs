//! The database of a demo, from the outside.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::command::{Output, run, trilith};
use crate::demo::Demo;
use crate::process::Process;
use crate::sql::Sql;
use crate::wait::eventually;

/// For a switchover, its wait for the result included.
const COMMAND_PATIENCE: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(5);

/// What the servers say of their PostgreSQLs when all is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub primary: String,
    pub replicas: Vec<String>,
}

impl Demo {
    /// The server of the database primary.
    pub fn primary(&self) -> Result<String> {
        let status = self.status()?;
        let primary = status["database"]["primary"].as_str();
        primary
            .map(str::to_owned)
            .with_context(|| format!("no primary: {}", status["database"]))
    }

    /// Which of the others: any, but always the same one.
    pub fn replica(&self) -> Result<String> {
        let primary = self.primary()?;
        let mut others = self.servers()?.into_iter().filter(|name| *name != primary);
        others.next().context("no other server")
    }

    /// A connection string for the sql entry of this server, as its apps use it.
    pub fn entry(&self, server: &str) -> Result<String> {
        self.door(server, "sql", 5432)
    }

    /// For the PostgreSQL of this server itself.
    pub fn postgres(&self, server: &str) -> Result<String> {
        self.door(server, "postgres", 5433)
    }

    fn door(&self, server: &str, port: &str, default: i64) -> Result<String> {
        let config = self.config()?;
        let servers = config.get("server").and_then(|s| s.as_array());
        let address = servers.into_iter().flatten().find_map(|table| {
            let named = table.get("name")?.as_str()? == server;
            named.then(|| table.get("address")?.as_str())?
        });
        let address = address.with_context(|| format!("no server {server}"))?;
        let port = config.get("ports").and_then(|ports| ports.get(port));
        let port = port.and_then(|port| port.as_integer()).unwrap_or(default);
        let secrets = self.secrets()?.join("database.passwords");
        let passwords: toml::Table = fs::read_to_string(&secrets)?.parse()?;
        let password = passwords.get("app").and_then(|p| p.as_str());
        let password = password.context("the app has no password")?;
        Ok(format!(
            "host={address} port={port} user=app password={password} dbname=app"
        ))
    }

    /// A session at the primary, through the entry of the first server that leads there.
    pub fn sql(&self) -> Result<Sql> {
        let mut why = None;
        for server in self.servers()? {
            match Sql::connect(&self.entry(&server)?) {
                Ok(sql) => return Ok(sql),
                Err(trouble) => why = Some(trouble.when(&server)),
            }
        }
        Err(why.context("no server")?)
    }

    /// The process that is the PostgreSQL of this server.
    pub fn postmaster(&self, server: &str) -> Result<u32> {
        let path = self.state_folder(server)?.join("postgres/postmaster.pid");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let pid = text.lines().next().unwrap_or_default().trim().parse();
        let pid = pid.with_context(|| format!("{}: {text:?}", path.display()))?;
        Process::find(pid).with_context(|| format!("PostgreSQL of {server} does not run"))?;
        Ok(pid)
    }

    /// All processes of it. Those it starts take its working directory.
    pub fn postgres_processes(&self, server: &str) -> Result<Vec<u32>> {
        let postmaster = self.postmaster(server)?;
        let tree = Process::tree(postmaster);
        Ok(tree.into_iter().map(|process| process.pid).collect())
    }

    /// `kill -9` of PostgreSQL alone, and waits until it is gone.
    pub fn kill_postgres(&self, server: &str) -> Result<()> {
        let pid = self.postmaster(server)?;
        Process::signal(pid, Signal::SIGKILL)?;
        Process::wait_gone(pid, SOON)
    }

    /// Every server ready, one primary that takes writes, and every other database follows it and has
    /// what it has written.
    pub fn standing(&self) -> Result<Standing> {
        let status = self.status()?;
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let (servers, database) = (&status["servers"], &status["database"]);
        let not_ready = list(servers).into_iter().find(|s| s["state"] != "ready");
        ensure!(
            not_ready.is_none(),
            "not ready: {}",
            not_ready.unwrap_or_default()
        );
        let primary = database["primary"].as_str().context("no primary")?;
        let mut standing = Standing {
            primary: primary.to_owned(),
            replicas: Vec::new(),
        };
        let sql = self.sql().context("the primary takes no sessions")?;
        sql.ask("SELECT txid_current()")
            .context("nothing can be written")?;
        let written = sql.value("SELECT pg_current_wal_flush_lsn()")?;
        for database in list(&database["servers"]) {
            let name = database["server"].as_str().context("no name")?;
            match database["role"].as_str() {
                Some("primary") if name == primary => continue,
                Some("replica") if name != primary => {}
                _ => bail!("{primary} is the primary, and now: {database}"),
            }
            let replica = Sql::connect(&self.postgres(name)?);
            let replica = replica.with_context(|| name.to_owned())?;
            // Only what streams has received anything.
            let sql = format!(
                "SELECT pg_is_in_recovery() AND (SELECT count(*) FROM pg_stat_wal_receiver) = 1 \
                 AND pg_last_wal_replay_lsn() >= '{written}'"
            );
            ensure!(replica.value(&sql)? == "t", "{name} is behind {written}");
            standing.replicas.push(name.to_owned());
        }
        let count = standing.replicas.len() + 1;
        ensure!(count == self.servers()?.len(), "only {standing:?}");
        Ok(standing)
    }

    /// Waits for [`Demo::standing`], and meanwhile does what a service manager does: a server that got no
    /// processor for a second while it held the floating address is ended by its guard.
    pub fn await_standing(&mut self, patience: Duration) -> Result<Standing> {
        eventually("the database is whole again", patience, || {
            self.start_the_dead()?;
            self.standing()
        })
    }

    /// Deletes the folders that the servers set aside, as an operator who has looked at them: each rewind that
    /// a failure cuts off in the middle leaves one, and with three of them a server waits for that.
    pub fn delete_asides(&self) -> Result<()> {
        for server in self.servers()? {
            for entry in fs::read_dir(self.state_folder(&server)?)? {
                let entry = entry?;
                if entry
                    .file_name()
                    .as_encoded_bytes()
                    .starts_with(b"postgres.aside-")
                {
                    fs::remove_dir_all(entry.path())?;
                    eprintln!("{server} had set data aside");
                }
            }
        }
        Ok(())
    }

    /// `trilith db` with these arguments, whatever comes of it.
    pub fn db(&self, arguments: &[&str]) -> Result<Output> {
        let mut command: Command = trilith()?;
        command.arg("db").args(arguments);
        command.arg("--dir").arg(self.dir());
        run(&mut command, COMMAND_PATIENCE)
    }

    /// Hands the primary over in good order.
    pub fn switchover(&self, to: Option<&str>) -> Result<()> {
        let to = to.map(|to| ["--to", to]);
        let arguments: Vec<&str> = ["switchover"]
            .into_iter()
            .chain(to.iter().flatten().copied())
            .collect();
        let done = self.db(&arguments)?.success();
        done.map(|_| ()).context("trilith db switchover")
    }
}
