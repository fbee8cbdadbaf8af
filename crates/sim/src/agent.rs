//! The agent of one server's database: looks, plans with the real planner, and carries out, as
//! `crates/postgres/src/agent.rs` does, over the real store and a model of PostgreSQL.

mod look;
mod perform;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::watch;
use trilith_base::{BootTime, ServerName};
use trilith_cluster::Cluster;
use trilith_consensus::{Epoch, Membership, Outcome, Revision, Store, StoreError, Txn, View};
use trilith_ha::{
    LeaseSeen, Memory, Observed, Plan, Policy, PrimarySeen, Process, StartAs, Step, txn,
};

use crate::environment::{SimEnvironment, Sleep, Timeout, spawn_for};
use crate::executor::executor;
use crate::faults::database::at_a_moment_that_matters;
use crate::keeper::{Keeper, boot_time};
use crate::limits::{
    LOOK_INTERVAL, LOOK_INTERVAL_BUSY, STEP_RETRY_MAX, STEP_RETRY_MIN, STORE_TIMEOUT, VIEW_TIMEOUT,
};
use crate::world::{World, name_of, server_name};

type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// For one life of a server.
pub fn run(
    world: &Arc<World>,
    server: usize,
    cluster: &Arc<Cluster<SimEnvironment>>,
    synchronous: bool,
    leave: watch::Receiver<bool>,
) {
    let servers: Vec<ServerName> = (0..world.shape.servers).map(server_name).collect();
    let policy = Policy::new(server_name(server), servers, synchronous);
    let (heard, hearing) = watch::channel(false);
    let agent = Agent {
        keeper: Keeper::start(world, server, cluster, &policy),
        world: world.clone(),
        server,
        view: cluster.view(),
        membership: cluster.membership(),
        cluster: cluster.clone(),
        policy,
        memory: Memory::new(boot_time(), world.guard_is_alive(server)),
        asked: Asked::default(),
        leave,
        armed: None,
        heard: hearing,
        reported: None,
        failures: 0,
        failed_steps: 0,
        known: None,
        unheard_since: None,
        starting_since: None,
    };
    let owner = executor().current();
    let cluster = cluster.clone();
    spawn_for(owner, async move {
        while cluster.read().await.is_err() {
            Sleep::new(STEP_RETRY_MIN).await;
        }
        heard.send_replace(true);
    });
    spawn_for(owner, agent.run());
}

/// The primary's last answer.
#[derive(Default)]
struct Asked {
    at: Option<BootTime>,
    seen: Option<(BootTime, PrimarySeen)>,
}

struct Agent {
    world: Arc<World>,
    server: usize,
    cluster: Arc<Cluster<SimEnvironment>>,
    policy: Policy,
    view: watch::Receiver<Arc<View>>,
    membership: watch::Receiver<Arc<Membership>>,
    keeper: Arc<Keeper>,
    memory: Memory,
    asked: Asked,
    leave: watch::Receiver<bool>,
    armed: Option<bool>,
    heard: watch::Receiver<bool>,
    reported: Option<Plan>,
    /// Steps that failed in a row.
    failed_steps: u32,
    // What the real one remembers of PostgreSQL.
    /// How often in a row it did not start, or ended soon after.
    failures: u32,
    /// The process seen last, and since when it was ready.
    known: Option<(u64, Option<BootTime>)>,
    unheard_since: Option<BootTime>,
    /// The process that does not take connections, and since when.
    starting_since: Option<(u64, BootTime)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Done,
    Idle,
    Interrupted,
    Failed,
}

impl Agent {
    async fn run(mut self) {
        loop {
            self.keeper.beat();
            let leaving = *self.leave.borrow();
            let wrote = self.memory.last_written();
            if self.view.borrow().revision < wrote && !leaving {
                self.catch_up(wrote).await;
            }
            let Some(observed) = self.observe(leaving).await else {
                // The lease ended while PostgreSQL did not answer.
                self.kill_postgres("its lease ended");
                continue;
            };
            let plan = trilith_ha::plan(&observed, &self.policy);
            self.tell(&plan);
            self.follow_fence(&observed);
            let gone = observed.local.process == Process::Stopped;
            if leaving && gone && !holds(&observed.lease) {
                break;
            }
            match self.carry_out(&plan, &observed).await {
                Ended::Done => self.failed_steps = 0,
                Ended::Interrupted => {}
                Ended::Idle => {
                    self.failed_steps = 0;
                    self.pause(&observed, LOOK_INTERVAL).await;
                }
                Ended::Failed => {
                    let delay = STEP_RETRY_MIN * (1 << self.failed_steps.min(6));
                    self.failed_steps += 1;
                    self.pause(&observed, delay.min(STEP_RETRY_MAX)).await;
                }
            }
        }
        self.keeper.end();
        let name = name_of(self.server);
        self.world
            .note(format_args!("the agent of {name} has left"));
    }

