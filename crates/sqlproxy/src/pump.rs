//! Forwarding bytes both ways.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use trilith_telemetry::Counter;

use crate::boundary::Boundary;
use crate::limits::{LAST_WORDS_TIMEOUT, LINGER_TIMEOUT, READ_BYTES};
use crate::stats::TargetCounters;
use crate::stream::Stream;

thread_local! {
    /// All sessions of a worker read into this one: it is filled and emptied without a pause in
    /// between. An idle session then has no buffer at all.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// What the client has been sent so far.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub boundary: Boundary,
    /// The server has finished, and the client knows.
    pub finished: bool,
}

/// Forwards until both sides have finished, or one fails. An end of file on one side is passed on to
/// the other, whose bytes still flow back. The client gets `first` before anything else.
///
/// May be dropped at any await; `told` is exact then, too.
pub(crate) async fn pump(
    client: &mut TcpStream,
    upstream: &mut Stream,
    first: Vec<u8>,
    told: &mut Told,
    counters: &TargetCounters,
) -> io::Result<()> {
    match upstream {
        Stream::Plain(upstream) => {
            let (read, write) = upstream.split();
            both_ways(client, read, write, first, told, counters).await
        }
        Stream::Tunnel(upstream) => {
            let (read, write) = tokio::io::split(upstream);
            both_ways(client, read, write, first, told, counters).await
        }
    }
}

async fn both_ways(
    client: &mut TcpStream,
    upstream_read: impl AsyncRead + Unpin,
    upstream_write: impl AsyncWrite + Unpin,
    first: Vec<u8>,
    told: &mut Told,
    counters: &TargetCounters,
) -> io::Result<()> {
    let (client_read, client_write) = client.split();
    let nothing = Vec::new();
    let sent = &counters.bytes_sent;
    let mut up = pin!(one_way(client_read, upstream_write, nothing, sent, |_| {}));
    let mut down = pin!(async {
        let received = &counters.bytes_received;
        let boundary = &mut told.boundary;
        let written = |bytes: &[u8]| boundary.advance(bytes);
        one_way(upstream_read, client_write, first, received, written).await?;
        told.finished = true;
        io::Result::Ok(())
    });
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

/// Sends `rest`, then what is read. `written` sees each byte once it is on its way.
async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut rest: Vec<u8>,
    bytes: &Counter,
    mut written: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut count = rest.len();
    loop {
        // Not `write_all`, which does not tell how far it came when it is dropped.
        let mut sent = 0;
        while sent < rest.len() {
            let left = &rest[sent..];
            let taken = poll_fn(|cx| Pin::new(&mut to).poll_write(cx, left)).await?;
            if taken == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            written(&left[..taken]);
            sent += taken;
        }
        // A tunnel may hold encrypted bytes back.
        to.flush().await?;
        bytes.inc_by(count as u64);
        let moved = poll_fn(|cx| {
            SCRATCH.with_borrow_mut(|scratch| {
                let mut read = ReadBuf::new(scratch);
                ready!(Pin::new(&mut from).poll_read(cx, &mut read))?;
                let read = read.filled();
                if read.is_empty() {
                    return Poll::Ready(Ok((0, Vec::new())));
                }
                // What the socket does not take at once is kept apart: the scratch belongs to all.
                let taken = match Pin::new(&mut to).poll_write(cx, read) {
                    Poll::Ready(taken) => taken?,
                    Poll::Pending => 0,
                };
                written(&read[..taken]);
                Poll::Ready(io::Result::Ok((read.len(), read[taken..].to_vec())))
            })
        });
        (count, rest) = moved.await?;
        if count == 0 {
            return to.shutdown().await;
        }
    }
}
