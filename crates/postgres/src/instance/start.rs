//! Starting PostgreSQL, and what belongs to a primary besides its data.

use tokio::time::{sleep, timeout};
use trilith_base::BootTime;
use trilith_ha::{Kind, StartAs};

use super::Instance;
use super::config::gone;
use super::life::Life;
use super::line::Line;
use super::settings::{ConfirmedBy, Settings};
use crate::error::{Error, SqlContext};
use crate::event::{SlotChange, SlotChanged};
use crate::inspect::{StartState, start_state};
use crate::limits::{
    CHECKPOINT_TIMEOUT, NOT_READY_INTERVAL, SETUP_AGAIN_INTERVAL, SETUP_TIMEOUT,
    START_POLL_INTERVAL,
};
use crate::logfile;
use crate::options::Peer;
use crate::postmaster::Postmaster;
use crate::remote::timed_out;
use crate::sql::{ensure_extensions, keep_slots, set_up, set_up_further};
use crate::status::Phase;

impl Instance {
    /// Returns when it takes connections, and, as a primary, when the synchronous set is in force. It may take
    /// long: it recovers first.
    pub(super) async fn start(&mut self, how: &StartAs) -> Result<(), Error> {
        if self.postmaster.is_some() {
            // The next look tells what runs, and the next plan what that is to be.
            return Ok(());
        }
        let was = self.kind_on_disk();
        let settings = match how {
            // From the first moment on every commit waits; who confirms it follows.
            StartAs::Primary { sync } if !sync.is_alone() => {
                Settings::closed_primary(ConfirmedBy::Nobody)
            }
            StartAs::Primary { .. } => Settings::closed_primary(ConfirmedBy::alone()),
            StartAs::Replica { follow } => Settings::replica(follow.clone()),
        };
        if let Err(error) = self.start_with(how, settings).await {
            self.failures.add();
            self.note_start_failure(how, was, &error);
            return Err(error);
        }
        if let StartAs::Primary { sync } = how {
            // Replicas cannot connect without.
            self.keep_slots().await?;
            self.confirm_by(sync, &Default::default()).await?;
        }
        Ok(())
    }

    async fn start_with(&mut self, how: &StartAs, settings: Settings) -> Result<(), Error> {
        let why = String::new();
        self.set_phase(Phase::Starting { why });
        let dir = self.options.data_dir.clone();
        let binaries = self.any_binaries()?;
        self.remove_stub_histories()?;
        let raised = self.write_start_config(&settings).await?;
        let kind = match how {
            StartAs::Primary { .. } => Kind::Primary,
            StartAs::Replica { .. } => Kind::Replica,
        };
        self.write_kind(&dir, kind)?;
        self.log_start = logfile::length(&self.options.log_file);
        let postmaster = Postmaster::start(&binaries, &self.owner, &self.options).await?;
        self.life = Life::started(postmaster.pid());
        self.life.settings = Some(settings.clone());
        if let StartAs::Primary { sync } = how {
            self.life.wanted = Some(sync.clone());
            self.life.keep_clients_out = true;
        }
        self.postmaster = Some(postmaster);
        self.disk.parted = false;
        self.wait_until_ready().await?;
        match raised {
            // From here on the files say what is wanted, and PostgreSQL what waits for a restart.
            true => self.reload(settings).await,
            false => Ok(()),
        }
    }

    /// Waits for as long as the process lives: recovery takes its time. Says what it waits for.
    async fn wait_until_ready(&mut self) -> Result<(), Error> {
        let Some(postmaster) = &self.postmaster else {
            return Err(gone());
        };
        let pid = postmaster.pid();
        self.publish(|status| status.pid = Some(pid));
        let ended = postmaster.ended();
        let how = tokio::select! {
            line = self.line_when_ready(pid) => {
                self.connected(line?, BootTime::now());
                return Ok(());
            }
            () = ended => self.forget_postmaster().await,
        };
        Err(Error::Start {
            how,
            log: logfile::complaints(&self.options.log_file, self.log_start),
        })
    }

    async fn line_when_ready(&self, pid: u32) -> Result<Line, Error> {
        loop {
            // PostgreSQL writes down how far it is. Asking it by connecting would fill its log.
            match start_state(&self.options.data_dir, pid) {
                StartState::Ready => match Self::within(self.door().line()).await {
                    Ok(line) => return Ok(line),
                    // It was ready a moment ago, and has crashed or is stopping.
                    Err(Error::Timeout { .. }) => sleep(NOT_READY_INTERVAL).await,
                    Err(Error::Sql { source, .. })
                        if source.is_not_ready() || source.0.code().is_none() =>
                    {
                        let why = source.to_string();
                        self.set_phase(Phase::Starting { why });
                        sleep(NOT_READY_INTERVAL).await;
                    }
                    Err(error) => return Err(error),
                },
                StartState::NotReady(why) => {
                    let why = why.to_owned();
                    self.set_phase(Phase::Starting { why });
                    sleep(START_POLL_INTERVAL).await;
                }
            }
        }
    }

