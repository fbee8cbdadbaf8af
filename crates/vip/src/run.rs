//! The loop: what is seen goes into the state machines, what they ask for is done beside the loop, so that
//! nothing that hangs keeps an address beyond its deadline.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use trilith_base::BootTime;
use trilith_consensus::{Epoch, Membership, Outcome, Store, StoreError, View};
use trilith_telemetry::Telemetry;

use crate::error::Error;
use crate::event;
use crate::exec::{Executor, Kind};
use crate::fsm::{
    Effect, Fsm, Granted, Input, Notice, Policy, Renewal, State, forget_txn, grant_txn, revoke_txn,
};
use crate::hook::Hook;
use crate::l2::L2;
use crate::limits::{
    IDLE_WAIT, LOOP_DELAY_EVENT, RELEASE_ALL_TIMEOUT, STORE_TIMEOUT, SUSPEND_CHECK,
};
use crate::loopback::Listeners;
use crate::options::{Mode, Options};
use crate::status::AddressStatus;

/// Looks after the floating addresses on this server.
///
/// ```no_run
/// # use std::{net::IpAddr, sync::Arc};
/// # use tokio::sync::watch;
/// # use trilith_consensus::{BoxFuture, Store};
/// # use trilith_vip::{AddressOptions, Listeners, Mode, Options, Vip};
/// struct Edge;
/// impl Listeners for Edge {
///     fn open(&self, ip: IpAddr) -> BoxFuture<'_, Result<(), String>> {
///         Box::pin(async { Ok(()) })
///     }
///     fn close(&self, ip: IpAddr) -> BoxFuture<'_, ()> {
///         Box::pin(async {})
///     }
/// }
/// # async fn node(store: Arc<dyn Store>, telemetry: trilith_telemetry::Telemetry) {
/// # let one = trilith_base::ServerName::new("one").unwrap();
/// let mut options = Options::new(one.clone(), vec![one], Mode::Loopback);
/// options.addresses.push(AddressOptions {
///     ip: "127.0.0.1".parse().unwrap(),
///     prefix: 8,
///     preferred: None,
/// });
/// let (health, healthy) = watch::channel(false); // set while the own edge answers
/// let (drain, drained) = watch::channel(false);
/// let (deadline, guard) = watch::channel(None); // the guard is told every change
/// let vip = Vip::start(options, store, healthy, drained, Arc::new(Edge), deadline, telemetry)
///     .await
///     .unwrap();
/// // ... until SIGTERM:
/// vip.release_all().await;
/// # drop((health, drain, guard));
/// # }
/// ```
pub struct Vip {
    status: watch::Receiver<Vec<AddressStatus>>,
    release: mpsc::UnboundedSender<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Vip {
    /// Runs on the runtime of its caller; that should not be the one that serves requests. `deadline` is
    /// until when whatever is held may be held without another renewal, [`crate::limits::STOP_BUDGET`]
    /// before the first lease runs out; `None` when nothing is held.
    ///
    /// # Errors
    /// The kernel cannot be talked to, or a program is missing for mode `hook`.
    pub async fn start(
        options: Options,
        store: Arc<dyn Store>,
        health: watch::Receiver<bool>,
        drain: watch::Receiver<bool>,
        listeners: Arc<dyn Listeners>,
        deadline: watch::Sender<Option<BootTime>>,
        telemetry: Telemetry,
    ) -> Result<Arc<Self>, Error> {
        // One answer to each effect, and what the network says with a pause in between: it cannot grow.
        let (inputs, received) = mpsc::unbounded_channel();
        let kind = match &options.mode {
            Mode::Loopback | Mode::None => Kind::Loopback,
            Mode::L2 { interface } => {
                let addresses = options.addresses.clone();
                let inputs = inputs.clone();
                Kind::L2(L2::start(interface.clone(), addresses, inputs, &telemetry).await?)
            }
            Mode::Hook { take, release, .. } if take.is_empty() || release.is_empty() => {
                return Err(Error::NoHook);
            }
            Mode::Hook {
                take,
                release,
                timeout,
            } => Kind::Hook(Arc::new(Hook {
                me: options.me.clone(),
                take: take.clone(),
                release: release.clone(),
                timeout: *timeout,
            })),
        };
        let policies = match options.mode {
            Mode::None => Vec::new(),
            _ => (0..options.addresses.len())
                .filter_map(|index| options.policy(index))
                .collect(),
        };
        let (status, statuses) = watch::channel(Vec::new());
        let (release, releases) = mpsc::unbounded_channel();
        let work = Loop {
            addresses: policies.into_iter().map(Address::new).collect(),
            shell: Shell {
                store,
                executor: Executor { listeners, kind },
                inputs,
                telemetry,
            },
            status,
            deadline,
            releasing: false,
            waiting: Vec::new(),
        };
        let task = tokio::spawn(work.run(received, releases, health, drain));
        Ok(Arc::new(Self {
            status: statuses,
            release,
            task,
        }))
    }

    /// One entry per address, in the order of the options.
    pub fn status(&self) -> watch::Receiver<Vec<AddressStatus>> {
        self.status.clone()
    }

    /// Gives every address to another server, and takes none any more: what a drain begins with. Returns
    /// when all are gone and their leases given back, or after a few seconds.
    pub async fn release_all(&self) {
        let (done, wait) = oneshot::channel();
        if self.release.send(done).is_ok() {
            let _ = timeout(RELEASE_ALL_TIMEOUT, wait).await;
        }
    }
}

impl Drop for Vip {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Loop {
    addresses: Vec<Address>,
    shell: Shell,
    status: watch::Sender<Vec<AddressStatus>>,
    deadline: watch::Sender<Option<BootTime>>,
    /// No address is taken any more.
    releasing: bool,
    waiting: Vec<oneshot::Sender<()>>,
}

struct Address {
    fsm: Fsm,
    problem: Problem,
    /// For the hook, which is told the epoch also when it releases.
    epoch: Option<Epoch>,
}

/// What last went wrong, set by the tasks that act.
type Problem = Arc<std::sync::Mutex<Option<String>>>;

/// What effects need.
#[derive(Clone)]
struct Shell {
    store: Arc<dyn Store>,
    executor: Executor,
    inputs: mpsc::UnboundedSender<(usize, Input)>,
    telemetry: Telemetry,
}

impl Loop {
    async fn run(
        mut self,
        mut received: mpsc::UnboundedReceiver<(usize, Input)>,
        mut releases: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
        mut health: watch::Receiver<bool>,
        mut drain: watch::Receiver<bool>,
    ) {
        let mut view = self.shell.store.view();
        let mut membership = self.shell.store.membership();
        view.mark_changed();
        membership.mark_changed();
        health.mark_changed();
        drain.mark_changed();
        loop {
            let wakeup = self
                .addresses
                .iter()
                .filter_map(|a| a.fsm.next_wakeup())
                .min();
            let mut wait = wakeup.map_or(IDLE_WAIT, |at| at.since(BootTime::now()));
            if self.deadline.borrow().is_some() {
                // A sleep does not go on while the machine is suspended; a lease runs out meanwhile.
                wait = wait.min(SUSPEND_CHECK);
            }
            tokio::select! {
                // Time first: whatever else there is, an address whose time has come goes.
                biased;
                () = sleep(wait) => self.all(|| Input::Tick),
                Some((number, input)) = received.recv() => self.one(number, input),
                Some(done) = releases.recv() => {
                    self.releasing = true;
                    self.waiting.push(done);
                    self.all(|| Input::Drain(true));
                }
                Ok(()) = view.changed() => {
                    let view: Arc<View> = view.borrow_and_update().clone();
                    self.all(|| Input::View(view.clone()));
                }
                Ok(()) = membership.changed() => {
                    let quorum = has_quorum(&membership.borrow_and_update());
                    self.all(|| Input::Quorum(quorum));
                }
                Ok(()) = health.changed() => {
                    let healthy = *health.borrow_and_update();
                    self.all(|| Input::Health(healthy));
                }
                Ok(()) = drain.changed() => {
                    let drained = *drain.borrow_and_update() || self.releasing;
                    self.all(|| Input::Drain(drained));
                }
            }
            if let Some(late) = wakeup.map(|at| BootTime::now().since(at))
                && late >= LOOP_DELAY_EVENT
            {
                self.shell.telemetry.emit(&event::LoopDelayed { late });
            }
            self.publish();
        }
    }

