//! What this server knows of itself, gathered from its services without asking them.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::sleep;
use trilith_app::InstanceStatus;
use trilith_base::BootTime;
use trilith_config::{Config, Role, Server};
use trilith_edge::Edge;
use trilith_monitor::api::{self, ClusterStatus, ServerState, ServerStatus};
use trilith_monitor::{Reading, Source};
use trilith_postgres::{ClusterView, Situation, StatsView, Status as PostgresStatus};
use trilith_sqlproxy::SharedTargets;

use crate::cluster::ClusterStore;
use crate::config_sync::ConfigSync;
use crate::limits::{DATABASE_POLL_INTERVAL, DATABASE_WAIT};
use crate::peers::Peers;
use crate::{database, state, status};

/// One per process. Services are entered as they start; everything is read through snapshots.
pub(crate) struct Board {
    config: ArcSwap<Config>,
    pub server: Server,
    peers: Peers,
    started: SystemTime,
    draining: AtomicBool,
    was_ready: AtomicBool,
    /// What the start is at, for people.
    step: Mutex<Option<String>>,
    release_failure: Mutex<Option<String>>,
    pub release: OnceLock<String>,
    pub instances: OnceLock<watch::Receiver<Vec<InstanceStatus>>>,
    pub postgres: OnceLock<watch::Receiver<PostgresStatus>>,
    /// What the agent of the database saw last, and plans.
    pub situation: OnceLock<watch::Receiver<Option<Arc<Situation>>>>,
    pub stats: OnceLock<watch::Receiver<Arc<StatsView>>>,
    pub databases: OnceLock<watch::Receiver<ClusterView>>,
    pub sql_targets: OnceLock<SharedTargets>,
    pub edge: OnceLock<Arc<Edge>>,
    pub store: OnceLock<ClusterStore>,
    pub config_sync: OnceLock<Arc<ConfigSync>>,
    pub floating: OnceLock<watch::Receiver<Vec<trilith_vip::AddressStatus>>>,
}

impl Board {
    pub fn new(config: Arc<Config>, server: Server, peers: Peers) -> Self {
        Self {
            config: ArcSwap::new(config),
            server,
            peers,
            started: SystemTime::now(),
            draining: AtomicBool::new(false),
            was_ready: AtomicBool::new(false),
            step: Mutex::new(Some("starting".to_owned())),
            release_failure: Mutex::new(None),
            release: OnceLock::new(),
            instances: OnceLock::new(),
            postgres: OnceLock::new(),
            situation: OnceLock::new(),
            stats: OnceLock::new(),
            databases: OnceLock::new(),
            sql_targets: OnceLock::new(),
            edge: OnceLock::new(),
            store: OnceLock::new(),
            config_sync: OnceLock::new(),
            floating: OnceLock::new(),
        }
    }