    fn note_start_failure(&mut self, how: &StartAs, was: Kind, error: &Error) {
        let Error::Start { log, .. } = error else {
            return;
        };
        self.disk.note_complaint(log);
        // The shutdown checkpoint of a former primary never reached the new one. As a primary's data they
        // can be rewound.
        let parted = log.contains("is not a child of this server's history");
        if parted && was == Kind::Primary && matches!(how, StartAs::Replica { .. }) {
            let dir = self.options.data_dir.clone();
            self.disk.parted = self.write_kind(&dir, Kind::Primary).is_ok();
        }
    }

    fn kind_on_disk(&self) -> Kind {
        match self.options.data_dir.join("standby.signal").exists() {
            true => Kind::Replica,
            false => Kind::Primary,
        }
    }

    /// Roles, databases, slots.
    pub(super) async fn set_up(&mut self) -> Result<(), Error> {
        self.set_phase(Phase::SettingUp);
        let doing = "creating roles and database";
        let door = self.door();
        let work = async {
            // A session of its own: it may wait for locks.
            let session = door.session().await?;
            set_up(&session, &self.options).await
        };
        timeout(SETUP_TIMEOUT, work)
            .await
            .map_err(|_| timed_out(doing, SETUP_TIMEOUT))??;
        self.keep_slots().await?;
        self.set_up_further().await;
        self.life.set_up = true;
        Ok(())
    }

    /// What else the file names. The site works without it: an extension that is not installed is told,
    /// and tried again later.
    async fn set_up_further(&mut self) {
        let doing = "creating further databases, users and extensions";
        let options = &self.options;
        let door = self.door();
        let work = async {
            set_up_further(&door.session().await?, options).await?;
            let own = [(&options.database, &options.extensions)];
            let further = options.databases.iter();
            let further = further.map(|database| (&database.name, &database.extensions));
            for (database, extensions) in own.into_iter().chain(further) {
                if !extensions.is_empty() {
                    let session = door.session_in(database).await?;
                    ensure_extensions(&session, extensions).await?;
                }
            }
            Ok::<(), Error>(())
        };
        let done = timeout(SETUP_TIMEOUT, work).await;
        let done = done.unwrap_or_else(|_| Err(timed_out(doing, SETUP_TIMEOUT)));
        self.life.set_up_until = match done {
            Ok(()) => None,
            Err(error) => {
                let hint = "an extension has to be installed on every database server; see \
                            [database] of the file";
                self.report_failure(&error.to_string(), Some(hint));
                Some(BootTime::now() + SETUP_AGAIN_INTERVAL)
            }
        };
    }

    /// The slots of all other servers, and no others.
    pub(super) async fn keep_slots(&mut self) -> Result<(), Error> {
        let others: Vec<Peer> = self.options.others().cloned().collect();
        self.change_slots(&others).await
    }

    async fn change_slots(&mut self, wanted: &[Peer]) -> Result<(), Error> {
        let line = self.line().await?;
        let changes = Self::within(keep_slots(&line.session, wanted)).await?;
        self.tell_slots(&changes);
        Ok(())
    }

    /// Slots on a replica are from when it was a primary. They would hold its WAL for ever.
    pub(super) async fn drop_left_slots(&mut self, look: &super::line::Look) {
        let promoting = self.life.wanted.is_some();
        let idle = |slot: &super::line::SlotSeen| !slot.active;
        if look.in_recovery && !promoting && look.slots.iter().any(idle) {
            // The next look tries again.
            let _ = self.change_slots(&[]).await;
        }
    }

    fn tell_slots(&self, changes: &[(SlotChange, String)]) {
        for (what, slot) in changes {
            let what = *what;
            self.telemetry.emit(&SlotChanged { slot, what });
        }
    }

    pub(super) async fn checkpoint(&mut self) -> Result<(), Error> {
        let doing = "writing a checkpoint";
        let door = self.door();
        let work = async {
            let session = door.session().await?;
            session.batch_execute("checkpoint").await.doing(doing)
        };
        let done = timeout(CHECKPOINT_TIMEOUT, work).await;
        done.map_err(|_| timed_out(doing, CHECKPOINT_TIMEOUT))?
    }
}
