//! Whom sessions are forwarded to: an immutable snapshot, replaced whole by whoever observes the servers.

use std::net::SocketAddr;

use trilith_base::ServerName;

/// What a port leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The primary.
    ReadWrite,
    /// A replica; the primary when there is none.
    ReadOnly,
}

/// The servers that can take sessions now. Unhealthy ones are left out: with no primary, read/write
/// clients are held until there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// Takes new sessions that may write, provided that it is the server of `tenure`.
    pub primary: Option<Target>,
    /// Who holds the database's lease, as far as this server knows. Sessions at the primary end at
    /// once when it changes. May be there without `primary`: those that are open go on, new ones wait.
    pub tenure: Option<Tenure>,
    /// In order of preference. The local ones among them come first in any case; the others take
    /// turns.
    pub replicas: Vec<Target>,
}

/// The PostgreSQL of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub name: ServerName,
    pub address: SocketAddr,
    /// Whether it runs on this very server.
    pub local: bool,
}

/// One grant of the database's lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// To whom.
    pub server: ServerName,
    /// Grows from grant to grant, whoever gets it.
    pub epoch: u64,
}

/// A server to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate<'a> {
    pub target: &'a Target,
    /// Under which it is the primary. `None`: it is tried as a replica.
    pub tenure: Option<&'a Tenure>,
}

impl Targets {
    /// Whom to try, in this order. `turn` is any number that grows from session to session.
    pub(crate) fn candidates(&self, kind: Kind, turn: usize) -> Vec<Candidate<'_>> {
        let mut candidates = Vec::new();
        if kind == Kind::ReadOnly {
            let (local, mut others): (Vec<&Target>, Vec<&Target>) =
                self.replicas.iter().partition(|target| target.local);
            if !others.is_empty() {
                let first = turn % others.len();
                others.rotate_left(first);
            }
            let replica = |target| Candidate {
                target,
                tenure: None,
            };
            candidates.extend(local.into_iter().chain(others).map(replica));
        }
        candidates.extend(self.primary_candidate());
        candidates
    }

    /// A primary that the lease does not name is none.
    fn primary_candidate(&self) -> Option<Candidate<'_>> {
        let (target, tenure) = (self.primary.as_ref()?, self.tenure.as_ref()?);
        (target.name == tenure.server).then_some(Candidate {
            target,
            tenure: Some(tenure),
        })
    }

    /// Whether that server is still to be tried in that part.
    pub(crate) fn offers(&self, candidate: Candidate<'_>) -> bool {
        match candidate.tenure {
            Some(_) => self.primary_candidate() == Some(candidate),
            None => self.replicas.contains(candidate.target),
        }
    }
}

#[cfg(test)]
mod tests;
