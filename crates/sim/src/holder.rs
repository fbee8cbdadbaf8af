//! Drives the real state machine of one floating address on one server, as `trilith_vip::Vip` does, over
//! the real store and a model of the kernel.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::{mpsc, watch};
use trilith_base::BootTime;
use trilith_cluster::Cluster;
use trilith_consensus::{Epoch, Outcome, Store, StoreError};
use trilith_vip::limits::SUSPEND_CHECK;
use trilith_vip::{
    Answer, Effect, Fsm, Granted, Input, Policy, Renewal, State, forget_txn, grant_txn, revoke_txn,
};

use crate::environment::{SimEnvironment, Sleep, spawn_for};
use crate::executor::{Owner, WORLD, executor};
use crate::history::{End, LeaseCall};
use crate::kernel::expires_in;
use crate::plant::Plant;
use crate::world::{World, lock, name_of, server_name};

/// With nothing to do, the loop waits for news.
const IDLE: Duration = Duration::from_secs(3600);
/// The guard leaves the process this much of its stop budget.
const GUARD_AFTER: Duration = Duration::from_millis(30);
/// What [`Plant::NoBudget`] adds to each deadline, and how slow a reply [`Plant::LeaseFromReply`] has.
const PLANTED_EXCESS: Duration = Duration::from_millis(300);

/// One address on one server, for one life.
#[derive(Clone)]
struct Holder {
    world: Arc<World>,
    server: usize,
    ip: IpAddr,
    cluster: Arc<Cluster<SimEnvironment>>,
    policy: Policy,
    inputs: mpsc::UnboundedSender<Input>,
}

pub fn run(
    world: &Arc<World>,
    server: usize,
    index: usize,
    cluster: &Arc<Cluster<SimEnvironment>>,
    health: watch::Receiver<bool>,
    drain: watch::Receiver<bool>,
) {
    let shape = &world.shape;
    let ip = shape.addresses[index];
    let edges = (0..shape.servers).map(server_name).collect();
    let mut policy = Policy::new(ip, index, server_name(server), edges);
    if shape.kernel_ends {
        policy = policy.with_network(shape.orphans);
    }
    let (inputs, receiver) = mpsc::unbounded_channel();
    let holder = Holder {
        world: world.clone(),
        server,
        ip,
        cluster: cluster.clone(),
        policy,
        inputs: inputs.clone(),
    };
    lock(&world.watcher).listen(server, ip, inputs);
    let owner = executor().current();
    holder.forward(cluster.view(), Input::View);
    holder.forward(cluster.membership(), |m| Input::Quorum(m.has_quorum));
    holder.forward(health, Input::Health);
    holder.forward(drain, Input::Drain);
    spawn_for(owner, async move {
        holder.remove_leftover().await;
        holder.drive(receiver).await;
    });
}

