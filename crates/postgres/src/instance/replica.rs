//! Whom a replica receives from, and its promotion.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::{sleep, timeout};
use trilith_base::{BootTime, ServerName};
use trilith_ha::SyncSet;

use super::Instance;
use super::event::PostgresPromoted;
use super::line::{Look, Startup};
use super::settings::{ConfirmedBy, Settings};
use crate::error::{Error, FileContext, SqlContext};
use crate::files::sync_parent;
use crate::inspect::is_postgres_in;
use crate::limits::{
    FOLLOW_NOBODY_PATIENCE, FOLLOW_NOBODY_TIMEOUT, PROMOTE_TIMEOUT, RELOAD_POLL_INTERVAL,
    TIMELINE_GAP_MAX,
};
use crate::remote::timed_out;
use crate::wal::history_file;

/// A history file of a number that was never a timeline here.
const STUB: &str = "# not used\n";

impl Instance {
    /// Receives from that server from now on. From nobody: returns when nothing can come in any more.
    pub(super) async fn follow(&mut self, server: Option<&ServerName>) -> Result<(), Error> {
        if let Some(server) = server
            && self.options.peer(server).is_none()
        {
            return Err(Error::Blocked {
                what: format!("there is no database server {server} to follow"),
                hint: "look at the servers in the configuration file".to_owned(),
            });
        }
        // It was to be promoted, and is not any more.
        if self.life.wanted.take().is_some() {
            self.remove_stub_histories()?;
        }
        self.life.keep_clients_out = false;
        self.reload(Settings::replica(server.cloned())).await?;
        if server.is_none() {
            self.wait_until_quiet().await?;
        }
        Ok(())
    }

    /// What is reported after this decides who becomes the primary, so that nothing may come in later. The
    /// process that replays WAL asks for WAL receivers, with the settings that it has read. By now it has
    /// been told to read them again, and does so before it asks for the next one. An earlier one is over once
    /// that process rests, or is held up in replaying, while there is no receiver.
    async fn wait_until_quiet(&mut self) -> Result<(), Error> {
        let doing = "waiting for the WAL receiver to end";
        let began = Instant::now();
        let waiting = async {
            let mut busy_at = None;
            loop {
                let look = self.line().await?.look().await?;
                let Some(replica) = &look.replica else {
                    return Ok(());
                };
                // Replaying, it reads its settings after every record.
                let moved = busy_at.is_some_and(|at| replica.replayed > at);
                busy_at.get_or_insert(replica.replayed);
                let calm = match replica.startup {
                    Startup::Resting | Startup::HeldUp => true,
                    Startup::Busy => moved,
                    Startup::WaitingForWal => false,
                };
                if calm && !replica.receiving {
                    return Ok(());
                }
                if replica.receiving && began.elapsed() > FOLLOW_NOBODY_PATIENCE {
                    self.end_receiver().await?;
                }
                sleep(RELOAD_POLL_INTERVAL).await;
            }
        };
        let done = timeout(FOLLOW_NOBODY_TIMEOUT, waiting).await;
        done.map_err(|_| timed_out(doing, FOLLOW_NOBODY_TIMEOUT))?
    }

    /// `pg_terminate_backend` does not know it. It writes to disk what it has before it ends.
    async fn end_receiver(&mut self) -> Result<(), Error> {
        let doing = "ending the WAL receiver";
        let query = "select pid from pg_stat_activity where backend_type = 'walreceiver'";
        let line = self.line().await?;
        let Some(row) = line.session.query_opt(query, &[]).await.doing(doing)? else {
            return Ok(());
        };
        let number: i32 = row.try_get(0).doing(doing)?;
        let process = Pid::from_raw(number).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
        // It may have ended meanwhile; that is what is wanted.
        if let Some(Ok(process)) = process
            && is_postgres_in(number.cast_unsigned(), &self.options.data_dir)
        {
            let _ = pidfd_send_signal(process, Signal::TERM);
        }
        Ok(())
    }

