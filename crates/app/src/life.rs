//! The life of one instance: what happens next, decided without I/O, clock or randomness.
//!
//! ```text
//!              due                 ready                  3 failed checks
//!   Waiting ---------> Starting ------------> Live <------------------------> Unhealthy
//!      ^                  | start_timeout       |  exit        2 good checks      | 10 s
//!      |   backoff        v                     v                                 v
//!      +-------------- Ending (SIGTERM, grace, SIGKILL), or gone already <--------+
//!                         |
//!                         +--> Stopped, once it was told to drain or stop
//! ```

use std::time::{Duration, Instant};

use crate::AppKind;
use crate::limits::{
    BACKOFF_RESET_AFTER, KILL_WAIT, PROBE_FALL, PROBE_INTERVAL, PROBE_RISE, RESTART_BACKOFF,
    START_PROBE_INTERVAL, UNHEALTHY_RESTART_AFTER, WORKER_READY_AFTER,
};

#[cfg(test)]
mod tests;

/// What the shell reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// [`Life::next_timer`] has come.
    Timer,
    /// The process runs.
    Spawned,
    /// It could not be started.
    SpawnFailed,
    /// The process has ended, and so has its whole group.
    Exited,
    /// A health check ended, well or not.
    Probe(bool),
    /// No new work, and no restart.
    Drain,
    /// End the process now; implies [`Input::Drain`].
    Stop,
}

/// What the shell has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Spawn,
    Probe,
    /// SIGTERM to the group.
    Terminate(Reason),
    /// SIGKILL to the group.
    Kill,
    /// Not even SIGKILL ended it (it hangs in the kernel): forget it.
    Abandon,
}

/// Why a running process is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    NotReadyInTime,
    Unhealthy,
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Waiting { until: Instant },
    Starting { since: Instant },
    Live { since: Instant, failed: u32 },
    Unhealthy { since: Instant, good: u32 },
    Ending { kill_at: Instant, killed: bool },
    Stopped,
}

#[derive(Debug)]
pub(crate) struct Life {
    kind: AppKind,
    start_timeout: Duration,
    stop_grace: Duration,
    phase: Phase,
    /// Failures in a row.
    failures: u32,
    /// Nothing new, and no restart.
    draining: bool,
    next_probe: Instant,
    probing: bool,
}

