//! Who holds one address: a state machine without I/O. The shell gives it what it sees and does what it
//! asks for; so does the simulation.

mod message;
mod policy;
mod print;
mod settle;

use std::collections::BTreeSet;

use trilith_base::{BootTime, ServerName};
use trilith_consensus::{Epoch, Lease, Revision, View};

use crate::limits::{
    DEFEND_EVERY, GIVEN_BACK_PAUSE, GRANT_RETRY, GRANT_UNKNOWN_RETRY, LEAVE_RETRY, PROBE_RETRY,
    TAKE_RETRY,
};

pub use message::{Answer, Effect, Granted, Input, LeaveReason, Notice, Renewal, State};
pub use policy::{Policy, forget_txn, grant_txn, lease_key, revoke_txn, wanted_key};

/// The address on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Local {
    Down,
    Coming,
    Up,
    /// `taking`: a take is still under way, and has to be undone once it has ended.
    Going {
        taking: bool,
        releases: u32,
    },
    /// A release failed; tried again then.
    Stuck {
        again_at: BootTime,
    },
}

/// A lease that the store says is ours.
#[derive(Clone, Copy, Debug)]
struct Mine {
    epoch: Epoch,
    /// The address must be gone by then. In the past: not (any more) proven to be ours.
    deadline: BootTime,
    renew_at: BootTime,
    renewing: usize,
    /// Once on the way out, it is not used again.
    leaving: Option<LeaveReason>,
    /// The next revocation; `None` while one is under way.
    revoke_at: Option<BootTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probing {
    No,
    /// Under way.
    Marked,
    Plain,
    /// Under way, but the answer is of no use any more.
    Dropped,
    /// Nobody answered.
    Free {
        at: BootTime,
    },
}

/// An operator's wish, `vip/<ip>/wanted`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    /// `None`: not the name of a server.
    server: Option<ServerName>,
    version: Revision,
}

/// The state machine of one address on one server.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use trilith_base::{BootTime, ServerName};
/// # use trilith_consensus::{Epoch, View};
/// # use trilith_vip::{Effect, Fsm, Granted, Input, Policy};
/// let one = ServerName::new("one").unwrap();
/// let ip = "127.0.0.1".parse().unwrap();
/// let mut fsm = Fsm::new(Policy::new(ip, 0, one.clone(), vec![one]));
/// let at = |ms| BootTime(Duration::from_millis(ms));
/// fsm.step(at(1_000), Input::View(Arc::new(View::default())));
/// fsm.step(at(1_000), Input::Health(true));
/// let effects = fsm.step(at(1_000), Input::Quorum(true));
/// assert_eq!(effects, [Effect::Grant { forget: None }]);
/// let granted = Granted::Yes(Epoch(7));
/// let effects = fsm.step(at(1_010), Input::GrantDone { asked_at: at(1_000), result: granted });
/// assert!(matches!(effects[..], [Effect::Take { .. }]));
/// ```
#[derive(Clone, Debug)]
pub struct Fsm {
    policy: Policy,
    healthy: bool,
    link: bool,
    drain: bool,
    quorum: bool,

    // What the view says.
    revision: Revision,
    lease: Option<Lease>,
    wanted: Option<Wanted>,
    draining: BTreeSet<ServerName>,
    /// Other floating addresses whose lease this server holds.
    others: u32,
    /// Whether this address ever had a holder, as far as this server saw.
    ever_held: bool,
    /// Since when the lease is known to be free, with quorum.
    free_since: Option<BootTime>,

    // What is under way.
    mine: Option<Mine>,
    /// Epochs up to this one are over.
    over: Epoch,
    asking: bool,
    ask_again_at: BootTime,
    local: Local,
    /// The last proven deadline of the lease under which the address came up. It stays when the lease is
    /// lost, until the address is proven gone.
    served_until: BootTime,
    /// The kernel may have removed the address from then on.
    lasts_until: Option<BootTime>,
    /// A refresh is under way, after which the address lasts until then.
    refreshing: Option<BootTime>,
    probing: Probing,
    probe_at: BootTime,
    /// Since when somebody who answers, or a network that cannot be asked, keeps us from taking.
    blocked_since: Option<BootTime>,
    take_at: BootTime,
    take_failures: u32,
    forget_at: BootTime,
    defend_at: BootTime,

