//! Accepting connections: bounded, patient when the machine is out of descriptors, and polite at the end.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::Drain;

/// Pause after an accept that failed for want of descriptors or memory: at once again would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How many connections may be open at once, over all workers, and from one address.
#[derive(Clone)]
pub struct ConnectionLimit {
    shared: Arc<Shared>,
}

struct Shared {
    open_max: usize,
    per_ip_max: usize,
    open: AtomicUsize,
    per_ip: Mutex<HashMap<IpAddr, usize>>,
}

/// One open connection's place under a [`ConnectionLimit`]; given back on drop.
pub struct ConnectionPermit {
    shared: Arc<Shared>,
    ip: Option<IpAddr>,
}

impl ConnectionLimit {
    /// At most `open_max` connections in all, and `per_ip_max` from one IP address (0: no limit per
    /// address, which also spares its book-keeping).
    pub fn new(open_max: usize, per_ip_max: usize) -> Self {
        let shared = Shared {
            open_max,
            per_ip_max,
            open: AtomicUsize::new(0),
            per_ip: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// A place for a connection from `ip`, or `None` when there is none.
    pub fn acquire(&self, ip: IpAddr) -> Option<ConnectionPermit> {
        let shared = &self.shared;
        if shared.open.fetch_add(1, Ordering::Relaxed) >= shared.open_max {
            shared.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        // From here on the permit gives the place back whatever happens.
        let mut permit = ConnectionPermit {
            shared: shared.clone(),
            ip: None,
        };
        if shared.per_ip_max > 0 {
            let mut per_ip = shared.per_ip.lock().unwrap_or_else(PoisonError::into_inner);
            let count = per_ip.entry(ip).or_insert(0);
            if *count >= shared.per_ip_max {
                drop(per_ip);
                return None;
            }
            *count += 1;
            permit.ip = Some(ip);
        }
        Some(permit)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(ip) = self.ip {
            let mut per_ip = self
                .shared
                .per_ip
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = per_ip.get_mut(&ip) {
                *count -= 1;
                if *count == 0 {
                    per_ip.remove(&ip);
                }
            }
        }
    }
}

/// Accepts until the drain starts; each connection goes to `on_accept` with its permit.
///
/// - `TCP_NODELAY` is set on each.
/// - A connection over the limit is closed at once (the client sees a reset or an end of file).
/// - When the drain starts, what already waits in the accept queue is still served, then the socket
///   closes: a client whose handshake was complete must not be refused (an nginx reload does this).
pub async fn accept_loop(
    listener: TcpListener,
    drain: Drain,
    limit: ConnectionLimit,
    mut on_accept: impl FnMut(TcpStream, SocketAddr, ConnectionPermit),
) {
    let mut admit = |accepted: io::Result<(TcpStream, SocketAddr)>| match accepted {
        Ok((stream, peer)) => {
            if let Some(permit) = limit.acquire(peer.ip()) {
                // Fails only on a socket that is dead already; the first read will say so.
                let _ = stream.set_nodelay(true);
                on_accept(stream, peer, permit);
            }
            true
        }
        Err(error) => is_of_one_connection(&error),
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.wait() => break,
        };
        if let Err(error) = &accepted
            && !is_of_one_connection(error)
        {
            tracing::warn!(%error, "accepting connections failed; trying again");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        admit(accepted);
    }
    let Ok(listener) = listener.into_std() else {
        return;
    };
    while let Ok((stream, peer)) = listener.accept() {
        let stream = stream
            .set_nonblocking(true)
            .and_then(|()| TcpStream::from_std(stream));
        if !admit(stream.map(|stream| (stream, peer))) {
            break;
        }
    }
}

/// Errors that tell of the connection being accepted, not of the listener (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{drain_pair, listen_each};
    use std::cell::RefCell;
    use std::rc::Rc;
    use tokio::io::AsyncReadExt;

    #[test]
    fn limits_in_all_and_per_address() {
        let limit = ConnectionLimit::new(3, 2);
        let a = IpAddr::from([10, 0, 0, 1]);
        let b = IpAddr::from([10, 0, 0, 2]);
        let first = limit.acquire(a).unwrap();
        let _second = limit.acquire(a).unwrap();
        assert!(limit.acquire(a).is_none(), "third of one address");
        let _third = limit.acquire(b).unwrap();
        assert!(limit.acquire(b).is_none(), "fourth in all");
        drop(first);
        assert_eq!(limit.open(), 2);
        assert!(limit.acquire(a).is_some());
    }

    #[tokio::test]
    async fn serves_the_accept_queue_before_closing() {
        let listener = listen_each(([127, 0, 0, 1], 0).into(), 1, 16)
            .unwrap()
            .remove(0);
        let address = listener.local_addr().unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let waiting = TcpStream::connect(address).await.unwrap();
        let (trigger, drain) = drain_pair();
        trigger.start();
        let accepted = Rc::new(RefCell::new(Vec::new()));
        let sink = accepted.clone();
        accept_loop(
            listener,
            drain,
            ConnectionLimit::new(10, 0),
            move |stream, _, permit| {
                sink.borrow_mut().push((stream, permit));
            },
        )
        .await;
        assert_eq!(accepted.borrow().len(), 1);
        assert!(
            TcpStream::connect(address).await.is_err(),
            "the socket is closed"
        );
        drop(waiting);
    }

    #[tokio::test]
    async fn closes_what_is_over_the_limit() {
        let listener = listen_each(([127, 0, 0, 1], 0).into(), 1, 16)
            .unwrap()
            .remove(0);
        let address = listener.local_addr().unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let (_trigger, drain) = drain_pair();
        let mut kept = Vec::new();
        let serve = accept_loop(
            listener,
            drain,
            ConnectionLimit::new(1, 0),
            |stream, _, permit| {
                kept.push((stream, permit));
            },
        );
        let client = async {
            let _first = TcpStream::connect(address).await.unwrap();
            let mut second = TcpStream::connect(address).await.unwrap();
            assert_eq!(second.read(&mut [0; 1]).await.unwrap_or(0), 0);
        };
        tokio::select! { () = serve => panic!("the loop ended"), () = client => {} }
    }
}
