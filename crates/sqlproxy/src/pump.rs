//! Forwarding bytes both ways.

use std::cell::RefCell;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::timeout;

use crate::limits::{LAST_WORDS_TIMEOUT, LINGER_TIMEOUT, READ_BYTES};
use crate::stats::TargetCounters;

thread_local! {
    /// All sessions of a worker read into this one: it is filled and emptied without a pause in
    /// between. An idle session then has no buffer at all.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// Forwards until both sides have finished, or one fails. An end of file on one side is passed on to
/// the other, whose bytes still flow back.
pub(crate) async fn pump(
    client: &mut TcpStream,
    upstream: &mut TcpStream,
    counters: &TargetCounters,
) -> io::Result<()> {
    let (client_read, client_write) = client.split();
    let (upstream_read, upstream_write) = upstream.split();
    let mut up = pin!(one_way(client_read, upstream_write, &counters.bytes_sent));
    let mut down = pin!(one_way(
        upstream_read,
        client_write,
        &counters.bytes_received
    ));
    tokio::select! {
        sent = &mut up => match sent {
            Ok(()) => down.await,
            // The server closed while the client was sending. Why it did so ("terminating connection
            // due to ...") may still be on its way to the client.
            Err(error) => {
                let _ = timeout(LAST_WORDS_TIMEOUT, down).await;
                Err(error)
            }
        },
        received = &mut down => {
            received?;
            // A server that has closed its side takes no more; the client closes when it has noticed.
            timeout(LINGER_TIMEOUT, up).await.unwrap_or(Ok(()))
        }
    }
}

async fn one_way(from: ReadHalf<'_>, mut to: WriteHalf<'_>, bytes: &AtomicU64) -> io::Result<()> {
    loop {
        from.readable().await?;
        let moved: io::Result<(usize, Vec<u8>)> = SCRATCH.with_borrow_mut(|scratch| {
            let count = from.try_read(scratch)?;
            let read = &scratch[..count];
            // What the socket does not take at once is kept apart: the scratch belongs to all.
            let written = match to.try_write(read) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                other => other?,
            };
            Ok((count, read[written..].to_vec()))
        });
        match moved {
            Ok((0, _)) => return to.shutdown().await,
            Ok((count, rest)) => {
                to.write_all(&rest).await?;
                bytes.fetch_add(count as u64, Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
