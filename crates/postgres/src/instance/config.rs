//! Configuration files: writing them, having them read, and knowing that they were.
//!
//! A process of PostgreSQL reads them when it gets to it, and stamps that with its own time
//! (`pg_conf_load_time()`). A session that began after a reload has the postmaster's stamp, because it is its
//! child; so a new session with a stamp from after the request proves that the postmaster has read
//! everything, `pg_hba.conf` included, and that whoever connects from now on is treated accordingly.

use std::fs;
use std::path::Path;

use tokio::time::{sleep, timeout};
use trilith_base::BootTime;

use super::Instance;
use super::line::{Line, Look};
use super::settings::{ConfirmedBy, Role, Settings, followed, lets_application_in};
use crate::conf::{Access, CONF_FILE, INCLUDE_LINE, PASS_FILE, pg_hba, pgpass, trilith_conf_as};
use crate::error::{Error, FileContext, SqlContext};
use crate::limits::{CLIENTS_END_TIMEOUT, RELOAD_POLL_INTERVAL, RELOAD_TIMEOUT, SETTLE_ROUNDS_MAX};
use crate::options::{ADMIN_ROLE, MONITOR_ROLE, REPLICATION_ROLE};
use crate::remote::timed_out;

use super::event::ClientsEnded;

const HBA_FILE: &str = "pg_hba.conf";

impl Instance {
    /// What is in force.
    ///
    /// # Errors
    /// It is not known, because a step was dropped; the next look finds out.
    pub(super) fn settings(&self) -> Result<&Settings, Error> {
        self.life.settings.as_ref().ok_or_else(|| Error::Blocked {
            what: "what PostgreSQL was told last is not known yet".to_owned(),
            hint: "nothing: it is found out within a second".to_owned(),
        })
    }

    /// Finishes what a step, or an earlier agent, left half done, so that what is remembered is what is.
    pub(super) async fn settle(&mut self, mut look: Look) -> Result<Look, Error> {
        for _ in 0..SETTLE_ROUNDS_MAX {
            if self.is_as_remembered(&look) {
                self.drop_left_slots(&look).await;
                return Ok(look);
            }
            if self.life.settings.is_none() {
                self.adopt(&look).await?;
            } else {
                self.confirm_again(&look).await?;
                if self.life.keep_clients_out {
                    self.end_clients().await?;
                }
            }
            look = self.line().await?.look().await?;
        }
        Err(Error::Blocked {
            what: "PostgreSQL does not stay as it is told to be".to_owned(),
            hint: "look for settings that somebody else changes".to_owned(),
        })
    }

    /// The kept session, or a new one.
    pub(super) async fn line(&mut self) -> Result<&Line, Error> {
        let line = match self.life.line.take() {
            Some(line) => line,
            None => self.door().line().await?,
        };
        Ok(self.life.line.insert(line))
    }

    /// Finds out what is in force, and has our files of today read.
    async fn adopt(&mut self, look: &Look) -> Result<(), Error> {
        let hba = fs::read_to_string(self.options.data_dir.join(HBA_FILE)).unwrap_or_default();
        let access = match lets_application_in(&hba, &self.options) {
            true => Access::Open,
            false => Access::Closed,
        };
        let role = match look.in_recovery {
            true => Role::Replica {
                follow: followed(&self.options, &look.primary_conninfo),
            },
            false => Role::Primary {
                confirmed_by: ConfirmedBy::parse(&look.synchronous_standby_names)
                    .unwrap_or_else(ConfirmedBy::alone),
            },
        };
        // Sessions that came in through a closed door were there before it was closed.
        self.life.keep_clients_out |= !look.in_recovery && access == Access::Closed;
        self.reload(Settings { role, access }).await?;
        self.tell_wrong_settings().await
    }

    /// Writes all our files into the data directory `target`, which may still lie elsewhere. Whether one of
    /// them changed.
    pub(super) fn write_config(&self, target: &Path, settings: &Settings) -> Result<bool, Error> {
        let options = &self.options;
        let write = |name: &str, text: &str| {
            let path = target.join(name);
            self.owner.write_file_if_changed(&path, text, 0o600)
        };
        let mut changed = crate::tls::write_files(options, &self.owner)?;
        let conf = trilith_conf_as(options, &self.folder, &settings.part(options));
        changed |= write(CONF_FILE, &conf)?;
        changed |= write(HBA_FILE, &pg_hba(options, settings.access))?;
        changed |= write(PASS_FILE, &pgpass(options))?;
        let path = target.join("postgresql.conf");
        let main = fs::read_to_string(&path).at("read", &path)?;
        if !main.lines().any(|line| line.trim() == INCLUDE_LINE) {
            let text = format!("{}\n\n{INCLUDE_LINE}\n", main.trim_end());
            changed |= self.owner.write_file_if_changed(&path, &text, 0o600)?;
        }
        Ok(changed)
    }

    /// Brings `settings` in force, and returns when they are.
    pub(super) async fn reload(&mut self, settings: Settings) -> Result<(), Error> {
        let known = self.life.settings.take();
        let changed = self.write_config(&self.options.data_dir, &settings)?;
        if !changed && !self.life.overridden && known.as_ref() == Some(&settings) {
            self.life.settings = known;
            return Ok(());
        }
        let doing = "reloading the configuration";
        let asked_at = {
            let line = self.line().await?;
            let row = line
                .session
                .query_one(SERVER_TIME, &[])
                .await
                .doing(doing)?;
            row.try_get::<_, i64>(0).doing(doing)?
        };
        let Some(postmaster) = &self.postmaster else {
            return Err(gone());
        };
        postmaster.reload()?;
        let loaded = timeout(RELOAD_TIMEOUT, self.loaded(asked_at, &settings)).await;
        let line = loaded.map_err(|_| timed_out(doing, RELOAD_TIMEOUT))??;
        self.life.line = Some(line);
        self.life.connected_at = Some(BootTime::now());
        self.life.settings = Some(settings);
        self.life.overridden = false;
        Ok(())
    }