    /// Ends recovery, on the timeline of that number. Closed to the application, and with every commit
    /// waiting for `sync`.
    pub(super) async fn promote(&mut self, sync: &SyncSet, timeline: u32) -> Result<(), Error> {
        let began = Instant::now();
        let look = self.line().await?.look().await?;
        if look.in_recovery {
            self.promote_to(sync, timeline, &look).await?;
        }
        // One that authenticated while the door was being closed.
        self.end_clients().await?;
        self.confirm_by(sync, &Default::default()).await?;
        let took = began.elapsed();
        self.telemetry.emit(&PostgresPromoted { timeline, took });
        Ok(())
    }

    async fn promote_to(
        &mut self,
        sync: &SyncSet,
        timeline: u32,
        look: &Look,
    ) -> Result<(), Error> {
        self.life.confirmed = None;
        self.life.wanted = Some(sync.clone());
        // Replicas connect as soon as they are told to.
        self.keep_slots().await?;
        let confirmed_by = match sync.is_alone() {
            true => ConfirmedBy::alone(),
            false => ConfirmedBy::Nobody,
        };
        self.reload(Settings::closed_primary(confirmed_by)).await?;
        self.life.keep_clients_out = true;
        self.end_clients().await?;
        let here = self.timeline_here(look);
        self.number_timeline(here, timeline)?;

        let doing = "promoting";
        let line = self.line().await?;
        let promote = "select pg_promote(false)";
        line.session.query_one(promote, &[]).await.doing(doing)?;
        let promoting = async {
            loop {
                let look = line.look().await?;
                if let Some(primary) = &look.primary {
                    return Ok::<u32, Error>(primary.timeline);
                }
                sleep(RELOAD_POLL_INTERVAL).await;
            }
        };
        let promoted = timeout(PROMOTE_TIMEOUT, promoting).await;
        let became = promoted.map_err(|_| timed_out(doing, PROMOTE_TIMEOUT))??;
        self.life.note_role(false, BootTime::now());
        if became != timeline {
            return Err(Error::Blocked {
                what: format!("PostgreSQL began timeline {became} and not {timeline}"),
                hint: "have this server copied anew".to_owned(),
            });
        }
        Ok(())
    }

    fn timeline_here(&self, look: &Look) -> u32 {
        let end = look.replica.as_ref().zip(self.life.line.as_ref());
        end.map_or(look.checkpoint_timeline, |(replica, line)| {
            let dir = &self.options.data_dir;
            replica
                .end(dir, line.shape, look.checkpoint_timeline)
                .timeline
        })
    }

    /// PostgreSQL takes the number after the last one, counted from its own, that it has a history file of
    /// (timeline.c, `findNewestTimeLine`). Those in between get one that says nothing; it stays, because
    /// replicas ask for it.
    pub(super) fn number_timeline(&self, here: u32, timeline: u32) -> Result<(), Error> {
        let blocked = |what: String| Error::Blocked {
            what,
            hint: "have this server copied anew".to_owned(),
        };
        if timeline <= here || timeline - here > TIMELINE_GAP_MAX {
            return Err(blocked(format!(
                "timeline {timeline} cannot follow timeline {here}"
            )));
        }
        let path = |number: u32| self.history_path(number);
        if path(timeline).exists() {
            return Err(blocked(format!(
                "timeline {timeline} is known here already"
            )));
        }
        for number in here + 1..timeline {
            if !path(number).exists() {
                self.owner.write_file(&path(number), STUB, 0o600)?;
            }
        }
        Ok(())
    }

    /// Of a promotion that did not come about: a PostgreSQL that starts takes the last of them for the newest
    /// timeline, and finds that it is none of its own.
    pub(super) fn remove_stub_histories(&self) -> Result<(), Error> {
        let dir = self.options.data_dir.join("pg_wal");
        let mut known: Vec<u32> = fs::read_dir(&dir)
            .at("look at", &dir)?
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let number = u32::from_str_radix(name.strip_suffix(".history")?, 16).ok()?;
                (name == history_file(number)).then_some(number)
            })
            .collect();
        known.sort_unstable();
        while let Some(last) = known.pop() {
            let path = self.history_path(last);
            let text = fs::read(&path).at("read", &path)?;
            if text != STUB.as_bytes() {
                break;
            }
            fs::remove_file(&path).at("remove", &path)?;
            sync_parent(&path)?;
        }
        Ok(())
    }

    fn history_path(&self, timeline: u32) -> PathBuf {
        let dir = self.options.data_dir.join("pg_wal");
        dir.join(history_file(timeline))
    }
}
