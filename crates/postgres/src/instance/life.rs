//! What is remembered between looks. Durations are counted on the clock that a suspend does not stop.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinHandle;
use trilith_base::{BootTime, ServerName};
use trilith_ha::{Lsn, Position, Ready, SyncSet};

use super::line::Line;
use super::settings::Settings;
use crate::error::Error;
use crate::hot_standby::HotStandby;
use crate::limits::{QUICK_DEATH_MAX, RESTART_CALM, STREAMING_LOOKS};

/// Of one postmaster, from its start (or its adoption) to its end.
#[derive(Default)]
pub(super) struct Life {
    /// Its pid, and since when we know it.
    pub pid: u32,
    pub began: BootTime,
    pub adopted: bool,
    pub line: Option<Line>,
    pub connecting: Option<Connecting>,
    /// When a connection was last made: an old one is answered even while the postmaster is frozen.
    pub connected_at: Option<BootTime>,
    /// Since when it has not let a new session in, and since when the kept one has not been answered.
    pub unheard_since: Option<BootTime>,
    /// Since when it says that it does not take connections.
    pub starting_since: Option<BootTime>,
    /// Since when it answers, and in its present role.
    pub ready_since: Option<BootTime>,
    pub role_since: Option<(bool, BootTime)>,
    /// What is in force. `None`: not known, or a step was dropped that was changing it.
    pub settings: Option<Settings>,
    /// PostgreSQL shows something else than that.
    pub overridden: bool,
    /// As a primary: who confirms commits. `None`: a step was dropped that was changing it, or nobody has
    /// looked yet.
    pub confirmed: Option<Confirmed>,
    /// What it was started with of what replicas must not have less of.
    pub hot_standby: Option<HotStandby>,
    /// What was to be in force before the application is let in.
    pub wanted: Option<SyncSet>,
    /// Whether sessions that are not ours are ended when they are seen.
    pub keep_clients_out: bool,
    pub set_up: bool,
    /// When it is to be done again, because something could not be created.
    pub set_up_until: Option<BootTime>,
    /// Since when each replica has not been streaming.
    pub gone_since: BTreeMap<ServerName, BootTime>,
    pub not_streaming_since: Option<BootTime>,
    /// Looks in a row that saw it stream, or follow nobody.
    pub streaming_looks: u32,
    /// The timelines that led to this one.
    pub ended_timelines: Option<(u32, Vec<Position>)>,
    pub last: Option<Box<Ready>>,
    /// Without a postmaster: since when processes that it left do not end.
    pub orphans_since: Option<BootTime>,
}

/// Who confirms commits, and since when that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Confirmed {
    pub set: SyncSet,
    /// Everything before may have been acknowledged under another set.
    pub since: Lsn,
    /// Whether commits have been seen to wait.
    pub proven: bool,
}

