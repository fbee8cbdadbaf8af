//! Whether this server's own edge works: only then may it hold a floating address.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use trilith_edge::Floating;

use crate::limits::{EDGE_CHECK_FALL, EDGE_CHECK_INTERVAL, EDGE_CHECK_TIMEOUT};

/// Watches for as long as anybody reads the result. Two things must hold: a connection to the edge's own
/// address is accepted, and every worker gets to its work (the kernel accepts for a frozen one too).
pub(crate) async fn watch(edge: Arc<Floating>, own: SocketAddr, healthy: watch::Sender<bool>) {
    let mut failures = 0;
    while !healthy.is_closed() {
        if answers(&edge, own).await {
            failures = 0;
            healthy.send_if_modified(|was| !std::mem::replace(was, true));
        } else {
            failures += 1;
            let fell = failures >= EDGE_CHECK_FALL
                && healthy.send_if_modified(|was| std::mem::replace(was, false));
            if fell {
                tracing::warn!(address = %own, "this server's own edge does not answer");
            }
        }
        sleep(EDGE_CHECK_INTERVAL).await;
    }
}

async fn answers(edge: &Floating, own: SocketAddr) -> bool {
    let connected = timeout(EDGE_CHECK_TIMEOUT, TcpStream::connect(own)).await;
    matches!(connected, Ok(Ok(_))) && edge.workers_answer(EDGE_CHECK_TIMEOUT).await
}
