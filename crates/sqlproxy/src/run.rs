//! Listening on the two ports, on every worker.

use std::cell::Cell;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use trilith_net::{ConnectionLimit, Drain, Workers, accept_loop, drain_pair, listen_each};
use trilith_telemetry::Telemetry;

use crate::error::{Error, SessionError};
use crate::limits::{BACKLOG, REFUSALS_MAX};
use crate::options::Options;
use crate::session::{Context, refuse, run_session};
use crate::shared::{SharedTargets, WorkerTargets};
use crate::stats::{Counters, Stats};
use crate::targets::Kind;

/// The sql entry of one server.
#[derive(Clone)]
pub struct SqlProxy {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    targets: SharedTargets,
    counters: Counters,
    limit: ConnectionLimit,
}

impl SqlProxy {
    /// Whoever follows the database's lease and observes its servers stores new snapshots into `targets`.
    pub fn new(options: Options, targets: SharedTargets, telemetry: &Telemetry) -> Self {
        let limit = ConnectionLimit::new(options.connections_max.saturating_add(REFUSALS_MAX), 0);
        Self {
            shared: Arc::new(Shared {
                options,
                targets,
                counters: Counters::new(telemetry),
                limit,
            }),
        }
    }

    /// Listens on both ports and serves on all workers. When `drain` starts, the ports close; sessions
    /// may go on for the drain timeout.
    pub fn serve(&self, workers: &Workers, drain: Drain) -> Result<Serving, Error> {
        let options = &self.shared.options;
        let bind = |address, key| {
            listen_each(address, workers.count(), BACKLOG).map_err(|source| Error::Bind {
                address,
                key,
                source,
            })
        };
        let read_write = bind(options.primary_listen, "sql")?;
        let read_only = bind(options.replica_listen, "sql_replica")?;
        let address_of = |listeners: &[StdTcpListener], configured| {
            listeners
                .first()
                .and_then(|listener| listener.local_addr().ok())
                .unwrap_or(configured)
        };
        let primary_address = address_of(&read_write, options.primary_listen);
        let replica_address = address_of(&read_only, options.replica_listen);

        let pairs: Vec<_> = read_write.into_iter().zip(read_only).map(Some).collect();
        let pairs = Arc::new(Mutex::new(pairs));
        let (running, ended) = mpsc::channel(1);
        let shared = self.shared.clone();
        workers.spawn_each(move |index| {
            // Each worker takes its own pair, once, at its start.
            let mut pairs = pairs.lock().unwrap_or_else(PoisonError::into_inner);
            let pair = pairs.get_mut(index).and_then(Option::take);
            drop(pairs);
            let (shared, drain, running) = (shared.clone(), drain.clone(), running.clone());
            async move {
                if let Some((read_write, read_only)) = pair {
                    serve_worker(shared, read_write, read_only, drain).await;
                }
                drop(running);
            }
        });
        Ok(Serving {
            primary_address,
            replica_address,
            ended,
        })
    }

    /// The counts so far.
    pub fn stats(&self) -> Stats {
        self.shared.counters.snapshot()
    }
}

/// A sql entry that listens.
pub struct Serving {
    primary_address: SocketAddr,
    replica_address: SocketAddr,
    /// Closed when the last worker's last session is.
    ended: mpsc::Receiver<()>,
}

impl Serving {
    /// Where read/write clients connect (with the real port, if 0 was asked for).
    pub fn primary_address(&self) -> SocketAddr {
        self.primary_address
    }

    /// Where read-only clients connect.
    pub fn replica_address(&self) -> SocketAddr {
        self.replica_address
    }

    /// Returns once the drain has been started and all sessions have ended, or have been closed after
    /// the drain timeout.
    pub async fn finished(mut self) {
        // Nothing is ever sent: it returns when all senders are gone.
        let _ = self.ended.recv().await;
    }
}

/// Both ports on one worker, until the drain is over.
async fn serve_worker(
    shared: Arc<Shared>,
    read_write: StdTcpListener,
    read_only: StdTcpListener,
    drain: Drain,
) {
    let targets = Rc::new(WorkerTargets::new(shared.targets.clone()));
    tokio::select! {
        () = targets.relay() => {}
        () = serve_ports(shared, targets.clone(), read_write, read_only, drain) => {}
    }
}

async fn serve_ports(
    shared: Arc<Shared>,
    targets: Rc<WorkerTargets>,
    read_write: StdTcpListener,
    read_only: StdTcpListener,
    drain: Drain,
) {
    let (close, closing) = drain_pair();
    let (running, mut ended) = mpsc::channel::<()>(1);
    let turn = Rc::new(Cell::new(0_usize));
    let serve = |listener: StdTcpListener, kind| {
        let (shared, drain, closing) = (shared.clone(), drain.clone(), closing.clone());
        let (running, turn, targets) = (running.clone(), turn.clone(), targets.clone());
        async move {
            let listener = match TcpListener::from_std(listener) {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::error!(%error, "the sql entry cannot use its listening socket");
                    return;
                }
            };
            let limit = shared.limit.clone();
            accept_loop(listener, drain, limit, |client, _, permit| {
                let (shared, closing) = (shared.clone(), closing.clone());
                let targets = targets.clone();
                let (running, turn) = (running.clone(), turn.replace(turn.get().wrapping_add(1)));
                tokio::task::spawn_local(async move {
                    let _kept = (permit, running);
                    let Shared {
                        options, counters, ..
                    } = &*shared;
                    if shared.limit.open() > options.connections_max {
                        counters.refused.inc();
                        return refuse(client, options.connections_max).await;
                    }
                    let context = Context {
                        targets: &targets,
                        options,
                        counters,
                        turn,
                    };
                    tokio::select! {
                        ended = run_session(client, kind, context) => {
                            if let Err(SessionError::Malformed) = ended {
                                counters.malformed.inc();
                            }
                        }
                        () = closing.wait() => {}
                    }
                });
            })
            .await;
        }
    };
    let ports = (
        serve(read_write, Kind::ReadWrite),
        serve(read_only, Kind::ReadOnly),
    );
    tokio::join!(ports.0, ports.1);
    drop(running);
    let _ = timeout(shared.options.drain_timeout, ended.recv()).await;
    close.start();
    let _ = ended.recv().await;
}