/// A new session on its way.
pub(super) struct Connecting {
    pub task: JoinHandle<Result<Line, Error>>,
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Life {
    pub fn started(pid: u32) -> Self {
        Self {
            pid,
            began: BootTime::now(),
            ..Self::default()
        }
    }

    pub fn adopted(pid: u32) -> Self {
        Self {
            adopted: true,
            ..Self::started(pid)
        }
    }

    /// It has become a primary, or a replica, or answers for the first time.
    pub fn note_role(&mut self, in_recovery: bool, now: BootTime) -> Duration {
        let before = self.role_since;
        if let Some((same, since)) = before
            && same == in_recovery
        {
            return now.since(since);
        }
        self.role_since = Some((in_recovery, now));
        if before.is_some() {
            self.gone_since.clear();
            self.not_streaming_since = None;
            self.set_up = false;
        }
        Duration::ZERO
    }

    /// For how long that replica has not been streaming; one that never was counts from the time on that
    /// this PostgreSQL is the primary.
    pub fn gone_for(&mut self, name: &ServerName, streaming: bool, now: BootTime) -> Duration {
        if streaming {
            self.gone_since.remove(name);
            return Duration::ZERO;
        }
        let since = self.role_since.map_or(now, |(_, since)| since);
        let known = self.gone_since.get(name).copied();
        // Of one that was streaming at the last look, the entry is missing.
        let was_streaming = self.last.as_ref().is_some_and(|last| {
            let mut standbys = last.standbys.iter();
            standbys.any(|standby| standby.name == *name && standby.streaming)
        });
        let since = known.unwrap_or(if was_streaming { now } else { since });
        self.gone_since.insert(name.clone(), since);
        now.since(since)
    }

    /// For how long nothing has come in although it follows somebody. One whose history has parted from the
    /// primary's says now and then, for a moment, that it streams: it does when it was seen so several times
    /// in a row.
    pub fn not_streaming(&mut self, waits: bool, now: BootTime) -> Duration {
        self.streaming_looks = match waits {
            true => 0,
            false => self.streaming_looks.saturating_add(1),
        };
        if waits {
            self.not_streaming_since.get_or_insert(now);
        } else if self.streaming_looks >= STREAMING_LOOKS {
            self.not_streaming_since = None;
        }
        let since = self.not_streaming_since;
        since.map_or(Duration::ZERO, |since| now.since(since))
    }
}

/// How often in a row PostgreSQL failed to start, ended soon afterwards, or could not be rewound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Failures {
    count: u32,
}

impl Failures {
    pub fn count(&self) -> u32 {
        self.count
    }

    pub fn add(&mut self) {
        self.count = self.count.saturating_add(1);
    }

    pub fn reset(&mut self) {
        self.count = 0;
    }

    /// It ended by itself, after it had been ready since then.
    pub fn ended(&mut self, ready_since: Option<BootTime>, now: BootTime) {
        let quick = ready_since.is_none_or(|since| now.since(since) < QUICK_DEATH_MAX);
        if quick {
            self.add();
        }
    }

    /// It has been ready for so long.
    pub fn ready_for(&mut self, time: Duration) {
        if time >= RESTART_CALM {
            self.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime(Duration::from_secs(seconds))
    }

    #[test]
    fn absence_is_counted() {
        let mut life = Life::started(1);
        let name = ServerName::new("a").unwrap();
        assert_eq!(life.note_role(false, at(10)), Duration::ZERO);
        assert_eq!(life.note_role(false, at(12)), Duration::from_secs(2));
        // Never seen: since this is the primary.
        assert_eq!(life.gone_for(&name, false, at(13)), Duration::from_secs(3));
        assert_eq!(life.gone_for(&name, true, at(14)), Duration::ZERO);
        life.note_role(true, at(20));
        life.note_role(false, at(30));
        assert_eq!(life.gone_for(&name, false, at(31)), Duration::from_secs(1));

        assert_eq!(life.not_streaming(true, at(40)), Duration::ZERO);
        assert_eq!(life.not_streaming(true, at(43)), Duration::from_secs(3));
        // For a moment: that is no stream.
        assert_eq!(life.not_streaming(false, at(44)), Duration::from_secs(4));
        assert_eq!(life.not_streaming(true, at(45)), Duration::from_secs(5));
        for _ in 1..STREAMING_LOOKS {
            assert_ne!(life.not_streaming(false, at(46)), Duration::ZERO);
        }
        assert_eq!(life.not_streaming(false, at(47)), Duration::ZERO);
        assert_eq!(life.not_streaming(true, at(48)), Duration::ZERO);
    }

    #[test]
    fn quick_deaths_count_and_calm_forgives() {
        let mut failures = Failures::default();
        failures.ended(None, at(100));
        failures.ended(Some(at(95)), at(100));
        failures.ended(Some(at(50)), at(100));
        assert_eq!(failures.count(), 2);
        failures.ready_for(Duration::from_secs(29));
        assert_eq!(failures.count(), 2);
        failures.ready_for(Duration::from_secs(30));
        assert_eq!(failures.count(), 0);
    }
}