impl Holder {
    /// Everything that a watch channel shows becomes an input, the present value first.
    fn forward<T: Clone + Send + Sync + 'static>(
        &self,
        mut from: watch::Receiver<T>,
        input: impl Fn(T) -> Input + Send + 'static,
    ) {
        let inputs = self.inputs.clone();
        spawn_for(executor().current(), async move {
            loop {
                let value = from.borrow_and_update().clone();
                if inputs.send(input(value)).is_err() || from.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    /// What a killed predecessor left behind is gone before anything else happens, as `Vip::start` has it:
    /// whoever finds no address here may give its lease back.
    async fn remove_leftover(&self) {
        if !self.world.shape.kernel_ends {
            return;
        }
        self.takes_time(Duration::from_millis(15)).await;
        lock(&self.world.kernel).remove(self.server, self.ip);
    }

    async fn drive(self, mut inputs: mpsc::UnboundedReceiver<Input>) {
        let mut fsm = Fsm::new(self.policy.clone());
        let mut before = fsm.state();
        loop {
            let now = boot_time();
            let mut wait = fsm.next_wakeup().map_or(IDLE, |at| at.since(now));
            if fsm.deadline().is_some() {
                // A suspended machine's timers are late by the time it slept.
                wait = wait.min(SUSPEND_CHECK);
            }
            let next = Box::pin(inputs.recv());
            let input = match select(next, Sleep::new(wait)).await {
                Either::Left((Some(input), _)) => input,
                Either::Left((None, _)) => return,
                Either::Right(_) => Input::Tick,
            };
            let effects = fsm.step(boot_time(), input);
            let state = fsm.state();
            if state != before {
                let (server, ip) = (name_of(self.server), self.ip);
                self.world
                    .note(format_args!("{server} {ip} {before} -> {state}"));
                before = state;
            }
            if matches!(state, State::Held | State::Orphan) {
                let orphan = state == State::Orphan;
                lock(&self.world.kernel).set_orphan(self.server, self.ip, orphan);
            }
            self.tell_guard(fsm.deadline());
            for effect in effects {
                self.perform(effect);
            }
        }
    }

    fn perform(&self, effect: Effect) {
        let this = self.clone();
        match effect {
            Effect::Grant { forget } => self.answer(async move { this.grant(forget).await }),
            Effect::Renew { epoch } => self.answer(async move { this.renew(epoch).await }),
            Effect::Revoke { epoch } => self.answer(async move { this.revoke(epoch).await }),
            Effect::Forget { epoch, version } => {
                spawn_for(executor().current(), async move {
                    let txn = forget_txn(&this.policy, epoch, version);
                    let _ = this.cluster.commit(txn).await;
                });
            }
            Effect::Probe { marked } => self.answer(async move { this.probe(marked).await }),
            Effect::Take {
                until,
                seconds,
                epoch,
            } => {
                self.answer(async move { this.take(until, seconds, epoch.is_none()).await });
            }
            Effect::Refresh { until, seconds } => {
                self.answer(async move { this.refresh(until, seconds).await });
            }
            Effect::Release => self.answer(async move { this.release().await }),
            Effect::Announce => self.claim(),
            Effect::Tell(notice) => {
                let (server, ip) = (name_of(self.server), self.ip);
                self.world.note(format_args!("{server} {ip} {notice:?}"));
            }
            Effect::CancelProbe => {}
        }
    }

    fn answer(&self, work: impl Future<Output = Input> + Send + 'static) {
        let inputs = self.inputs.clone();
        spawn_for(executor().current(), async move {
            let _ = inputs.send(work.await);
        });
    }

    // The store.

    async fn grant(&self, forget: Option<trilith_consensus::Revision>) -> Input {
        let mut asked_at = self.asks_at();
        let call = self.call(Some(LeaseCall::PerhapsGranted));
        let result = self.cluster.commit(grant_txn(&self.policy, forget)).await;
        let (result, seen) = match result {
            Ok(Outcome::Done { revision }) => {
                let epoch = Epoch(revision.0);
                (Granted::Yes(epoch), End::Call(LeaseCall::Granted(epoch.0)))
            }
            // With a wish to forget, the condition that did not hold may be the other one.
            Ok(Outcome::Refused { .. }) if forget.is_none() => {
                (Granted::Refused, End::Call(LeaseCall::Taken))
            }
            Ok(Outcome::Refused { .. }) => (Granted::Refused, End::Nothing),
            Err(StoreError::Unknown) => (Granted::Unknown, End::Open),
            Err(_) => (Granted::Failed, End::Nothing),
        };
        lock(&self.world.history).lease_done(call, seen);
        self.world.note(format_args!(
            "{} {} grant: {result:?}",
            name_of(self.server),
            self.ip
        ));
        if self.world.shape.plant == Some(Plant::LeaseFromReply) {
            asked_at = self.asks_at();
        }
        Input::GrantDone { asked_at, result }
    }

    async fn renew(&self, epoch: Epoch) -> Input {
        let mut asked_at = self.asks_at();
        let call = self.call(None);
        let (result, seen) = match self.cluster.renew(&self.policy.lease, epoch).await {
            Ok(()) => (Renewal::Yes, End::Call(LeaseCall::Renewed(epoch.0))),
            Err(StoreError::LeaseLost) => (Renewal::Lost, End::Call(LeaseCall::Lost(epoch.0))),
            Err(_) => (Renewal::Failed, End::Nothing),
        };
        lock(&self.world.history).lease_done(call, seen);
        if result != Renewal::Yes {
            self.world.note(format_args!(
                "{} {} renew {epoch}: {result:?}",
                name_of(self.server),
                self.ip
            ));
        }
        if self.world.shape.plant == Some(Plant::LeaseFromReply) {
            Sleep::new(PLANTED_EXCESS).await;
            asked_at = self.asks_at();
        }
        Input::RenewDone {
            epoch,
            asked_at,
            result,
        }
    }

    async fn revoke(&self, epoch: Epoch) -> Input {
        let call = self.call(Some(LeaseCall::Revoked(epoch.0)));
        let result = self.cluster.commit(revoke_txn(&self.policy, epoch)).await;
        let (done, seen) = match result {
            Ok(Outcome::Done { .. }) => (true, End::Call(LeaseCall::Revoked(epoch.0))),
            Ok(Outcome::Refused { .. }) => (true, End::Call(LeaseCall::Lost(epoch.0))),
            Err(StoreError::Unknown) => (false, End::Open),
            Err(_) => (false, End::Nothing),
        };
        lock(&self.world.history).lease_done(call, seen);
        Input::RevokeDone { epoch, done }
    }

    fn asks_at(&self) -> BootTime {
        match self.world.shape.plant {
            Some(Plant::NoBudget) => boot_time() + PLANTED_EXCESS,
            _ => boot_time(),
        }
    }

    fn call(&self, if_never_answered: Option<LeaseCall>) -> usize {
        lock(&self.world.history).lease_call(self.lease_number(), if_never_answered)
    }

    fn lease_number(&self) -> usize {
        let mut addresses = self.world.shape.addresses.iter();
        addresses.position(|ip| *ip == self.ip).unwrap_or_default()
    }

    // The address.

    async fn take(&self, until: BootTime, seconds: Option<u32>, orphan: bool) -> Input {
        self.takes_time(Duration::from_millis(30)).await;
        let done = match seconds {
            None => boot_time() < until,
            Some(seconds) => self.lifetime_fits(seconds, until),
        };
        if done {
            let expires = seconds.map(|seconds| expires_in(seconds, self.world.draw(1_000)));
            lock(&self.world.kernel).set(self.server, self.ip, expires, orphan);
            let (server, ip) = (name_of(self.server), self.ip);
            self.world.note(format_args!("{server} has {ip}"));
            self.world.check_holders();
        }
        Input::TakeDone(done)
    }

    async fn refresh(&self, until: BootTime, seconds: u32) -> Input {
        self.takes_time(Duration::from_millis(3)).await;
        let done = self.lifetime_fits(seconds, until) && {
            let expires = expires_in(seconds, self.world.draw(1_000));
            lock(&self.world.kernel).refresh(self.server, self.ip, expires)
        };
        self.world.check_holders();
        Input::RefreshDone(done)
    }

    fn lifetime_fits(&self, seconds: u32, until: BootTime) -> bool {
        let lasts = Duration::from_secs(u64::from(seconds)) * 11 / 10;
        boot_time() + lasts <= until
    }

    async fn release(&self) -> Input {
        self.takes_time(Duration::from_millis(15)).await;
        let done = self.world.draw(50) > 0;
        if done {
            lock(&self.world.kernel).remove(self.server, self.ip);
            let (server, ip) = (name_of(self.server), self.ip);
            self.world.note(format_args!("{server} has no {ip}"));
        }
        Input::ReleaseDone(done)
    }

    /// Asks all servers that can be reached.
    async fn probe(&self, marked: bool) -> Input {
        if marked {
            self.claim();
        }
        self.takes_time(Duration::from_millis(60)).await;
        let holders = lock(&self.world.kernel).holders(self.ip, executor().now());
        let answers = holders.into_iter().any(|other| {
            let network = &self.world.network;
            other != self.server
                && !network.is_cut(self.server, other)
                && !network.is_cut(other, self.server)
        });
        Input::ProbeDone(if answers { Answer::Taken } else { Answer::Free })
    }

    /// The others hear that the address is claimed here.
    fn claim(&self) {
        if !self.world.shape.kernel_ends {
            return;
        }
        for other in (0..self.world.shape.servers).filter(|other| *other != self.server) {
            if !self.world.network.is_cut(self.server, other) {
                lock(&self.world.watcher).conflict(other, self.ip);
            }
        }
    }

    async fn takes_time(&self, longest: Duration) {
        let time = self.world.draw_between(Duration::from_micros(200), longest);
        Sleep::new(time).await;
    }

    /// The guard is a process of its own: it counts on the machine's clock, and is not stopped with the
    /// server, but sleeps with the machine. At the deadline it removes the address, or, where there is
    /// nothing to remove but listeners, the server. It looks at the clock as `trilith guard` does.
    fn tell_guard(&self, deadline: Option<BootTime>) {
        if self.world.shape.plant == Some(Plant::ImmortalAddress) {
            return;
        }
        let Some(at) = lock(&self.world.watcher).set_deadline(self.server, self.ip, deadline)
        else {
            return;
        };
        let (this, life) = (self.clone(), executor().owner(self.server));
        spawn_for(WORLD, async move {
            let (server, ip) = (this.server, this.ip);
            while let Some(left) = time_left(life, at + GUARD_AFTER) {
                if lock(&this.world.watcher).deadline(server, ip) != Some(at) {
                    return;
                }
                let sleeps = lock(&this.world.kernel).sleeps(server);
                if left.is_zero() && !sleeps {
                    return this.guard_acts().await;
                }
                let longest = SUSPEND_CHECK;
                let nap = if sleeps { longest } else { left.min(longest) };
                Sleep::new(nap.max(Duration::from_millis(1))).await;
            }
        });
    }

    async fn guard_acts(&self) {
        let (world, server, ip) = (&self.world, self.server, self.ip);
        if !lock(&world.kernel).has(server, ip, executor().now()) {
            return;
        }
        if world.shape.kernel_ends {
            self.takes_time(Duration::from_millis(10)).await;
            lock(&world.kernel).remove(server, ip);
            let name = name_of(server);
            world.note(format_args!("the guard of {name} removes {ip}"));
        } else {
            world.guard(server, "the lease has run out");
        }
    }
}

/// Until a server's boot clock shows `at`; `None` when that life is over.
fn time_left(life: Owner, at: BootTime) -> Option<Duration> {
    let executor = executor();
    let alive = executor.owner(life.server) == life;
    alive.then(|| at.since(BootTime(executor.boot_time(life))))
}

fn boot_time() -> BootTime {
    let executor = executor();
    BootTime(executor.boot_time(executor.current()))
}
