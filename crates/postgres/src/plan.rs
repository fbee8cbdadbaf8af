//! What is to be done, from what is there. Pure: no I/O, no clock.

use std::fmt;

use crate::inspect::DataState;
use crate::limits::ASIDES_MAX;
use crate::options::{Peer, Role};
use crate::remote::{PeerAnswer, PeerSeen, Slot};

/// Everything that the plan depends on, as found a moment ago.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    /// Version of the programs.
    pub major: u32,
    /// The data directory's path, for messages.
    pub data_dir: String,
    pub data: DataState,
    /// A postmaster that runs in the data directory.
    pub running: Option<RunningSeen>,
    /// Whether an unfinished copy lies beside the data directory.
    pub unfinished: bool,
    /// Folders set aside so far.
    pub asides: usize,
    /// A primary asks its replicas at the first look and when it has no data; a replica asks its
    /// primary always. Empty: nobody was asked.
    pub peers: Vec<PeerSeen>,
    /// A replica: why its data cannot catch up with the primary's, found while it ran.
    pub rejoin: Option<Rejoin>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunningSeen {
    pub pid: u32,
    /// Whether it has the port and the socket folder that it should have.
    pub reachable: bool,
}

/// Why a replica must be copied anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejoin {
    /// The primary has removed WAL that the replica still needs.
    WalGone,
    /// The replica has WAL that the primary never wrote.
    Ahead,
    /// Another database.
    Foreign,
}

/// What the configuration wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy<'a> {
    pub role: &'a Role,
    /// This server's slot on its primary.
    pub slot: &'a str,
}

/// Steps in order, and why. Prints as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub reason: String,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing can be done before the primary answers as it should. Look again soon.
    Wait {
        why: String,
    },
    /// A person must act. Look again later.
    Fail {
        reason: String,
        hint: String,
    },
    Stop {
        pid: u32,
    },
    RemoveUnfinished,
    /// Into the folder for unfinished copies, configuration included.
    Initdb,
    /// The same, from the primary.
    BaseBackup {
        primary: Peer,
    },
    MoveAside {
        why: String,
    },
    /// The finished copy becomes the data directory, by a rename.
    Install,
    WriteConfig,
    /// Look after a postmaster that is running already.
    Adopt {
        pid: u32,
    },
    Start,
    /// Let the changes of `WriteConfig` take effect, by a restart where they need one.
    Reload,
    /// Roles, database, slots.
    SetUp,
}

/// Decides.
pub(crate) fn plan(observed: &Observed, policy: Policy<'_>) -> Plan {
    let dir = &observed.data_dir;
    if let DataState::Ready { major, .. } = observed.data
        && major != observed.major
    {
        let found = observed.major;
        return fail(
            format!("the data folder {dir} needs PostgreSQL {major}, and {found} is installed"),
            format!("run `apt-get install postgresql-{major}`, or set database.bin_dir"),
        );
    }
    match policy.role {
        Role::Primary { .. } => plan_primary(observed),
        Role::Replica { primary } => plan_replica(observed, primary, policy.slot),
    }
}

fn not_ours(observed: &Observed, what: &str) -> Plan {
    let dir = &observed.data_dir;
    fail(
        format!("the data folder {dir} holds {what} that Trilith did not make"),
        format!("move it away: `mv {dir} {dir}.old`"),
    )
}

fn plan_primary(observed: &Observed) -> Plan {
    let dir = &observed.data_dir;
    match &observed.data {
        DataState::NotOurs { what } => not_ours(observed, what),
        DataState::HalfMade { what } => fail(
            format!("the data folder {dir} is damaged: {what}"),
            format!("restore it, or move it away and start anew: `mv {dir} {dir}.old`"),
        ),
        DataState::Missing | DataState::Empty => new_primary(observed),
        DataState::Ready { standby: true, .. } => fail(
            "this server's data is a replica's, and the file makes this server the primary"
                .to_owned(),
            format!(
                "list the primary's server first among the db servers again; if it is lost for \
                 good, promote this copy by hand: pg_ctl -D {dir} start, promote, stop"
            ),
        ),
        DataState::Ready { system_id, .. } => {
            if let Some(other) = primary_of(&observed.peers, *system_id) {
                return fail(
                    format!("{} is primary of this very database", told(other)),
                    "two primaries would drift apart: stop one of them".to_owned(),
                );
            }
            start_primary(observed)
        }
    }
}

