//! Where to call a server: at the address that the config file lists for its name, at the one that is
//! stored with the members, or where it answered last.
//!
//! The stored one alone is not enough. When all servers move at once, it is wrong for all of them, and
//! no majority comes together to change it. The listed one alone is not, either: between a reload and
//! the restart of a server it is where that server will be, and this server's file may be an old
//! one. Whoever answers at the wrong address cannot pass for the server: its name is in its certificate.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use trilith_base::ServerName;
use trilith_consensus::BoxFuture;

use crate::limits::PEERS_MAX;
use crate::msg;
use crate::options::Listed;
use crate::transport::{CallError, Peer, Transport};

/// A transport that takes the address of a [`Peer`] as one of several hints.
pub(crate) struct Whereabouts {
    transport: Arc<dyn Transport>,
    servers: watch::Receiver<Vec<Listed>>,
    known: Mutex<BTreeMap<ServerName, Known>>,
}

/// What is known of one server. An address that works is used until it fails, or another is listed.
#[derive(Clone, Copy)]
struct Known {
    listed: Option<SocketAddr>,
    next: SocketAddr,
    answered: Option<SocketAddr>,
}

impl Whereabouts {
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        servers: watch::Receiver<Vec<Listed>>,
    ) -> Self {
        Self {
            transport,
            servers,
            known: Mutex::default(),
        }
    }

    /// Where it answered last.
    pub(crate) fn answered(&self, name: &ServerName) -> Option<SocketAddr> {
        self.lock().get(name).and_then(|known| known.answered)
    }

    /// Where to call it now. It counts as failed until the attempt says otherwise, however it ends.
    fn attempt(&self, to: &Peer) -> Attempt<'_> {
        let servers = self.servers.borrow();
        let listed = servers.iter().find(|server| server.name == to.name);
        let listed = listed.map(|server| server.address);
        drop(servers);
        let first = listed.unwrap_or(to.address);
        let fresh = Known {
            listed,
            next: first,
            answered: None,
        };
        let mut all = self.lock();
        if all.len() >= PEERS_MAX && !all.contains_key(&to.name) {
            // Servers come and go, over months: start again.
            all.clear();
        }
        let known = all.entry(to.name.clone()).or_insert(fresh);
        if known.listed != listed {
            (known.listed, known.next) = (listed, first);
        }
        // In this order; the same address twice does no harm.
        let places = [first, to.address, known.answered.unwrap_or(first)];
        let at = places.iter().position(|place| *place == known.next);
        let address = places[at.unwrap_or(0)];
        known.next = address;
        let after = (places
            .iter()
            .cycle()
            .skip(at.unwrap_or(0))
            .take(places.len()))
        .find(|place| **place != address);
        Attempt {
            whereabouts: self,
            peer: Peer {
                name: to.name.clone(),
                address,
            },
            after: after.copied(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServerName, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport for Whereabouts {
    fn call<'a>(
        &'a self,
        to: &'a Peer,
        request: msg::Request,
    ) -> BoxFuture<'a, Result<msg::Reply, CallError>> {
        Box::pin(async move {
            let attempt = self.attempt(to);
            let result = self.transport.call(&attempt.peer, request).await;
            if result.is_ok() {
                attempt.answered();
            }
            result
        })
    }
}

/// One call. The caller may drop it at any await: that is a failure as well.
struct Attempt<'a> {
    whereabouts: &'a Whereabouts,
    peer: Peer,
    /// Where to call if this fails; `None`: it succeeded, or there is no other place.
    after: Option<SocketAddr>,
}

impl Attempt<'_> {
    fn answered(mut self) {
        self.after = None;
        if let Some(known) = self.whereabouts.lock().get_mut(&self.peer.name) {
            known.answered = Some(self.peer.address);
            known.next = self.peer.address;
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let Some(after) = self.after else { return };
        if let Some(known) = self.whereabouts.lock().get_mut(&self.peer.name)
            // Of calls side by side only one moves on.
            && known.next == self.peer.address
        {
            known.next = after;
        }
    }
}

#[cfg(test)]
mod tests;
