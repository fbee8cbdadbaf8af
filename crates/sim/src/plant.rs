//! Mistakes put in on purpose, to see that the simulation notices them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// One mistake. Each is made around the real code: by the disk, the network, the clock, or the part that
/// drives the real state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// The holder counts its lease from the reply to its renewal, a slow one, instead of from before it
    /// asked.
    LeaseFromReply,
    /// The holder leaves nothing for stopping and for clocks that differ, and more than that.
    NoBudget,
    /// A server forgets on restart for whom it voted.
    ForgottenVote,
    /// The disk says that it has synced, and has not.
    LyingDisk,
    /// A leader takes a renewal for confirmed without having asked anybody.
    NoConfirmation,
    /// A new leader counts what is left of the leases as nothing.
    LeasesExpireWithLeader,
    /// A read is answered from what this server happens to know.
    StaleRead,
    /// A commit without answer is sent again as if it had not been done.
    BlindRetry,
    /// The address stays with the kernel when the process is killed or frozen.
    ImmortalAddress,
    /// An expiry comes into the log again, late, and names no epoch: it ends whatever lease there is then.
    ExpiryWithoutEpoch,
    /// A candidate takes its own report for all that are needed.
    StaleReplicaPromoted,
    /// A changed synchronous set counts as confirmed at once, by replicas that are far behind.
    WidenedBeforeConfirmation,
    /// The primary is stopped, by agent and guard, long after its deadline.
    DemotedAfterTheLease,
    /// A replica reports what it has while it goes on receiving, and nobody stops the old primary, or ends
    /// its sessions, for long.
    VotesWhileReceiving,
    /// Nobody stops the old primary, or ends its sessions, for long. This alone loses nothing: it has nobody
    /// left who confirms its commits.
    PrimaryNotStopped,
    /// Clients are let in before replicas have what they will see.
    OpenedBeforeConfirmation,
    /// PostgreSQL chooses the number of a new timeline by itself.
    OwnTimelineNumbers,
}

impl Plant {
    pub const ALL: [(Self, &str); 17] = [
        (Self::LeaseFromReply, "lease-from-reply"),
        (Self::NoBudget, "no-budget"),
        (Self::ForgottenVote, "forgotten-vote"),
        (Self::LyingDisk, "lying-disk"),
        (Self::NoConfirmation, "no-confirmation"),
        (Self::LeasesExpireWithLeader, "leases-expire-with-leader"),
        (Self::StaleRead, "stale-read"),
        (Self::BlindRetry, "blind-retry"),
        (Self::ImmortalAddress, "immortal-address"),
        (Self::ExpiryWithoutEpoch, "expiry-without-epoch"),
        (Self::StaleReplicaPromoted, "stale-replica-promoted"),
        (
            Self::WidenedBeforeConfirmation,
            "widened-before-confirmation",
        ),
        (Self::DemotedAfterTheLease, "demoted-after-the-lease"),
        (Self::VotesWhileReceiving, "votes-while-receiving"),
        (Self::PrimaryNotStopped, "primary-not-stopped"),
        (Self::OpenedBeforeConfirmation, "opened-before-confirmation"),
        (Self::OwnTimelineNumbers, "own-timeline-numbers"),
    ];
}

impl fmt::Display for Plant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(plant, _)| plant == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

impl FromStr for Plant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((plant, _)) = Self::ALL.iter().find(|(_, name)| *name == text) {
            return Ok(*plant);
        }
        let names: Vec<&str> = Self::ALL.iter().map(|(_, name)| *name).collect();
        Err(format!("no such mistake; there are {}", names.join(", ")))
    }
}

impl Plant {
    /// Whether it can only be noticed with a database.
    pub fn is_of_the_database(self) -> bool {
        matches!(
            self,
            Self::StaleReplicaPromoted
                | Self::WidenedBeforeConfirmation
                | Self::DemotedAfterTheLease
                | Self::VotesWhileReceiving
                | Self::PrimaryNotStopped
                | Self::OpenedBeforeConfirmation
                | Self::OwnTimelineNumbers
        )
    }

    /// What is added to the deadline at which agent and guard stop a primary.
    pub fn excess(self) -> Duration {
        match self {
            Self::DemotedAfterTheLease => Duration::from_millis(1_500),
            Self::VotesWhileReceiving | Self::PrimaryNotStopped => Duration::from_secs(5),
            _ => Duration::ZERO,
        }
    }

    /// Whether there may be two primaries at a time, and the old one shows what is old: what matters then is
    /// that nothing is lost.
    pub fn has_two_primaries(self) -> bool {
        matches!(self, Self::VotesWhileReceiving | Self::PrimaryNotStopped)
    }
}
