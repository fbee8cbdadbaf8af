//! One connection of a client, from its first byte to its last.
//!
//! This function is the seam for a pooler that splits reads from writes: it would take over from here,
//! with the same client, kind and targets.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::connect::{Upstream, cancel, connect};
use crate::error::SessionError;
use crate::limits::{CUT_LINGER_TIMEOUT, DISCARD_BYTES, REFUSAL_TIMEOUT};
use crate::options::Options;
use crate::pump::{Told, pump};
use crate::shared::WorkerTargets;
use crate::socket::{reset_on_close, tune_client};
use crate::startup::{Fatal, Startup, read_startup};
use crate::stats::{Counted, Counters};
use crate::targets::Kind;

/// What a session needs besides its client.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub targets: &'a WorkerTargets,
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
        ..
    } = context;
    let _open = Counted::one(&counters.open);
    tune_client(&client).map_err(|_| SessionError::ClientGone)?;
    let reading = timeout(options.startup_timeout, read_startup(&mut client)).await;
    let startup = match reading.map_err(|_| SessionError::ClientGone)?? {
        Startup::Session(startup) => startup,
        Startup::Cancel(request) => {
            counters.cancels.inc();
            cancel(&request, kind, context).await;
            return Ok(());
        }
    };
    counters.accepted(kind);

    let connected = tokio::select! {
        connected = connect(&startup, kind, context) => connected,
        () = closed(&client) => return Err(SessionError::ClientGone),
    };
    let Upstream {
        stream: mut upstream,
        first,
        server,
        tenure,
        counters: target,
    } = match connected {
        Ok(upstream) => upstream,
        Err(failures) => {
            counters.gave_up.inc();
            tell(
                &mut client,
                &unreachable(kind, options.hold_timeout, &failures),
            )
            .await;
            return Err(SessionError::GaveUp);
        }
    };

    target.sessions.inc();
    target.bytes_sent.inc_by(startup.len() as u64);
    let at_target = Counted::one(&target.open);
    drop(startup);
    let mut told = Told::default();
    let deposed = tokio::select! {
        // First: a session that is never idle must not escape.
        biased;
        () = targets.deposed(&server, tenure) => true,
        // An error means that one side broke the connection. The other one sees it close; there is
        // nobody left to tell more.
        _ = pump(&mut client, &mut upstream, first, &mut told, &target) => false,
    };
    if deposed {
        upstream.abort();
        drop(at_target);
        if !told.finished {
            counters.cut.inc();
            say_goodbye(client, told.boundary.is_between_messages()).await;
        }
    }
    Ok(())
}

/// Closes the connection of a client whose server is not the primary any more. In the middle of a message
/// there is no way to say why.
async fn say_goodbye(mut client: TcpStream, between_messages: bool) {
    let mut understood = false;
    let closing = timeout(CUT_LINGER_TIMEOUT, async {
        if between_messages {
            client.write_all(&deposed()).await?;
            understood = true;
        }
        client.shutdown().await?;
        // To close with something unread would be a reset, which overtakes what was said.
        let mut unread = Vec::with_capacity(DISCARD_BYTES);
        while client.read_buf(&mut unread).await? > 0 {
            unread.clear();
        }
        std::io::Result::Ok(())
    });
    // Closed by the client or not, it ends here.
    let _ = closing.await;
    if !understood {
        // What a client that does not read has not got yet would stay in the kernel.
        reset_on_close(&client);
    }
}

fn deposed() -> Vec<u8> {
    Fatal {
        code: "57P01",
        message: "the connection was closed because the database primary changed; connect again",
        detail: "Whether a statement that was under way took effect is not known.",
        hint: "Run `trilith status` to see the database servers.",
    }
    .encode()
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
    let tried = match (failures, kind) {
        ([], Kind::ReadWrite) => "no server is known to be the primary".to_owned(),
        ([], Kind::ReadOnly) => "no server is known to be up".to_owned(),
        _ => failures.join("; "),
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
