//! Listeners on addresses that come and go while the edge runs.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use trilith_net::{Drain, DrainTrigger, Whose, drain_pair, listen_each_of, stop_listening};

use crate::error::Error;
use crate::limits::{ACCEPT_BACKLOG, FLOATING_CLOSE_TIMEOUT};
use crate::options::Listener;

/// Opens and closes the edge's ports on floating addresses.
pub struct Floating {
    /// The edge's ports, with whether they speak TLS.
    ports: Vec<(u16, bool)>,
    /// To each worker; none once the edge drains.
    workers: Mutex<Vec<mpsc::UnboundedSender<ToWorker>>>,
    open: Mutex<BTreeMap<IpAddr, Open>>,
}

/// What a worker is told besides connections.
pub(crate) enum ToWorker {
    Listen(NewListener),
    /// Answered as soon as the worker gets to it.
    Ping(mpsc::Sender<()>),
}

/// A listener for a worker to accept on until `drain`.
pub(crate) struct NewListener {
    pub socket: TcpListener,
    pub tls: bool,
    pub drain: Drain,
    /// Held while the socket is open.
    pub guard: mpsc::Sender<()>,
}

struct Open {
    drain: DrainTrigger,
    /// Second handles, to end them whatever the workers are doing.
    sockets: Vec<TcpListener>,
    /// Ends when every worker has closed its sockets.
    closed: mpsc::Receiver<()>,
}

impl Floating {
    pub(crate) fn new(
        listeners: &[Listener],
        workers: Vec<mpsc::UnboundedSender<ToWorker>>,
    ) -> Self {
        let mut ports: Vec<(u16, bool)> = listeners
            .iter()
            .map(|listener| (listener.address.port(), listener.tls))
            .collect();
        ports.sort_unstable();
        ports.dedup();
        Self {
            ports,
            workers: Mutex::new(workers),
            open: Mutex::default(),
        }
    }

    /// Listens on the edge's ports of `ip`, which may be an address that this machine does not have.
    /// Nothing happens when it is open already.
    ///
    /// # Errors
    /// [`Error::Listen`] names the address that is taken, [`Error::Drains`]; then none is open.
    pub fn open(&self, ip: IpAddr) -> Result<(), Error> {
        let workers = lock(&self.workers);
        let mut open = lock(&self.open);
        if workers.is_empty() {
            return Err(Error::Drains);
        }
        if open.contains_key(&ip) {
            return Ok(());
        }
        let mut bound = Vec::new();
        let mut handles = Vec::new();
        for &(port, tls) in &self.ports {
            let address = SocketAddr::new(ip, port);
            let error = |source| Error::Listen { address, source };
            let sockets = listen_each_of(address, workers.len(), ACCEPT_BACKLOG, Whose::Anybodys)
                .map_err(error)?;
            for socket in &sockets {
                handles.push(socket.try_clone().map_err(error)?);
            }
            bound.push((sockets, tls));
        }
        let (drain, drained) = drain_pair();
        let (guard, closed) = mpsc::channel(1);
        for (sockets, tls) in bound {
            for (worker, socket) in workers.iter().zip(sockets) {
                // A send fails only when the worker has ended; its socket then closes here.
                let _ = worker.send(ToWorker::Listen(NewListener {
                    socket,
                    tls,
                    drain: drained.clone(),
                    guard: guard.clone(),
                }));
            }
        }
        let opened = Open {
            drain,
            sockets: handles,
            closed,
        };
        open.insert(ip, opened);
        Ok(())
    }

    /// Takes no new connection on `ip` from now on; those that exist go on. When it returns the ports
    /// are free.
    pub async fn close(&self, ip: IpAddr) {
        let taken = lock(&self.open).remove(&ip);
        let Some(mut taken) = taken else {
            return;
        };
        // What waits in the accept queues is still taken, if the workers are quick.
        taken.drain.start();
        if timeout(FLOATING_CLOSE_TIMEOUT, taken.closed.recv())
            .await
            .is_err()
        {
            for socket in &taken.sockets {
                // Fails only on a socket that is closed already.
                let _ = stop_listening(socket);
            }
        }
    }

    /// The addresses that are open.
    pub fn addresses(&self) -> Vec<IpAddr> {
        lock(&self.open).keys().copied().collect()
    }

    /// Whether every worker gets to its work within `patience`, and the edge is not draining.
    pub async fn workers_answer(&self, patience: Duration) -> bool {
        let (pong, mut pongs) = mpsc::channel(1);
        let asked = {
            let workers = lock(&self.workers);
            let ping = |worker: &mpsc::UnboundedSender<_>| {
                worker.send(ToWorker::Ping(pong.clone())).is_ok()
            };
            !workers.is_empty() && workers.iter().all(ping)
        };
        drop(pong);
        // Ends when the last worker has dropped its end.
        asked && timeout(patience, pongs.recv()).await.is_ok()
    }

    /// Closes everything, and opens nothing any more.
    pub(crate) async fn close_for_good(&self) {
        lock(&self.workers).clear();
        for ip in self.addresses() {
            self.close(ip).await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
