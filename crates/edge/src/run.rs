//! The edge of a process: its snapshot, its listeners, its end.

use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rand::random;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ProtocolVersion;
use trilith_http::{ConnInfo, TlsInfo, serve_connection};
use trilith_net::{
    ConnectionLimit, Drain, DrainTrigger, Workers, accept_loop, drain_pair, listen_each,
};
use trilith_telemetry::{AccessLogFile, Telemetry};
use trilith_web::Web;

use crate::error::Error;
use crate::floating::{Floating, ToWorker};
use crate::health;
use crate::limits::{ACCEPT_BACKLOG, REAP_INTERVAL};
use crate::options::{Listener, Options};
use crate::snapshot::Snapshot;
use crate::status::{PoolStatus, status};
use crate::worker::{Ejected, Shared, Worker};

/// The load balancer of a process.
pub struct Edge {
    shared: Arc<Shared>,
    telemetry: Telemetry,
    access_log: Option<AccessLogFile>,
    replaced: watch::Sender<()>,
    /// Until [`Edge::serve`] hands it to the control thread.
    ejections: Mutex<Option<UnboundedReceiver<Ejected>>>,
}

/// What [`Edge::replace`] could not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Replaced {
    /// Listeners or connection limits differ; they are as they were until the next start.
    pub needs_restart: bool,
}

impl Edge {
    /// `web` is the web server of this process, if it has the role: it is called without a socket
    /// between. Without `access_log` none is written.
    ///
    /// # Errors
    /// Whatever in `options` does not fit together.
    pub fn new(
        options: Options,
        web: Option<Arc<Web>>,
        telemetry: Telemetry,
        access_log: Option<AccessLogFile>,
    ) -> Result<Arc<Self>, Error> {
        check_listeners(&options)?;
        let snapshot = Snapshot::build(options, web.is_some(), None)?;
        let (ejections, queue) = mpsc::unbounded_channel();
        let shared = Shared {
            snapshot: ArcSwap::from_pointee(snapshot),
            generation: AtomicU64::new(0),
            web,
            epoch: Instant::now(),
            ejections,
        };
        Ok(Arc::new(Self {
            shared: Arc::new(shared),
            telemetry,
            access_log,
            replaced: watch::Sender::new(()),
            ejections: Mutex::new(Some(queue)),
        }))
    }

    /// Binds the listeners and starts to serve on all workers, and to check servers on a thread of
    /// its own. To be called once.
    ///
    /// # Errors
    /// [`Error::Listen`] names the address; then nothing is served.
    pub fn serve(&self, workers: &Workers, drain: Drain) -> Result<Running, Error> {
        let options = self.shared.snapshot.load().options.clone();
        let mut addresses = Vec::new();
        let mut by_worker: Vec<Vec<(TcpListener, bool)>> = Vec::new();
        by_worker.resize_with(workers.count(), Vec::new);
        for listener in &options.listeners {
            let error = |source| Error::Listen {
                address: listener.address,
                source,
            };
            let sockets = listen_each(listener.address, workers.count(), ACCEPT_BACKLOG);
            let sockets = sockets.map_err(error)?;
            let address = sockets[0].local_addr().map_err(error)?;
            addresses.push(Listener {
                address,
                tls: listener.tls,
            });
            for (sockets_of_worker, socket) in by_worker.iter_mut().zip(sockets) {
                sockets_of_worker.push((socket, listener.tls));
            }
        }
        let (leaving, left) = drain_pair();
        let control = self.start_control(&left)?;
        let (open, closed) = mpsc::channel(1);
        let limits = Limits {
            all: ConnectionLimit::new(options.client.connections_max, 0),
            per_ip: ConnectionLimit::new(usize::MAX, options.client.connections_per_ip_max),
        };
        let mut to_workers = Vec::new();
        for (index, listeners) in by_worker.into_iter().enumerate() {
            let (to_worker, orders) = mpsc::unbounded_channel();
            to_workers.push(to_worker);
            let start = WorkerStart {
                shared: self.shared.clone(),
                telemetry: self.telemetry.clone(),
                access_log: self.access_log.clone(),
                listeners,
                orders,
                limits: limits.clone(),
                drain: drain.clone(),
                open: open.clone(),
                seed: random(),
            };
            workers.spawn_on(index, move || start.run());
        }
        for listener in &addresses {
            tracing::info!(address = %listener.address, tls = listener.tls, "edge is listening");
        }
        Ok(Running {
            leaving,
            floating: Arc::new(Floating::new(&addresses, to_workers)),
            listeners: addresses,
            drain,
            drain_timeout: options.drain_timeout,
            limit: limits.all,
            closed,
            control,
        })
    }