    fn all(&mut self, input: impl Fn() -> Input) {
        for number in 0..self.addresses.len() {
            self.one(number, input());
        }
    }

    fn one(&mut self, number: usize, input: Input) {
        let Some(address) = self.addresses.get_mut(number) else {
            return;
        };
        let effects = address.fsm.step(BootTime::now(), input);
        // The guard knows before anything is served.
        self.tell_guard();
        for effect in effects {
            self.perform(number, effect);
        }
    }

    fn tell_guard(&self) {
        let deadline = self.addresses.iter().filter_map(|a| a.fsm.deadline()).min();
        self.deadline.send_if_modified(|before| {
            let changed = *before != deadline;
            *before = deadline;
            changed
        });
    }

    fn perform(&mut self, number: usize, effect: Effect) {
        let Some(address) = self.addresses.get_mut(number) else {
            return;
        };
        let job = Job {
            shell: self.shell.clone(),
            policy: address.fsm.policy().clone(),
            problem: address.problem.clone(),
            epoch: address.epoch,
        };
        match effect {
            Effect::Tell(notice) => {
                if let Notice::Taken { epoch } = notice {
                    address.epoch = Some(epoch);
                }
                job.tell(notice);
            }
            Effect::Announce => job.shell.executor.announce(job.policy.ip),
            // A probe is over in less time than it would take to cancel it.
            Effect::CancelProbe => {}
            Effect::Take { epoch, .. } => {
                address.epoch = epoch;
                self.spawn(number, job, effect);
            }
            effect => self.spawn(number, job, effect),
        }
    }

