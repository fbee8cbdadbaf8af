//! The PostgreSQL of this server: looking at it, and carrying out the steps of [`trilith_ha::Plan`] that
//! concern it.
//!
//! A step may be dropped at any moment; the next look finds out what is there, and finishes what must not be
//! left half done.

use std::path::PathBuf;
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use trilith_base::{BootTime, ServerName};
use trilith_ha::{Data, Local, Plan, PrimarySeen, Process, Step, StopMode};
use trilith_telemetry::Telemetry;

use crate::binaries::Binaries;
use crate::error::Error;
use crate::event::{PostgresDied, PostgresFailed, PostgresStopped};
use crate::files::{Owner, siblings};
use crate::guard::kill_all;
use crate::leftovers::{remove_spare_folder, run_folder};
use crate::limits::{
    ASK_TIMEOUT, KILL_ALL_TIMEOUT, STOP_FAST_MAX, STOP_IMMEDIATE_MAX, STOP_KILL_POLL_INTERVAL,
};
use crate::logfile;
use crate::options::Options;
use crate::postmaster::Postmaster;
use crate::programs::{Programs, kill_left_helper};
use crate::remote::ask_primary;
use crate::status::{Phase, Status};

mod ask;
mod config;
mod confirm;
mod copy;
mod disk;
mod event;
mod floors;
mod life;
mod line;
mod place;
mod publish;
mod replica;
mod settings;
mod start;

use disk::Disk;
use life::{Failures, Life};
use line::Door;

pub(crate) struct Instance {
    options: Options,
    telemetry: Telemetry,
    status: watch::Sender<Status>,
    owner: Owner,
    /// For the socket and for password files of a moment.
    folder: PathBuf,
    /// Keeps the certificate's files as they should be.
    certificates: JoinHandle<()>,
    binaries: Option<Binaries>,
    postmaster: Option<Postmaster>,
    /// What is remembered of the postmaster that runs.
    life: Life,
    disk: Disk,
    failures: Failures,
    /// The last failure that was reported: the same one is not news.
    reported: Option<String>,
    /// Where the log ended when PostgreSQL was started.
    log_start: u64,
    log_looked_at: Option<BootTime>,
    first_look: bool,
}

impl Instance {
    /// Needs a runtime around it: the certificate's files are kept by a task.
    pub fn new(options: Options, telemetry: Telemetry, status: watch::Sender<Status>) -> Self {
        let owner = Owner::of(&options);
        Self {
            folder: run_folder(&options),
            certificates: keep_certificates(&options, &owner),
            log_start: logfile::length(&options.log_file),
            owner,
            options,
            telemetry,
            status,
            binaries: None,
            postmaster: None,
            life: Life::default(),
            disk: Disk::default(),
            failures: Failures::default(),
            reported: None,
            log_looked_at: None,
            first_look: true,
        }
    }

    /// Looks at the data directory and the process. Takes milliseconds, and about a second while PostgreSQL
    /// hangs. What an earlier agent, or a step that was dropped, left half done is finished on the way.
    pub async fn observe(&mut self) -> Local {
        self.rotate_log().await;
        let folders = self.prepare_folders();
        self.follow_postmaster().await;
        let process = self.process().await;
        let data = match folders {
            Ok(()) => self.data(&process).await,
            Err(error) => Data::Unusable {
                what: error.to_string(),
                hint: error.hint().unwrap_or_default(),
            },
        };
        let asides = siblings(&self.options.data_dir, "aside");
        let local = Local {
            data,
            process,
            asides: asides.len(),
            failures: self.failures.count(),
        };
        self.publish_look(&local, asides);
        self.first_look = false;
        local
    }