/// A primary without data. A replica that has some holds what may be the only copy.
fn new_primary(observed: &Observed) -> Plan {
    if let Some(holder) = observed.peers.iter().find(|peer| holds_data(peer)) {
        return fail(
            format!(
                "this server is to be the primary and has no data, but {} holds a database",
                told(holder)
            ),
            format!(
                "list {0} first among the db servers, and promote its copy by hand there: \
                 pg_ctl -D <its data folder> start, promote, stop",
                holder.name
            ),
        );
    }
    let mut steps = Vec::new();
    if observed.unfinished {
        steps.push(Step::RemoveUnfinished);
    }
    steps.extend([Step::Initdb, Step::Install, Step::Start, Step::SetUp]);
    Plan {
        reason: "make a new database: the data folder is empty".to_owned(),
        steps,
    }
}

fn start_primary(observed: &Observed) -> Plan {
    let mut plan = start_or_adopt(observed, "the primary");
    plan.steps.push(Step::SetUp);
    plan
}

fn start_or_adopt(observed: &Observed, what: &str) -> Plan {
    match observed.running {
        Some(RunningSeen {
            pid,
            reachable: true,
        }) => Plan {
            reason: format!("adopt {what}: it is running"),
            steps: vec![Step::WriteConfig, Step::Adopt { pid }, Step::Reload],
        },
        Some(RunningSeen { pid, .. }) => Plan {
            reason: format!("restart {what}: it runs with another port or socket folder"),
            steps: vec![Step::Stop { pid }, Step::WriteConfig, Step::Start],
        },
        None => Plan {
            reason: format!("start {what}"),
            steps: vec![Step::WriteConfig, Step::Start],
        },
    }
}

fn plan_replica(observed: &Observed, primary: &Peer, slot: &str) -> Plan {
    let dir = &observed.data_dir;
    match &observed.data {
        DataState::NotOurs { what } => not_ours(observed, what),
        DataState::Ready { standby: false, .. } => fail(
            "this server's data was a primary's, and the file makes this server a replica"
                .to_owned(),
            format!(
                "list this server first among the db servers again; or have it copied anew: \
                 `mv {dir} {dir}.old`"
            ),
        ),
        _ => match why_copy(observed) {
            Some(why) => copy(observed, primary, slot, &why),
            None => start_or_adopt(observed, "the replica"),
        },
    }
}

/// Why the replica's data cannot be used, if so. A primary that does not answer is no reason.
fn why_copy(observed: &Observed) -> Option<String> {
    let system_id = match &observed.data {
        DataState::Missing | DataState::Empty => return Some("no data yet".to_owned()),
        DataState::HalfMade { what } => return Some(format!("damaged: {what}")),
        DataState::Ready { system_id, .. } => *system_id,
        // Handled by `plan_replica`.
        DataState::NotOurs { .. } => return None,
    };
    let foreign = observed.peers.iter().any(|peer| {
        matches!(peer.answer, PeerAnswer::Primary { system_id: theirs, .. } if theirs != system_id)
    });
    let rejoin = if foreign {
        Some(Rejoin::Foreign)
    } else {
        observed.rejoin
    };
    rejoin.map(|rejoin| rejoin.to_string())
}

