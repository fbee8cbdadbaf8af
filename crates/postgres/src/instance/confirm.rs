//! Who confirms commits: bringing it in force, and being sure that it is.
//!
//! Three kinds of processes take part (syncrep.c). A session that commits waits only if a flag in shared
//! memory says that somebody has to confirm; the checkpointer sets that flag, when it gets to reading its
//! configuration. The process that sends WAL to a replica hears its confirmations, and lets those go that
//! wait, by the configuration that it has read itself. So after a change of `synchronous_standby_names`:
//!
//! - A replica that counts no longer, or for less, has its connection ended: the process behind it may still
//!   work with the old value.
//! - Before anything is said to be confirmed by somebody, a commit is seen to wait: first for a replica that
//!   does not exist, so that it cannot be over before it is seen.
//! - Everything written before this was done may have been acknowledged under the old value.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::types::PgLsn;
use trilith_base::ServerName;
use trilith_ha::{Lsn, SyncSet};

use super::Instance;
use super::config::gone;
use super::life::Confirmed;
use super::line::{Door, Look};
use super::settings::{ConfirmedBy, Role, Settings};
use crate::conf::{Access, CONF_FILE, trilith_conf_as};
use crate::error::{Error, SqlContext};
use crate::files::Owner;
use crate::inspect::start_time;
use crate::limits::{PROBE_KEPT_MAX, PROVE_TIMEOUT, RELOAD_POLL_INTERVAL, SENDERS_END_TIMEOUT};
use crate::remote::timed_out;

/// Where it is written down what is in force, for the next agent: beside the socket.
const MEMORY_FILE: &str = "confirmed";

/// Which connections of replicas are ended.
enum Forget<'a> {
    These(&'a BTreeSet<ServerName>),
    All,
}

impl Instance {
    /// From now on these confirm commits.
    pub(super) async fn confirm_by(
        &mut self,
        set: &SyncSet,
        forget: &BTreeSet<ServerName>,
    ) -> Result<(), Error> {
        self.switch(set, Forget::These(forget)).await
    }

    /// What PostgreSQL shows is not what was to be: another agent, or a step that was dropped, was changing
    /// it. Whatever it was on the way to, back to what was in force before is safe: what is recorded in the
    /// store covers both.
    pub(super) async fn confirm_again(&mut self, look: &Look) -> Result<(), Error> {
        let shown = ConfirmedBy::parse(&look.synchronous_standby_names);
        if self.life.confirmed.is_none()
            && self.life.wanted.is_none()
            && let Some(remembered) = self.remembered()
        {
            if shown == Some(ConfirmedBy::Set(remembered.set.clone())) {
                self.life.confirmed = Some(remembered);
                return Ok(());
            }
            self.life.wanted = Some(remembered.set);
        }
        let before = self.life.confirmed.as_ref().map(|confirmed| &confirmed.set);
        let is_remembered = |set: &SyncSet| {
            let by = ConfirmedBy::Set(set.clone());
            let role = self.life.settings.as_ref().map(|settings| &settings.role);
            shown.as_ref() == Some(&by) && role == Some(&Role::Primary { confirmed_by: by })
        };
        if before.is_some_and(is_remembered) {
            return Ok(());
        }
        let shown = match shown {
            Some(ConfirmedBy::Set(set)) => Some(set),
            _ => None,
        };
        let set = before.or(self.life.wanted.as_ref()).cloned().or(shown);
        self.life.overridden = true;
        self.switch(&set.unwrap_or_default(), Forget::All).await
    }

    async fn switch(&mut self, set: &SyncSet, forget: Forget<'_>) -> Result<(), Error> {
        let proven = self.life.confirmed.as_ref().is_some_and(|now| now.proven);
        if set.is_alone() || proven {
            let settings = self.confirmed_by(ConfirmedBy::Set(set.clone()))?;
            self.reload(settings).await?;
        } else {
            self.prove(set).await?;
        }
        self.end_senders(forget).await?;
        self.life.confirmed = Some(Confirmed {
            set: set.clone(),
            since: self.flushed().await?,
            proven: !set.is_alone(),
        });
        self.life.wanted = None;
        self.remember()
    }

    pub(super) fn confirmed_by(&self, confirmed_by: ConfirmedBy) -> Result<Settings, Error> {
        Ok(Settings {
            role: Role::Primary { confirmed_by },
            access: self.settings()?.access,
        })
    }