    /// What this server runs with now.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    pub fn set_config(&self, config: Arc<Config>) {
        self.config.store(config);
    }

    pub fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Relaxed);
    }

    /// `None`: everything has been started.
    pub fn set_step(&self, step: Option<String>) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = step;
    }

    fn step(&self) -> Option<String> {
        self.step
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// `None`: the release command has not failed, or has succeeded since.
    pub fn set_release_failure(&self, failure: Option<String>) {
        *self
            .release_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// Returns when the cluster's database can be used: there is a primary that lets the application in.
    /// Gives up after [`DATABASE_WAIT`]: then there is no database to wait for, and apps may have
    /// something to say all the same.
    pub async fn database_ready(&self) {
        let begin = Instant::now();
        while begin.elapsed() < DATABASE_WAIT {
            let targets = self.sql_targets.get();
            if targets.is_some_and(|targets| targets.load().primary.is_some()) {
                return;
            }
            sleep(DATABASE_POLL_INTERVAL).await;
        }
        tracing::warn!("the database is not ready; going on without it");
    }

    /// The database's failover, as this server knows it.
    fn database(&self) -> Option<api::DatabasePart> {
        let config = self.config();
        config.database.as_ref()?;
        let view = self.store.get()?.store.view();
        let situation = self.situation.get().and_then(|s| s.borrow().clone());
        let local = situation.map(|situation| {
            let status = self.postgres.get().map(|status| status.borrow().clone());
            let stats = self.stats.get().map(|view| view.borrow().clone());
            let pending = stats.map(|view| view.pending_restart.clone());
            let pending = pending.unwrap_or_default();
            database::local(&situation, status.as_ref(), pending, BootTime::now())
        });
        let view = view.borrow();
        Some(database::part(&config, &view, local))
    }

    fn failing(&self) -> Option<String> {
        let release = self
            .release_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        release.or_else(|| state::crash_loop(&self.instances.get()?.borrow()))
    }

    /// What is missing of what this server should do, in the order of its start; empty when all is
    /// well.
    fn missing(&self) -> Vec<String> {
        let config = self.config();
        let mut missing = Vec::new();
        if let (Some(_), true) = (&config.database, self.server.has(Role::Db)) {
            missing.extend(state::postgres_problem(
                self.postgres.get().map(|w| w.borrow().clone()),
            ));
        }
        if let (Some(_), true) = (&config.database, self.server.has(Role::Web)) {
            let replicas = config.with_role(Role::Db).count() > 1;
            missing.extend(state::sql_problem(
                self.sql_targets.get().map(|t| t.load()),
                replicas,
            ));
        }
        missing.extend(self.store.get().and_then(ClusterStore::problem));
        missing.extend(self.step());
        if let Some(instances) = self.instances.get() {
            missing.extend(state::instances_problem(&instances.borrow()));
        }
        missing
    }

    /// What an operator should know, though nothing is missing.
    fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        if let Some(store) = self.store.get() {
            notices.extend(store.notices());
        }
        if let Some(sync) = self.config_sync.get() {
            notices.extend(sync.state().notices());
        }
        notices
    }

    fn state(&self) -> (ServerState, Vec<String>) {
        if self.draining.load(Relaxed) {
            return (ServerState::Draining, Vec::new());
        }
        let missing = self.missing();
        if missing.is_empty() {
            self.was_ready.store(true, Relaxed);
            return (ServerState::Ready, missing);
        }
        let state = match self.was_ready.load(Relaxed) {
            true => ServerState::Degraded,
            false => ServerState::Starting,
        };
        (state, missing)
    }
}

impl Source for Board {
    fn server(&self) -> ServerStatus {
        let (server_state, problems) = self.state();
        let targets = self.sql_targets.get().map(|targets| targets.load_full());
        let instances = self.instances.get();
        ServerStatus {
            schema: api::SCHEMA,
            name: self.server.name.to_string(),
            address: self.server.address.to_string(),
            roles: self
                .server
                .roles
                .iter()
                .map(|role| role.to_string())
                .collect(),
            state: server_state,
            problems,
            failing: self.failing(),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            pid: Some(std::process::id()),
            started_unix_ms: Some(unix_ms(self.started)),
            release: self.release.get().cloned(),
            instances: instances
                .map(|i| state::instances(&i.borrow()))
                .unwrap_or_default(),
            postgres: self
                .postgres
                .get()
                .map(|status| state::postgres(&status.borrow())),
            database: self.database(),
            database_view: self
                .databases
                .get()
                .map(|view| state::databases(&view.borrow()))
                .unwrap_or_default(),
            sql_entry: targets.map(|t| state::sql_entry(&self.config(), &self.server, &t)),
            pools: self
                .edge
                .get()
                .map(|e| state::pools(&e.status()))
                .unwrap_or_default(),
            addresses: self
                .floating
                .get()
                .map(|status| {
                    let now = unix_ms(SystemTime::now());
                    state::addresses(&status.borrow(), BootTime::now(), now)
                })
                .unwrap_or_default(),
            store: self.store.get().map(ClusterStore::status),
            config: self.config_sync.get().map(|sync| sync.state()),
            notices: self.notices(),
        }
    }

    fn postgres_readings(&self) -> Vec<Reading> {
        let stats = self.stats.get().map(|view| view.borrow().clone());
        let readings = stats.iter().flat_map(|view| &view.readings);
        let reading = |reading: &trilith_postgres::Reading| Reading {
            name: reading.name,
            help: reading.help,
            series: reading.series.clone(),
        };
        readings.map(reading).collect()
    }

    async fn cluster(&self) -> ClusterStatus {
        let config = self.config();
        let servers = self.peers.ask_all(&config, self.server()).await;
        let now = unix_ms(SystemTime::now());
        status::cluster_status(&config, self.server.name.as_str(), servers, now)
    }
}

pub(crate) fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
