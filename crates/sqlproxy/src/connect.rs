//! Finding a server for a session, with patience.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};
use trilith_base::ServerName;

use crate::limits::{FAILURES_TOLD_MAX, FIRST_ERROR_BYTES_MAX, REFUSAL_PATIENCE, RETRY_INTERVAL};
use crate::session::Context;
use crate::startup::field;
use crate::stats::{Counted, TargetCounters};
use crate::stream::Stream;
use crate::targets::{Kind, Target, Tenure};

/// SQLSTATE `cannot_connect_now`: starting up, shutting down, recovering.
const NOT_READY: &[u8] = b"57P03";
/// SQLSTATE `invalid_authorization_specification`, from the routine that goes by `pg_hba.conf`: a
/// primary that is not open to clients yet, or not any more, has no line there for them.
const NOT_LET_IN: (&[u8], &[u8]) = (b"28000", b"ClientAuthentication");

/// A server that took the session.
pub(crate) struct Upstream {
    pub stream: Stream,
    /// What it has said so far; the client has not seen it.
    pub first: Vec<u8>,
    pub server: ServerName,
    /// Under which it is the primary; `None`: it was asked as a replica.
    pub tenure: Option<Tenure>,
    pub counters: Arc<TargetCounters>,
}

/// Tries the candidates in turn, again and again with the newest targets, until one takes the session.
/// After the hold time: what each of them said last.
pub(crate) async fn connect(
    startup: &[u8],
    kind: Kind,
    context: Context<'_>,
) -> Result<Upstream, Vec<String>> {
    let Context {
        targets, counters, ..
    } = context;
    let deadline = Instant::now() + context.options.hold_timeout;
    let mut changes = targets.changes();
    let mut not_let_in_since = None;
    let mut held = None;
    loop {
        changes.mark_unchanged();
        let now = targets.load_full();
        let candidates = now.candidates(kind, context.turn);
        let mut failures = Vec::new();
        let mut let_in_nowhere = true;
        for candidate in &candidates {
            let target = candidate.target;
            let target_counters = counters.target(&target.name);
            let tried = tokio::select! {
                biased;
                // What comes instead is tried in the next round, which then begins at once.
                () = targets.withdrawn(*candidate) => {
                    let_in_nowhere = false;
                    break;
                }
                tried = try_one(target, startup, context, deadline) => tried,
            };
            let took = |stream, first| Upstream {
                stream,
                first,
                server: target.name.clone(),
                tenure: candidate.tenure.cloned(),
                counters: target_counters.clone(),
            };
            let why = match tried {
                Ok(Answer::Took(stream, first)) => return Ok(took(stream, first)),
                Ok(Answer::NotLetIn(stream, first, why)) => {
                    let since = *not_let_in_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= REFUSAL_PATIENCE {
                        return Ok(took(stream, first));
                    }
                    why
                }
                Err(why) => {
                    let_in_nowhere = false;
                    why
                }
            };
            target_counters.failures.inc();
            if failures.len() < FAILURES_TOLD_MAX {
                failures.push(format!("{} ({}): {why}", target.name, target.address));
            }
        }
        if candidates.is_empty() || !let_in_nowhere {
            not_let_in_since = None;
        }
        // With nobody to try, only a change can help.
        let again = match candidates.is_empty() {
            true => deadline,
            false => Instant::now() + RETRY_INTERVAL,
        };
        if Instant::now() >= deadline || again > deadline {
            return Err(failures);
        }
        held.get_or_insert_with(|| Counted::one(&counters.held));
        tokio::select! {
            // The sender lives as long as `targets`.
            _ = changes.changed() => {}
            () = sleep_until(again) => {}
        }
    }
}

enum Answer {
    /// It speaks to the client, if only to refuse it.
    Took(Stream, Vec<u8>),
    /// It refused before it asked who that is; this is its message.
    NotLetIn(Stream, Vec<u8>, String),
}

/// Connects, sends the startup packet and waits for the first byte, all before `deadline` (but the
/// first try always gets its time). "Not ready" counts as a failure.
async fn try_one(
    target: &Target,
    startup: &[u8],
    context: Context<'_>,
    deadline: Instant,
) -> Result<Answer, String> {
    let options = context.options;
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
    match error_of(&first) {
        Some(error) if error.code == Some(NOT_READY) => Err(error.message()),
        Some(error) if (error.code, error.routine) == (Some(NOT_LET_IN.0), Some(NOT_LET_IN.1)) => {
            let why = error.message();
            Ok(Answer::NotLetIn(stream, first, why))
        }
        _ => Ok(Answer::Took(stream, first)),
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

/// What matters of an ErrorResponse.
struct ServerError<'a> {
    code: Option<&'a [u8]>,
    /// The function of PostgreSQL that raised it.
    routine: Option<&'a [u8]>,
    message: Option<&'a [u8]>,
}

fn error_of(first: &[u8]) -> Option<ServerError<'_>> {
    let body = first.strip_prefix(b"E")?.get(4..)?;
    Some(ServerError {
        code: field(body, b'C'),
        routine: field(body, b'R'),
        message: field(body, b'M'),
    })
}

impl ServerError<'_> {
    fn message(&self) -> String {
        String::from_utf8_lossy(self.message.unwrap_or(b"not ready")).into_owned()
    }
}

/// Sends a cancel request to every server that may have the session. The key in it fits one session
/// of one server; the others ignore it. One that is deposed meanwhile is not asked: its sessions end.
pub(crate) async fn cancel(request: &[u8], kind: Kind, context: Context<'_>) {
    let options = context.options;
    let now = context.targets.load_full();
    for candidate in now.candidates(kind, 0) {
        let asking = timeout(options.connect_timeout, async {
            let mut stream = Stream::connect(candidate.target, options.tunnel.as_ref()).await?;
            stream.write_all(request).await?;
            stream.flush().await?;
            stream.read(&mut [0]).await
        });
        tokio::select! {
            biased;
            () = context.targets.withdrawn(candidate) => {}
            // Nothing is answered; the server closes the connection once it has acted. A failure
            // cannot be told to anybody either.
            _ = asking => {}
        }
    }
}