    /// Carries out one step that concerns PostgreSQL. Those of the cluster store are none of its business.
    ///
    /// # Errors
    /// It was not done, or not as a whole; the next look tells how far it came.
    pub async fn execute(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Initdb => self.initdb().await,
            Step::Copy { from } => self.copy(from).await,
            Step::Rewind { from } => self.rewind(from).await,
            Step::Start { how } => self.start(how).await,
            Step::Stop { mode } => self.stop(*mode).await,
            Step::Promote { sync, timeline } => self.promote(sync, *timeline).await,
            Step::Follow { server } => self.follow(server.as_ref()).await,
            Step::Sync { set, forget, .. } => self.confirm_by(set, forget).await,
            Step::Open => self.open().await,
            Step::Close => self.close().await,
            Step::SetUp => self.set_up().await,
            Step::Checkpoint => self.checkpoint().await,
            Step::Wait
            | Step::Fail { .. }
            | Step::Report(_)
            | Step::TakeLease(_)
            | Step::GiveUpLease { .. }
            | Step::WriteRecord(_)
            | Step::Found { .. }
            | Step::ForgetRequest { .. }
            | Step::ForgetReinit
            | Step::Restart(_) => Ok(()),
        }
    }

    /// Completes when the postmaster has ended; never, when there is none. Does not borrow.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let ended = self.postmaster.as_ref().map(Postmaster::ended);
        async move {
            match ended {
                Some(ended) => ended.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Asks another server's PostgreSQL what its replica needs to know. `None`: no answer within a second.
    pub async fn ask_primary(&self, server: &ServerName) -> Option<PrimarySeen> {
        let peer = self.options.peer(server)?;
        ask_primary(&self.options, peer).await.ok()
    }

    /// SIGKILL to every process of the data directory. Returns when they are gone, within 200 ms unless the
    /// kernel cannot end them.
    pub async fn kill(&mut self) {
        let began = Instant::now();
        loop {
            let found = kill_all(&self.options.data_dir);
            // A postmaster that is dying is not found any more some time before it has ended.
            let ended = self.postmaster.as_ref().is_none_or(Postmaster::has_ended);
            if (found.is_empty() && ended) || began.elapsed() >= KILL_ALL_TIMEOUT {
                break;
            }
            sleep(STOP_KILL_POLL_INTERVAL).await;
        }
        if self.postmaster.as_ref().is_some_and(Postmaster::has_ended) {
            self.forget_postmaster().await;
            self.tell_stopped("kill", began);
        }
    }

    /// The cluster store knows this database now.
    pub async fn founded(&mut self) -> Result<(), Error> {
        self.remove_unfounded_mark()
    }

    /// Goes on with other options. What PostgreSQL is told by its files follows at the next look.
    pub fn set_options(&mut self, options: Options) {
        self.certificates.abort();
        self.certificates = keep_certificates(&options, &self.owner);
        self.options = options;
        self.life.settings = None;
        self.life.set_up = false;
        self.life.set_up_until = None;
    }

    /// What is being done, or waited for.
    pub fn describe_plan(&self, plan: &Plan) {
        self.publish(|status| status.plan = Some(plan.reason.clone()));
    }

    /// The plan is that a person must act.
    pub fn ask_a_person(&mut self, why: &str, hint: &str) {
        self.fail(why.to_owned(), Some(hint.to_owned()));
    }

    /// A step has failed, and will be tried again.
    pub fn step_failed(&mut self, error: &Error) {
        self.fail(error.to_string(), error.hint());
    }

    /// PostgreSQL was stopped, and nobody looks after it any more.
    pub fn stopped(&mut self) {
        remove_spare_folder(&self.options, &self.folder);
        self.set_phase(Phase::Stopped);
    }

    fn programs<'a>(&'a self, binaries: &'a Binaries) -> Programs<'a> {
        Programs {
            binaries,
            owner: &self.owner,
            options: &self.options,
            private: &self.folder,
        }
    }

    fn door(&self) -> Door {
        Door::new(&self.options, self.folder.clone())
    }

    fn prepare_folders(&self) -> Result<(), Error> {
        self.owner.make_private_folder(&self.folder)?;
        if let Some(state) = self.options.data_dir.parent() {
            crate::files::make_folder(state)?;
        }
        if self.first_look && self.postmaster.is_none() {
            kill_left_helper(&self.folder);
        }
        self.owner
            .may_enter(&[self.options.data_dir.as_path(), self.folder.as_path()])
    }

    /// Notices a postmaster that has ended or come.
    async fn follow_postmaster(&mut self) {
        if self.postmaster.as_ref().is_some_and(Postmaster::has_ended) {
            self.died().await;
        }
        let Some(running) = crate::inspect::running(&self.options.data_dir) else {
            return;
        };
        if self.postmaster.as_ref().map(Postmaster::pid) != Some(running.pid)
            && let Ok(Some(postmaster)) = Postmaster::adopt(running.pid, &self.options.data_dir)
        {
            self.postmaster = Some(postmaster);
            self.life = Life::adopted(running.pid);
        }
    }

    /// It ended although nobody told it to.
    async fn died(&mut self) {
        self.failures.ended(self.life.ready_since, BootTime::now());
        let how = self.forget_postmaster().await;
        let log = logfile::complaints(&self.options.log_file, self.log_start);
        self.telemetry.emit(&PostgresDied {
            how: &how,
            log: &log,
        });
        self.disk.note_complaint(&log);
        self.publish(|status| status.restarts += 1);
    }

    /// After the end of the process: how it ended.
    async fn forget_postmaster(&mut self) -> String {
        self.life = Life::default();
        self.publish(|status| {
            status.pid = None;
            status.role = None;
            status.lsn = None;
            status.streaming = None;
            status.slots.clear();
        });
        match self.postmaster.take() {
            Some(postmaster) => postmaster.how_it_ended().await,
            None => "it was gone".to_owned(),
        }
    }

    async fn stop(&mut self, mode: StopMode) -> Result<(), Error> {
        self.set_phase(Phase::Stopping);
        // Its sessions would be cut.
        self.life.line = None;
        let began = Instant::now();
        if let Some(postmaster) = &self.postmaster {
            if mode == StopMode::Fast {
                postmaster.stop_fast()?;
                let patience = self.options.stop.fast.min(STOP_FAST_MAX);
                if timeout(patience, postmaster.ended()).await.is_ok() {
                    self.forget_postmaster().await;
                    self.tell_stopped("fast", began);
                    return Ok(());
                }
            }
            postmaster.stop_immediately()?;
            if timeout(STOP_IMMEDIATE_MAX, postmaster.ended())
                .await
                .is_ok()
            {
                self.forget_postmaster().await;
                self.tell_stopped("immediate", began);
            }
        }
        // Processes that a dead postmaster left may still write.
        let began = Instant::now();
        while !kill_all(&self.options.data_dir).is_empty() {
            if began.elapsed() > crate::limits::KILL_TIMEOUT {
                return Err(Error::Process {
                    pid: self.postmaster.as_ref().map_or(0, Postmaster::pid),
                    doing: "stopping it",
                    source: std::io::Error::other("not even SIGKILL ended it"),
                });
            }
            sleep(STOP_KILL_POLL_INTERVAL).await;
        }
        if self.postmaster.is_some() {
            self.forget_postmaster().await;
            self.tell_stopped("kill", began);
        }
        Ok(())
    }

    fn tell_stopped(&self, mode: &'static str, began: Instant) {
        let took = began.elapsed();
        self.telemetry.emit(&PostgresStopped { mode, took });
    }

    fn fail(&mut self, reason: String, hint: Option<String>) {
        self.report_failure(&reason, hint.as_deref());
        self.set_phase(Phase::Failed { reason, hint });
    }

    /// Once per reason: a failure that is tried again every few seconds would fill the log.
    fn report_failure(&mut self, reason: &str, hint: Option<&str>) {
        if self.reported.as_deref() != Some(reason) {
            self.telemetry.emit(&PostgresFailed { reason, hint });
            self.reported = Some(reason.to_owned());
        }
    }

    /// Of what belongs to a postmaster that has ended, nothing must go on working in the data directory.
    /// How long something has, if something has.
    fn end_orphans(&mut self) -> Option<Process> {
        if kill_all(&self.options.data_dir).is_empty() {
            self.life.orphans_since = None;
            return None;
        }
        let now = BootTime::now();
        let since = now.since(*self.life.orphans_since.get_or_insert(now));
        Some(Process::Silent { since })
    }

    /// What the local PostgreSQL is asked within.
    async fn within<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let done = timeout(ASK_TIMEOUT, work).await;
        done.unwrap_or_else(|_| {
            let doing = "asking the local PostgreSQL";
            Err(crate::remote::timed_out(doing, ASK_TIMEOUT))
        })
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.certificates.abort();
    }
}

fn keep_certificates(options: &Options, owner: &Owner) -> JoinHandle<()> {
    tokio::spawn(crate::tls::keep_files(options.clone(), owner.clone()))
}

#[cfg(test)]
mod tests;
