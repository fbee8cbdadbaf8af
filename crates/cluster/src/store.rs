//! The store as everybody else on this server sees it.

use std::sync::Arc;

use tokio::sync::watch;
use trilith_consensus::{BoxFuture, Epoch, Key, Membership, Outcome, Store, StoreError, Txn, View};

use crate::environment::Environment;
use crate::run::Cluster;

impl<E: Environment> Store for Cluster<E> {
    fn read(&self) -> BoxFuture<'_, Result<Arc<View>, StoreError>> {
        Box::pin(async { Err(StoreError::Stopped) })
    }

    fn commit(&self, _txn: Txn) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        Box::pin(async { Err(StoreError::Stopped) })
    }

    fn renew(&self, _lease: &Key, _epoch: Epoch) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Err(StoreError::Stopped) })
    }

    fn view(&self) -> watch::Receiver<Arc<View>> {
        watch::channel(Arc::default()).1
    }

    fn membership(&self) -> watch::Receiver<Arc<Membership>> {
        watch::channel(Arc::default()).1
    }
}
