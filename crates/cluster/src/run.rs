//! One server's part of the store, from start to shutdown.

use std::marker::PhantomData;
use std::sync::Arc;

use tokio::sync::watch;
use trilith_base::ServerName;

use crate::environment::Environment;
use crate::error::Error;
use crate::health::ClusterHealth;
use crate::machine::Machine;
use crate::msg;
use crate::options::Options;
use crate::transport::Transport;

/// One server's part of the cluster store. Everybody else uses it as a
/// [`Store`](trilith_consensus::Store).
pub struct Cluster<E: Environment = Machine> {
    pub(crate) health: watch::Sender<ClusterHealth>,
    pub(crate) environment: PhantomData<E>,
}

impl<E: Environment> Cluster<E> {
    /// Opens the file, or makes one, and takes part from then on: founds the cluster, rejoins it, or asks
    /// to be admitted, whatever is due. Returns before any of that has come to an end.
    ///
    /// # Errors
    /// When the file cannot be opened. Damage is no error: the file is set aside.
    pub async fn start(
        _options: Options,
        _transport: Arc<dyn Transport>,
    ) -> Result<Arc<Self>, Error> {
        Err(Error::Start {
            reason: "not written yet".to_owned(),
        })
    }

    /// Answers another server. `from` is the name in the certificate it showed. Bounded in time.
    pub async fn handle(&self, _from: &ServerName, _request: msg::Request) -> msg::Reply {
        msg::Reply::failed(msg::FailureKind::Stopped, "not written yet")
    }

    /// How this server's part is.
    pub fn status(&self) -> watch::Receiver<ClusterHealth> {
        self.health.subscribe()
    }

    /// Stops taking part, and closes the file. Calls under way end with
    /// [`Stopped`](trilith_consensus::StoreError::Stopped).
    pub async fn shutdown(&self) {}
}