fn copy(observed: &Observed, primary: &Peer, slot: &str, why: &str) -> Plan {
    let replaces = !matches!(observed.data, DataState::Missing | DataState::Empty);
    let running = observed.running.map(|running| running.pid);
    let wait = |why: String| Plan {
        reason: "wait for the primary".to_owned(),
        steps: vec![Step::Wait { why }],
    };
    let Some(seen) = observed
        .peers
        .iter()
        .find(|peer| peer.address == primary.address)
    else {
        return wait(format!("{} has not been asked yet", primary.name));
    };
    match &seen.answer {
        PeerAnswer::Unreachable { why } => return wait(format!("{}: {why}", told(seen))),
        PeerAnswer::Replica { .. } => return wait(format!("{} is a replica", told(seen))),
        PeerAnswer::Primary { slot: state, .. } => match state {
            Slot::Missing | Slot::Lost => {
                return wait(format!("{} has no slot {slot} yet", told(seen)));
            }
            // Our own WAL receiver, which is stopped first; otherwise a copy that is still ending.
            Slot::Active if running.is_none() => {
                return wait(format!("slot {slot} of {} is still in use", told(seen)));
            }
            Slot::Active | Slot::Ready => {}
        },
    }
    if replaces && observed.asides >= ASIDES_MAX {
        let dir = &observed.data_dir;
        return fail(
            format!("the replica must be copied anew ({why}), and too many folders lie aside"),
            format!("look at {dir}.aside-*, and delete those that are not needed"),
        );
    }
    let mut steps = Vec::new();
    steps.extend(running.map(|pid| Step::Stop { pid }));
    if observed.unfinished {
        steps.push(Step::RemoveUnfinished);
    }
    steps.push(Step::BaseBackup {
        primary: primary.clone(),
    });
    if replaces {
        // Not before the copy is complete: until then the old data is better than none.
        let why = why.to_owned();
        steps.push(Step::MoveAside { why });
    }
    steps.extend([Step::Install, Step::Start]);
    Plan {
        reason: format!("copy the primary: {why}"),
        steps,
    }
}

/// Why a running replica that receives nothing cannot catch up, if so. `received` is the end of the
/// WAL that it has.
pub(crate) fn cannot_catch_up(
    system_id: u64,
    received: crate::lsn::Lsn,
    primary: &PeerAnswer,
) -> Option<Rejoin> {
    let PeerAnswer::Primary {
        system_id: theirs,
        flushed,
        oldest,
        ..
    } = primary
    else {
        return None;
    };
    if *theirs != system_id {
        Some(Rejoin::Foreign)
    } else if received > *flushed {
        // A primary sends only what it has flushed, so it was set back, or is another one.
        Some(Rejoin::Ahead)
    } else if received < *oldest {
        Some(Rejoin::WalGone)
    } else {
        None
    }
}

fn primary_of(peers: &[PeerSeen], system_id: u64) -> Option<&PeerSeen> {
    peers.iter().find(|peer| {
        matches!(peer.answer, PeerAnswer::Primary { system_id: theirs, .. } if theirs == system_id)
    })
}

fn holds_data(peer: &PeerSeen) -> bool {
    !matches!(peer.answer, PeerAnswer::Unreachable { .. })
}

fn told(peer: &PeerSeen) -> String {
    format!("{} ({})", peer.name, peer.address)
}

fn fail(reason: String, hint: String) -> Plan {
    Plan {
        reason: "a person must act".to_owned(),
        steps: vec![Step::Fail { reason, hint }],
    }
}

impl fmt::Display for Rejoin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WalGone => "the primary no longer has the WAL that this copy needs",
            Self::Ahead => "this copy has WAL that the primary never wrote",
            Self::Foreign => "this copy is of another database",
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait { why } => write!(f, "wait: {why}"),
            Self::Fail { reason, hint } => write!(f, "give up: {reason}; {hint}"),
            Self::Stop { pid } => write!(f, "stop PostgreSQL, process {pid}"),
            Self::RemoveUnfinished => f.write_str("remove the unfinished copy"),
            Self::Initdb => f.write_str("initdb into a folder beside the data folder"),
            Self::BaseBackup { primary } => {
                write!(f, "copy {} ({})", primary.name, primary.address)?;
                f.write_str(" into a folder beside the data folder")
            }
            Self::MoveAside { why } => write!(f, "set the data folder aside: {why}"),
            Self::Install => f.write_str("put the new data folder in place"),
            Self::WriteConfig => f.write_str("write the configuration"),
            Self::Adopt { pid } => write!(f, "adopt PostgreSQL, process {pid}"),
            Self::Start => f.write_str("start PostgreSQL"),
            Self::Reload => f.write_str("reload the configuration if it changed"),
            Self::SetUp => f.write_str("create roles, database and slots"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.reason)?;
        for (index, step) in self.steps.iter().enumerate() {
            writeln!(f, "  {}. {step}", index + 1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
