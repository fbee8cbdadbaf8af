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
    pub primary: Option<Target>,
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

impl Targets {
    /// Whom to try, in this order. `turn` is any number that grows from session to session.
    pub fn candidates(&self, kind: Kind, turn: usize) -> Vec<&Target> {
        if kind == Kind::ReadWrite {
            return self.primary.iter().collect();
        }
        let (mut candidates, mut others): (Vec<&Target>, Vec<&Target>) =
            self.replicas.iter().partition(|target| target.local);
        if !others.is_empty() {
            let first = turn % others.len();
            others.rotate_left(first);
        }
        candidates.append(&mut others);
        candidates.extend(&self.primary);
        candidates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str, local: bool) -> Target {
        Target {
            name: ServerName::new(name).unwrap(),
            address: ([127, 0, 0, 1], 1).into(),
            local,
        }
    }

    fn names(targets: &Targets, kind: Kind, turn: usize) -> String {
        let candidates = targets.candidates(kind, turn);
        let names: Vec<_> = candidates.iter().map(|t| t.name.as_str()).collect();
        names.join(" ")
    }

    #[test]
    fn local_first_then_the_others_in_turn_then_the_primary() {
        let targets = Targets {
            primary: Some(target("p", false)),
            replicas: vec![target("a", false), target("b", false), target("me", true)],
        };
        assert_eq!(names(&targets, Kind::ReadWrite, 5), "p");
        assert_eq!(names(&targets, Kind::ReadOnly, 0), "me a b p");
        assert_eq!(names(&targets, Kind::ReadOnly, 1), "me b a p");
        assert_eq!(names(&targets, Kind::ReadOnly, 2), "me a b p");
    }

    #[test]
    fn without_primary_or_replicas() {
        let targets = Targets::default();
        assert_eq!(names(&targets, Kind::ReadWrite, 0), "");
        assert_eq!(names(&targets, Kind::ReadOnly, 3), "");
        let targets = Targets {
            primary: Some(target("p", true)),
            replicas: Vec::new(),
        };
        assert_eq!(names(&targets, Kind::ReadOnly, 3), "p");
    }
}
