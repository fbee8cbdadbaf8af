//! Loops that pass on what one service knows to the one that needs it. Each ends with its source.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use trilith_app::InstanceStatus;
use trilith_base::ServerName;
use trilith_config::Server;
use trilith_consensus::View;
use trilith_ha::StoreView;
use trilith_postgres::{Changes, ClusterView, Tls};
use trilith_sqlproxy::SharedTargets;
use trilith_telemetry::Telemetry;
use trilith_tls::{Ca, LEAF_REISSUE_INTERVAL, PeerIdentity, SiteCertificates};
use trilith_web::{InstanceAddr, Web};

use crate::lower;
use crate::tokens::InForce;

/// A value that follows from another one, kept up to date for as long as that changes.
pub(crate) fn derived<S, T>(
    feeds: &mut JoinSet<()>,
    source: &watch::Sender<S>,
    derive: impl Fn(&S) -> T + Send + 'static,
) -> watch::Receiver<T>
where
    S: Send + Sync + 'static,
    T: PartialEq + Send + Sync + 'static,
{
    let mut source = source.subscribe();
    let derived = watch::Sender::new(derive(&source.borrow_and_update()));
    let receiver = derived.subscribe();
    feeds.spawn(async move {
        while source.changed().await.is_ok() {
            let new = derive(&source.borrow_and_update());
            derived.send_if_modified(|old| {
                let changed = *old != new;
                *old = new;
                changed
            });
        }
    });
    receiver
}

/// Supervisor to web server: requests go to the instances that are live.
pub(crate) async fn instances(mut status: watch::Receiver<Vec<InstanceStatus>>, web: Arc<Web>) {
    let mut known: BTreeSet<String> = BTreeSet::new();
    loop {
        let by_app = live_by_app(&status.borrow_and_update());
        known.extend(by_app.keys().cloned());
        for app in &known {
            // An app without instances any more has to be told as well.
            web.set_instances(app, by_app.get(app).map_or(&[], Vec::as_slice));
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

fn live_by_app(status: &[InstanceStatus]) -> BTreeMap<String, Vec<InstanceAddr>> {
    let mut by_app: BTreeMap<String, Vec<InstanceAddr>> = BTreeMap::new();
    for instance in status {
        let live = by_app.entry(instance.id.app.to_string()).or_default();
        if let (true, Some(address)) = (instance.is_live(), instance.address) {
            live.push(InstanceAddr {
                id: instance.id.to_string(),
                address,
            });
        }
    }
    by_app
}

/// Store and observer to sql entry: sessions go to the holder of the lease, and to the replicas that
/// there are.
pub(crate) async fn sql_targets(
    mut store: watch::Receiver<Arc<View>>,
    mut view: watch::Receiver<ClusterView>,
    targets: SharedTargets,
    me: ServerName,
) {
    loop {
        let read = StoreView::read(&store.borrow_and_update());
        let new = lower::sql::targets(&read, &view.borrow_and_update(), &me);
        let old = targets.load();
        if old.primary != new.primary {
            let name = new.primary.as_ref().map_or("none", |t| t.name.as_str());
            tracing::info!(primary = name, "the sql entry writes to");
        }
        drop(old);
        targets.store(new);
        let changed = tokio::select! {
            changed = store.changed() => changed,
            changed = view.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Config to PostgreSQL: what it takes over while it runs.
pub(crate) async fn database_options(mut in_force: watch::Receiver<InForce>, postgres: Changes) {
    let mut known = in_force.borrow_and_update().config.database.clone();
    while in_force.changed().await.is_ok() {
        let database = in_force.borrow_and_update().config.database.clone();
        let Some(new) = database.filter(|new| known.as_ref() != Some(new)) else {
            continue;
        };
        let applied = postgres.apply(|options| lower::postgres::set_live(options, &new));
        if let Err(error) = applied {
            tracing::warn!(%error, "postgres goes on with its former settings");
        }
        known = Some(new);
    }
}

/// Counts how often another server has become the primary since this program started.
pub(crate) async fn count_failovers(mut store: watch::Receiver<Arc<View>>, telemetry: Telemetry) {
    let failovers = telemetry.counter(
        "database_failovers",
        "How often another server became the database's primary",
        Vec::new(),
    );
    let mut last = None;
    loop {
        let read = StoreView::read(&store.borrow_and_update());
        let primary = read.record.map(|(record, _)| record.primary);
        if last.is_some() && primary.is_some() && last != primary {
            failovers.inc();
        }
        last = primary.or(last);
        if store.changed().await.is_err() {
            return;
        }
    }
}

/// The agent's lease to the cluster port: under which epoch this server is the primary.
pub(crate) async fn own_epoch(
    mut tenure: watch::Receiver<Option<trilith_ha::Tenure>>,
    epoch: watch::Sender<Option<u64>>,
) {
    loop {
        let new = tenure.borrow_and_update().map(|tenure| tenure.epoch.0);
        epoch.send_if_modified(|old| {
            let changed = *old != new;
            *old = new;
            changed
        });
        if tenure.changed().await.is_err() {
            return;
        }
    }
}

/// Clock to TLS: certificates are issued anew every day, long before they end.
pub(crate) async fn certificates(
    in_force: watch::Receiver<InForce>,
    server: Server,
    ca: Arc<Ca>,
    identity: PeerIdentity,
    sites: SiteCertificates,
    database: Option<Tls>,
) {
    loop {
        sleep(LEAF_REISSUE_INTERVAL).await;
        let now = SystemTime::now();
        if let Err(error) = identity.renew(&ca, &server.name, server.address, now) {
            tracing::warn!(%error, "this server's certificate was not renewed; next try tomorrow");
        }
        if let Some(database) = &database {
            match lower::postgres::certificate(&server, &ca, now) {
                Ok(files) => database.replace(files),
                Err(error) => {
                    tracing::warn!(%error, "the certificate of postgres was not renewed; next try tomorrow");
                }
            }
        }
        let config = in_force.borrow().config.clone();
        match lower::tls::site_certificates(&config, &ca, now) {
            Ok(certificates) => sites.replace(&certificates),
            Err(error) => {
                tracing::warn!(%error, "certificates of sites were not renewed; next try tomorrow");
            }
        }
    }
}