    fn start_control(&self, drain: &Drain) -> Result<Workers, Error> {
        let control =
            Workers::start(1, "edge-control").map_err(|source| Error::Thread { source })?;
        let queue = self
            .ejections
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .take();
        if let Some(queue) = queue {
            let shared = self.shared.clone();
            let telemetry = self.telemetry.clone();
            let replaced = self.replaced.subscribe();
            let drain = drain.clone();
            let seed = random();
            control.spawn_on(0, move || {
                health::run(shared, telemetry, drain, replaced, queue, seed)
            });
        }
        Ok(control)
    }

    /// Serves by other options from the next request on. No connection closes, and servers that
    /// were there before keep their health and their requests under way.
    ///
    /// # Errors
    /// Whatever in `options` does not fit together; then everything is as it was.
    pub fn replace(&self, options: Options) -> Result<Replaced, Error> {
        check_listeners(&options)?;
        let previous = self.shared.snapshot.load_full();
        let before = &previous.options;
        let needs_restart = before.listeners != options.listeners
            || before.client.connections_max != options.client.connections_max
            || before.client.connections_per_ip_max != options.client.connections_per_ip_max;
        let has_web = self.shared.web.is_some();
        let snapshot = Snapshot::build(options, has_web, Some(&previous))?;
        self.shared.snapshot.store(Arc::new(snapshot));
        // After the snapshot: whoever sees the number finds at least that snapshot.
        self.shared.generation.fetch_add(1, Ordering::Release);
        self.replaced.send_replace(());
        for pool in &previous.pools {
            pool.queue.tell_news();
        }
        Ok(Replaced { needs_restart })
    }

    /// Whether [`Edge::replace`] would do it.
    ///
    /// # Errors
    /// The same.
    pub fn check(&self, options: Options) -> Result<(), Error> {
        check_listeners(&options)?;
        let previous = self.shared.snapshot.load_full();
        Snapshot::build(options, self.shared.web.is_some(), Some(&previous))?;
        Ok(())
    }

    /// What it serves by now. To be made the next [`Edge::replace`] of: with the same TLS configurations
    /// sessions of clients are resumed, and connections to web servers stay in use.
    pub fn options(&self) -> Options {
        self.shared.snapshot.load().options.clone()
    }

    /// The pools and their servers as they are now.
    pub fn status(&self) -> Vec<PoolStatus> {
        status(&self.shared, Instant::now())
    }
}

fn check_listeners(options: &Options) -> Result<(), Error> {
    let tls = options.listeners.iter().find(|listener| listener.tls);
    match (tls, &options.tls) {
        (Some(listener), None) => Err(Error::NoCertificates {
            address: listener.address,
        }),
        _ => Ok(()),
    }
}

/// A serving edge.
pub struct Running {
    listeners: Vec<Listener>,
    floating: Arc<Floating>,
    leaving: DrainTrigger,
    drain: Drain,
    drain_timeout: Duration,
    limit: ConnectionLimit,
    /// Ends when the last connection has closed.
    closed: mpsc::Receiver<()>,
    control: Workers,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still open when the time was up.
    pub left: usize,
}

impl Running {
    /// Where it listens, with the ports that were given for port 0.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Opens and closes floating addresses.
    pub fn floating(&self) -> Arc<Floating> {
        self.floating.clone()
    }

    /// This server is about to stop: that others go as well is nothing to warn of from now on.
    pub fn leave(&self) {
        self.leaving.start();
    }

    /// Client connections open now.
    pub fn connections(&self) -> usize {
        self.limit.open()
    }

    /// Waits for the drain to start, then until the last connection has closed or the drain timeout
    /// has passed. What is left then ends with its worker.
    pub async fn finish(mut self) -> Drained {
        self.drain.wait().await;
        self.leave();
        self.floating.close_for_good().await;
        let all_closed = async { while self.closed.recv().await.is_some() {} };
        let left = match timeout(self.drain_timeout, all_closed).await {
            Ok(()) => 0,
            Err(_) => self.limit.open(),
        };
        self.control.stop().await;
        Drained { left }
    }
}