    fn tell(&mut self, plan: &Plan) {
        if self.reported.as_ref() != Some(plan) {
            let (name, text) = (name_of(self.server), plan.to_string());
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            self.world
                .note(format_args!("{name} plans: {}", lines.join("; ")));
            self.reported = Some(plan.clone());
        }
    }

    /// The guard stops PostgreSQL at the deadline exactly while it may be writable here.
    fn follow_fence(&mut self, observed: &Observed) {
        let wanted = observed.local.may_be_primary();
        if self.armed == Some(wanted) {
            return;
        }
        let done = match (wanted, &observed.lease) {
            (true, LeaseSeen::Mine { .. }) => self.keeper.arm().is_ok(),
            // Whatever it was told before stays in force.
            (true, _) => return,
            (false, _) => {
                self.keeper.disarm();
                true
            }
        };
        if done {
            self.armed = Some(wanted);
        }
    }

    async fn carry_out(&mut self, plan: &Plan, observed: &Observed) -> Ended {
        if plan.steps.is_empty() {
            return Ended::Idle;
        }
        for act in &plan.steps {
            match &act.step {
                Step::Wait => {
                    self.pause(observed, LOOK_INTERVAL_BUSY).await;
                    return Ended::Interrupted;
                }
                Step::Fail { .. } => return Ended::Failed,
                step => {
                    let changed: Work<'static, ()> = Box::pin(Changed::new(self, observed).wait());
                    let stopping = matches!(step, Step::Stop { .. });
                    let (name, server) = (step.to_string(), name_of(self.server));
                    let world = self.world.clone();
                    let work: Work<'_, _> = Box::pin(self.perform(step, &act.why, observed));
                    let result = if stopping {
                        // What stops it is never cut short.
                        work.await
                    } else {
                        match select(work, changed).await {
                            Either::Left((result, _)) => result,
                            Either::Right(_) => {
                                world.note(format_args!("{server}: cut short: {name}"));
                                return Ended::Interrupted;
                            }
                        }
                    };
                    if let Err(why) = result {
                        world.note(format_args!("{server}: failed: {name}: {why}"));
                        return Ended::Failed;
                    }
                }
            }
        }
        Ended::Done
    }

