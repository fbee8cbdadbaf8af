//! The loop: look, plan, do, watch.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use trilith_base::Backoff;
use trilith_telemetry::Telemetry;

use crate::binaries::{self, Binaries};
use crate::error::{Error, FileContext, OptionsError};
use crate::event::{PlanMade, PostgresDied, PostgresFailed};
use crate::execute::unfinished;
use crate::files::{Owner, closed_folder, siblings, socket_folder};
use crate::inspect::{DataState, Running, data_state, running};
use crate::limits::{
    RESTART_CALM, RESTART_DELAY_MAX, RESTART_DELAY_MIN, WAIT_FOR_PRIMARY_INTERVAL,
};
use crate::logfile;
use crate::options::{Options, Role, slot_name};
use crate::plan::{Observed, Plan, Policy, Rejoin, RunningSeen, Step, plan};
use crate::postmaster::{Postmaster, clear_orphans};
use crate::programs::kill_left_helper;
use crate::remote::{PeerSeen, Session, ask_peer};
use crate::status::{Phase, Status};
use crate::supervise::Ended;

/// The PostgreSQL of this server, looked after by a task on the runtime that started it.
///
/// Dropping it without [`Postgres::shutdown`] leaves PostgreSQL running, as a killed process would;
/// the next [`Postgres::start`] with the same data directory adopts it.
pub struct Postgres {
    status: watch::Receiver<Status>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Postgres {
    /// Checks the options and starts the task. What goes wrong later is in [`Postgres::status`].
    pub fn start(options: Options, telemetry: Telemetry) -> Result<Self, Error> {
        check(&options)?;
        let (sender, status) = watch::channel(Status::default());
        let (stop, stopping) = watch::channel(false);
        let manager = Manager::new(options, telemetry, sender);
        let task = tokio::spawn(manager.run(stopping));
        Ok(Self { status, stop, task })
    }

    /// The newest status.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Stops PostgreSQL: a fast shutdown, and after the timeouts of the options an immediate one.
    /// Returns when it is gone.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        // An error would be a panic in the task, which has been reported where it happened.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Stops a PostgreSQL (or the copying of one) that a killed process left running with this data
/// directory. Whether there was one. Only for when no [`Postgres`] looks after it.
pub async fn stop_left_behind(options: &Options) -> Result<bool, Error> {
    options.validate()?;
    let folder = run_folder(options);
    kill_left_helper(&folder);
    let Some(Running { pid, .. }) = running(&options.data_dir) else {
        clear_orphans(&options.data_dir).await?;
        return Ok(false);
    };
    if let Some(postmaster) = Postmaster::adopt(pid, &options.data_dir)? {
        postmaster.stop(options.stop).await?;
    }
    remove_spare_folder(options, &folder);
    Ok(true)
}

fn check(options: &Options) -> Result<(), OptionsError> {
    options.validate()?;
    if rustix::process::geteuid().is_root() && options.os_user.is_none() {
        return Err(OptionsError::NoOsUser);
    }
    Ok(())
}

pub(crate) fn run_folder(options: &Options) -> PathBuf {
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    socket_folder(options, runtime_dir.as_deref())
}

/// A folder outside of the state folder is not left behind.
pub(crate) fn remove_spare_folder(options: &Options, folder: &Path) {
    if folder != options.run_dir {
        // Not when something is in it, or when it never was.
        let _ = fs::remove_dir(folder);
    }
}

/// What comes after a round.
enum Next {
    Now,
    After(Duration),
}

pub(crate) struct Manager {
    pub(crate) options: Options,
    pub(crate) telemetry: Telemetry,
    pub(crate) status: watch::Sender<Status>,
    /// For the socket and for password files of a moment.
    pub(crate) folder: PathBuf,
    pub(crate) postmaster: Option<Postmaster>,
    /// To the local PostgreSQL.
    pub(crate) session: Option<Session>,
    pub(crate) owner: Owner,
    backoff: Backoff,
    /// Failures and deaths in a row.
    troubles: u32,
    first_look: bool,
    rejoin: Option<Rejoin>,
    /// Whether the files changed since PostgreSQL read them.
    pub(crate) config_changed: bool,
    /// The last plan and the last failure that were reported: the same ones are not news.
    reported: Option<Plan>,
    failure: Option<String>,
    /// Where the log ended when PostgreSQL was started.
    pub(crate) log_start: u64,
}

impl Manager {
    fn new(options: Options, telemetry: Telemetry, status: watch::Sender<Status>) -> Self {
        Self {
            folder: run_folder(&options),
            owner: Owner::of(&options),
            backoff: Backoff::new(RESTART_DELAY_MIN, RESTART_DELAY_MAX),
            log_start: logfile::length(&options.log_file),
            options,
            telemetry,
            status,
            postmaster: None,
            session: None,
            troubles: 0,
            first_look: true,
            rejoin: None,
            config_changed: false,
            reported: None,
            failure: None,
        }
    }

    async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let stopped = async move {
            // An error means that the handle is gone; then this task is aborted as well.
            if stopping.wait_for(|stop| *stop).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let certificates = crate::tls::keep_files(self.options.clone(), self.owner.clone());
        tokio::select! {
            () = stopped => {}
            () = self.rounds() => {}
            () = certificates => {}
        }
        self.set_phase(Phase::Stopping);
        if let Err(error) = self.stop_postmaster().await {
            self.report_failure(&error.to_string(), error.hint().as_deref());
        }
        remove_spare_folder(&self.options, &self.folder);
        self.set_phase(Phase::Stopped);
    }

    async fn rounds(&mut self) {
        loop {
            let next = match self.round().await {
                Ok(next) => next,
                Err(error) => self.fail(error.to_string(), error.hint()),
            };
            if let Next::After(delay) = next {
                sleep(delay).await;
            }
        }
    }

    /// Looks, plans, and does; then watches for as long as all is well.
    async fn round(&mut self) -> Result<Next, Error> {
        let (binaries, observed) = self.observe().await?;
        let slot = slot_name(&self.options.server);
        let policy = Policy {
            role: &self.options.role,
            slot: &slot,
        };
        let plan = plan(&observed, policy);
        self.publish(|status| {
            status.version = Some(binaries.version.clone());
            status.plan = Some(plan.reason.clone());
            if let DataState::Ready { system_id, .. } = observed.data {
                status.system_id = Some(system_id);
            }
        });
        if self.reported.as_ref() != Some(&plan) {
            self.telemetry.emit(&PlanMade { plan: &plan });
            self.reported = Some(plan.clone());
        }
        for step in plan.steps {
            match step {
                Step::Wait { why } => {
                    self.set_phase(Phase::WaitingForPrimary { why });
                    return Ok(Next::After(WAIT_FOR_PRIMARY_INTERVAL));
                }
                Step::Fail { reason, hint } => return Ok(self.fail(reason, Some(hint))),
                step => self.execute(step, &binaries).await?,
            }
        }
        self.first_look = false;
        self.failure = None;
        self.set_phase(Phase::Running);
        let began = Instant::now();
        let ended = self.watch_over().await;
        if began.elapsed() >= RESTART_CALM {
            self.troubles = 0;
        }
        match ended {
            Ended::Died => Ok(self.died().await),
            Ended::Rejoin(rejoin) => {
                self.rejoin = Some(rejoin);
                Ok(Next::Now)
            }
        }
    }

    async fn observe(&mut self) -> Result<(Binaries, Observed), Error> {
        self.prepare_folders()?;
        let dir = self.options.data_dir.clone();
        let data = data_state(&dir).at("look at", &dir)?;
        let needs = match data {
            DataState::Ready { major, .. } => Some(major),
            _ => None,
        };
        let binaries = binaries::find(self.options.bin_dir.as_deref(), needs)?;
        let asides = siblings(&dir, "aside");
        self.publish(|status| status.asides.clone_from(&asides));
        let no_data = matches!(data, DataState::Missing | DataState::Empty);
        let ask = match self.options.role {
            // A primary that was killed does not wait for anybody before it starts again.
            Role::Primary { .. } => self.first_look || no_data,
            Role::Replica { .. } => true,
        };
        let observed = Observed {
            major: binaries.major,
            data_dir: dir.display().to_string(),
            data,
            running: running(&dir).map(|running| RunningSeen {
                pid: running.pid,
                reachable: self.is_reachable(&running),
            }),
            unfinished: unfinished(&dir).exists(),
            asides: asides.len(),
            peers: if ask {
                self.ask_peers().await
            } else {
                Vec::new()
            },
            rejoin: self.rejoin.take(),
        };
        Ok((binaries, observed))
    }

    fn prepare_folders(&self) -> Result<(), Error> {
        self.owner.make_private_folder(&self.folder)?;
        if let Some(state) = self.options.data_dir.parent() {
            crate::files::make_folder(state)?;
        }
        if let Some(user) = &self.owner.os_user {
            for path in [&self.options.data_dir, &self.folder] {
                if let Some(closed) = closed_folder(path, user) {
                    return Err(Error::Blocked {
                        what: format!(
                            "the user {} may not enter {}, which is on the way to {}",
                            user.name,
                            closed.display(),
                            path.display()
                        ),
                        hint: format!(
                            "let it pass with `chmod o+x {}`, or put the data elsewhere",
                            closed.display()
                        ),
                    });
                }
            }
        }
        if self.first_look && self.postmaster.is_none() {
            kill_left_helper(&self.folder);
        }
        Ok(())
    }

    /// Whether a running postmaster can be reached with the options of today. One that is just
    /// starting has not written down where it is; it was started by us a moment ago.
    fn is_reachable(&self, running: &Running) -> bool {
        running.port.is_none_or(|port| port == self.options.port)
            && running
                .socket_folder
                .as_ref()
                .is_none_or(|folder| *folder == self.folder)
    }

    async fn ask_peers(&self) -> Vec<PeerSeen> {
        let slot = slot_name(&self.options.server);
        let asked: Vec<_> = self
            .options
            .peers()
            .iter()
            .map(|peer| {
                let (peer, slot) = (peer.clone(), slot.clone());
                let password = self.options.secrets.monitor.clone();
                let tls = self.options.tls.clone();
                tokio::spawn(async move {
                    let answer = ask_peer(&peer, tls.as_ref(), &password, &slot).await;
                    PeerSeen {
                        name: peer.name,
                        address: peer.address,
                        answer,
                    }
                })
            })
            .collect();
        let mut seen = Vec::new();
        for task in asked {
            // Each ends within its timeout.
            seen.extend(task.await.ok());
        }
        seen
    }

    /// After the end of the process: how it ended.
    pub(crate) async fn forget_postmaster(&mut self) -> String {
        self.session = None;
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

    /// It ended by itself: start it again, ever later if that happens often.
    async fn died(&mut self) -> Next {
        let how = self.forget_postmaster().await;
        let delay = self.next_delay();
        let log = logfile::complaints(&self.options.log_file, self.log_start);
        self.telemetry.emit(&PostgresDied {
            how: &how,
            log: &log,
            restart_in: delay,
        });
        self.publish(|status| status.restarts += 1);
        self.set_phase(Phase::Restarting {
            why: format!("it ended ({how})"),
            delay,
        });
        // The plan that follows is news again.
        self.reported = None;
        Next::After(delay)
    }

    fn fail(&mut self, reason: String, hint: Option<String>) -> Next {
        let retry_in = self.next_delay();
        self.report_failure(&reason, hint.as_deref());
        self.set_phase(Phase::Failed {
            reason,
            hint,
            retry_in,
        });
        Next::After(retry_in)
    }

    /// Once per reason: a failure that is tried again every few seconds would fill the log.
    pub(crate) fn report_failure(&mut self, reason: &str, hint: Option<&str>) {
        if self.failure.as_deref() != Some(reason) {
            self.telemetry.emit(&PostgresFailed { reason, hint });
            self.failure = Some(reason.to_owned());
        }
    }

    fn next_delay(&mut self) -> Duration {
        let delay = self.backoff.delay(self.troubles, 1.0);
        self.troubles = self.troubles.saturating_add(1);
        delay
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.publish(|status| status.phase = phase);
    }

    /// Wakes whoever watches only when something has changed.
    pub(crate) fn publish(&self, change: impl FnOnce(&mut Status)) {
        self.status.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            *status != before
        });
    }
}