#[derive(Clone)]
struct Limits {
    all: ConnectionLimit,
    /// Apart, because trusted proxies have no such limit.
    per_ip: ConnectionLimit,
}

/// What goes to a worker's thread.
struct WorkerStart {
    shared: Arc<Shared>,
    telemetry: Telemetry,
    access_log: Option<AccessLogFile>,
    /// With whether they speak TLS.
    listeners: Vec<(TcpListener, bool)>,
    orders: UnboundedReceiver<ToWorker>,
    limits: Limits,
    drain: Drain,
    /// Held by everything that is to end before the drain has.
    open: mpsc::Sender<()>,
    seed: u64,
}

impl WorkerStart {
    async fn run(self) {
        let access = self.access_log.as_ref().map(AccessLogFile::handle);
        let worker = Worker::new(self.shared, self.telemetry.worker(), access, self.seed);
        let accepting = Accepting {
            worker: worker.clone(),
            limits: self.limits,
            drain: self.drain.clone(),
            open: self.open.clone(),
        };
        for (listener, tls) in self.listeners {
            spawn_local(accepting.clone().run(listener, tls, self.drain.clone()));
        }
        spawn_local(accepting.obey(self.orders));
        // Ends with the runtime.
        let open = self.open;
        let drain = self.drain;
        spawn_local(async move {
            drain.wait().await;
            drop(open);
        });
        loop {
            sleep(REAP_INTERVAL).await;
            worker.connections.reap();
            if let Some(web) = &worker.web {
                web.reap();
            }
        }
    }
}

#[derive(Clone)]
struct Accepting {
    worker: Rc<Worker>,
    limits: Limits,
    /// Ends the connections.
    drain: Drain,
    open: mpsc::Sender<()>,
}

impl Accepting {
    /// Accepts on the listeners of floating addresses as they come.
    async fn obey(self, mut orders: UnboundedReceiver<ToWorker>) {
        while let Some(order) = orders.recv().await {
            let new = match order {
                ToWorker::Listen(new) => new,
                ToWorker::Ping(pong) => {
                    drop(pong);
                    continue;
                }
            };
            let accepting = self.clone();
            spawn_local(async move {
                accepting.run(new.socket, new.tls, new.drain).await;
                drop(new.guard);
            });
        }
    }

    /// Accepts until `closing`.
    async fn run(self, listener: TcpListener, tls: bool, closing: Drain) {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "a listener cannot be used by its worker");
                return;
            }
        };
        let Self {
            worker,
            limits,
            drain,
            open,
        } = self;
        let Limits { all, per_ip } = limits;
        accept_loop(listener, closing, all, |stream, peer, permit| {
            let trusted = worker.shared.snapshot.load().is_trusted(peer.ip());
            let permit_of_ip = match trusted {
                true => None,
                false => match per_ip.acquire(peer.ip()) {
                    Some(permit) => Some(permit),
                    // Dropping the stream closes it.
                    None => return worker.view().counters.refused.inc(),
                },
            };
            let worker = worker.clone();
            let drain = drain.clone();
            let open = open.clone();
            spawn_local(async move {
                serve(&worker, stream, peer, tls, &drain).await;
                drop((permit, permit_of_ip, open));
            });
        })
        .await;
    }
}

async fn serve(worker: &Worker, stream: TcpStream, peer: SocketAddr, tls: bool, drain: &Drain) {
    // Fails only on a socket that is dead already.
    let Ok(local) = stream.local_addr() else {
        return;
    };
    let view = worker.view();
    let options = view.server_options.clone();
    let mut conn = ConnInfo {
        remote: peer,
        local,
        tls: None,
    };
    if !tls {
        drop(view);
        return serve_connection(stream, Rc::new(conn), worker, &options, drain).await;
    }
    let Some(config) = view.snapshot.options.tls.clone() else {
        return;
    };
    let handshake = TlsAcceptor::from(config).accept(stream);
    let longest = view.snapshot.options.client.handshake_timeout;
    let Ok(Ok(stream)) = timeout(longest, handshake).await else {
        view.counters.tls_failed.inc();
        return;
    };
    let session = stream.get_ref().1;
    conn.tls = Some(TlsInfo {
        server_name: session.server_name().map(str::to_owned),
        version: session.protocol_version().map(version_name),
    });
    drop(view);
    serve_connection(stream, Rc::new(conn), worker, &options, drain).await;
}

fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        _ => "TLS",
    }
}
