//! The floating addresses of this server: `vip` with this server's edge, health, drain and guard.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use trilith_config::{Config, Server, VipMode};
use trilith_consensus::{BoxFuture, Store};
use trilith_edge::Floating;
use trilith_telemetry::Telemetry;
use trilith_vip::{AddressStatus, Listeners, Vip};

use crate::cluster::ClusterRuntime;
use crate::control::drain_key;
use crate::error::NodeError;
use crate::{edge_health, guard, lower};

/// Runs on the cluster's own threads.
pub(crate) struct FloatingAddresses {
    vip: Arc<Vip>,
    drain: watch::Sender<bool>,
    loops: Vec<JoinHandle<()>>,
}

impl FloatingAddresses {
    /// `None` when there is no address to hold.
    pub async fn start(
        cluster: &ClusterRuntime,
        config: &Config,
        server: &Server,
        store: Arc<dyn Store>,
        edge: Arc<Floating>,
        telemetry: Telemetry,
    ) -> Result<Option<Self>, NodeError> {
        if config.addresses().is_empty() || config.vip.mode == VipMode::None {
            return Ok(None);
        }
        let (health, healthy) = watch::channel(false);
        let (drain, drained) = watch::channel(false);
        let (deadline, deadlines) = watch::channel(None);
        let own = SocketAddr::new(server.address, config.ports.http);
        let handle = cluster.handle();
        let mut loops = vec![handle.spawn(edge_health::watch(edge.clone(), own, health))];
        let guarded = match config.vip.mode {
            VipMode::Loopback => Some(Vec::new()),
            VipMode::L2 { .. } => Some(config.addresses().iter().map(|a| a.ip).collect()),
            VipMode::Hook { .. } | VipMode::None => None,
        };
        if let Some(addresses) = guarded {
            loops.push(handle.spawn(guard::feed(deadlines, addresses)));
        }
        let options = lower::vip::options(config, server);
        let listeners: Arc<dyn Listeners> = Arc::new(EdgeListeners(edge));
        let vip = handle.spawn(async move {
            Vip::start(
                options, store, healthy, drained, listeners, deadline, telemetry,
            )
            .await
        });
        let vip = vip.await.map_err(NodeError::service)?;
        Ok(Some(Self {
            vip: vip.map_err(NodeError::service)?,
            drain,
            loops,
        }))
    }

    pub fn status(&self) -> watch::Receiver<Vec<AddressStatus>> {
        self.vip.status()
    }

    /// Gives every address away, and takes none any more.
    pub async fn stop(self) {
        // Nobody shall wonder why the edge does not answer once it drains.
        if let Some(health) = self.loops.first() {
            health.abort();
        }
        self.drain.send_replace(true);
        self.vip.release_all().await;
        for task in self.loops {
            task.abort();
        }
    }
}

/// Floating addresses are served by the edge of this process.
struct EdgeListeners(Arc<Floating>);

impl Listeners for EdgeListeners {
    fn open(&self, ip: IpAddr) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move { self.0.open(ip).map_err(|error| error.to_string()) })
    }

    fn close(&self, ip: IpAddr) -> BoxFuture<'_, ()> {
        Box::pin(self.0.close(ip))
    }
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
