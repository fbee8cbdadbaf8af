//! The services of one server: started in order, stopped in the opposite one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread::available_parallelism;
use std::time::SystemTime;

use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use trilith_app::{Release, Supervisor};
use trilith_cluster::join::{Door, Tokens};
use trilith_config::{Config, Role, Server, Workers as ConfigWorkers};
use trilith_edge::Edge;
use trilith_monitor::{admin_router, peer_router, serve_admin};
use trilith_net::{Drain, DrainTrigger, Workers, drain_pair};
use trilith_postgres::{Observer, Postgres, Stats, Tls};
use trilith_sqlproxy::{SharedTargets, SqlProxy, Targets};
use trilith_telemetry::{AccessLogFile, AccessLogOptions, Telemetry};
use trilith_tls::{PeerIdentity, SiteCertificates};
use trilith_web::Web;

use crate::admin::AdminSocket;
use crate::board::Board;
use crate::cluster::{ClusterRuntime, ClusterStore};
use crate::config_sync::{AtStart, ConfigSync};
use crate::error::NodeError;
use crate::floating::{FloatingAddresses, follow_drain};
use crate::limits::{
    DATABASE_POLL_INTERVAL, LAST_DRAIN_TIMEOUT, PEER_DRAIN_TIMEOUT, REPLICA_PATIENCE,
};
use crate::lower::app::Apps;
use crate::peers::{PeerListener, PeerServices, Peers};
use crate::release;
use crate::reload::{self, Parts, Reloader};
use crate::secrets::Secrets;
use crate::tokens::InForce;
use crate::{
    cluster, control, database_guard, db_control, feed, lower, privileges, secrets, tokens,
};

/// What is running. A service that this server does not have, or that is not started yet, is
/// `None`.
pub(crate) struct Services {
    config: Arc<Config>,
    server: Server,
    state: PathBuf,
    telemetry: Telemetry,
    secrets: Secrets,
    identity: PeerIdentity,
    site_certificates: SiteCertificates,
    board: Arc<Board>,
    workers: Workers,
    /// What this server runs with now.
    in_force: watch::Sender<InForce>,
    config_path: PathBuf,
    /// Until the config is kept the same as the cluster's.
    config_start: Option<AtStart>,
    config_sync: Arc<OnceLock<Arc<ConfigSync>>>,
    cluster: ClusterRuntime,
    store: Option<ClusterStore>,
    floating: Option<FloatingAddresses>,
    admin: Option<Admin>,
    admin_socket: Option<AdminSocket>,
    postgres: Option<Postgres>,
    stats: Option<Stats>,
    /// Under which this server is the database's primary.
    primary_epoch: watch::Sender<Option<u64>>,
    observer: Option<Observer>,
    database_tls: Option<Tls>,
    sql: Option<Draining<trilith_sqlproxy::Serving>>,
    web: Option<Arc<Web>>,
    peers: Option<Draining<PeerListener>>,
    edge: Option<Draining<trilith_edge::Running>>,
    access_log: Option<AccessLogFile>,
    supervisor: Option<Supervisor>,
    /// The loops of `feed.rs`.
    feeds: JoinSet<()>,
}

/// A service and what ends it.
struct Draining<T> {
    service: T,
    drain: DrainTrigger,
}

struct Admin {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Services {
    /// What every server has: secrets, certificates, data-plane threads. Nothing listens yet.
    pub fn prepare(
        start: AtStart,
        path: PathBuf,
        server: Server,
        state: PathBuf,
    ) -> Result<Self, NodeError> {
        let config = start.in_force.config.clone();
        let telemetry = Telemetry::new(server.name.as_str());
        let secrets = secrets::load(&config)?;
        let now = SystemTime::now();
        let identity = PeerIdentity::issue(&secrets.ca, &server.name, server.address, now)?;
        let certificates = match server.has(Role::Edge) {
            true => lower::tls::site_certificates(&config, &secrets.ca, now)?,
            false => Vec::new(),
        };
        privileges::raise_open_files();
        let workers =
            Workers::start(worker_count(&config), "worker").map_err(NodeError::service)?;
        let peers = Peers::new(&identity)?;
        Ok(Self {
            board: Arc::new(Board::new(config.clone(), server.clone(), peers)),
            config,
            server,
            state,
            telemetry,
            secrets,
            identity,
            site_certificates: SiteCertificates::new(&certificates),
            workers,
            config_path: path,
            in_force: watch::Sender::new(start.in_force.clone()),
            config_start: Some(start),
            config_sync: Arc::default(),
            cluster: ClusterRuntime::start()?,
            store: None,
            floating: None,
            admin: None,
            admin_socket: None,
            postgres: None,
            stats: None,
            primary_epoch: watch::Sender::new(None),
            observer: None,
            database_tls: None,
            sql: None,
            web: None,
            peers: None,
            edge: None,
            access_log: None,
            supervisor: None,
            feeds: JoinSet::new(),
        })
    }