    fn spawn(&self, number: usize, job: Job, effect: Effect) {
        let inputs = self.shell.inputs.clone();
        tokio::spawn(async move {
            if let Some(input) = job.perform(effect).await {
                let _ = inputs.send((number, input));
            }
        });
    }

    fn publish(&mut self) {
        let status: Vec<_> = self.addresses.iter().map(Address::status).collect();
        self.status.send_if_modified(|before| {
            let changed = *before != status;
            *before = status;
            changed
        });
        let done = self.addresses.iter().all(|a| a.fsm.is_released());
        if done {
            for waiting in self.waiting.drain(..) {
                let _ = waiting.send(());
            }
        }
    }
}

impl Address {
    fn new(policy: Policy) -> Self {
        Self {
            fsm: Fsm::new(policy),
            problem: Problem::default(),
            epoch: None,
        }
    }

    fn status(&self) -> AddressStatus {
        let fsm = &self.fsm;
        let state = fsm.state();
        AddressStatus {
            ip: fsm.policy().ip,
            holder: fsm.holder().map(|(holder, _)| holder.clone()),
            epoch: fsm.holder().map(|(_, epoch)| epoch),
            state,
            orphan: state == State::Orphan,
            deadline: fsm.deadline(),
            changed_at: fsm.changed_at(),
            preferred: fsm.policy().preferred.clone(),
            wanted: fsm.wanted_server().cloned(),
            problem: lock(&self.problem).clone(),
        }
    }
}

/// One effect of one address, done in a task of its own.
struct Job {
    shell: Shell,
    policy: Policy,
    problem: Problem,
    epoch: Option<Epoch>,
}

impl Job {
    async fn perform(self, effect: Effect) -> Option<Input> {
        let executor = &self.shell.executor;
        let ip = self.policy.ip;
        Some(match effect {
            Effect::Grant { forget } => {
                let txn = grant_txn(&self.policy, forget);
                let asked_at = BootTime::now();
                let result = timeout(STORE_TIMEOUT, self.shell.store.commit(txn)).await;
                let result = match result.unwrap_or(Err(StoreError::Unknown)) {
                    Ok(Outcome::Done { revision }) => Granted::Yes(Epoch(revision.0)),
                    Ok(Outcome::Refused { .. }) => Granted::Refused,
                    Err(StoreError::Unknown) => Granted::Unknown,
                    Err(error) => {
                        tracing::debug!(%ip, %error, "lease not granted");
                        Granted::Failed
                    }
                };
                Input::GrantDone { asked_at, result }
            }
            Effect::Renew { epoch } => {
                let asked_at = BootTime::now();
                // An answer after that proves nothing any more.
                let renewal = self.shell.store.renew(&self.policy.lease, epoch);
                let result = match timeout(self.policy.ttl, renewal).await {
                    Ok(Ok(())) => Renewal::Yes,
                    Ok(Err(StoreError::LeaseLost)) => Renewal::Lost,
                    Ok(Err(error)) => {
                        tracing::debug!(%ip, %error, "lease not renewed");
                        Renewal::Failed
                    }
                    Err(_) => Renewal::Failed,
                };
                Input::RenewDone {
                    epoch,
                    asked_at,
                    result,
                }
            }
            Effect::Revoke { epoch } => {
                let txn = revoke_txn(&self.policy, epoch);
                let result = timeout(STORE_TIMEOUT, self.shell.store.commit(txn)).await;
                // Refused: it is not ours any more, which is as good.
                let done = matches!(result, Ok(Ok(_)));
                Input::RevokeDone { epoch, done }
            }
            Effect::Forget { epoch, version } => {
                let txn = forget_txn(&self.policy, epoch, version);
                let _ = timeout(STORE_TIMEOUT, self.shell.store.commit(txn)).await;
                return None;
            }
            Effect::Probe { marked } => {
                let (answer, problem) = executor.probe(ip, marked).await;
                if problem.is_some() {
                    *lock(&self.problem) = problem;
                }
                Input::ProbeDone(answer)
            }
            Effect::Take {
                epoch,
                until,
                seconds,
            } => {
                let done = executor.take(ip, epoch, until, seconds).await;
                Input::TakeDone(self.note(done))
            }
            Effect::Refresh { until, seconds } => {
                let done = executor.refresh(ip, until, seconds).await;
                Input::RefreshDone(self.note(done))
            }
            Effect::Release => {
                let done = executor.release(ip, self.epoch).await;
                Input::ReleaseDone(match done {
                    Ok(()) => true,
                    failed => self.note(failed),
                })
            }
            Effect::CancelProbe | Effect::Announce | Effect::Tell(_) => return None,
        })
    }

