//! One connection of a client, from its first byte to its last.
//!
//! This function is the seam for a pooler that splits reads from writes: it would take over from here,
//! with the same client, kind and targets.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::connect::{Upstream, cancel, connect, tune};
use crate::error::SessionError;
use crate::limits::{CLIENT_USER_TIMEOUT, REFUSAL_TIMEOUT};
use crate::options::Options;
use crate::pump::pump;
use crate::startup::{Fatal, Startup, read_startup};
use crate::stats::{Counted, Counters};
use crate::targets::{Kind, Targets};

/// What a session needs besides its client.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub targets: &'a ArcSwap<Targets>,
    pub options: &'a Options,
    pub counters: &'a Counters,
    /// Grows from session to session of a worker.
    pub turn: usize,
}

/// Serves one client. Returns when both sides are closed.
pub(crate) async fn run_session(
    mut client: TcpStream,
    kind: Kind,
    context: Context<'_>,
) -> Result<(), SessionError> {
    let Context {
        targets,
        options,
        counters,
        turn,
    } = context;
    let _open = Counted::one(&counters.open);
    tune(&client, CLIENT_USER_TIMEOUT).map_err(|_| SessionError::ClientGone)?;
    let reading = timeout(options.startup_timeout, read_startup(&mut client)).await;
    let startup = match reading.map_err(|_| SessionError::ClientGone)?? {
        Startup::Session(startup) => startup,
        Startup::Cancel(request) => {
            counters.cancels.fetch_add(1, Relaxed);
            cancel(&request, kind, &targets.load_full(), options).await;
            return Ok(());
        }
    };
    counters.accepted(kind);

    let connected = {
        let _held = Counted::one(&counters.held);
        tokio::select! {
            connected = connect(&startup, kind, turn, targets, options, counters) => connected,
            () = closed(&client) => return Err(SessionError::ClientGone),
        }
    };
    let Upstream {
        stream: mut upstream,
        first,
        counters: target,
    } = match connected {
        Ok(upstream) => upstream,
        Err(failures) => {
            counters.gave_up.fetch_add(1, Relaxed);
            tell(
                &mut client,
                &unreachable(kind, options.hold_timeout, &failures),
            )
            .await;
            return Err(SessionError::GaveUp);
        }
    };

    target.sessions.fetch_add(1, Relaxed);
    target.bytes_sent.fetch_add(startup.len() as u64, Relaxed);
    target.bytes_received.fetch_add(first.len() as u64, Relaxed);
    let _at_target = Counted::one(&target.open);
    drop(startup);
    client
        .write_all(&first)
        .await
        .map_err(|_| SessionError::ClientGone)?;
    drop(first);
    // An error means that one side broke the connection. The other one sees it close; there is
    // nobody left to tell more.
    let _ = pump(&mut client, &mut upstream, &target).await;
    Ok(())
}

/// Tells a client that there are too many.
pub(crate) async fn refuse(mut client: TcpStream, connections_max: usize) {
    let refusing = timeout(REFUSAL_TIMEOUT, async {
        if let Ok(Startup::Session(_)) = read_startup(&mut client).await {
            let fatal = Fatal {
                code: "53300",
                message: "the sql entry of this server has too many connections",
                detail: &format!("{connections_max} are open."),
                hint: "Let the application keep fewer connections open.",
            };
            tell(&mut client, &fatal.encode()).await;
        }
    });
    // It was refused either way.
    let _ = refusing.await;
}

async fn tell(client: &mut TcpStream, message: &[u8]) {
    // The client may be gone; then nobody wants to know.
    let _ = timeout(REFUSAL_TIMEOUT, async {
        client.write_all(message).await?;
        client.shutdown().await
    })
    .await;
}

fn unreachable(kind: Kind, hold: Duration, failures: &[String]) -> Vec<u8> {
    let message = match kind {
        Kind::ReadWrite => "the database primary cannot be reached",
        Kind::ReadOnly => "no database server can be reached",
    };
    let tried = if failures.is_empty() {
        "no server is known to be up".to_owned()
    } else {
        failures.join("; ")
    };
    Fatal {
        code: "57P03",
        message,
        detail: &format!("Tried for {:.1} s: {tried}.", hold.as_secs_f64()),
        hint: "Try again. Run `trilith status` to see the database servers.",
    }
    .encode()
}

/// Returns when the client has closed its side. Never, once it has sent something ahead.
async fn closed(client: &TcpStream) {
    match client.peek(&mut [0]).await {
        Ok(0) | Err(_) => {}
        Ok(_) => std::future::pending().await,
    }
}
