//! The cluster store of this server, on threads of its own.
//!
//! Leases are renewed a few times a second, and what misses its time gives an address away. So nothing
//! that runs here may wait for anything else of this process.

use std::net::SocketAddr;
use std::process::abort;
use std::sync::Arc;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use trilith_cluster::{
    Cluster, ClusterHealth, DiskPlace, EtcdOptions, EtcdStore, HttpTransport, Listed, Options,
    Stage, Timing,
};
use trilith_config::{Config, Server, StoreKind};
use trilith_consensus::{Membership, Store};
use trilith_monitor::api::{StoreMember, StoreStatus};
use trilith_telemetry::Telemetry;
use trilith_tls::PeerIdentity;

use crate::error::NodeError;
use crate::limits::CLUSTER_THREADS;

/// Folder of the store in a server's state folder.
const FOLDER: &str = "cluster";

/// Runs the store, and what must keep time with it. Dropping it ends what runs there at once.
pub(crate) struct ClusterRuntime {
    /// `None` once it was stopped.
    runtime: Option<Runtime>,
}

impl ClusterRuntime {
    pub fn start() -> Result<Self, NodeError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(CLUSTER_THREADS)
            .thread_name("cluster")
            .enable_all()
            .build()
            .map_err(NodeError::service)?;
        Ok(Self {
            runtime: Some(runtime),
        })
    }

    pub fn handle(&self) -> Handle {
        let runtime = self.runtime.as_ref();
        runtime.map_or_else(Handle::current, |r| r.handle().clone())
    }
}

impl Drop for ClusterRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Dropping it would wait for blocking work, which async code must not.
            runtime.shutdown_background();
        }
    }
}

/// The store that the config file chose.
#[derive(Clone)]
pub(crate) struct ClusterStore {
    pub store: Arc<dyn Store>,
    /// `None` with a store outside.
    pub embedded: Option<Arc<Cluster>>,
}

/// The servers that take part in the store: all of the file.
pub(crate) fn listed(config: &Config) -> Vec<Listed> {
    let listed = |server: &Server| Listed {
        name: server.name.clone(),
        address: SocketAddr::new(server.address, config.ports.cluster),
        votes: true,
    };
    config.servers.iter().map(listed).collect()
}

impl ClusterStore {
    /// Opens this server's part. Returns before it has found the others. To be called on the cluster's
    /// own runtime.
    pub async fn start(
        config: Arc<Config>,
        server: Server,
        state: std::path::PathBuf,
        identity: PeerIdentity,
        servers: watch::Receiver<Vec<Listed>>,
        telemetry: Telemetry,
    ) -> Result<Self, NodeError> {
        match &config.store {
            StoreKind::Embedded => {}
            StoreKind::Etcd { endpoints } => {
                let options = EtcdOptions {
                    endpoints: endpoints.clone(),
                    cluster: config.cluster.name.to_string(),
                };
                let store = EtcdStore::start(&options).map_err(NodeError::service)?;
                return Ok(Self {
                    store,
                    embedded: None,
                });
            }
        }
        let options = Options {
            me: server.name.clone(),
            address: SocketAddr::new(server.address, config.ports.cluster),
            cluster: config.cluster.name.to_string(),
            servers,
            disk: DiskPlace::Folder(state.join(FOLDER)),
            // Half a store is worse than none: the service manager starts the process again, and the
            // others have taken over by then.
            on_fatal: Arc::new(|reason| {
                tracing::error!(
                    reason,
                    "the cluster store cannot go on: the process ends now"
                );
                abort();
            }),
            timing: Timing::default(),
            telemetry,
        };
        let transport = HttpTransport::new(&identity).map_err(NodeError::service)?;
        let cluster = Cluster::start(options, Arc::new(transport)).await;
        let cluster = cluster.map_err(NodeError::service)?;
        Ok(Self {
            store: cluster.clone(),
            embedded: Some(cluster),
        })
    }

    /// What `trilith status` shows of it.
    pub fn status(&self) -> StoreStatus {
        let membership = self.store.membership().borrow().clone();
        let health = self.embedded.as_ref().map(|c| c.status().borrow().clone());
        store_status(
            &membership,
            health.as_ref(),
            self.store.view().borrow().revision.0,
        )
    }

    /// What keeps this server's part from working, in words.
    pub fn problem(&self) -> Option<String> {
        let health = self.embedded.as_ref()?.status().borrow().clone();
        match (health.stage, &health.waiting_for) {
            (Stage::Removed, _) => Some("no member of the cluster any more".to_owned()),
            (Stage::Fresh, Some(what)) => Some(what.clone()),
            (Stage::Fresh, None) => Some("not a member of the cluster yet".to_owned()),
            _ if !health.has_quorum => Some("no majority of the servers answers".to_owned()),
            _ => None,
        }
    }

    /// What an operator should know of it.
    pub fn notices(&self) -> Vec<String> {
        let health = self.embedded.as_ref().map(|c| c.status().borrow().clone());
        let aside = health.and_then(|health| health.set_aside);
        aside
            .map(|path| format!("the cluster store was damaged, and is now {path}"))
            .into_iter()
            .collect()
    }

    pub async fn shutdown(&self) {
        if let Some(cluster) = &self.embedded {
            cluster.shutdown().await;
        }
    }
}

fn store_status(
    membership: &Membership,
    health: Option<&ClusterHealth>,
    revision: u64,
) -> StoreStatus {
    let member = |member: &trilith_consensus::Member| StoreMember {
        name: member.name.to_string(),
        voter: member.voter,
    };
    StoreStatus {
        kind: if health.is_some() { "embedded" } else { "etcd" }.to_owned(),
        leader: membership.leader.as_ref().map(ToString::to_string),
        term: membership.term,
        has_quorum: membership.has_quorum,
        revision,
        members: membership.members.iter().map(member).collect(),
    }
}