    /// Sees a commit wait, and has these confirm commits then.
    async fn prove(&mut self, set: &SyncSet) -> Result<(), Error> {
        let before = self.life.confirmed.as_ref().map(|before| &before.set);
        let back = ConfirmedBy::Set(before.unwrap_or(set).clone());
        let access = self.settings()?.access;
        let restore = Restore::new(self, back, access)?;
        self.reload(self.confirmed_by(ConfirmedBy::Nobody)?).await?;
        let probe = self.see_a_commit_wait().await?;
        self.reload(Settings {
            role: Role::Primary {
                confirmed_by: ConfirmedBy::Set(set.clone()),
            },
            access,
        })
        .await?;
        restore.disarm();
        probe.let_go();
        Ok(())
    }

    /// Commits until one is seen to wait.
    async fn see_a_commit_wait(&mut self) -> Result<Probe, Error> {
        let door = self.door();
        let line = self.line().await?;
        let doing = "seeing that commits wait for replicas";
        let seeing = async {
            loop {
                let probe = Probe::start(&door).await?;
                while !probe.is_over() {
                    let row = line
                        .session
                        .query_opt(WAITS, &[&probe.pid])
                        .await
                        .doing(doing)?;
                    if row.is_some() {
                        return Ok(probe);
                    }
                    sleep(RELOAD_POLL_INTERVAL).await;
                }
                sleep(RELOAD_POLL_INTERVAL).await;
            }
        };
        let seen = timeout(PROVE_TIMEOUT, seeing).await;
        seen.map_err(|_| timed_out(doing, PROVE_TIMEOUT))?
    }

    /// Ends connections of replicas, and returns when the processes behind them are gone.
    async fn end_senders(&mut self, forget: Forget<'_>) -> Result<(), Error> {
        let names: Vec<String> = match forget {
            Forget::These(names) => names.iter().map(ToString::to_string).collect(),
            Forget::All => {
                let others = self.options.others();
                others.map(|peer| peer.name.to_string()).collect()
            }
        };
        if names.is_empty() {
            return Ok(());
        }
        let doing = "ending connections of replicas";
        let line = self.line().await?;
        let rows = line
            .session
            .query(END_SENDERS, &[&names])
            .await
            .doing(doing)?;
        let ended: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
        let ended = ended.doing(doing)?;
        let deadline = Instant::now() + SENDERS_END_TIMEOUT;
        while line
            .session
            .query_opt(STILL_THERE, &[&ended])
            .await
            .doing(doing)?
            .is_some()
        {
            if Instant::now() > deadline {
                return Err(timed_out(doing, SENDERS_END_TIMEOUT));
            }
            sleep(RELOAD_POLL_INTERVAL).await;
        }
        Ok(())
    }

    async fn flushed(&mut self) -> Result<Lsn, Error> {
        let doing = "asking for the end of the WAL";
        let query = "select pg_current_wal_flush_lsn()";
        let line = self.line().await?;
        let row = line.session.query_one(query, &[]).await.doing(doing)?;
        let lsn: PgLsn = row.try_get(0).doing(doing)?;
        Ok(Lsn(lsn.into()))
    }

    fn memory_file(&self) -> PathBuf {
        self.folder.join(MEMORY_FILE)
    }

    /// Writes down what is in force at this postmaster.
    fn remember(&self) -> Result<(), Error> {
        let Some(confirmed) = &self.life.confirmed else {
            return Ok(());
        };
        let text = Memory {
            pid: self.life.pid,
            started: start_time(self.life.pid).unwrap_or_default(),
            confirmed: confirmed.clone(),
        };
        self.owner
            .write_file(&self.memory_file(), &text.write(), 0o600)
    }