    // Without quorum.
    orphan: bool,
    /// Since when nobody answered for the address.
    silent_since: Option<BootTime>,
    /// Unanswered probes since then.
    silent_probes: u32,
    /// The last grant known then.
    silent_epoch: Epoch,
    orphan_refresh_at: BootTime,

    changed_at: Option<BootTime>,
    wakeup: Option<BootTime>,
}

impl Fsm {
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            healthy: false,
            link: true,
            drain: false,
            quorum: false,
            revision: Revision::default(),
            lease: None,
            wanted: None,
            draining: BTreeSet::new(),
            others: 0,
            ever_held: false,
            free_since: None,
            mine: None,
            over: Epoch::default(),
            asking: false,
            ask_again_at: BootTime::default(),
            local: Local::Down,
            served_until: BootTime::default(),
            lasts_until: None,
            refreshing: None,
            probing: Probing::No,
            probe_at: BootTime::default(),
            blocked_since: None,
            take_at: BootTime::default(),
            take_failures: 0,
            forget_at: BootTime::default(),
            defend_at: BootTime::default(),
            orphan: false,
            silent_since: None,
            silent_probes: 0,
            silent_epoch: Epoch::default(),
            orphan_refresh_at: BootTime::default(),
            changed_at: None,
            wakeup: None,
        }
    }

    /// Takes in one input and says what to do now. Time never goes back.
    pub fn step(&mut self, now: BootTime, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.take_in(now, input, &mut effects);
        self.settle(now, &mut effects);
        effects
    }

    /// When [`Input::Tick`] is due, if nothing else happens before.
    pub fn next_wakeup(&self) -> Option<BootTime> {
        self.wakeup
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    pub fn state(&self) -> State {
        match (&self.mine, self.local) {
            (_, Local::Going { .. } | Local::Stuck { .. }) => State::Leaving,
            (_, Local::Up) if self.orphan => State::Orphan,
            (Some(mine), _) if mine.leaving.is_some() => State::Leaving,
            (_, Local::Up) => State::Held,
            (Some(_), _) | (_, Local::Coming) => State::Taking,
            (None, Local::Down) if self.asking => State::Asking,
            (None, Local::Down) if self.silent_since.is_some() => State::Watching,
            (None, Local::Down) => State::Idle,
        }
    }

    /// Whether the address is, or may be, on this machine.
    pub fn is_local(&self) -> bool {
        self.local != Local::Down
    }

    /// Until when the address may be served here: the end of the lease as this server may count on it.
    /// `None`: it is proven not to be here, or held without a lease.
    pub fn deadline(&self) -> Option<BootTime> {
        (self.local != Local::Down && !self.orphan).then_some(self.served_until)
    }

    /// The lease as the store shows it: its holder and epoch.
    pub fn holder(&self) -> Option<(&ServerName, Epoch)> {
        self.lease.as_ref().map(|l| (&l.holder, l.epoch))
    }

    /// When this server last began or ceased to hold the address.
    pub fn changed_at(&self) -> Option<BootTime> {
        self.changed_at
    }

    /// The server that an operator named, as long as the wish stands.
    pub fn wanted_server(&self) -> Option<&ServerName> {
        self.wanted.as_ref()?.server.as_ref()
    }

    /// Whether nothing is left here: neither the address nor a lease, nor is one asked for.
    pub fn is_released(&self) -> bool {
        self.local == Local::Down && self.mine.is_none() && !self.asking
    }

    fn take_in(&mut self, now: BootTime, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Tick => {}
            Input::View(view) => self.see(&view),
            Input::Health(is) => self.healthy = is,
            Input::Link(is) => self.link = is,
            Input::Drain(is) => self.drain = is,
            Input::Quorum(is) => {
                // Whoever was on the other side may have claimed the address meanwhile.
                if is && !self.quorum && self.local == Local::Up {
                    effects.push(Effect::Announce);
                }
                self.quorum = is;
            }
            Input::GrantDone { asked_at, result } => self.granted(now, asked_at, result),
            Input::RenewDone {
                epoch,
                asked_at,
                result,
            } => self.renewed(now, epoch, asked_at, result, effects),
            Input::RevokeDone { epoch, done } => match &mut self.mine {
                Some(mine) if mine.epoch == epoch && done => self.lose(epoch),
                Some(mine) if mine.epoch == epoch => mine.revoke_at = Some(now + LEAVE_RETRY),
                _ => {}
            },
            Input::ProbeDone(answer) => self.probed(now, answer, effects),
            Input::Conflict => self.conflict(now, effects),
            Input::Challenged => {
                if self.local == Local::Up && self.orphan {
                    self.yield_to_other(now, effects);
                }
            }
            Input::TakeDone(done) => self.taken(now, done, effects),
            Input::RefreshDone(done) => {
                let lasts = self.refreshing.take();
                if done && self.local == Local::Up {
                    self.lasts_until = self.lasts_until.max(lasts);
                }
            }
            Input::ReleaseDone(done) => self.released(now, done, effects),
        }
    }

    fn see(&mut self, view: &View) {
        if view.revision < self.revision {
            return;
        }
        self.revision = view.revision;
        self.lease = view.lease(self.policy.lease.as_str()).cloned();
        self.ever_held |= self.lease.is_some();
        self.wanted = view.get(self.policy.wanted.as_str()).map(|entry| Wanted {
            server: std::str::from_utf8(&entry.value)
                .ok()
                .and_then(|name| ServerName::new(name.trim()).ok()),
            version: entry.version,
        });
        self.draining = view
            .prefixed("drain/")
            .filter_map(|(key, _)| ServerName::new(&key.as_str()["drain/".len()..]).ok())
            .collect();
        let others = view.leases.iter().filter(|(key, lease)| {
            key.as_str().starts_with("vip/")
                && **key != self.policy.lease
                && lease.holder == self.policy.me
        });
        self.others = u32::try_from(others.count()).unwrap_or(u32::MAX);

        // A view may be late, so it says nothing about a lease that was granted after it.
        if let Some(mine) = &self.mine
            && self.revision.0 >= mine.epoch.0
            && self.lease.as_ref().map(|l| l.epoch) != Some(mine.epoch)
        {
            self.lose(mine.epoch);
        }
        // Ours though we did not know: a grant whose answer was lost, or from before a restart. It is of
        // use once a renewal proves that it lasts.
        if let Some(lease) = &self.lease
            && lease.holder == self.policy.me
            && lease.epoch > self.over
            && self.mine.is_none()
        {
            self.mine = Some(Mine::new(lease.epoch, BootTime::default()));
        }
    }

    fn granted(&mut self, now: BootTime, asked_at: BootTime, result: Granted) {
        self.asking = false;
        match result {
            Granted::Yes(epoch) => {
                self.ever_held = true;
                if epoch <= self.over {
                    return;
                }
                let deadline = self.policy.deadline(asked_at);
                match &mut self.mine {
                    // The view was faster.
                    Some(mine) if mine.epoch == epoch => {
                        mine.deadline = mine.deadline.max(deadline);
                    }
                    _ => {
                        let mut mine = Mine::new(epoch, deadline);
                        // With a lifetime in the kernel, a fresh renewal makes room for a whole second.
                        if !self.policy.lifetime {
                            mine.renew_at = self.policy.next_renewal(now);
                        }
                        self.mine = Some(mine);
                    }
                }
            }
            Granted::Refused | Granted::Failed => self.ask_again_at = now + GRANT_RETRY,
            Granted::Unknown => self.ask_again_at = now + GRANT_UNKNOWN_RETRY,
        }
    }

    fn renewed(
        &mut self,
        now: BootTime,
        epoch: Epoch,
        asked_at: BootTime,
        result: Renewal,
        effects: &mut Vec<Effect>,
    ) {
        let deadline = self.policy.deadline(asked_at);
        let Some(mine) = self.mine.as_mut().filter(|mine| mine.epoch == epoch) else {
            return;
        };
        mine.renewing = mine.renewing.saturating_sub(1);
        match result {
            Renewal::Yes => mine.deadline = mine.deadline.max(deadline),
            Renewal::Failed => return,
            Renewal::Lost => return self.lose(epoch),
        }
        let (deadline, leaving) = (mine.deadline, mine.leaving.is_some());
        if leaving || self.orphan {
            return;
        }
        if matches!(self.local, Local::Coming | Local::Up) {
            self.served_until = self.served_until.max(deadline);
        }
        if self.local == Local::Up {
            self.refresh(now, deadline, effects);
        }
    }

    fn lose(&mut self, epoch: Epoch) {
        self.over = self.over.max(epoch);
        self.mine = None;
    }

    fn probed(&mut self, now: BootTime, answer: Answer, effects: &mut Vec<Effect>) {
        let asked = std::mem::replace(&mut self.probing, Probing::No);
        match (asked, answer) {
            (Probing::No | Probing::Free { .. }, _) => self.probing = asked,
            (Probing::Dropped, _) => {}
            (Probing::Marked, Answer::Free) => {
                self.probing = Probing::Free { at: now };
                self.blocked_since = None;
            }
            (Probing::Marked, Answer::Taken | Answer::Failed | Answer::Deaf) => {
                if self.blocked_since.is_none() {
                    self.blocked_since = Some(now);
                    tell(
                        effects,
                        match answer {
                            Answer::Taken => Notice::SomebodyAnswers,
                            _ => Notice::ProbeFailed,
                        },
                    );
                }
                self.probe_at = now + PROBE_RETRY;
            }
            (Probing::Plain, answer) => self.watched(now, answer, effects),
        }
    }

    fn conflict(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        if self.local == Local::Up && self.orphan {
            self.yield_to_other(now, effects);
        } else if self.local == Local::Up && now >= self.defend_at {
            self.defend_at = now + DEFEND_EVERY;
            tell(effects, Notice::Conflict);
            effects.push(Effect::Announce);
        } else if self.silent_since.is_some() {
            self.silent_since = Some(now);
            self.silent_probes = 0;
        }
    }

    fn taken(&mut self, now: BootTime, done: bool, effects: &mut Vec<Effect>) {
        match (self.local, done) {
            (Local::Coming, true) => {
                self.local = Local::Up;
                self.changed_at = Some(now);
                self.take_failures = 0;
                self.blocked_since = None;
                effects.push(Effect::Announce);
                match self.mine {
                    Some(mine) if !self.orphan => {
                        tell(effects, Notice::Taken { epoch: mine.epoch });
                    }
                    _ if self.orphan => tell(effects, Notice::TakenAsOrphan),
                    _ => {}
                }
            }
            (Local::Coming, false) => {
                self.take_failures += 1;
                self.take_at = now + TAKE_RETRY;
                tell(effects, Notice::TakeFailed);
                // It may have been done in part.
                self.local = Local::Up;
                self.go_down(now, effects);
            }
            // It was released while it was being taken, perhaps before the take had done its work.
            (
                Local::Going {
                    taking: true,
                    releases,
                },
                _,
            ) => {
                self.local = Local::Going {
                    taking: false,
                    releases: releases + 1,
                };
                effects.push(Effect::Release);
            }
            _ => {}
        }
    }

    fn released(&mut self, now: BootTime, done: bool, effects: &mut Vec<Effect>) {
        let Local::Going { taking, releases } = self.local else {
            return;
        };
        let releases = releases.saturating_sub(1);
        if taking || releases > 0 {
            self.local = Local::Going { taking, releases };
        } else if done {
            self.local = Local::Down;
            self.lasts_until = None;
        } else {
            tell(effects, Notice::ReleaseFailed);
            self.local = Local::Stuck {
                again_at: now + LEAVE_RETRY,
            };
        }
    }

    /// Leaves the lease to others for a while.
    fn give_back(&mut self, now: BootTime) {
        self.ask_again_at = now + GIVEN_BACK_PAUSE;
        self.blocked_since = None;
        self.take_failures = 0;
    }
}

impl Mine {
    fn new(epoch: Epoch, deadline: BootTime) -> Self {
        Self {
            epoch,
            deadline,
            renew_at: BootTime::default(),
            renewing: 0,
            leaving: None,
            revoke_at: Some(BootTime::default()),
        }
    }
}

fn tell(effects: &mut Vec<Effect>, notice: Notice) {
    effects.push(Effect::Tell(notice));
}

#[cfg(test)]
mod race;
#[cfg(test)]
mod tests;
