//! One server's part of the store, from start to shutdown.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, Semaphore, watch};
use trilith_base::ServerName;

use crate::disk::{Applied, Disk, LogStore, StateMachine};
use crate::environment::Environment;
use crate::error::Error;
use crate::event;
use crate::health::{ClusterHealth, Stage};
use crate::inner::Inner;
use crate::leases::{self, Rounds};
use crate::limits::REQUESTS_MAX;
use crate::machine::Machine;
use crate::members;
use crate::msg;
use crate::options::Options;
use crate::raft::{self, Network, Pulse, Raft};
use crate::status::{self, DiskTimes};
use crate::transport::Transport;
use crate::whereabouts::Whereabouts;

/// One server's part of the cluster store. Everybody else uses it as a
/// [`Store`](trilith_consensus::Store).
pub struct Cluster<E: Environment = Machine> {
    pub(crate) inner: Arc<Inner<E>>,
}

impl<E: Environment> Cluster<E> {
    /// Opens the file, or makes one, and takes part from then on: founds the cluster, rejoins it,
    /// or asks to be admitted, whatever is due. Returns before any of that has come to an end.
    ///
    /// # Errors When the file cannot be opened. Damage is no error: the file is set aside.
    pub async fn start(
        options: Options,
        transport: Arc<dyn Transport>,
    ) -> Result<Arc<Self>, Error> {
        let place = options.disk.clone();
        let views = watch::Sender::default();
        let applied = watch::Sender::new(Applied::default());
        let publish = (applied.clone(), views.clone());
        let (disk, set_aside, machine) = E::blocking(move || {
            let opened = Disk::open(&place, || E::random().max(1))?;
            let disk = Arc::new(opened.disk);
            let machine = StateMachine::<E>::load(disk.clone(), publish.0, publish.1);
            let machine = machine.map_err(|error| Error::Start {
                reason: error.to_string(),
            })?;
            Ok((disk, opened.set_aside, machine))
        })
        .await?;
        if let Some((to, problem)) = &set_aside {
            (options.telemetry).emit(&event::FileSetAside { to, problem });
        }

        let cluster: Arc<str> = options.cluster.as_str().into();
        let transport = Arc::new(Whereabouts::new(transport, options.servers.clone()));
        let pulse = Arc::new(Pulse::default());
        let network = Network {
            cluster: cluster.clone(),
            me: disk.id(),
            transport: transport.clone(),
            pulse: pulse.clone(),
            backoff: options.timing.heartbeat,
            environment: PhantomData::<E>,
        };
        let times = Arc::new(DiskTimes::new(&options.telemetry));
        let log = LogStore::new(disk.clone(), times);
        let config = raft::config(&cluster, &options.timing)?;
        let raft =
            (Raft::<E>::new(disk.id(), config, network, log, machine).await).map_err(|error| {
                Error::Start {
                    reason: error.to_string(),
                }
            })?;

        let health = ClusterHealth {
            id: disk.id(),
            stage: Stage::Fresh,
            leader: None,
            term: 0,
            has_quorum: false,
            applied: trilith_consensus::Revision(0),
            log_end: 0,
            set_aside: set_aside.map(|(to, _)| to),
            waiting_for: None,
        };
        let inner = Arc::new(Inner {
            me: options.me,
            address: options.address,
            cluster,
            servers: options.servers,
            timing: options.timing,
            telemetry: options.telemetry,
            on_fatal: options.on_fatal,
            transport,
            raft,
            disk,
            applied,
            views,
            membership: watch::Sender::default(),
            health: watch::Sender::new(health),
            table: Mutex::default(),
            rounds: Rounds::default(),
            pulse,
            heard: Mutex::default(),
            waiting: Mutex::default(),
            look: Notify::new(),
            stop: watch::Sender::new(false),
            failed: AtomicBool::new(false),
            requests: Semaphore::new(REQUESTS_MAX),
            complaints: Default::default(),
        });
        spawn(&inner, status::publish(inner.clone()));
        spawn(&inner, leases::keep(inner.clone()));
        spawn(&inner, Rounds::run(inner.clone()));
        spawn(&inner, members::take_part(inner.clone()));
        spawn(&inner, members::reconcile(inner.clone()));
        Ok(Arc::new(Self { inner }))
    }

    /// Answers another server. `from` is the name in the certificate it showed. Bounded in time.
    pub async fn handle(&self, from: &ServerName, request: msg::Request) -> msg::Reply {
        self.inner.answer(from, request).await
    }

    /// How this server's part is.
    pub fn status(&self) -> watch::Receiver<ClusterHealth> {
        self.inner.health.subscribe()
    }

    /// Stops taking part, and closes the file. Calls under way end with
    /// [`Stopped`](trilith_consensus::StoreError::Stopped).
    pub async fn shutdown(&self) {
        self.inner.stop.send_replace(true);
        // It reports nothing but that its task panicked, which the watch on it reports too.
        let _ = self.inner.raft.shutdown().await;
        let disk = self.inner.disk.clone();
        E::blocking(move || disk.close()).await;
        (self.inner.health).send_modify(|health| health.stage = Stage::Stopped);
    }
}

impl<E: Environment> Drop for Cluster<E> {
    fn drop(&mut self) {
        self.inner.stop.send_replace(true);
    }
}

/// Runs a task until it ends or the store stops.
fn spawn<E: Environment>(inner: &Arc<Inner<E>>, task: impl Future<Output = ()> + Send + 'static) {
    let mut stop = inner.stop.subscribe();
    // Dropping the handle lets it run.
    drop(E::spawn(async move {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => {}
            () = task => {}
        }
    }));
}
