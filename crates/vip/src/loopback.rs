//! Mode `loopback`: every server has the address; the holder is the one that listens on it.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::timeout;
use trilith_base::BootTime;
use trilith_consensus::BoxFuture;

use crate::limits::LISTENERS_TIMEOUT;

/// The edge's listeners on an address. Both calls are idempotent, and a later call wins over an earlier
/// one that is still under way.
pub trait Listeners: Send + Sync {
    /// Binds the public ports to it.
    ///
    /// # Errors
    /// What went wrong, for people.
    fn open(&self, ip: IpAddr) -> BoxFuture<'_, Result<(), String>>;

    /// Closes the listeners. When it returns no new connection is accepted; open ones go on.
    fn close(&self, ip: IpAddr) -> BoxFuture<'_, ()>;
}

pub(crate) async fn open(
    listeners: &Arc<dyn Listeners>,
    ip: IpAddr,
    until: BootTime,
) -> Result<(), String> {
    match timeout(LISTENERS_TIMEOUT, listeners.open(ip)).await {
        Ok(Ok(())) if BootTime::now() < until => Ok(()),
        Ok(Ok(())) => Err("the listeners took so long to open that the lease ran out".to_owned()),
        Ok(Err(problem)) => Err(problem),
        Err(_) => Err("the listeners did not open in time".to_owned()),
    }
}

pub(crate) async fn close(listeners: &Arc<dyn Listeners>, ip: IpAddr) -> Result<(), String> {
    timeout(LISTENERS_TIMEOUT, listeners.close(ip))
        .await
        .map_err(|_| "the listeners did not close in time".to_owned())
}