impl Life {
    /// A life that starts at once: the first [`Input::Timer`] yields [`Effect::Spawn`].
    pub(crate) fn new(
        kind: AppKind,
        start_timeout: Duration,
        stop_grace: Duration,
        now: Instant,
    ) -> Self {
        Self {
            kind,
            start_timeout,
            stop_grace,
            phase: Phase::Waiting { until: now },
            failures: 0,
            draining: false,
            next_probe: now,
            probing: false,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Failures in a row; 0 for an instance that has been well.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining
    }

    /// When [`Input::Timer`] is due; `None` when only something from outside moves this on.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        let probe = (self.kind == AppKind::Web && !self.probing && !self.draining)
            .then_some(self.next_probe);
        let earlier = |other: Instant| Some(probe.map_or(other, |probe| probe.min(other)));
        match self.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Starting { since } if self.kind == AppKind::Worker => {
                Some(since + WORKER_READY_AFTER)
            }
            Phase::Starting { since } => earlier(since + self.start_timeout),
            Phase::Live { .. } => probe,
            Phase::Unhealthy { .. } if self.draining => None,
            Phase::Unhealthy { since, .. } => earlier(since + UNHEALTHY_RESTART_AFTER),
            Phase::Ending {
                kill_at,
                killed: false,
            } => Some(kill_at),
            Phase::Ending {
                kill_at,
                killed: true,
            } => Some(kill_at + KILL_WAIT),
            Phase::Stopped => None,
        }
    }

    /// Takes one input. `jitter` (0.0 to 1.0) is used when a backoff begins.
    pub(crate) fn on(&mut self, input: Input, now: Instant, jitter: f64) -> Option<Effect> {
        match input {
            Input::Timer => self.timer(now, jitter),
            Input::Spawned => {
                self.phase = Phase::Starting { since: now };
                self.next_probe = now + START_PROBE_INTERVAL;
                self.probing = false;
                // Told to stop while the process was being made.
                if self.draining {
                    self.terminate(Reason::Stop, now)
                } else {
                    None
                }
            }
            Input::SpawnFailed | Input::Exited => {
                self.ended(now, jitter);
                None
            }
            Input::Probe(good) => {
                self.probing = false;
                self.probed(good, now);
                None
            }
            Input::Drain => self.drain(now),
            Input::Stop => {
                let effect = self.drain(now);
                match self.phase {
                    Phase::Live { .. } | Phase::Unhealthy { .. } => {
                        self.terminate(Reason::Stop, now)
                    }
                    _ => effect,
                }
            }
        }
    }

    fn timer(&mut self, now: Instant, jitter: f64) -> Option<Effect> {
        match self.phase {
            Phase::Waiting { until } if now >= until => return Some(Effect::Spawn),
            Phase::Starting { since } if self.kind == AppKind::Worker => {
                if now >= since + WORKER_READY_AFTER {
                    self.phase = Phase::Live {
                        since: now,
                        failed: 0,
                    };
                }
                return None;
            }
            Phase::Starting { since } if now >= since + self.start_timeout => {
                return self.terminate(Reason::NotReadyInTime, now);
            }
            Phase::Unhealthy { since, .. }
                if !self.draining && now >= since + UNHEALTHY_RESTART_AFTER =>
            {
                return self.terminate(Reason::Unhealthy, now);
            }
            Phase::Ending {
                kill_at,
                killed: false,
            } if now >= kill_at => {
                self.phase = Phase::Ending {
                    kill_at: now,
                    killed: true,
                };
                return Some(Effect::Kill);
            }
            Phase::Ending {
                kill_at,
                killed: true,
            } if now >= kill_at + KILL_WAIT => {
                self.ended(now, jitter);
                return Some(Effect::Abandon);
            }
            _ => {}
        }
        let runs = matches!(
            self.phase,
            Phase::Starting { .. } | Phase::Live { .. } | Phase::Unhealthy { .. }
        );
        let probes = self.kind == AppKind::Web && runs && !self.probing && !self.draining;
        if probes && now >= self.next_probe {
            self.probing = true;
            return Some(Effect::Probe);
        }
        None
    }

    fn probed(&mut self, good: bool, now: Instant) {
        self.next_probe = now + PROBE_INTERVAL;
        self.phase = match self.phase {
            Phase::Starting { .. } if good => Phase::Live {
                since: now,
                failed: 0,
            },
            Phase::Starting { since } => {
                self.next_probe = now + START_PROBE_INTERVAL;
                Phase::Starting { since }
            }
            Phase::Live { since, .. } if good => Phase::Live { since, failed: 0 },
            Phase::Live { since, failed } if failed + 1 < PROBE_FALL => Phase::Live {
                since,
                failed: failed + 1,
            },
            Phase::Live { since, .. } => {
                self.forget_failures_after_health(since, now);
                Phase::Unhealthy {
                    since: now,
                    good: 0,
                }
            }
            Phase::Unhealthy { good: before, .. } if good && before + 1 >= PROBE_RISE => {
                Phase::Live {
                    since: now,
                    failed: 0,
                }
            }
            Phase::Unhealthy {
                since,
                good: before,
            } => Phase::Unhealthy {
                since,
                good: if good { before + 1 } else { 0 },
            },
            other => other,
        };
    }

    /// The process is gone, or never was.
    fn ended(&mut self, now: Instant, jitter: f64) {
        self.probing = false;
        if self.draining {
            self.phase = Phase::Stopped;
            return;
        }
        if let Phase::Live { since, .. } = self.phase {
            self.forget_failures_after_health(since, now);
        }
        let delay = RESTART_BACKOFF.delay(self.failures, jitter);
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Waiting { until: now + delay };
    }

    fn forget_failures_after_health(&mut self, live_since: Instant, now: Instant) {
        if now >= live_since + BACKOFF_RESET_AFTER {
            self.failures = 0;
        }
    }

    fn drain(&mut self, now: Instant) -> Option<Effect> {
        self.draining = true;
        match self.phase {
            Phase::Waiting { .. } => {
                self.phase = Phase::Stopped;
                None
            }
            // It never got a request, so there is nothing to wait for.
            Phase::Starting { .. } => self.terminate(Reason::Stop, now),
            _ => None,
        }
    }

    fn terminate(&mut self, reason: Reason, now: Instant) -> Option<Effect> {
        self.phase = Phase::Ending {
            kill_at: now + self.stop_grace,
            killed: false,
        };
        Some(Effect::Terminate(reason))
    }
}
