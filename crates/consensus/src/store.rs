//! The cluster store as everybody else sees it.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;
use trilith_base::ServerName;

use crate::error::StoreError;
use crate::name::Key;
use crate::txn::{Outcome, Txn};
use crate::view::{Epoch, View};

/// What the calls of a [`Store`] return: the store is chosen at run time.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A small, replicated state: compare-and-set, leases, watches. Every call has a bounded duration (a few
/// seconds). All of them may be dropped at any await; then what was asked may be done or not.
pub trait Store: Send + Sync {
    /// Linearizable: everything that was acknowledged anywhere before the call is in it.
    fn read(&self) -> BoxFuture<'_, Result<Arc<View>, StoreError>>;

    /// Compare-and-set. `Ok` of either outcome is durable on a majority.
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Outcome, StoreError>>;

    /// Extends a lease by its full time to live, counted from some moment between the call and its return.
    /// The holder counts from *before* the call. Waits for no disk.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`]: it is not held under that epoch, and never will be again.
    fn renew(&self, lease: &Key, epoch: Epoch) -> BoxFuture<'_, Result<(), StoreError>>;

    /// What this server knows, perhaps a moment late; never goes back. Works without a leader.
    fn view(&self) -> watch::Receiver<Arc<View>>;

    /// Who takes part, as far as this server knows.
    fn membership(&self) -> watch::Receiver<Arc<Membership>>;
}

/// Who takes part in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    pub members: Vec<Member>,
    /// The server that leads, if one does as far as this server knows.
    pub leader: Option<ServerName>,
    /// Grows with every election.
    pub term: u64,
    /// Whether this server has heard from a leader lately, or leads with a majority behind it.
    pub has_quorum: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub name: ServerName,
    pub address: SocketAddr,
    /// One life of a server's store: a server that lost its disk comes back under a new one.
    pub id: u64,
    pub voter: bool,
}
