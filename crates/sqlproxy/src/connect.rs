//! Finding a server for a session, with patience.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arc_swap::ArcSwap;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::limits::{
    FAILURES_TOLD_MAX, FIRST_ERROR_BYTES_MAX, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES,
    RETRY_INTERVAL,
};
use crate::options::Options;
use crate::startup::sqlstate;
use crate::stats::{Counters, TargetCounters};
use crate::stream::Stream;
use crate::targets::{Kind, Target, Targets};

/// SQLSTATE `cannot_connect_now`: starting up, shutting down, recovering.
const NOT_READY: &[u8] = b"57P03";

/// A server that took the session.
pub(crate) struct Upstream {
    pub stream: Stream,
    /// What it has said so far; the client has not seen it.
    pub first: Vec<u8>,
    pub counters: Arc<TargetCounters>,
}

/// Tries the candidates in turn, again and again with the newest targets, until one takes the session.
/// After the hold time: what each of them said last.
pub(crate) async fn connect(
    startup: &[u8],
    kind: Kind,
    turn: usize,
    targets: &ArcSwap<Targets>,
    options: &Options,
    counters: &Counters,
) -> Result<Upstream, Vec<String>> {
    let deadline = Instant::now() + options.hold_timeout;
    loop {
        let now = targets.load_full();
        let mut failures = Vec::new();
        for target in now.candidates(kind, turn) {
            let target_counters = counters.target(target);
            match try_one(target, startup, options, deadline).await {
                Ok((stream, first)) => {
                    return Ok(Upstream {
                        stream,
                        first,
                        counters: target_counters,
                    });
                }
                Err(why) => {
                    target_counters.failures.fetch_add(1, Relaxed);
                    if failures.len() < FAILURES_TOLD_MAX {
                        failures.push(format!("{} ({}): {why}", target.name, target.address));
                    }
                }
            }
        }
        if Instant::now() + RETRY_INTERVAL >= deadline {
            return Err(failures);
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

/// Connects, sends the startup packet and waits for the first byte, all before `deadline` (but the
/// first try always gets its time). "Not ready" counts as a failure.
async fn try_one(
    target: &Target,
    startup: &[u8],
    options: &Options,
    deadline: Instant,
) -> Result<(Stream, Vec<u8>), String> {
    let left = deadline.saturating_duration_since(Instant::now());
    let patience = |wanted: Duration| wanted.min(left.max(RETRY_INTERVAL));

    let connecting = timeout(
        patience(options.connect_timeout),
        Stream::connect(target, options.tunnel.as_ref()),
    );
    let mut stream = connecting
        .await
        .map_err(|_| "no connection in time".to_owned())?
        .map_err(|error| error.to_string())?;

    let asking = timeout(patience(options.answer_timeout), async {
        stream.write_all(startup).await?;
        stream.flush().await?;
        read_first(&mut stream).await
    });
    let first = asking
        .await
        .map_err(|_| "no answer in time".to_owned())?
        .map_err(|error| error.to_string())?;
    match not_ready(&first) {
        Some(why) => Err(why),
        None => Ok((stream, first)),
    }
}

/// The first byte; when it announces an error, that whole message (unless it is very long).
async fn read_first(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let mut first = vec![0; 1];
    stream.read_exact(&mut first).await?;
    if first != b"E" {
        return Ok(first);
    }
    let length = stream.read_u32().await?;
    first.extend(length.to_be_bytes());
    let body = (length as usize).saturating_sub(4);
    if body <= FIRST_ERROR_BYTES_MAX {
        first.resize(5 + body, 0);
        stream.read_exact(&mut first[5..]).await?;
    }
    Ok(first)
}

/// The message, when the answer is an error that time will cure.
fn not_ready(first: &[u8]) -> Option<String> {
    let body = first.strip_prefix(b"E")?.get(4..)?;
    if sqlstate(body)? != NOT_READY {
        return None;
    }
    let message = body
        .split(|byte| *byte == 0)
        .find_map(|field| field.strip_prefix(b"M"));
    Some(String::from_utf8_lossy(message.unwrap_or(b"not ready")).into_owned())
}

/// No delays, and no waiting for ever for a peer that is gone.
pub(crate) fn tune(stream: &TcpStream, user_timeout: Duration) -> io::Result<()> {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(user_timeout))
}

/// Sends a cancel request to every server that may have the session. The key in it fits one session
/// of one server; the others ignore it.
pub(crate) async fn cancel(request: &[u8], kind: Kind, targets: &Targets, options: &Options) {
    for target in targets.candidates(kind, 0) {
        // Nothing is answered; the server closes the connection once it has acted. A failure
        // cannot be told to anybody either.
        let _ = timeout(options.connect_timeout, async {
            let mut stream = Stream::connect(target, options.tunnel.as_ref()).await?;
            stream.write_all(request).await?;
            stream.flush().await?;
            stream.read(&mut [0]).await
        })
        .await;
    }
}
