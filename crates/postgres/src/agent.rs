//! The agent: looks, plans, and carries out, again and again, and stops PostgreSQL when its lease ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until, timeout};
use trilith_base::{Backoff, BootTime, ServerName};
use trilith_consensus::{Epoch, Membership, Outcome, Revision, Store, StoreError, Txn, View};
use trilith_ha::{
    LeaseSeen, Local, Memory, Observed, Parts, Plan, Policy, PrimarySeen, Process, StartAs, Step,
    StoreView, Tenure, needs_primary, txn,
};
use trilith_telemetry::Telemetry;

use crate::error::{Error, OptionsError};
use crate::event::failover::{FenceFailed, LeaseGivenUp, LeaseTaken, Planned, StepFailed};
use crate::fence::Fence;
use crate::guard::{self, GuardOptions};
use crate::instance::Instance;
use crate::limits::{
    ASK_INTERVAL, ASKED_MAX, LEAVE_TIMEOUT, LOOK_INTERVAL, LOOK_INTERVAL_BUSY, STEP_RETRY_MAX,
    STEP_RETRY_MIN, STORE_TIMEOUT, VIEW_TIMEOUT, WAITS_BUSY_MAX,
};
use crate::options::{Options, Synchronous};
use crate::status::Status;
use crate::tenure::Keeper;

/// The PostgreSQL of this server, looked after by a task on the runtime that started it.
///
/// Dropping it without [`Postgres::shutdown`] leaves PostgreSQL running, as a killed process would; the
/// next [`Postgres::start`] with the same data directory adopts it, unless the guard has stopped it.
pub struct Postgres {
    status: watch::Receiver<Status>,
    situation: watch::Receiver<Option<Arc<Situation>>>,
    tenure: watch::Receiver<Option<Tenure>>,
    options: watch::Sender<Options>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Gives a running [`Postgres`] other options.
#[derive(Clone)]
pub struct Changes {
    options: watch::Sender<Options>,
}

impl Changes {
    /// `change` is given the options of now.
    ///
    /// # Errors
    /// What came of it cannot be used; all is as before.
    pub fn apply(&self, change: impl FnOnce(&mut Options)) -> Result<(), Error> {
        let mut options = self.options.borrow().clone();
        change(&mut options);
        check(&options)?;
        self.options.send_replace(options);
        Ok(())
    }
}

/// What the agent saw last, and what it made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Situation {
    pub observed: Observed,
    pub plan: Plan,
    /// How many plans this agent has made.
    pub generation: u64,
    pub at: BootTime,
    /// Of this server's own lease.
    pub tenure: Option<Tenure>,
}

impl Postgres {
    /// Checks the options and starts the task. What goes wrong later is in [`Postgres::status`].
    ///
    /// `renewals`: a runtime where nothing else gets in the way of renewing the lease.
    pub fn start(
        options: Options,
        guard: GuardOptions,
        store: Arc<dyn Store>,
        renewals: &Handle,
        telemetry: Telemetry,
    ) -> Result<Self, Error> {
        check(&options)?;
        let (sender, status) = watch::channel(Status::default());
        let (situations, situation) = watch::channel(None);
        let (stop, stopping) = watch::channel(false);
        let policy = policy(&options);
        let keeper = Keeper::start(store.clone(), policy.clone(), renewals);
        let tenure = keeper.tenure();
        let (new_options, changes) = watch::channel(options.clone());
        let agent = Agent {
            guard_fifo: guard.fifo.clone(),
            fence: Fence::start(guard, tenure.clone()),
            instance: Instance::new(options, telemetry.clone(), sender),
            view: store.view(),
            membership: store.membership(),
            memory: Memory::new(BootTime::now(), false),
            asked: Asked::default(),
            policy,
            keeper,
            telemetry,
            situations,
            options: changes,
            stopping,
            armed: None,
            ran: true,
            heard: hear(store.clone()),
            store,
            reported: None,
            generation: 0,
            retry: Backoff::new(STEP_RETRY_MIN, STEP_RETRY_MAX),
            failures: 0,
            waits: 0,
        };
        let task = tokio::spawn(agent.run());
        Ok(Self {
            status,
            situation,
            tenure,
            options: new_options,
            stop,
            task,
        })
    }

    /// The newest status.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// What the agent saw and planned; `None` before its first look.
    pub fn situation(&self) -> watch::Receiver<Option<Arc<Situation>>> {
        self.situation.clone()
    }

