//! When the guard has to do what: a function of what it was told and what it saw, without a clock.

use std::time::Duration;

use trilith_base::BootTime;

use super::wire::Message;
use crate::limits::{
    GUARD_GRACE, GUARD_IDLE, GUARD_KILL_PAUSE_MAX, GUARD_KILL_PAUSE_MIN, GUARD_LINGER,
    GUARD_LINGER_LOOK, GUARD_SUSPEND_CHECK,
};

/// What the guard knows.
#[derive(Debug)]
pub(super) struct Watch {
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is guarded. The last message came at `since`.
    Idle { since: BootTime },
    /// PostgreSQL may run until `deadline`.
    Armed { deadline: BootTime },
    /// The deadline has passed, and at the last look something still ran.
    Killing {
        deadline: BootTime,
        looks: u32,
        next: BootTime,
    },
    /// The deadline has passed, and since `since` nothing runs, or the agent tells that it knows.
    Fenced {
        deadline: BootTime,
        since: BootTime,
        next: BootTime,
    },
    /// It was told to end.
    Ending,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Todo {
    /// Wait for a message, no longer than this.
    Wait(Duration),
    /// Look for processes, and kill what there is. Then say so with [`Watch::looked`].
    Kill,
    End,
}

impl Watch {
    pub fn new(now: BootTime) -> Self {
        Self {
            state: State::Idle { since: now },
        }
    }

    pub fn hear(&mut self, message: Message, now: BootTime) {
        self.state = match (message, self.state) {
            (Message::NoDeadline, _) => State::Idle { since: now },
            (Message::End, _) => State::Ending,
            // News from before the kill. They do not bring back what has been done, nor end it.
            (Message::Deadline(at), State::Killing { .. }) if now >= at + GUARD_GRACE => self.state,
            (Message::Deadline(at), State::Fenced { deadline, next, .. })
                if now >= at + GUARD_GRACE =>
            {
                State::Fenced {
                    deadline,
                    since: now,
                    next,
                }
            }
            (Message::Deadline(deadline), _) => State::Armed { deadline },
        };
    }

    pub fn next(&self, now: BootTime) -> Todo {
        // poll(2) does not count a suspend, so nothing that is urgent waits long at once.
        let until = |at: BootTime| Todo::Wait(at.since(now).min(GUARD_SUSPEND_CHECK));
        match self.state {
            State::Idle { since } if now >= since + GUARD_IDLE => Todo::End,
            State::Idle { since } => Todo::Wait((since + GUARD_IDLE).since(now)),
            State::Armed { deadline } if now >= deadline + GUARD_GRACE => Todo::Kill,
            State::Armed { deadline } => until(deadline + GUARD_GRACE),
            State::Killing { next, .. } if now >= next => Todo::Kill,
            State::Killing { next, .. } => until(next),
            State::Fenced { since, .. } if now >= since + GUARD_LINGER => Todo::End,
            State::Fenced { next, .. } if now >= next => Todo::Kill,
            State::Fenced { next, .. } => until(next),
            State::Ending => Todo::End,
        }
    }

    /// After [`Todo::Kill`]: whether there was anything to kill.
    pub fn looked(&mut self, found: bool, now: BootTime) {
        let (deadline, looks, since) = match self.state {
            State::Armed { deadline } => (deadline, 0, now),
            State::Killing {
                deadline, looks, ..
            } => (deadline, looks, now),
            State::Fenced {
                deadline, since, ..
            } => (deadline, 0, since),
            State::Idle { .. } | State::Ending => return,
        };
        self.state = if found {
            // The first looks follow at once: what was killed needs a moment to be gone. What is gone
            // only after seconds waits for a disk.
            let pause = GUARD_KILL_PAUSE_MIN.saturating_mul(1 << looks.min(16));
            State::Killing {
                deadline,
                looks: looks.saturating_add(1),
                next: now + pause.min(GUARD_KILL_PAUSE_MAX),
            }
        } else {
            State::Fenced {
                deadline,
                since,
                next: now + GUARD_LINGER_LOOK,
            }
        };
    }

    /// The deadline that was missed, for as long as something has been found that runs past it.
    pub fn killing(&self) -> Option<BootTime> {
        match self.state {
            State::Killing { deadline, .. } => Some(deadline),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
