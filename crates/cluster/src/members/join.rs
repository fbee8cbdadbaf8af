//! How a server becomes a member: it founds the cluster with the others, or asks its leader.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::environment::Environment;
use crate::event;
use crate::inner::Inner;
use crate::limits::VOTERS_MAX;
use crate::msg::{Admit, Ask, Hello, HelloReply, Node, NodeId, Reply};
use crate::options::Listed;
use crate::transport::Peer;

/// Between two looks at the others while this server is no member: a cluster that starts is to be
/// there at once.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Runs until the store stops.
pub(crate) async fn take_part<E: Environment>(inner: Arc<Inner<E>>) {
    loop {
        let pause = if inner.is_voter() && inner.has_quorum() && !inner.has_other_life() {
            inner.timing.reconcile
        } else {
            inner.look_around().await;
            if inner.is_member() {
                inner.timing.reconcile
            } else {
                LOOK_EVERY
            }
        };
        E::pause(pause).await;
    }
}

impl<E: Environment> Inner<E> {
    fn is_voter(&self) -> bool {
        let members = self.members();
        members.voter_ids().any(|id| id == self.id())
    }

    fn is_member(&self) -> bool {
        (self.members().membership()).get_node(&self.id()).is_some()
    }

    /// Whether another life of this server is a member, too: the word of an earlier one may be late, when
    /// the network held it up. This one speaks again then, and the other goes.
    fn has_other_life(&self) -> bool {
        let members = self.members();
        let mut nodes = members.membership().nodes();
        nodes.any(|(id, node)| *id != self.id() && node.name == self.me.as_str())
    }

    fn has_quorum(&self) -> bool {
        self.membership.borrow().has_quorum
    }

    /// This server is fresh, learns, was removed, hears nothing, or is not the only one of its name: found, or
    /// make itself known.
    async fn look_around(self: &Arc<Self>) {
        let servers = self.servers.borrow().clone();
        if self.is_fresh() && self.can_found_alone(&servers) {
            self.found(BTreeMap::new(), &servers).await;
            return;
        }
        let replies = self.ask_all(&servers).await;
        let known: Vec<_> = replies
            .iter()
            .flat_map(|(_, reply)| &reply.leader)
            .collect();
        // The leader of the newest term that anybody knows.
        let newest = (replies.iter())
            .filter(|(_, reply)| reply.leader.is_some())
            .max_by_key(|(_, reply)| reply.term);
        if let Some(leader) = newest.and_then(|(_, reply)| reply.leader.as_ref())
            && leader.id != self.id()
        {
            self.ask_for_admission(leader).await;
            return;
        }
        if !self.is_fresh() || !known.is_empty() {
            return;
        }
        if replies.iter().all(|(_, reply)| reply.fresh) {
            self.try_to_found(&servers, &replies).await;
        } else {
            self.wait_for("the cluster to elect a leader");
        }
    }

    async fn ask_all(self: &Arc<Self>, servers: &[Listed]) -> Vec<(Listed, HelloReply)> {
        let others = servers.iter().filter(|server| server.name != self.me);
        let mut calls = Vec::new();
        for server in others.take(crate::limits::PEERS_MAX) {
            let inner = self.clone();
            let server = server.clone();
            calls.push(E::spawn(async move {
                let ask = Ask::Hello(Hello {
                    fresh: inner.is_fresh(),
                });
                let peer = peer(&server);
                match inner.call(&peer, 0, ask).await {
                    Ok(Reply::Hello(reply)) if reply.name == server.name.as_str() => {
                        Some((server, reply))
                    }
                    _ => None,
                }
            }));
        }
        let mut replies = Vec::new();
        for call in calls {
            if let Ok(Some(reply)) = call.await {
                replies.push(reply);
            }
        }
        replies
    }

    fn can_found_alone(&self, servers: &[Listed]) -> bool {
        let mut voters = servers.iter().filter(|server| server.votes);
        matches!((voters.next(), voters.next()), (Some(only), None) if only.name == self.me)
            && servers.len() == 1
    }

    /// Only the first voter of the file founds, and only when every voter is there, has nothing to
    /// lose, and has the same voters in its file. So no two clusters are founded, and none is
    /// founded beside one whose members are merely unreachable.
    async fn try_to_found(&self, servers: &[Listed], replies: &[(Listed, HelloReply)]) {
        let voters: Vec<&Listed> = servers.iter().filter(|server| server.votes).collect();
        let names: Vec<String> = voters.iter().map(|v| v.name.to_string()).collect();
        if voters.first().is_none_or(|first| first.name != self.me) {
            self.wait_for("the first server of the config file to found the cluster");
            return;
        }
        let mut ids = BTreeMap::new();
        for voter in voters.iter().filter(|voter| voter.name != self.me) {
            let reply = replies.iter().find(|(server, _)| server == *voter);
            match reply {
                None => {
                    self.wait_for(&format!("{} to answer", voter.name));
                    return;
                }
                Some((_, reply)) if reply.voters != names => {
                    self.wait_for(&format!("{} to have the same config file", voter.name));
                    return;
                }
                Some((_, reply)) => ids.insert(voter.name.clone(), reply.id),
            };
        }
        self.found(ids, servers).await;
    }

    async fn found(&self, ids: BTreeMap<trilith_base::ServerName, NodeId>, servers: &[Listed]) {
        let voters = servers.iter().filter(|server| server.votes);
        let nodes: BTreeMap<NodeId, Node> = voters
            .take(VOTERS_MAX)
            .filter_map(|server| {
                let id = if server.name == self.me {
                    self.id()
                } else {
                    *ids.get(&server.name)?
                };
                Some((id, Node::new(&server.name, server.address)))
            })
            .collect();
        let voters = nodes.len();
        match E::timeout(self.timing.request, self.raft.initialize(nodes)).await {
            Ok(Ok(())) => self.telemetry.emit(&event::Founded { voters }),
            Ok(Err(error)) => tracing::debug!(%error, "not founded"),
            Err(_) => tracing::debug!("not founded in time"),
        }
    }

    async fn ask_for_admission(&self, leader: &crate::msg::Leader) {
        let node = Node {
            name: leader.name.clone(),
            address: leader.address.clone(),
        };
        // Whom to trust is in the config file: a leader that is not in it is not asked.
        let Ok(peer) = node.peer() else { return };
        if !self.servers.borrow().iter().any(|s| s.name == peer.name) {
            return;
        }
        let ask = Ask::Admit(Admit {
            id: self.id(),
            address: self.address.to_string(),
        });
        match self.call(&peer, leader.id, ask).await {
            Ok(Reply::Admitted(_)) => self.wait_for("the leader to admit this server"),
            Ok(Reply::Failed(failed)) => {
                self.wait_for(&format!(
                    "admission, but {} says: {}",
                    peer.name, failed.reason
                ));
            }
            Ok(_) => {}
            Err(error) => self.wait_for(&format!("{}, the leader: {error}", peer.name)),
        }
    }

    fn wait_for(&self, what: &str) {
        self.health.send_if_modified(|health| {
            let new = Some(what.to_owned());
            let changed = health.waiting_for != new;
            health.waiting_for = new;
            changed
        });
    }
}

fn peer(server: &Listed) -> Peer {
    Peer {
        name: server.name.clone(),
        address: server.address,
    }
}