    /// A session that began after a reload that began after that time, on the server's clock.
    async fn loaded(&self, asked_at: i64, settings: &Settings) -> Result<Line, Error> {
        let doing = "looking whether the configuration was read";
        let door = self.door();
        loop {
            let line = door.line().await?;
            let row = line.session.query_one(LOADED, &[]).await.doing(doing)?;
            if row.try_get::<_, i64>(0).doing(doing)? > asked_at {
                let names: String = row.try_get(1).doing(doing)?;
                let conninfo: String = row.try_get(2).doing(doing)?;
                self.check_loaded(settings, &names, &conninfo)?;
                return Ok(line);
            }
            sleep(RELOAD_POLL_INTERVAL).await;
        }
    }

    fn check_loaded(&self, settings: &Settings, names: &str, conninfo: &str) -> Result<(), Error> {
        let overridden = |setting: &str, shown: &str| Error::Blocked {
            what: format!("PostgreSQL has {setting} = '{shown}', which Trilith did not set"),
            hint: format!(
                "undo it: `alter system reset {setting}`, and look at postgresql.conf for lines \
                 below `{INCLUDE_LINE}`"
            ),
        };
        if names != settings.standby_names(&self.options) {
            return Err(overridden("synchronous_standby_names", names));
        }
        let follows = followed(&self.options, conninfo);
        if follows.as_ref() != settings.follows() || (follows.is_none() && !conninfo.is_empty()) {
            return Err(overridden("primary_conninfo", conninfo));
        }
        Ok(())
    }

    /// Values in the configuration file that PostgreSQL refused; it goes on with the old ones.
    async fn tell_wrong_settings(&mut self) -> Result<(), Error> {
        let doing = "looking for settings that were not applied";
        let line = self.line().await?;
        let rows = line.session.query(WRONG_SETTINGS, &[]).await.doing(doing)?;
        let wrong: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
        let wrong = wrong.doing(doing)?;
        if !wrong.is_empty() {
            let reason = format!("the new settings were not applied: {}", wrong.join(", "));
            let hint = "correct [database.parameters]; PostgreSQL would not start with them";
            self.report_failure(&reason, Some(hint));
        }
        Ok(())
    }

    /// Ends the sessions that are not our own, and returns when there is none.
    pub(super) async fn end_clients(&mut self) -> Result<(), Error> {
        let doing = "ending the application's sessions";
        let line = self.line().await?;
        let ending = async {
            let mut ended = 0;
            loop {
                let row = line
                    .session
                    .query_one(&end_clients(), &[])
                    .await
                    .doing(doing)?;
                match row.try_get::<_, i64>(0).doing(doing)? {
                    0 => return Ok::<i64, Error>(ended),
                    count => ended = ended.max(count),
                }
                sleep(RELOAD_POLL_INTERVAL).await;
            }
        };
        let ended = timeout(CLIENTS_END_TIMEOUT, ending)
            .await
            .map_err(|_| timed_out(doing, CLIENTS_END_TIMEOUT))??;
        if ended > 0 {
            self.telemetry.emit(&ClientsEnded { count: ended });
        }
        Ok(())
    }

    pub(super) async fn open(&mut self) -> Result<(), Error> {
        let settings = self.settings()?.clone();
        // Normally it has been proven long before.
        if let Some(confirmed) = self.life.confirmed.clone()
            && !confirmed.set.is_alone()
            && !confirmed.proven
        {
            self.confirm_by(&confirmed.set, &Default::default()).await?;
        }
        self.life.keep_clients_out = false;
        let access = Access::Open;
        self.reload(Settings { access, ..settings }).await
    }

    pub(super) async fn close(&mut self) -> Result<(), Error> {
        let settings = self.settings()?.clone();
        let access = Access::Closed;
        self.reload(Settings { access, ..settings }).await
    }
}

pub(super) fn gone() -> Error {
    Error::Blocked {
        what: "PostgreSQL does not run".to_owned(),
        hint: "nothing: the next look finds out why".to_owned(),
    }
}

const SERVER_TIME: &str = "select (extract(epoch from clock_timestamp()) * 1000000)::int8";

const LOADED: &str = "\
    select (extract(epoch from pg_conf_load_time()) * 1000000)::int8,
           current_setting('synchronous_standby_names'), current_setting('primary_conninfo')";

/// Files are read anew for this, so what was just corrected is no error any more. Those that wait for a restart
/// are said to be wrong there as well, and are not.
const WRONG_SETTINGS: &str = "\
    select format('%s = %s', name, setting) from pg_file_settings file
     where error = 'setting could not be applied'
       and not exists (select from pg_settings
                        where pg_settings.name = file.name and pending_restart)";

fn end_clients() -> String {
    format!(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity
          where backend_type = 'client backend'
            and usename not in ('{ADMIN_ROLE}', '{MONITOR_ROLE}', '{REPLICATION_ROLE}')"
    )
}
