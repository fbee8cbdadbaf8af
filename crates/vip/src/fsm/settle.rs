//! What follows from where an [`Fsm`] stands, after every input: one step after the other, each of which
//! does nothing when its time has not come.

use std::time::Duration;

use trilith_base::{BootTime, ServerName};

use super::{Answer, Effect, Fsm, LeaveReason, Local, Notice, Probing, tell};
use crate::limits::{
    FIRST_GRANT_WAIT, FORGET_RETRY, ORPHAN_ORDER_DELAY, ORPHAN_PROBE_EVERY, ORPHAN_PROBES_MIN,
    ORPHAN_WAIT, PROBE_PATIENCE, PROBE_VALID, RENEWALS_MAX, TAKE_FAILURES_MAX, WANTED_WAIT,
};

impl Fsm {
    pub(super) fn settle(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        self.note_free(now);
        self.decide_to_leave(now);
        self.take_over_from_orphan(now, effects);
        self.leave(now, effects);
        self.revoke(now, effects);
        self.renew(now, effects);
        self.check_and_take(now, effects);
        self.ask(now, effects);
        self.watch(now, effects);
        self.forget(now, effects);
        self.wakeup = self.wakeup_after(now);
    }

    /// Why this server must not hold the address, if it must not.
    fn unusable(&self) -> Option<LeaveReason> {
        if self.drain || self.draining.contains(&self.policy.me) {
            Some(LeaveReason::Draining)
        } else if !self.healthy {
            Some(LeaveReason::Unhealthy)
        } else if !self.link {
            Some(LeaveReason::LinkDown)
        } else {
            None
        }
    }

    /// The server that an operator named, if it can follow.
    fn wanted(&self) -> Option<&ServerName> {
        let server = self.wanted.as_ref()?.server.as_ref()?;
        let known = self.policy.edges.contains(server);
        (known && !self.draining.contains(server)).then_some(server)
    }

    /// Whether the lease is ours and of use.
    fn may_hold(&self, now: BootTime) -> bool {
        self.mine
            .is_some_and(|mine| mine.leaving.is_none() && now < mine.deadline)
    }

    fn note_free(&mut self, now: BootTime) {
        let free = self.quorum && self.lease.is_none() && self.mine.is_none();
        self.free_since = match self.free_since {
            _ if !free => None,
            None => Some(now),
            since => since,
        };
    }

    fn decide_to_leave(&mut self, now: BootTime) {
        let moved = self
            .wanted()
            .is_some_and(|server| *server != self.policy.me);
        let blocked = self
            .blocked_since
            .is_some_and(|since| now.since(since) >= PROBE_PATIENCE);
        let reason = match self.unusable() {
            Some(reason) => reason,
            None if moved => LeaveReason::Moved,
            None if blocked || self.take_failures >= TAKE_FAILURES_MAX => LeaveReason::Unusable,
            None => return,
        };
        let Some(mine) = self.mine.as_mut().filter(|mine| mine.leaving.is_none()) else {
            return;
        };
        mine.leaving = Some(reason);
        if reason == LeaveReason::Unusable {
            self.give_back(now);
        }
    }

    /// The orphan got the lease: it goes on without a gap.
    fn take_over_from_orphan(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        if let Some(mine) = self.mine
            && self.orphan
            && self.local == Local::Up
            && self.may_hold(now)
        {
            self.orphan = false;
            self.served_until = mine.deadline;
            tell(effects, Notice::Taken { epoch: mine.epoch });
            self.refresh(now, mine.deadline, effects);
            effects.push(Effect::Announce);
        }
    }

    /// Takes the address down when the right to it has ended.
    fn leave(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        if let Local::Stuck { again_at } = self.local
            && now >= again_at
        {
            effects.push(Effect::Release);
            self.local = Local::Going {
                taking: false,
                releases: 1,
            };
        }
        if !matches!(self.local, Local::Coming | Local::Up) {
            return;
        }
        let outlived = self.lasts_until.is_some_and(|until| now >= until);
        let why = match self.mine {
            _ if self.orphan => match self.unusable() {
                Some(why) => Notice::Released { why },
                None if self.somebody_else_holds() => Notice::Yielded,
                None if outlived => Notice::Lost,
                None => return,
            },
            Some(mine) => match mine.leaving {
                Some(why) => Notice::Released { why },
                None if outlived || now >= mine.deadline => Notice::Lost,
                None => return,
            },
            None => Notice::Lost,
        };
        tell(effects, why);
        self.go_down(now, effects);
    }