    /// This server's own lease.
    pub fn tenure(&self) -> watch::Receiver<Option<Tenure>> {
        self.tenure.clone()
    }

    /// Sets other options while it runs: parameters, what commits wait for. The rest must be as it was.
    pub fn changes(&self) -> Changes {
        Changes {
            options: self.options.clone(),
        }
    }

    /// Hands the lease over, if it is here, and stops PostgreSQL in good order. Returns when it is gone.
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

fn check(options: &Options) -> Result<(), OptionsError> {
    options.validate()?;
    if rustix::process::geteuid().is_root() && options.os_user.is_none() {
        return Err(OptionsError::NoOsUser);
    }
    Ok(())
}

fn policy(options: &Options) -> Policy {
    let servers = options.servers.iter().map(|peer| peer.name.clone());
    Policy::new(
        options.server.clone(),
        servers.collect(),
        options.synchronous == Synchronous::Quorum,
    )
}

/// The primary's last answer.
#[derive(Default)]
struct Asked {
    at: Option<BootTime>,
    seen: Option<(BootTime, PrimarySeen)>,
}

struct Agent {
    instance: Instance,
    policy: Policy,
    store: Arc<dyn Store>,
    view: watch::Receiver<Arc<View>>,
    membership: watch::Receiver<Arc<Membership>>,
    keeper: Keeper,
    fence: Fence,
    guard_fifo: PathBuf,
    /// Whether PostgreSQL ran at the last look.
    ran: bool,
    memory: Memory,
    asked: Asked,
    telemetry: Telemetry,
    situations: watch::Sender<Option<Arc<Situation>>>,
    options: watch::Receiver<Options>,
    stopping: watch::Receiver<bool>,
    /// Whether the guard was told to stop PostgreSQL at the deadline; `None`: an earlier agent may have.
    armed: Option<bool>,
    /// Whether the store's majority was heard since this agent started.
    heard: watch::Receiver<bool>,
    /// The last plan that was reported: the same one is not news.
    reported: Option<Plan>,
    generation: u64,
    retry: Backoff,
    /// Steps that failed in a row.
    failures: u32,
    /// Plans in a row that were to wait.
    waits: u32,
}

/// How a plan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// All of it is done.
    Done,
    /// There was nothing to do, or nothing can be done now.
    Idle,
    /// What it was made from changed on the way.
    Interrupted,
    /// It is to wait, and that was done.
    Waited,
    Failed,
}

impl Agent {
    async fn run(mut self) {
        self.memory = Memory::new(BootTime::now(), self.fence.is_alive());
        let mut leave_by = None;
        loop {
            self.keeper.beat();
            let leaving = *self.stopping.borrow();
            if leaving && leave_by.is_none() {
                leave_by = Some(BootTime::now() + LEAVE_TIMEOUT);
            }
            self.take_options();
            let wrote = self.memory.last_written();
            if self.view.borrow().revision < wrote && !leaving {
                self.catch_up(wrote).await;
            }
            let Some(observed) = self.observe(leaving).await else {
                // The lease ended while PostgreSQL did not answer.
                self.instance.kill().await;
                continue;
            };
            let plan = trilith_ha::plan(&observed, &self.policy);
            self.tell(&observed, &plan);
            self.follow_fence(&observed).await;
            let gone = observed.local.process == Process::Stopped;
            if gone && self.ran {
                self.report_fenced();
            }
            self.ran = !gone;
            let overdue = leave_by.is_some_and(|at| BootTime::now() > at);
            if leaving && (overdue || (gone && !holds(&observed.lease))) {
                if !gone {
                    self.instance.kill().await;
                }
                break;
            }
            let ended = self.carry_out(&plan, &observed).await;
            if ended != Ended::Waited {
                self.waits = 0;
            }
            match ended {
                Ended::Done => self.failures = 0,
                Ended::Interrupted | Ended::Waited => {}
                Ended::Idle => {
                    self.failures = 0;
                    self.pause(&observed, LOOK_INTERVAL).await;
                }
                Ended::Failed => {
                    let delay = self.retry.delay(self.failures, 1.0);
                    self.failures = self.failures.saturating_add(1);
                    self.pause(&observed, delay).await;
                }
            }
        }
        if let Err(error) = self.fence.end().await {
            tracing::warn!(%error, "the guard of postgres did not end");
        }
        self.instance.stopped();
    }

    /// PostgreSQL has ended: it may have been the guard.
    fn report_fenced(&self) {
        if let Err(error) = guard::report_fenced(&self.guard_fifo, &self.telemetry) {
            tracing::warn!(%error, "what the guard of postgres left cannot be read");
        }
    }