    async fn perform(&mut self, step: &Step, why: &str, observed: &Observed) -> Result<(), String> {
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
                if record.is_none() {
                    self.memory.gave_up(boot_time());
                }
                Ok(())
            }
            Step::WriteRecord(written) => {
                let epoch = epoch(&observed.lease)?;
                self.commit_over(written.over, txn::write_record(written, epoch))
                    .await?;
                at_a_moment_that_matters(&self.world, self.server);
                Ok(())
            }
            Step::Found { system_id } => {
                let epoch = epoch(&observed.lease)?;
                self.commit(txn::found(*system_id, epoch)).await?;
                self.founded();
                Ok(())
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
                self.keeper.arm()?;
                self.armed = Some(true);
                self.execute(step).await
            }
            Step::Start { .. } => {
                // The guard ends whatever is started soon after it had to act.
                self.keeper.disarm();
                self.armed = Some(false);
                self.execute(step).await
            }
            step => self.execute(step).await,
        }
    }

    async fn take_lease(&mut self, take: &trilith_ha::TakeLease) -> Result<(), String> {
        let asked_at = boot_time();
        self.memory.asks(take.over);
        match self.store_call(take.txn(&self.policy)).await? {
            Outcome::Done { revision } => {
                self.memory.done();
                self.keeper.granted(Epoch(revision.0), asked_at);
                let (name, term) = (name_of(self.server), take.record.term);
                self.world
                    .note(format_args!("{name} has the lease of term {term}"));
                at_a_moment_that_matters(&self.world, self.server);
                self.catch_up(revision).await;
            }
            // Something changed, or somebody was quicker: the next look tells.
            Outcome::Refused { .. } => self.catch_up_a_little().await,
        }
        Ok(())
    }

    /// A change of the record or the lease, on the condition that the record is that of this revision.
    async fn commit_over(&mut self, over: Option<Revision>, txn: Txn) -> Result<(), String> {
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

    async fn commit(&mut self, txn: Txn) -> Result<(), String> {
        match self.store_call(txn).await? {
            Outcome::Done { revision } => self.catch_up(revision).await,
            Outcome::Refused { .. } => self.catch_up_a_little().await,
        }
        Ok(())
    }

    async fn store_call(&self, txn: Txn) -> Result<Outcome, String> {
        let answer = Timeout::new(Sleep::new(STORE_TIMEOUT), self.cluster.commit(txn)).await;
        let answer = answer.unwrap_or(Err(StoreError::Unknown));
        answer.map_err(|error| error.to_string())
    }

    /// Until the view shows what was written: plans are made from the view.
    async fn catch_up(&mut self, revision: Revision) {
        self.memory.wrote(revision);
        let caught_up: Work<'_, _> = Box::pin(async {
            let _ = self.view.wait_for(|view| view.revision >= revision).await;
        });
        let _ = Timeout::new(Sleep::new(VIEW_TIMEOUT), caught_up).await;
    }

    async fn catch_up_a_little(&mut self) {
        let changed: Work<'_, _> = Box::pin(async {
            let _ = self.view.changed().await;
        });
        let _ = Timeout::new(Sleep::new(LOOK_INTERVAL_BUSY), changed).await;
    }

    /// Until something happens that may call for another plan, but no longer than that.
    async fn pause(&mut self, observed: &Observed, at_most: Duration) {
        let changed: Work<'static, ()> = Box::pin(Changed::new(self, observed).wait());
        let mut view = self.view.clone();
        let viewed: Work<'_, ()> = Box::pin(async move {
            let _ = view.changed().await;
        });
        let life = self.life();
        let mut lives = self.world.lives_of_postgres(self.server);
        let ended: Work<'_, ()> = Box::pin(async move {
            let ended = lives.wait_for(|now| life.is_some() && *now != life).await;
            if ended.map(drop).is_err() {
                std::future::pending::<()>().await;
            }
        });
        let news = select(select(changed, viewed), ended);
        let _ = select(news, Sleep::new(at_most)).await;
    }
}

fn holds(lease: &LeaseSeen) -> bool {
    matches!(lease, LeaseSeen::Mine { .. })
}

fn epoch(lease: &LeaseSeen) -> Result<Epoch, String> {
    match lease {
        LeaseSeen::Mine { epoch } => Ok(*epoch),
        _ => Err("the lease is lost".to_owned()),
    }
}

/// What a plan was made from, as far as it ends what is under way.
struct Changed {
    world: Arc<World>,
    view: watch::Receiver<Arc<View>>,
    keeper: Arc<Keeper>,
    leave: watch::Receiver<bool>,
    lease: Option<(ServerName, Epoch)>,
    term: u64,
    mine: bool,
    leaving: bool,
}

impl Changed {
    fn new(agent: &Agent, observed: &Observed) -> Self {
        Self {
            world: agent.world.clone(),
            view: agent.view.clone(),
            keeper: agent.keeper.clone(),
            leave: agent.leave.clone(),
            lease: observed.store.lease.clone(),
            term: observed.store.term(),
            mine: holds(&observed.lease),
            leaving: observed.leaving,
        }
    }

    async fn wait(mut self) {
        loop {
            self.keeper.beat();
            if self.is_over() {
                return;
            }
            let changed: Work<'_, bool> = Box::pin(async { self.view.changed().await.is_err() });
            if let Either::Left((true, _)) = select(changed, Sleep::new(LOOK_INTERVAL_BUSY)).await {
                return;
            }
        }
    }

    fn is_over(&self) -> bool {
        if *self.leave.borrow() != self.leaving {
            return true;
        }
        let tenure = self.keeper.tenure();
        let valid = tenure.is_some_and(|tenure| tenure.is_valid(boot_time()));
        if self.mine && !valid {
            return true;
        }
        let store = self.world.store_view(&self.view.borrow());
        // Taking the lease is what is under way then.
        let taken = !self.mine && self.lease.is_none() && tenure.is_some() && valid;
        !taken && (store.lease != self.lease || (store.term() != self.term && !self.mine))
    }
}
