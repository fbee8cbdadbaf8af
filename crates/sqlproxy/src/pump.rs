//! Forwarding bytes both ways.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::limits::{LAST_WORDS_TIMEOUT, LINGER_TIMEOUT, READ_BYTES};
use crate::stats::TargetCounters;
use crate::stream::Stream;

thread_local! {
    /// All sessions of a worker read into this one: it is filled and emptied without a pause in
    /// between. An idle session then has no buffer at all.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// Forwards until both sides have finished, or one fails. An end of file on one side is passed on to
/// the other, whose bytes still flow back.
pub(crate) async fn pump(
    client: &mut TcpStream,
    upstream: &mut Stream,
    counters: &TargetCounters,
) -> io::Result<()> {
    match upstream {
        Stream::Plain(upstream) => {
            let (read, write) = upstream.split();
            both_ways(client, read, write, counters).await
        }
        Stream::Tunnel(upstream) => {
            let (read, write) = tokio::io::split(upstream);
            both_ways(client, read, write, counters).await
        }
    }
}

async fn both_ways(
    client: &mut TcpStream,
    upstream_read: impl AsyncRead + Unpin,
    upstream_write: impl AsyncWrite + Unpin,
    counters: &TargetCounters,
) -> io::Result<()> {
    let (client_read, client_write) = client.split();
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

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    bytes: &AtomicU64,
) -> io::Result<()> {
    loop {
        let moved = poll_fn(|cx| {
            SCRATCH.with_borrow_mut(|scratch| {
                let mut read = ReadBuf::new(scratch);
                ready!(Pin::new(&mut from).poll_read(cx, &mut read))?;
                let read = read.filled();
                if read.is_empty() {
                    return Poll::Ready(Ok((0, Vec::new())));
                }
                // What the socket does not take at once is kept apart: the scratch belongs to all.
                let written = match Pin::new(&mut to).poll_write(cx, read) {
                    Poll::Ready(written) => written?,
                    Poll::Pending => 0,
                };
                Poll::Ready(io::Result::Ok((read.len(), read[written..].to_vec())))
            })
        });
        let (count, rest) = moved.await?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&rest).await?;
        // A tunnel may hold encrypted bytes back.
        to.flush().await?;
        bytes.fetch_add(count as u64, Relaxed);
    }
}
