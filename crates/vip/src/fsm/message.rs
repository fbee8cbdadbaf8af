//! What goes into a state machine, and what comes out.

use std::sync::Arc;

use trilith_base::BootTime;
use trilith_consensus::{Epoch, Revision, View};

/// What an [`super::Fsm`] is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time has passed, see [`super::Fsm::next_wakeup`].
    Tick,
    /// What the store holds, as far as this server knows.
    View(Arc<View>),
    /// [`Effect::Grant`] ended. `asked_at` is the time *before* it was sent.
    GrantDone { asked_at: BootTime, result: Granted },
    /// One [`Effect::Renew`] ended. `asked_at` is the time *before* it was sent.
    RenewDone {
        epoch: Epoch,
        asked_at: BootTime,
        result: Renewal,
    },
    /// [`Effect::Revoke`] ended; true: the lease is not ours any more.
    RevokeDone { epoch: Epoch, done: bool },
    /// Whether this server's own edge answers. At first it does not.
    Health(bool),
    /// Whether the interface of the address is up. At first it is.
    Link(bool),
    /// Whether this server is being drained. The store's `drain/<server>` counts as well.
    Drain(bool),
    /// Whether this server is part of a majority, as far as it knows. At first it is not.
    Quorum(bool),
    /// [`Effect::Probe`] ended.
    ProbeDone(Answer),
    /// Somebody else claims the address: an ARP packet or a neighbour advertisement with it as sender.
    Conflict,
    /// Somebody asked for it under a lease: a marked probe.
    Challenged,
    /// [`Effect::Take`] ended; true: the address is here and served.
    TakeDone(bool),
    /// [`Effect::Refresh`] ended.
    RefreshDone(bool),
    /// [`Effect::Release`] ended; true: it is proven gone.
    ReleaseDone(bool),
}

/// How a grant ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// The epoch is the revision of the transaction.
    Yes(Epoch),
    /// Somebody else was first, or an operator changed the wish meanwhile.
    Refused,
    /// It was not done.
    Failed,
    /// No answer: it may have been done.
    Unknown,
}

/// How a renewal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    Yes,
    /// The lease is not held under that epoch any more.
    Lost,
    /// Nothing is known; the next one may succeed.
    Failed,
}

/// Whether somebody answers for the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Free,
    Taken,
    /// The question could not be asked.
    Failed,
    /// Nobody answered, but nothing else was heard lately either. Only without a lease: with one, a
    /// majority was heard.
    Deaf,
}

/// What an [`super::Fsm`] asks for. Each but [`Effect::Tell`], [`Effect::Announce`], [`Effect::CancelProbe`] and
/// [`Effect::Forget`] is answered by one [`Input`] when it has ended, within a bounded time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Commit [`super::grant_txn`].
    Grant { forget: Option<Revision> },
    /// Renew the lease. Several may be under way.
    Renew { epoch: Epoch },
    /// Commit [`super::revoke_txn`].
    Revoke { epoch: Epoch },
    /// Delete the operator's wish, if it is still that one and the lease is ours.
    Forget { epoch: Epoch, version: Revision },
    /// Ask the network whether somebody answers for the address. `marked`: under a lease, so that an
    /// orphan gives way.
    Probe { marked: bool },
    /// The answer is of no use any more; it shall still come, soon.
    CancelProbe,
    /// Bring the address up and serve it. `seconds` is the kernel's lifetime for it; do nothing, and say
    /// so, if that would last beyond `until` by now.
    Take {
        epoch: Option<Epoch>,
        until: BootTime,
        seconds: Option<u32>,
    },
    /// Set the kernel's lifetime anew, under the same condition.
    Refresh { until: BootTime, seconds: u32 },
    /// Take the address down, at once, even while a take is under way. It may be asked for again.
    Release,
    /// Tell the network that the address is here, several times from now on until it is released.
    Announce,
    /// Something to log and count.
    Tell(Notice),
}

/// Something that operators may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The address is here.
    Taken {
        epoch: Epoch,
    },
    /// The address is here without a lease: there is no quorum, and nobody answered for it.
    TakenAsOrphan,
    /// It was given up on purpose.
    Released {
        why: LeaveReason,
    },
    /// It was given up because the lease was lost or ran out.
    Lost,
    /// The orphan found that somebody else has it.
    Yielded,
    /// Somebody else claims it while the lease is ours.
    Conflict,
    /// The lease is ours, but somebody answers for the address.
    SomebodyAnswers,
    /// The lease is ours, but the network could not be asked.
    ProbeFailed,
    TakeFailed,
    ReleaseFailed,
}

/// Why a holder gives an address away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaveReason {
    Unhealthy,
    LinkDown,
    Draining,
    /// An operator wants it on another server.
    Moved,
    /// It cannot be brought up here, or somebody answers for it.
    Unusable,
}

/// Where an [`super::Fsm`] stands, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not ours; it may be somebody else's.
    Idle,
    /// The grant is under way.
    Asking,
    /// The lease is ours, the address is not here yet.
    Taking,
    Held,
    /// On its way to another server.
    Leaving,
    /// No quorum: watching whether anybody answers.
    Watching,
    /// Held without a lease.
    Orphan,
}
