//! What the leader changes next. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use trilith_base::ServerName;

use crate::limits::VOTERS_MAX;
use crate::msg::{Members, Node, NodeId};
use crate::options::Listed;

/// What the leader sees.
pub(crate) struct Observed<'a> {
    pub members: &'a Members,
    /// The servers of the config file, in its order.
    pub wanted: &'a [Listed],
    /// Servers that said under which id and address they live now.
    pub waiting: &'a BTreeMap<ServerName, (NodeId, SocketAddr)>,
    /// Where servers answered last, this one included.
    pub answered: &'a BTreeMap<ServerName, SocketAddr>,
    /// Members that answer and have all but the newest entries.
    pub ready: &'a BTreeSet<NodeId>,
}

/// One change of the list of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    AddLearner {
        id: NodeId,
        node: Node,
    },
    SetAddress {
        id: NodeId,
        node: Node,
    },
    /// These are the voters from now on; who was one and is not among them is no member any more.
    SetVoters(BTreeSet<NodeId>),
    RemoveLearners(BTreeSet<NodeId>),
}

/// The next change, if one is due. Repeated, it comes to an end: every server that is wanted and
/// asked is a member under its newest id, nobody else is, and the first five that are allowed to
/// vote do.
pub(crate) fn plan(seen: &Observed<'_>) -> Option<Step> {
    let members = seen.members;
    if let [_, next, ..] = &members.voters[..] {
        // A change that its leader did not finish.
        return Some(Step::SetVoters(next.clone()));
    }
    let voters = members.voters.first()?;
    let name_of = |id: &NodeId| members.nodes.get(id).map(|node| node.name.as_str());
    let listed = |name: &str| {
        seen.wanted
            .iter()
            .find(|server| server.name.as_str() == name)
    };
    // A list without a single voter on it is a mistake, or a lie.
    if !voters
        .iter()
        .any(|id| name_of(id).is_some_and(|name| listed(name).is_some()))
    {
        return None;
    }

    for (name, (id, address)) in seen.waiting {
        if listed(name.as_str()).is_some() && !members.nodes.contains_key(id) {
            let node = Node::new(name, *address);
            return Some(Step::AddLearner { id: *id, node });
        }
    }
    for (id, node) in &members.nodes {
        if let Some(server) = listed(&node.name)
            && node.address != server.address.to_string()
            // Between a reload and its restart it is still where it was, and those that restart
            // meanwhile must find it there.
            && seen.answered.get(&server.name) == Some(&server.address)
        {
            let node = Node::new(&server.name, server.address);
            return Some(Step::SetAddress { id: *id, node });
        }
    }

    let desired = voters_for(seen, voters);
    if !desired.is_empty() && desired != *voters {
        return Some(Step::SetVoters(desired));
    }

    let gone: BTreeSet<NodeId> = members
        .nodes
        .iter()
        .filter(|(id, _)| !voters.contains(id))
        .filter(|(id, node)| {
            let Some(server) = listed(&node.name) else {
                return true;
            };
            // An earlier life of it.
            let newest = seen.waiting.get(&server.name).map(|(id, _)| id);
            newest.is_some_and(|newest| newest != *id && members.nodes.contains_key(newest))
        })
        .map(|(id, _)| *id)
        .collect();
    (!gone.is_empty()).then_some(Step::RemoveLearners(gone))
}

/// Who is to vote: those that do and may, then the others in the order of the file, as far as they
/// are ready. A server votes under its newest life once that is ready.
fn voters_for(seen: &Observed<'_>, voters: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    let nodes = &seen.members.nodes;
    // For each server that may vote: whether it does, and under which id it is to.
    let mut candidates: Vec<(bool, NodeId)> = Vec::new();
    for server in seen.wanted.iter().filter(|server| server.votes) {
        let lives = || {
            let mine = nodes
                .iter()
                .filter(|(_, node)| node.name == server.name.as_str());
            mine.map(|(id, _)| *id)
        };
        let newest = seen.waiting.get(&server.name).map(|(id, _)| *id);
        let old = lives().find(|id| voters.contains(id));
        let fit = |id: &NodeId| seen.ready.contains(id) && nodes.contains_key(id);
        let new = newest
            .filter(fit)
            .or_else(|| lives().find(|id| !voters.contains(id) && fit(id)));
        match (old, new) {
            // Only a newer life that spoke for itself replaces one that votes.
            (Some(old), Some(new)) if Some(new) == newest && new != old => {
                candidates.push((true, new));
            }
            (Some(old), _) => candidates.push((true, old)),
            (None, Some(new)) => candidates.push((false, new)),
            (None, None) => {}
        }
    }
    // Stable: the order of the file within each half.
    candidates.sort_by_key(|(votes, _)| !votes);
    candidates.truncate(VOTERS_MAX);
    candidates.into_iter().map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests;