    fn take_options(&mut self) {
        if self.options.has_changed().unwrap_or(false) {
            let options = self.options.borrow_and_update().clone();
            self.policy = policy(&options);
            self.instance.set_options(options);
        }
    }

    /// `None`: the deadline came meanwhile.
    async fn observe(&mut self, leaving: bool) -> Option<Observed> {
        let store = StoreView::read(&self.view.borrow());
        let before = self
            .memory
            .lease(BootTime::now(), &store, &self.policy, self.tenure());
        let deadline = matches!(before, LeaseSeen::Mine { .. })
            .then(|| self.tenure())
            .flatten()
            .map(|tenure| tenure.deadline);
        let mut keeper_view = self.keeper.tenure();
        let local = tokio::select! {
            local = self.instance.observe() => local,
            () = past(deadline, &mut keeper_view) => return None,
        };
        let now = BootTime::now();
        let store = StoreView::read(&self.view.borrow_and_update());
        self.memory.remember(now, &store, &local);
        let primary = self.ask(now, &store, &local).await;
        let parts = Parts {
            quorum: *self.heard.borrow() && self.membership.borrow().has_quorum,
            tenure: self.tenure(),
            store,
            local,
            primary,
            leaving,
        };
        Some(self.memory.observed(BootTime::now(), parts, &self.policy))
    }

    fn tenure(&self) -> Option<Tenure> {
        *self.keeper.tenure().borrow()
    }

    /// What the primary says, if there is something that this server has to know of it.
    async fn ask(
        &mut self,
        now: BootTime,
        store: &StoreView,
        local: &Local,
    ) -> Option<PrimarySeen> {
        let holder = store.holder().filter(|holder| **holder != self.policy.me)?;
        if !needs_primary(store, local, &self.policy.me) {
            return None;
        }
        let due = self.asked.at.is_none_or(|at| now.since(at) >= ASK_INTERVAL);
        if due {
            self.asked.at = Some(now);
            let seen = self.instance.ask_primary(holder).await;
            self.asked.seen = seen.map(|seen| (BootTime::now(), seen));
        }
        let (at, seen) = self.asked.seen.as_ref()?;
        let fresh = now.since(*at) < ASKED_MAX && seen.server == *holder;
        fresh.then(|| seen.clone())
    }

    fn tell(&mut self, observed: &Observed, plan: &Plan) {
        if self.reported.as_ref() != Some(plan) {
            self.generation += 1;
            let generation = self.generation;
            self.telemetry.emit(&Planned { plan, generation });
            self.reported = Some(plan.clone());
        }
        self.instance.describe_plan(plan);
        self.situations.send_replace(Some(Arc::new(Situation {
            observed: observed.clone(),
            plan: plan.clone(),
            generation: self.generation,
            at: BootTime::now(),
            tenure: self.tenure(),
        })));
    }

    /// The guard stops PostgreSQL at the deadline exactly while it may be writable here.
    async fn follow_fence(&mut self, observed: &Observed) {
        let wanted = observed.local.may_be_primary();
        if self.armed == Some(wanted) {
            return;
        }
        let done = match (wanted, &observed.lease) {
            (true, LeaseSeen::Mine { .. }) => self.fence.arm().await,
            // Whatever it was told before stays in force.
            (true, _) => return,
            (false, _) => self.fence.disarm().await,
        };
        match done {
            Ok(()) => self.armed = Some(wanted),
            Err(why) => self.telemetry.emit(&FenceFailed { why: &why }),
        }
    }

    async fn carry_out(&mut self, plan: &Plan, observed: &Observed) -> Ended {
        if plan.steps.is_empty() {
            return Ended::Idle;
        }
        for act in &plan.steps {
            let result = match &act.step {
                Step::Wait => {
                    self.waits = self.waits.saturating_add(1);
                    let often = self.waits < WAITS_BUSY_MAX;
                    let interval = if often {
                        LOOK_INTERVAL_BUSY
                    } else {
                        LOOK_INTERVAL
                    };
                    self.pause(observed, interval).await;
                    return Ended::Waited;
                }
                Step::Fail { hint } => {
                    self.instance.ask_a_person(&act.why, hint);
                    return Ended::Failed;
                }
                step => {
                    let changed = Changed::new(self, observed);
                    // What stops it is never cut short; nor is giving the lease up, which changes that itself,
                    // before the lease ends anyway: the store's majority may have stopped as well.
                    let gives_up = matches!(step, Step::GiveUpLease { .. });
                    let whole = gives_up || matches!(step, Step::Stop { .. });
                    let left = self
                        .tenure()
                        .map(|tenure| tenure.deadline.since(BootTime::now()));
                    tokio::select! {
                        result = self.perform(step, &act.why, observed) => result,
                        () = changed.wait(), if !whole => return Ended::Interrupted,
                        () = sleep(left.unwrap_or_default()), if gives_up => return Ended::Interrupted,
                    }
                }
            };
            if let Err(error) = result {
                let step = act.step.to_string();
                self.telemetry.emit(&StepFailed {
                    step: &step,
                    error: &error,
                });
                self.instance.step_failed(&error);
                return Ended::Failed;
            }
        }
        Ended::Done
    }