    /// Without quorum the view shows who held it last; only a later grant is news.
    fn somebody_else_holds(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| {
            lease.holder != self.policy.me && (self.quorum || lease.epoch > self.silent_epoch)
        })
    }

    pub(super) fn yield_to_other(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        tell(effects, Notice::Yielded);
        self.silent_since = Some(now);
        self.silent_probes = 0;
        self.go_down(now, effects);
    }

    pub(super) fn go_down(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        self.local = match self.local {
            Local::Coming => Local::Going {
                taking: true,
                releases: 1,
            },
            Local::Up => Local::Going {
                taking: false,
                releases: 1,
            },
            Local::Down | Local::Going { .. } | Local::Stuck { .. } => return,
        };
        self.orphan = false;
        self.changed_at = Some(now);
        effects.push(Effect::Release);
    }

    /// Gives the lease back once the address is proven gone.
    fn revoke(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        let down = self.local == Local::Down;
        if let Some(mine) = &mut self.mine
            && mine.leaving.is_some()
            && down
            && mine.revoke_at.is_some_and(|at| now >= at)
        {
            mine.revoke_at = None;
            effects.push(Effect::Revoke { epoch: mine.epoch });
        }
    }

    fn renew(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        let next = self.policy.next_renewal(now);
        if let Some(mine) = &mut self.mine
            && mine.leaving.is_none()
            && now >= mine.renew_at
            && mine.renewing < RENEWALS_MAX
        {
            mine.renew_at = next;
            mine.renewing += 1;
            effects.push(Effect::Renew { epoch: mine.epoch });
        }
    }

    fn check_and_take(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        if self.local != Local::Down || !self.may_hold(now) {
            if self.probing == Probing::Marked {
                self.probing = Probing::Dropped;
                effects.push(Effect::CancelProbe);
            }
            if self.mine.is_none() {
                self.blocked_since = None;
            }
            return;
        }
        if now < self.take_at || (self.policy.probe && !self.nobody_answers(now, effects)) {
            return;
        }
        let Some(mine) = &mut self.mine else { return };
        let (epoch, until) = (mine.epoch, mine.deadline);
        let seconds = self
            .policy
            .lifetime
            .then(|| self.policy.seconds(now, until));
        if seconds == Some(0) {
            // Too late for a lifetime of a whole second: the next renewal makes room, so ask at once.
            if mine.renewing == 0 {
                mine.renew_at = self.policy.next_renewal(now);
                mine.renewing += 1;
                effects.push(Effect::Renew { epoch });
            }
            return;
        }
        self.take(now, Some(epoch), until, seconds, effects);
    }

    /// Whether the network was asked a moment ago and nobody answered; asks if it was not.
    fn nobody_answers(&mut self, now: BootTime, effects: &mut Vec<Effect>) -> bool {
        match self.probing {
            Probing::Free { at } if now.since(at) <= PROBE_VALID => return true,
            Probing::No | Probing::Free { .. } if now >= self.probe_at => {
                self.probing = Probing::Marked;
                effects.push(Effect::Probe { marked: true });
            }
            Probing::Plain => {
                self.probing = Probing::Dropped;
                effects.push(Effect::CancelProbe);
            }
            _ => {}
        }
        false
    }

    fn take(
        &mut self,
        now: BootTime,
        epoch: Option<trilith_consensus::Epoch>,
        until: BootTime,
        seconds: Option<u32>,
        effects: &mut Vec<Effect>,
    ) {
        self.probing = Probing::No;
        self.local = Local::Coming;
        self.served_until = until;
        self.lasts_until = seconds.map(|s| now + Duration::from_secs(u64::from(s)));
        effects.push(Effect::Take {
            epoch,
            until,
            seconds,
        });
    }

    /// Sets the kernel's lifetime anew, if a whole second of it ends before `until`.
    pub(super) fn refresh(&mut self, now: BootTime, until: BootTime, effects: &mut Vec<Effect>) {
        let seconds = self.policy.seconds(now, until);
        if !self.policy.lifetime || self.refreshing.is_some() || seconds == 0 {
            return;
        }
        self.refreshing = Some(now + Duration::from_secs(u64::from(seconds)));
        effects.push(Effect::Refresh { until, seconds });
    }

    fn ask(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        let ready = self.local == Local::Down || (self.local == Local::Up && self.orphan);
        if !ready
            || self.asking
            || self.unusable().is_some()
            || !self.policy.edges.contains(&self.policy.me)
            || self.ask_at().is_none_or(|at| now < at)
        {
            return;
        }
        self.asking = true;
        effects.push(Effect::Grant {
            forget: self.wanted.as_ref().map(|wanted| wanted.version),
        });
    }

    /// When it is this server's turn to ask for the free lease.
    fn ask_at(&self) -> Option<BootTime> {
        let small = self.policy.small_delay(self.others);
        let is_me = |server: &ServerName| *server == self.policy.me;
        let preferred = self.policy.preferred.as_ref();
        let delay = match (self.wanted(), preferred) {
            _ if self.orphan => Duration::ZERO,
            (Some(server), _) if is_me(server) => Duration::ZERO,
            (Some(_), _) => WANTED_WAIT + small,
            _ if self.ever_held => small,
            (None, Some(server)) if is_me(server) => Duration::ZERO,
            (None, Some(server)) if !self.draining.contains(server) => FIRST_GRANT_WAIT + small,
            (None, _) => small,
        };
        Some((self.free_since? + delay).max(self.ask_again_at))
    }

    /// Without quorum: asks again and again whether anybody answers for the address.
    fn watch(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        let watching = self.policy.orphan
            && self.policy.probe
            && !self.quorum
            && self.unusable().is_none()
            && !self.may_hold(now)
            && (self.orphan || self.local == Local::Down);
        if !watching {
            self.silent_since = None;
            if self.probing == Probing::Plain && !self.orphan {
                self.probing = Probing::Dropped;
                effects.push(Effect::CancelProbe);
            }
        } else if self.silent_since.is_none() {
            self.silent_since = Some(now);
            self.silent_probes = 0;
            let known = self.lease.as_ref().map(|l| l.epoch).unwrap_or_default();
            self.silent_epoch = known.max(self.over);
        }
        // An orphan goes on asking until it has the lease, with quorum or without.
        if (watching || self.orphan)
            && matches!(self.probing, Probing::No | Probing::Free { .. })
            && now >= self.probe_at
        {
            self.probing = Probing::Plain;
            self.probe_at = now + ORPHAN_PROBE_EVERY;
            effects.push(Effect::Probe { marked: false });
        }
        if self.orphan && self.local == Local::Up && now >= self.orphan_refresh_at {
            self.orphan_refresh_at = self.policy.next_renewal(now);
            self.refresh(now, now + self.policy.ttl, effects);
        }
    }

    /// A probe without a lease has ended.
    pub(super) fn watched(&mut self, now: BootTime, answer: Answer, effects: &mut Vec<Effect>) {
        if self.orphan {
            if answer == Answer::Taken && self.local == Local::Up {
                self.yield_to_other(now, effects);
            }
            return;
        }
        let Some(since) = self.silent_since else {
            return;
        };
        // A holder whose line is cut one way asks, and cannot hear the one that came after it.
        if answer == Answer::Deaf {
            return;
        }
        if answer != Answer::Free {
            self.silent_since = Some(now);
            self.silent_probes = 0;
            return;
        }
        self.silent_probes = self.silent_probes.saturating_add(1);
        let wait = ORPHAN_WAIT + ORPHAN_ORDER_DELAY * self.policy.order().min(1_000);
        if self.local == Local::Down
            && self.unusable().is_none()
            && !self.quorum
            && now.since(since) >= wait
            && self.silent_probes >= ORPHAN_PROBES_MIN
        {
            self.orphan = true;
            let until = now + self.policy.ttl;
            let seconds = self
                .policy
                .lifetime
                .then(|| self.policy.seconds(now, until).max(1));
            self.take(now, None, until, seconds, effects);
        }
    }

    /// A wish that is fulfilled, or never can be, must not move the address later.
    fn forget(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        let fulfilled = self.wanted().is_none_or(|server| *server == self.policy.me);
        if let (Some(mine), Some(wanted)) = (&self.mine, &self.wanted)
            && fulfilled
            && self.local == Local::Up
            && self.may_hold(now)
            // The grant itself has deleted the one that a late view still shows.
            && self.revision.0 >= mine.epoch.0
            && now >= self.forget_at
        {
            self.forget_at = now + FORGET_RETRY;
            effects.push(Effect::Forget {
                epoch: mine.epoch,
                version: wanted.version,
            });
        }
    }

    /// The next time at which something is due. What is due already waits for an input, not for time.
    fn wakeup_after(&self, now: BootTime) -> Option<BootTime> {
        let mine = self.mine.as_ref();
        let stuck = match self.local {
            Local::Stuck { again_at } => Some(again_at),
            _ => None,
        };
        let free_until = match self.probing {
            Probing::Free { at } => Some(at + PROBE_VALID + Duration::from_millis(1)),
            _ => None,
        };
        let times = [
            mine.map(|m| m.renew_at),
            mine.map(|m| m.deadline),
            mine.and_then(|m| m.revoke_at),
            self.lasts_until,
            self.ask_at(),
            self.blocked_since.map(|since| since + PROBE_PATIENCE),
            self.wanted.as_ref().map(|_| self.forget_at),
            stuck,
            free_until,
            Some(self.probe_at),
            Some(self.take_at),
            Some(self.orphan_refresh_at),
        ];
        times.into_iter().flatten().filter(|at| *at > now).min()
    }
}
