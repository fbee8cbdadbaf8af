//! Sessions of other servers' sql entries, on their way to the PostgreSQL of this one.

use std::future::pending;
use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use trilith_sqlproxy::{reset_on_close, tune_upstream};

use crate::limits::POSTGRES_CONNECT_TIMEOUT;

/// Forwards until one side closes, or this server's time as the primary is over: whether a session may
/// write cannot be told, so all of them end then. Those of replicas stay when this server becomes the
/// primary.
pub(super) async fn forward(
    mut stream: TlsStream<TcpStream>,
    address: SocketAddr,
    epoch: watch::Receiver<Option<u64>>,
) {
    // Before it connects: from then on there is a session that could outlast the epoch.
    let deposed = deposed(epoch);
    let Ok(()) = tune_upstream(stream.get_ref().0) else {
        return;
    };
    let connecting = timeout(POSTGRES_CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    let Ok(Ok(mut postgres)) = connecting else {
        // Closing says so: the sql entry tries again, or another server.
        return;
    };
    let Ok(()) = tune_upstream(&postgres) else {
        return;
    };
    tokio::select! {
        // First: a session that is never idle must not escape.
        biased;
        () = deposed => {
            // Nothing that is still under way is to arrive: no statement at a deposed primary, no
            // answer of one at the client.
            reset_on_close(&postgres);
            reset_on_close(stream.get_ref().0);
        }
        copied = copy_bidirectional(&mut stream, &mut postgres) => if copied.is_err() {
            // One side broke the connection. What PostgreSQL said last may still be on its way to the
            // client; to PostgreSQL there is nothing more to say.
            reset_on_close(&postgres);
        }
    }
}

/// Returns when this server, once it has been the primary under an epoch, is not that any more.
fn deposed(mut epoch: watch::Receiver<Option<u64>>) -> impl Future<Output = ()> {
    let mut bound = *epoch.borrow_and_update();
    async move {
        while epoch.changed().await.is_ok() {
            let now = *epoch.borrow_and_update();
            if bound.is_some() && now != bound {
                return;
            }
            bound = now;
        }
        // It does not change any more.
        pending().await
    }
}

#[cfg(test)]
mod tests;