    /// Starts everything. May be dropped at any await; [`Services::stop`] then stops what there is.
    pub async fn start(&mut self) -> Result<(), NodeError> {
        self.start_admin().await?;
        let store = self.start_store().await?;
        self.start_admin_socket(&store)?;
        // First: what is wrong with the code base is better known before databases are made.
        let code = self.start_web().await?;
        self.start_databases(&store)?;
        self.start_peers(&store)?;
        self.start_edge()?;
        self.start_floating(&store).await?;
        self.start_sql(&store)?;
        self.follow_config(&store, code.as_ref().map(|(release, _)| release.clone()));
        self.keep_certificates_fresh();
        if let Some((release, apps)) = code {
            self.start_apps(release, apps).await?;
        }
        self.board.set_step(None);
        Ok(())
    }

    async fn start_admin(&mut self) -> Result<(), NodeError> {
        let address = SocketAddr::new(self.server.loopback(), self.config.ports.admin);
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| NodeError::listen("admin port", address, source))?;
        let router = admin_router(self.board.clone(), self.telemetry.clone());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let stopped = async {
                // Dropping the sender stops it as well.
                let _ = stopped.await;
            };
            if let Err(error) = serve_admin(listener, router, stopped).await {
                tracing::error!(%error, "the admin port failed");
            }
        });
        self.admin = Some(Admin { stop, task });
        tracing::info!(%address, "admin port is listening");
        Ok(())
    }

    /// This server's part of the cluster store. It finds the others, and they it, once all listen.
    async fn start_store(&mut self) -> Result<ClusterStore, NodeError> {
        let servers = feed::derived(&mut self.feeds, &self.in_force, |file| {
            cluster::listed(&file.config)
        });
        let start = ClusterStore::start(
            self.config.clone(),
            self.server.clone(),
            self.state.clone(),
            self.identity.clone(),
            servers,
            self.telemetry.clone(),
        );
        let started = self.cluster.handle().spawn(start).await;
        let store = started.map_err(NodeError::service)??;
        let _ = self.board.store.set(store.clone());
        self.store = Some(store.clone());
        Ok(store)
    }

    fn start_admin_socket(&mut self, store: &ClusterStore) -> Result<(), NodeError> {
        let board = self.board.clone();
        let config: db_control::ConfigNow = Arc::new(move || board.config());
        let router = control::router(self.board.clone(), store.store.clone())
            .merge(db_control::router(config, store.store.clone()))
            .merge(tokens::router(self.tokens(store)))
            .merge(reload::admin::router(
                self.config_sync.clone(),
                self.board.clone(),
            ));
        self.admin_socket = Some(AdminSocket::start(&self.state, router)?);
        Ok(())
    }

    fn tokens(&self, store: &ClusterStore) -> Arc<Tokens> {
        let house = tokens::Household {
            in_force: self.in_force.subscribe(),
        };
        let ca = self.secrets.ca.fingerprint();
        Tokens::new(
            store.store.clone(),
            Arc::new(house),
            ca,
            self.telemetry.clone(),
        )
    }

    /// Holds floating addresses, if this server is an edge and there are any.
    async fn start_floating(&mut self, store: &ClusterStore) -> Result<(), NodeError> {
        if let Some(edge) = &self.edge {
            let floating = FloatingAddresses::start(
                &self.cluster,
                &self.config,
                &self.server,
                store.store.clone(),
                edge.service.floating(),
                self.telemetry.clone(),
            );
            self.floating = floating.await?;
        }
        if let Some(floating) = &self.floating {
            let _ = self.board.floating.set(floating.status());
        }
        let (board, web) = (self.board.clone(), self.web.clone());
        let follow = follow_drain(
            store.store.clone(),
            self.server.name.clone(),
            move |drain| {
                tracing::info!(drain, "an operator changed whether this server is in use");
                board.set_draining(drain);
                if let Some(web) = &web {
                    web.set_draining(drain);
                }
            },
        );
        self.feeds.spawn(follow);
        Ok(())
    }

    /// From here on this server runs with the cluster's config.
    fn follow_config(&mut self, store: &ClusterStore, release: Option<Release>) {
        let Some(start) = self.config_start.take() else {
            return;
        };
        let reloader = Reloader::new(Parts {
            server: self.server.clone(),
            path: self.config_path.clone(),
            in_force: self.in_force.clone(),
            ca: self.secrets.ca.clone(),
            identity: self.identity.clone(),
            site_certificates: self.site_certificates.clone(),
            web: self.web.clone(),
            release,
            edge: self.board.edge.get().cloned(),
        });
        let sync = ConfigSync::new(store.store.clone(), reloader, self.state.clone(), start);
        let _ = self.board.config_sync.set(sync.clone());
        let _ = self.config_sync.set(sync.clone());
        self.feeds.spawn(sync.run());
        let (board, mut in_force) = (self.board.clone(), self.in_force.subscribe());
        self.feeds.spawn(async move {
            while in_force.changed().await.is_ok() {
                let config = in_force.borrow_and_update().config.clone();
                board.set_config(config);
            }
        });
    }

    /// PostgreSQL here, if this server has it, and the observer of all of them.
    fn start_databases(&mut self, store: &ClusterStore) -> Result<(), NodeError> {
        let Some(secrets) = &self.secrets.database else {
            return Ok(());
        };
        let now = SystemTime::now();
        let tls = lower::postgres::tls(&self.server, &self.secrets.ca, &self.identity, now)?;
        self.database_tls = Some(tls.clone());
        if let Some(mut options) = lower::postgres::options(&self.config, &self.server, secrets)? {
            options.tls = Some(tls.clone());
            let guard = database_guard::options(&options);
            let renewals = self.cluster.handle();
            let (store, telemetry) = (store.store.clone(), self.telemetry.clone());
            let postgres = Postgres::start(options, guard, store, &renewals, telemetry);
            let postgres = postgres.map_err(NodeError::service)?;
            let _ = self.board.postgres.set(postgres.status());
            let _ = self.board.situation.set(postgres.situation());
            let own = SocketAddr::new(self.server.loopback(), self.config.ports.postgres);
            let stats = Stats::start(own, &secrets.monitor);
            let _ = self.board.stats.set(stats.view());
            self.stats = Some(stats);
            let changes = feed::database_options(self.in_force.subscribe(), postgres.changes());
            self.feeds.spawn(changes);
            let epoch = self.primary_epoch.clone();
            self.feeds.spawn(feed::own_epoch(postgres.tenure(), epoch));
            self.postgres = Some(postgres);
        }
        let failovers = feed::count_failovers(store.store.view(), self.telemetry.clone());
        self.feeds.spawn(failovers);
        let options = lower::postgres::observer(&self.config, &secrets.monitor, tls);
        let observer = Observer::start(options, self.telemetry.clone());
        let _ = self.board.databases.set(observer.view());
        self.observer = Some(observer);
        Ok(())
    }

    /// The release and the web server on it. Files can be served from now on, apps cannot.
    async fn start_web(&mut self) -> Result<Option<(Release, Apps)>, NodeError> {
        if !self.server.has(Role::Web) {
            return Ok(None);
        }
        self.board
            .set_step(Some("copying the code base".to_owned()));
        let release = release::install(&self.config, &self.state).await?;
        let _ = self.board.release.set(release.id.to_string());
        let apps = lower::app::apps(&self.config, &release)?;
        let options = lower::web::options(&self.config, &release.dir)?;
        let web = Web::new(options, self.telemetry.clone()).map_err(NodeError::service)?;
        self.web = Some(web);
        self.board.set_step(Some("starting".to_owned()));
        Ok(Some((release, apps)))
    }

    fn start_peers(&mut self, store: &ClusterStore) -> Result<(), NodeError> {
        let (drain, drained) = drain_pair();
        let mut api = peer_router(self.board.clone());
        if let Some(cluster) = &store.embedded {
            let router = trilith_cluster::router(cluster.clone(), self.telemetry.clone());
            api = api.merge(router);
        }
        let known = feed::derived(&mut self.feeds, &self.in_force, |file| {
            let names = file.config.servers.iter().map(|server| server.name.clone());
            Arc::new(names.collect::<BTreeSet<_>>())
        });
        let services = PeerServices {
            web: self.web.clone(),
            postgres: lower::sql::own_postgres(&self.config, &self.server),
            primary_epoch: self.primary_epoch.subscribe(),
            api,
            door: Some(Door::new(self.tokens(store)).router()),
            known,
            runtime: self.cluster.handle(),
        };
        let service = PeerListener::start(
            SocketAddr::new(self.server.address, self.config.ports.cluster),
            &self.workers,
            &self.identity,
            services,
            &self.telemetry,
            drained,
        )?;
        self.peers = Some(Draining { service, drain });
        Ok(())
    }

    fn start_edge(&mut self) -> Result<(), NodeError> {
        if !self.server.has(Role::Edge) {
            return Ok(());
        }
        let options = lower::edge::options(
            &self.config,
            &self.server,
            &self.identity,
            &self.site_certificates,
        )?;
        if self.config.edge.access_log {
            let path = self.state.join("log").join("access.log");
            let file = AccessLogFile::open(AccessLogOptions::new(&path), &self.telemetry)
                .map_err(NodeError::file(&path))?;
            self.access_log = Some(file);
        }
        let telemetry = self.telemetry.clone();
        let edge = Edge::new(
            options,
            self.web.clone(),
            telemetry,
            self.access_log.clone(),
        )
        .map_err(NodeError::service)?;
        let (drain, drained) = drain_pair();
        let service = edge
            .serve(&self.workers, drained)
            .map_err(NodeError::service)?;
        let _ = self.board.edge.set(edge);
        self.edge = Some(Draining { service, drain });
        Ok(())
    }

    /// The sql entry of a web server, fed by the observer.
    fn start_sql(&mut self, store: &ClusterStore) -> Result<(), NodeError> {
        let (Some(observer), true) = (&self.observer, self.server.has(Role::Web)) else {
            return Ok(());
        };
        let targets = SharedTargets::new(Targets::default());
        let options = lower::sql::options(&self.config, &self.server, &self.identity)?;
        let (drain, drained) = drain_pair();
        let service = SqlProxy::new(options, targets.clone(), &self.telemetry)
            .serve(&self.workers, drained)
            .map_err(NodeError::service)?;
        self.sql = Some(Draining { service, drain });
        let _ = self.board.sql_targets.set(targets.clone());
        let me = self.server.name.clone();
        self.feeds.spawn(feed::sql_targets(
            store.store.view(),
            observer.view(),
            targets,
            me,
        ));
        Ok(())
    }

    fn keep_certificates_fresh(&mut self) {
        self.feeds.spawn(feed::certificates(
            self.in_force.subscribe(),
            self.server.clone(),
            self.secrets.ca.clone(),
            self.identity.clone(),
            self.site_certificates.clone(),
            self.database_tls.clone(),
        ));
    }

    /// The release command, then the instances.
    async fn start_apps(&mut self, release: Release, apps: Apps) -> Result<(), NodeError> {
        let env = self.database_env();
        if !env.is_empty() {
            self.board
                .set_step(Some("waiting for the database".to_owned()));
            self.board.database_ready().await;
        }
        if let Some((command, user)) = apps.release_command {
            let command = release::Command {
                config: self.config.clone(),
                server: self.server.clone(),
                release: release.clone(),
                command,
                user,
                telemetry: self.telemetry.clone(),
                env: env.clone(),
            };
            command.run_until_done(&self.board).await;
        }
        self.wait_for_replica().await;
        self.board.set_step(Some("starting the apps".to_owned()));
        let options = lower::app::options(&self.config, &self.server, release, apps.apps, env);
        let supervisor = Supervisor::start(options, self.telemetry.clone()).await;
        let supervisor = supervisor.map_err(NodeError::service)?;
        let _ = self.board.instances.set(supervisor.status());
        if let Some(web) = &self.web {
            self.feeds
                .spawn(feed::instances(supervisor.status(), web.clone()));
        }
        self.supervisor = Some(supervisor);
        Ok(())
    }

    /// Apps keep their connections: one made before any replica is up would read from the primary
    /// for as long as it lives. So a start of the whole cluster gives the replicas a moment.
    async fn wait_for_replica(&self) {
        let Some(targets) = self.board.sql_targets.get() else {
            return;
        };
        if self.config.with_role(Role::Db).count() < 2 {
            return;
        }
        self.board
            .set_step(Some("waiting for a database replica".to_owned()));
        let usable = async {
            while targets.load().replicas.is_empty() {
                sleep(DATABASE_POLL_INTERVAL).await;
            }
        };
        if timeout(REPLICA_PATIENCE, usable).await.is_err() {
            tracing::info!("no database replica is usable yet: apps start on the primary alone");
        }
    }

    fn database_env(&self) -> BTreeMap<String, String> {
        let password = self.secrets.database.as_ref().map(|secrets| &secrets.app);
        lower::app::database_env(&self.config, &self.server, password)
    }

    /// Stops everything that runs: first what brings work in, last what the work needs. `hurry`,
    /// once it drains, cuts short whatever waits for somebody else.
    pub async fn stop(mut self, hurry: Drain) {
        self.board.set_draining(true);
        if let Some(edge) = &self.edge {
            edge.service.leave();
        }
        // The addresses first: another edge answers for them before this one stops.
        if let Some(floating) = self.floating.take() {
            unless(&hurry, floating.stop()).await;
        }
        // New connections go to other edges; requests under way are finished.
        if let Some(edge) = self.edge.take() {
            edge.drain.start();
            let finished = edge.service.finish();
            if let Some(drained) = unless(&hurry, finished).await
                && drained.left > 0
            {
                tracing::info!(
                    connections = drained.left,
                    "closing connections that did not end by themselves"
                );
            }
        }
        // From here on edges on other servers are told to try another one.
        if let Some(web) = &self.web {
            web.set_draining(true);
        }
        if let Some(peers) = &mut self.peers {
            peers.drain.start();
            unless(&hurry, peers.service.drained(PEER_DRAIN_TIMEOUT)).await;
        }
        if let Some(supervisor) = self.supervisor.take() {
            // Nobody asks the instances for anything any more.
            unless(&hurry, supervisor.stop(async {})).await;
        }
        if let Some(sql) = self.sql.take() {
            sql.drain.start();
            let finished = timeout(LAST_DRAIN_TIMEOUT, sql.service.finished());
            unless(&hurry, finished).await;
        }
        if let Some(postgres) = self.postgres.take() {
            // It has its own patience; leaving it half-way would leave it running. It hands the primary's
            // lease over, so the store still has to hear the others.
            postgres.shutdown().await;
        }
        if let Some(peers) = self.peers.take() {
            peers.service.stop();
        }
        self.feeds.shutdown().await;
        drop(self.observer.take());
        if let Some(socket) = self.admin_socket.take() {
            socket.stop().await;
        }
        if let Some(store) = self.store.take() {
            unless(&hurry, timeout(LAST_DRAIN_TIMEOUT, store.shutdown())).await;
        }
        drop(self.cluster);
        if let Some(admin) = self.admin.take() {
            drop(admin.stop);
            let mut task = admin.task;
            if timeout(LAST_DRAIN_TIMEOUT, &mut task).await.is_err() {
                task.abort();
            }
        }
        self.workers.stop().await;
        if let Some(log) = self.access_log.take() {
            // Blocks for as long as the disk does.
            let _ = tokio::task::spawn_blocking(move || log.close()).await;
        }
    }
}

/// Waits for `work`, but no longer than until `hurry`.
async fn unless<T>(hurry: &Drain, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        () = hurry.wait() => None,
    }
}

fn worker_count(config: &Config) -> usize {
    match config.cluster.workers {
        ConfigWorkers::Auto => available_parallelism().map_or(1, std::num::NonZeroUsize::get),
        ConfigWorkers::Count(count) => count.get(),
    }
}