    async fn perform(&mut self, step: &Step, why: &str, observed: &Observed) -> Result<(), Error> {
        match step {
            Step::Report(report) => self.commit(txn::report(&self.policy.me, report)).await,
            Step::TakeLease(take) => self.take_lease(take).await,
            Step::GiveUpLease {
                record,
                over,
                fulfils,
            } => {
                let epoch = epoch(&observed.lease)?;
                let given = txn::give_up(record.as_deref(), *over, epoch, *fulfils);
                self.commit_over(*over, given).await?;
                self.telemetry.emit(&LeaseGivenUp {
                    epoch,
                    in_order: record.is_some(),
                });
                if record.is_none() {
                    self.memory.gave_up(BootTime::now());
                }
                Ok(())
            }
            Step::WriteRecord(written) => {
                let epoch = epoch(&observed.lease)?;
                self.commit_over(written.over, txn::write_record(written, epoch))
                    .await
            }
            Step::Found { system_id } => {
                let epoch = epoch(&observed.lease)?;
                self.commit(txn::found(*system_id, epoch)).await?;
                self.instance.founded().await
            }
            Step::ForgetRequest { version } => {
                self.commit(txn::give_up_request(*version, why)).await
            }
            Step::ForgetReinit => self.commit(txn::end_reinit(&self.policy.me)).await,
            Step::Restart(next) => self.commit(next.txn(&self.policy.me)).await,
            Step::Start {
                how: StartAs::Primary { .. },
            }
            | Step::Promote { .. } => {
                self.arm().await?;
                self.instance.execute(step).await
            }
            Step::Start { .. } => {
                // The guard ends whatever is started soon after it had to act.
                self.fence.disarm().await.map_err(Error::guard)?;
                self.armed = Some(false);
                self.instance.execute(step).await
            }
            step => self.instance.execute(step).await,
        }
    }

    async fn arm(&mut self) -> Result<(), Error> {
        self.fence.arm().await.map_err(Error::guard)?;
        self.armed = Some(true);
        Ok(())
    }

    async fn take_lease(&mut self, take: &trilith_ha::TakeLease) -> Result<(), Error> {
        let asked_at = BootTime::now();
        self.memory.asks(take.over);
        match self.store_call(take.txn(&self.policy)).await? {
            Outcome::Done { revision } => {
                self.memory.done();
                let epoch = Epoch(revision.0);
                self.keeper.granted(epoch, asked_at);
                self.telemetry.emit(&LeaseTaken {
                    epoch,
                    term: take.record.term,
                });
                self.catch_up(revision).await;
                Ok(())
            }
            // Something changed, or somebody was quicker: the next look tells.
            Outcome::Refused { .. } => {
                self.catch_up_a_little().await;
                Ok(())
            }
        }
    }

    /// A change of the record or the lease, on the condition that the record is that of this revision.
    async fn commit_over(&mut self, over: Option<Revision>, txn: Txn) -> Result<(), Error> {
        self.memory.asks(over);
        match self.store_call(txn).await? {
            Outcome::Done { revision } => {
                self.memory.done();
                self.catch_up(revision).await;
            }
            // It does not count as seen before the view shows why.
            Outcome::Refused { .. } => self.catch_up_a_little().await,
        }
        Ok(())
    }

    async fn commit(&mut self, txn: Txn) -> Result<(), Error> {
        match self.store_call(txn).await? {
            Outcome::Done { revision } => self.catch_up(revision).await,
            Outcome::Refused { .. } => self.catch_up_a_little().await,
        }
        Ok(())
    }

    async fn store_call(&self, txn: Txn) -> Result<Outcome, Error> {
        let answer = timeout(STORE_TIMEOUT, self.store.commit(txn)).await;
        Ok(answer.unwrap_or(Err(StoreError::Unknown))?)
    }

