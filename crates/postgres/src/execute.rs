//! Carrying out the steps of a plan.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use trilith_base::{Clock, SystemClock};

use crate::binaries::Binaries;
use crate::conf::{
    Access, CONF_FILE, INCLUDE_LINE, PASS_FILE, pg_hba, pgpass, trilith_conf,
};
use crate::error::{Error, FileContext};
use crate::event::{DataSetAside, PostgresReady, PostgresStopped};
use crate::files::{move_aside, sibling, sync_file_system, sync_parent};
use crate::inspect::{StartState, start_state};
use crate::limits::{
    NOT_READY_INTERVAL, PEER_TIMEOUT, RELOAD_TIMEOUT, SETUP_TIMEOUT, START_POLL_INTERVAL,
};
use crate::logfile;
use crate::options::{MAINTENANCE_DATABASE, Role};
use crate::plan::Step;
use crate::postmaster::Postmaster;
use crate::programs::Programs;
use crate::remote::{Session, timed_out};
use crate::run::Manager;
use crate::sql::{conf_load_time, keep_slots, pending_restart, set_up};
use crate::status::Phase;

impl Manager {
    pub(crate) async fn execute(&mut self, step: Step, binaries: &Binaries) -> Result<(), Error> {
        match step {
            // Both end the plan before it comes to this.
            Step::Wait { .. } | Step::Fail { .. } => Ok(()),
            Step::Stop { pid } => {
                self.hold_on_to(pid)?;
                self.stop_postmaster().await
            }
            Step::RemoveUnfinished => self.remove_unfinished().await,
            Step::Initdb => {
                self.set_phase(Phase::Initialising);
                let target = self.make_unfinished().await?;
                self.programs(binaries).initdb(&target).await?;
                self.finish_unfinished(target).await
            }
            Step::BaseBackup { primary } => {
                self.set_phase(Phase::BaseBackup { percent: None });
                let target = self.make_unfinished().await?;
                let on_percent = |percent| {
                    let percent = Some(percent);
                    self.set_phase(Phase::BaseBackup { percent });
                };
                self.programs(binaries)
                    .base_backup(&primary, &target, on_percent)
                    .await?;
                self.finish_unfinished(target).await
            }
            Step::MoveAside { why } => {
                let seconds = SystemClock.since_epoch().as_secs();
                let to = move_aside(&self.options.data_dir, seconds)?;
                self.telemetry.emit(&DataSetAside { why: &why, to: &to });
                self.publish(|status| status.asides.push(to));
                Ok(())
            }
            Step::Install => self.install(),
            Step::WriteConfig => {
                self.config_changed |= self.write_config(&self.options.data_dir)?;
                Ok(())
            }
            Step::Adopt { pid } => self.adopt(pid).await,
            Step::Start => self.start(binaries).await,
            Step::Reload => self.reload(binaries).await,
            Step::SetUp => self.set_up().await,
        }
    }

    fn programs<'a>(&'a self, binaries: &'a Binaries) -> Programs<'a> {
        Programs {
            binaries,
            owner: &self.owner,
            options: &self.options,
            private: &self.folder,
        }
    }