    fn note(&self, result: Result<(), String>) -> bool {
        let done = result.is_ok();
        *lock(&self.problem) = result.err();
        done
    }

    fn tell(&self, notice: Notice) {
        let telemetry = &self.shell.telemetry;
        let ip: IpAddr = self.policy.ip;
        let problem = lock(&self.problem).clone();
        let problem = problem.as_deref().unwrap_or("unknown");
        match notice {
            Notice::Taken { epoch } => telemetry.emit(&event::Taken { ip, epoch: epoch.0 }),
            Notice::TakenAsOrphan => telemetry.emit(&event::TakenAsOrphan { ip }),
            Notice::Released { why } => telemetry.emit(&event::Released { ip, why }),
            Notice::Lost => telemetry.emit(&event::Lost { ip }),
            Notice::Yielded => telemetry.emit(&event::Yielded { ip }),
            Notice::Conflict => telemetry.emit(&event::Conflict { ip }),
            Notice::SomebodyAnswers => telemetry.emit(&event::SomebodyAnswers { ip, problem }),
            Notice::ProbeFailed => telemetry.emit(&event::ProbeFailed { ip, problem }),
            Notice::TakeFailed => telemetry.emit(&event::TakeFailed { ip, problem }),
            Notice::ReleaseFailed => telemetry.emit(&event::ReleaseFailed { ip, problem }),
        }
    }
}

fn has_quorum(membership: &Membership) -> bool {
    membership.has_quorum
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