    /// What an earlier agent wrote down, if that was of this postmaster.
    fn remembered(&self) -> Option<Confirmed> {
        let text = fs::read_to_string(self.memory_file()).ok()?;
        let memory = Memory::read(&text)?;
        let same = memory.pid == self.life.pid && start_time(memory.pid) == Some(memory.started);
        same.then_some(memory.confirmed)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Memory {
    pid: u32,
    started: u64,
    confirmed: Confirmed,
}

impl Memory {
    fn write(&self) -> String {
        let Confirmed { set, since, proven } = &self.confirmed;
        let names = ConfirmedBy::Set(set.clone()).text();
        format!("{} {} {since} {proven}\n{names}\n", self.pid, self.started)
    }

    fn read(text: &str) -> Option<Self> {
        let (first, names) = text.split_once('\n')?;
        let words: Vec<&str> = first.split(' ').collect();
        let [pid, started, since, proven] = words.as_slice() else {
            return None;
        };
        let ConfirmedBy::Set(set) = ConfirmedBy::parse(names.strip_suffix('\n')?)? else {
            return None;
        };
        Some(Self {
            pid: pid.parse().ok()?,
            started: started.parse().ok()?,
            confirmed: Confirmed {
                set,
                since: since.parse().ok()?,
                proven: proven.parse().ok()?,
            },
        })
    }
}

/// A transaction that is to wait for replicas.
struct Probe {
    pid: i32,
    task: Option<JoinHandle<()>>,
}

impl Probe {
    async fn start(door: &Door) -> Result<Self, Error> {
        let doing = "beginning a commit that waits";
        let session = door.session().await?;
        session
            .batch_execute("set synchronous_commit = on")
            .await
            .doing(doing)?;
        let row = session
            .query_one("select pg_backend_pid()", &[])
            .await
            .doing(doing)?;
        let pid = row.try_get(0).doing(doing)?;
        let commit = async move {
            // However it ends, it has served its purpose.
            let _ = timeout(PROBE_KEPT_MAX, session.query_one(COMMIT, &[])).await;
        };
        Ok(Self {
            pid,
            task: Some(tokio::spawn(commit)),
        })
    }

    fn is_over(&self) -> bool {
        self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// It returns as soon as replicas have confirmed it.
    fn let_go(mut self) {
        self.task.take();
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Nobody may go on waiting for a replica that does not exist: dropped early, this has the setting from before
/// read again.
struct Restore {
    owner: Owner,
    path: PathBuf,
    conf: String,
    reload: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Restore {
    fn new(instance: &Instance, back: ConfirmedBy, access: Access) -> Result<Self, Error> {
        let settings = Settings {
            role: Role::Primary { confirmed_by: back },
            access,
        };
        let options = &instance.options;
        let postmaster = instance.postmaster.as_ref().ok_or_else(gone)?;
        Ok(Self {
            owner: instance.owner.clone(),
            path: options.data_dir.join(CONF_FILE),
            conf: trilith_conf_as(options, &instance.folder, &settings.part(options)),
            reload: Some(Box::new(postmaster.reloader())),
        })
    }

    fn disarm(mut self) {
        self.reload = None;
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        let Some(reload) = &self.reload else {
            return;
        };
        // What fails here is found by the next look, and done again.
        let _ = self
            .owner
            .write_file_if_changed(&self.path, &self.conf, 0o600);
        reload();
    }
}

/// Assigns a transaction id, so that its commit is one that waits.
const COMMIT: &str = "select pg_logical_emit_message(true, 'trilith', '')";

const WAITS: &str = "select from pg_stat_activity where pid = $1 and wait_event = 'SyncRep'";

/// A number may be used again, so it goes together with the start.
const END_SENDERS: &str = "\
    with ended as materialized (
        select pid, backend_start from pg_stat_replication where application_name = any($1)
    )
    select concat(pid, ' ', backend_start), pg_terminate_backend(pid) from ended";

const STILL_THERE: &str = "\
    select from pg_stat_activity where concat(pid, ' ', backend_start) = any($1) limit 1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_read() {
        let memory = |names: &[&str], acks| Memory {
            pid: 12,
            started: 345,
            confirmed: Confirmed {
                set: SyncSet {
                    members: names.iter().map(|n| ServerName::new(n).unwrap()).collect(),
                    acks,
                },
                since: Lsn(0x16_B374_D848),
                proven: acks > 0,
            },
        };
        for memory in [memory(&[], 0), memory(&["a", "b-c"], 1)] {
            assert_eq!(Memory::read(&memory.write()), Some(memory));
        }
        for text in [
            "",
            "1 2 0/0 true",
            "1 2 0/0 maybe\n\n",
            "1 2 true\n\n",
            "1 2 0/0 true\n*\n",
            "1 2 0/0 true\nANY 1 (\"trilith_nobody\")\n",
        ] {
            assert_eq!(Memory::read(text), None, "{text:?}");
        }
    }
}