    /// Until the view shows what was written: plans are made from the view.
    async fn catch_up(&mut self, revision: Revision) {
        self.memory.wrote(revision);
        let caught_up = self.view.wait_for(|view| view.revision >= revision);
        let _ = timeout(VIEW_TIMEOUT, caught_up).await;
    }

    /// The view is behind what refused the transaction.
    async fn catch_up_a_little(&mut self) {
        let _ = timeout(LOOK_INTERVAL_BUSY, self.view.changed()).await;
    }

    /// Until something happens that may call for another plan, but no longer than that.
    async fn pause(&mut self, observed: &Observed, at_most: Duration) {
        let ended = self.instance.ended();
        let changed = Changed::new(self, observed);
        let mut view = self.view.clone();
        let mut stopping = self.stopping.clone();
        let leaving = observed.leaving;
        tokio::select! {
            () = sleep(at_most) => {}
            () = ended => {}
            () = changed.wait() => {}
            _ = view.changed() => {}
            _ = stopping.wait_for(|stop| *stop), if !leaving => {}
            _ = self.options.changed() => {
                // Looked at on the next round.
                self.options.mark_changed();
            }
        }
    }
}

/// Until then this server's view may be older than what it wrote itself in a former life.
fn hear(store: Arc<dyn Store>) -> watch::Receiver<bool> {
    let (heard, receiver) = watch::channel(false);
    tokio::spawn(async move {
        while store.read().await.is_err() {
            sleep(STEP_RETRY_MIN).await;
        }
        heard.send_replace(true);
    });
    receiver
}

fn holds(lease: &LeaseSeen) -> bool {
    matches!(lease, LeaseSeen::Mine { .. })
}

fn epoch(lease: &LeaseSeen) -> Result<Epoch, Error> {
    match lease {
        LeaseSeen::Mine { epoch } => Ok(*epoch),
        // The planner asks for such steps under the lease alone.
        _ => Err(StoreError::LeaseLost.into()),
    }
}

/// Completes when the deadline is past and no renewal has moved it.
async fn past(deadline: Option<BootTime>, tenure: &mut watch::Receiver<Option<Tenure>>) {
    let Some(mut deadline) = deadline else {
        return std::future::pending().await;
    };
    loop {
        let left = deadline.since(BootTime::now());
        if left.is_zero() {
            return;
        }
        // The clock of the runtime stands still in a suspend.
        sleep(left.min(LOOK_INTERVAL_BUSY)).await;
        match *tenure.borrow() {
            Some(now) => deadline = deadline.max(now.deadline),
            None => return,
        }
    }
}

/// What a plan was made from, as far as it ends what is under way.
struct Changed {
    view: watch::Receiver<Arc<View>>,
    tenure: watch::Receiver<Option<Tenure>>,
    stopping: watch::Receiver<bool>,
    beat: Arc<dyn Fn() + Send + Sync>,
    lease: Option<(ServerName, Epoch)>,
    term: u64,
    mine: bool,
    leaving: bool,
}

impl Changed {
    fn new(agent: &Agent, observed: &Observed) -> Self {
        Self {
            view: agent.view.clone(),
            tenure: agent.keeper.tenure(),
            stopping: agent.stopping.clone(),
            beat: agent.keeper.beater(),
            lease: observed.store.lease.clone(),
            term: observed.store.term(),
            mine: holds(&observed.lease),
            leaving: observed.leaving,
        }
    }

    /// Completes when the lease has another holder, or this server's own has run out, or the server is
    /// told to stop.
    async fn wait(mut self) {
        loop {
            (self.beat)();
            if self.is_over() {
                return;
            }
            let look = tokio::time::Instant::now() + LOOK_INTERVAL_BUSY;
            tokio::select! {
                () = sleep_until(look) => {}
                changed = self.view.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn is_over(&mut self) -> bool {
        if *self.stopping.borrow() != self.leaving {
            return true;
        }
        let tenure = *self.tenure.borrow();
        let valid = tenure.is_some_and(|tenure| tenure.is_valid(BootTime::now()));
        if self.mine && !valid {
            return true;
        }
        let store = StoreView::read(&self.view.borrow());
        // Taking the lease is what is under way then.
        let taken = !self.mine && self.lease.is_none() && tenure.is_some() && valid;
        !taken && (store.lease != self.lease || (store.term() != self.term && !self.mine))
    }
}
