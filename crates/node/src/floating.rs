//! The floating addresses of this server.

use std::sync::Arc;

use tokio::sync::watch;
use trilith_config::{Config, Server};
use trilith_consensus::Store;
use trilith_edge::Floating;
use trilith_telemetry::Telemetry;

use crate::cluster::ClusterRuntime;
use crate::control::drain_key;
use crate::error::NodeError;

/// Opens them on the first edge.
pub(crate) struct FloatingAddresses {
    status: watch::Sender<Vec<trilith_monitor::api::AddressStatus>>,
}

impl FloatingAddresses {
    pub async fn start(
        _: &ClusterRuntime,
        config: &Config,
        server: &Server,
        _: Arc<dyn Store>,
        edge: Arc<Floating>,
        _: Telemetry,
    ) -> Result<Option<Self>, NodeError> {
        let mut status = Vec::new();
        if config.floating_holder() == Some(server) {
            for address in config.addresses() {
                edge.open(address.ip).map_err(NodeError::service)?;
                status.push(trilith_monitor::api::AddressStatus {
                    address: address.ip.to_string(),
                    state: "held".to_owned(),
                    epoch: None,
                    lease_left_ms: None,
                    since_unix_ms: None,
                    problem: None,
                });
            }
        }
        Ok(Some(Self {
            status: watch::Sender::new(status),
        }))
    }

    pub fn status(&self) -> watch::Receiver<Vec<trilith_monitor::api::AddressStatus>> {
        self.status.subscribe()
    }

    pub async fn stop(self) {}
}

/// Whether an operator took this server out of use: `trilith drain`. Ends with the store.
pub(crate) async fn follow_drain(
    store: Arc<dyn Store>,
    server: trilith_base::ServerName,
    mut set: impl FnMut(bool),
) {
    let key = drain_key(&server);
    let mut view = store.view();
    let mut was = false;
    loop {
        let drain = view.borrow_and_update().get(key.as_str()).is_some();
        if drain != was {
            was = drain;
            set(drain);
        }
        if view.changed().await.is_err() {
            return;
        }
    }
}