    async fn remove_unfinished(&self) -> Result<(), Error> {
        let path = unfinished(&self.options.data_dir);
        let removed = {
            let path = path.clone();
            spawn_blocking(move || fs::remove_dir_all(path)).await
        };
        match removed {
            Ok(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).at("remove", &path)
            }
            _ => Ok(()),
        }
    }

    /// A new, empty folder beside the data directory.
    async fn make_unfinished(&self) -> Result<PathBuf, Error> {
        self.remove_unfinished().await?;
        let path = unfinished(&self.options.data_dir);
        self.owner.make_private_folder(&path)?;
        Ok(path)
    }

    /// What a program has filled becomes ours, and durable.
    async fn finish_unfinished(&self, target: PathBuf) -> Result<(), Error> {
        self.write_config(&target)?;
        let syncing = spawn_blocking(move || sync_file_system(&target));
        // It can only fail to be joined when the runtime shuts down.
        syncing.await.unwrap_or(Ok(()))
    }

    /// The finished copy becomes the data directory.
    fn install(&self) -> Result<(), Error> {
        let target = &self.options.data_dir;
        // An empty folder may be in the way; a folder with something in it is not removed.
        match fs::remove_dir(target) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).at("remove the empty folder", target);
            }
            _ => {}
        }
        fs::rename(unfinished(target), target).at("put in place", target)?;
        sync_parent(target)
    }

    /// Writes all our files into the data directory `target`, which may still lie elsewhere. Whether
    /// one of them changed.
    fn write_config(&self, target: &Path) -> Result<bool, Error> {
        let write = |name: &str, text: &str| {
            let path = target.join(name);
            self.owner.write_file_if_changed(&path, text, 0o600)
        };
        let mut changed = crate::tls::write_files(&self.options, &self.owner)?;
        changed |= write(CONF_FILE, &trilith_conf(&self.options, &self.folder))?;
        changed |= write("pg_hba.conf", &pg_hba(&self.options, Access::Open))?;
        if let Role::Replica { .. } = self.options.role {
            changed |= write(PASS_FILE, &pgpass(&self.options))?;
            changed |= write("standby.signal", "")?;
        }
        let path = target.join("postgresql.conf");
        let main = fs::read_to_string(&path).at("read", &path)?;
        if !main.lines().any(|line| line.trim() == INCLUDE_LINE) {
            let text = format!("{}\n\n{INCLUDE_LINE}\n", main.trim_end());
            changed |= self.owner.write_file_if_changed(&path, &text, 0o600)?;
        }
        Ok(changed)
    }

    /// Makes sure that `self.postmaster` is the process `pid`, if that still is our postmaster.
    fn hold_on_to(&mut self, pid: u32) -> Result<(), Error> {
        if self.postmaster.as_ref().map(Postmaster::pid) != Some(pid) {
            self.postmaster = Postmaster::adopt(pid, &self.options.data_dir)?;
            self.session = None;
        }
        Ok(())
    }

    async fn adopt(&mut self, pid: u32) -> Result<(), Error> {
        let known = self.postmaster.as_ref().map(Postmaster::pid) == Some(pid);
        self.hold_on_to(pid)?;
        let began = Instant::now();
        self.wait_until_ready().await?;
        if !known {
            self.telemetry.emit(&PostgresReady {
                pid,
                adopted: true,
                took: began.elapsed(),
            });
        }
        Ok(())
    }

    async fn start(&mut self, binaries: &Binaries) -> Result<(), Error> {
        let why = String::new();
        self.set_phase(Phase::Starting { why });
        let began = Instant::now();
        self.session = None;
        self.log_start = logfile::length(&self.options.log_file);
        let postmaster = Postmaster::start(binaries, &self.owner, &self.options).await?;
        let pid = postmaster.pid();
        self.postmaster = Some(postmaster);
        self.config_changed = false;
        self.wait_until_ready().await?;
        self.telemetry.emit(&PostgresReady {
            pid,
            adopted: false,
            took: began.elapsed(),
        });
        Ok(())
    }

    /// Waits for as long as the process lives: recovery takes its time. Says what it waits for.
    async fn wait_until_ready(&mut self) -> Result<(), Error> {
        let Some(postmaster) = &self.postmaster else {
            return Err(self.ended_while_starting("it was gone".to_owned()));
        };
        let pid = postmaster.pid();
        self.publish(|status| status.pid = Some(pid));
        let ended = postmaster.ended();
        let how = tokio::select! {
            connected = self.connect_when_ready(pid) => {
                self.session = Some(connected?);
                return Ok(());
            }
            () = ended => self.forget_postmaster().await,
        };
        Err(self.ended_while_starting(how))
    }

    async fn connect_when_ready(&self, pid: u32) -> Result<Session, Error> {
        loop {
            // PostgreSQL writes down how far it is. Asking it by connecting would fill its log.
            match start_state(&self.options.data_dir, pid) {
                StartState::Ready => match self.connect().await {
                    Ok(session) => return Ok(session),
                    // It was ready a moment ago, and has crashed or is stopping.
                    Err(Error::Timeout { .. }) => sleep(NOT_READY_INTERVAL).await,
                    Err(Error::Sql { source, .. })
                        if source.is_not_ready() || source.0.code().is_none() =>
                    {
                        self.set_phase(Phase::Starting {
                            why: source.to_string(),
                        });
                        sleep(NOT_READY_INTERVAL).await;
                    }
                    Err(error) => return Err(error),
                },
                StartState::NotReady(why) => {
                    self.set_phase(Phase::Starting {
                        why: why.to_owned(),
                    });
                    sleep(START_POLL_INTERVAL).await;
                }
            }
        }
    }

    pub(crate) async fn connect(&self) -> Result<Session, Error> {
        let password = &self.options.secrets.superuser;
        let port = self.options.port;
        Session::local(
            &self.folder,
            port,
            MAINTENANCE_DATABASE,
            password,
            PEER_TIMEOUT,
        )
        .await
    }

    fn ended_while_starting(&self, how: String) -> Error {
        Error::Start {
            how,
            log: logfile::complaints(&self.options.log_file, self.log_start),
        }
    }

    /// A running PostgreSQL goes on as it is when the new files have an error in them.
    async fn reload(&mut self, binaries: &Binaries) -> Result<(), Error> {
        let (Some(session), Some(postmaster)) = (&self.session, &self.postmaster) else {
            return Ok(());
        };
        if !self.config_changed {
            return Ok(());
        }
        let check = self.programs(binaries).check_config().await;
        if let Err(Error::Program { output, .. }) = check {
            let reason = format!("the new settings were not applied: {output}");
            let hint = "correct [database.parameters]; PostgreSQL would not start with them";
            self.report_failure(&reason, Some(hint));
            return Ok(());
        }
        let before = conf_load_time(session).await?;
        postmaster.reload()?;
        let doing = "reloading the configuration";
        let pending = timeout(RELOAD_TIMEOUT, async {
            while conf_load_time(session).await? == before {
                sleep(START_POLL_INTERVAL).await;
            }
            pending_restart(session).await
        })
        .await
        .map_err(|_| timed_out(doing, RELOAD_TIMEOUT))??;
        self.config_changed = false;
        if !pending.is_empty() {
            tracing::info!(
                settings = pending.join(", "),
                "restarting postgres to apply settings"
            );
            self.stop_postmaster().await?;
            self.start(binaries).await?;
        }
        Ok(())
    }

    async fn set_up(&mut self) -> Result<(), Error> {
        let (Some(session), Role::Primary { replicas }) = (&self.session, &self.options.role)
        else {
            return Ok(());
        };
        self.set_phase(Phase::SettingUp);
        let work = async {
            set_up(session, &self.options).await?;
            keep_slots(session, replicas).await
        };
        let (changes, slots) = timeout(SETUP_TIMEOUT, work)
            .await
            .map_err(|_| timed_out("creating roles and database", SETUP_TIMEOUT))??;
        self.report_slots(&changes, slots);
        Ok(())
    }

    pub(crate) async fn stop_postmaster(&mut self) -> Result<(), Error> {
        let Some(postmaster) = self.postmaster.take() else {
            return Ok(());
        };
        self.set_phase(Phase::Stopping);
        self.session = None;
        let began = Instant::now();
        let mode = postmaster.stop(self.options.stop).await?;
        self.telemetry.emit(&PostgresStopped {
            mode,
            took: began.elapsed(),
        });
        self.forget_postmaster().await;
        Ok(())
    }
}

/// Where a data directory is made before it is put in place.
pub(crate) fn unfinished(data_dir: &Path) -> PathBuf {
    sibling(data_dir, "new")
}
