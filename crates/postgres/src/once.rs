//! Runs something once per cluster, such as the release command of a deploy.

use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Config;
use tokio_postgres::config::TargetSessionAttrs;

use crate::error::{Error, SqlContext};
use crate::limits::{ONCE_KEY_BYTES_MAX, ONCE_RETRY_INTERVAL, PEER_TIMEOUT};
use crate::remote::{Session, describe, timed_out};

/// How patient to be.
#[derive(Clone, Copy, Debug)]
pub struct OnceOptions {
    /// For the primary to be reachable.
    pub connect_wait: Duration,
    /// For another server that runs the same work now.
    pub lock_wait: Duration,
}

impl Default for OnceOptions {
    fn default() -> Self {
        Self {
            connect_wait: Duration::from_secs(60),
            lock_wait: Duration::from_secs(600),
        }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Once<T> {
    /// The work was done now, by us.
    Done(T),
    /// It had been done before, by us or by another server.
    AlreadyDone,
}

/// Why it was not done.
#[derive(Debug)]
pub enum OnceError<E> {
    /// The key is empty, or longer than 200 bytes.
    Key,
    /// The address is not one of PostgreSQL.
    Address(tokio_postgres::Error),
    /// The primary could not be reached in time.
    Unreachable { waited: Duration, why: String },
    /// Another server holds the lock and did not finish in time.
    Locked { waited: Duration },
    /// The work failed. It will be tried again by whoever comes next.
    Work(E),
    /// The work was done, but that could not be written down: it may be done again.
    NotRecorded { why: String },
}

impl<E: fmt::Display> fmt::Display for OnceError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => write!(f, "the key must have 1 to {ONCE_KEY_BYTES_MAX} bytes"),
            Self::Address(error) => write!(f, "the database's address cannot be used: {error}"),
            Self::Unreachable { waited, why } => {
                let seconds = waited.as_secs();
                write!(f, "the primary could not be reached for {seconds} s: {why}")
            }
            Self::Locked { waited } => {
                let seconds = waited.as_secs();
                write!(
                    f,
                    "another server has been at it for {seconds} s; look at its log"
                )
            }
            Self::Work(error) => error.fmt(f),
            Self::NotRecorded { why } => {
                write!(f, "it was done, but that could not be recorded: {why}")
            }
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for OnceError<E> {}

/// Runs `work` unless the database at `primary_url` says that `key` has been done.
///
/// - Of all who call this with one key at the same time, one works; the others wait and then find it
///   done. The lock is an advisory lock of PostgreSQL, held by a session: `primary_url` must lead to
///   the primary without a transaction pooler in between. When the holder dies, PostgreSQL frees it.
/// - What is done is a row in `trilith.done`, made in the database of `primary_url` by its user, who
///   must be allowed to create a schema there (the owner is).
/// - At least once, not exactly once: a process killed after the work and before the row, or a
///   holder whose connection broke while it worked, leaves the work to be done again.
/// - A failed `work` leaves no row.
///
/// With synchronous replication the row, like any commit, waits for a replica.
pub async fn run_once<T, E, F>(
    primary_url: &str,
    key: &str,
    options: OnceOptions,
    work: F,
) -> Result<Once<T>, OnceError<E>>
where
    F: Future<Output = Result<T, E>>,
{
    if key.is_empty() || key.len() > ONCE_KEY_BYTES_MAX {
        return Err(OnceError::Key);
    }
    let mut config = Config::from_str(primary_url).map_err(OnceError::Address)?;
    config
        .application_name("trilith once")
        .target_session_attrs(TargetSessionAttrs::ReadWrite);

    let lock_deadline = Instant::now() + options.lock_wait;
    let session = loop {
        let session = connect(&config, options.connect_wait).await?;
        match lock_and_look(&session, key, lock_deadline).await {
            Ok(Locked::Done) => return Ok(Once::AlreadyDone),
            Ok(Locked::Ours) => break session,
            Ok(Locked::Theirs) => {
                return Err(OnceError::Locked {
                    waited: options.lock_wait,
                });
            }
            // The connection broke, or the primary is just restarting: connect again.
            Err(error) if Instant::now() >= lock_deadline => {
                return Err(OnceError::Unreachable {
                    waited: options.lock_wait,
                    why: describe(&error),
                });
            }
            Err(_) => tokio::time::sleep(ONCE_RETRY_INTERVAL).await,
        }
    };

    let value = work.await.map_err(OnceError::Work)?;

    match record(&session, key, options.connect_wait).await {
        Ok(()) => Ok(Once::Done(value)),
        // Our connection did not survive the work; the row can be written through another.
        Err(_) => {
            let again = connect(&config, options.connect_wait).await?;
            let recorded = record(&again, key, options.connect_wait).await;
            recorded
                .map(|()| Once::Done(value))
                .map_err(|error| OnceError::NotRecorded {
                    why: describe(&error),
                })
        }
    }
}

/// Connects to a primary, patiently.
async fn connect<E>(config: &Config, wait: Duration) -> Result<Session, OnceError<E>> {
    let deadline = Instant::now() + wait;
    loop {
        // A sql entry in between may itself hold the connection for a while.
        let error = match Session::connect(config, PEER_TIMEOUT * 15).await {
            Ok(session) => return Ok(session),
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            let why = describe(&error);
            return Err(OnceError::Unreachable { waited: wait, why });
        }
        tokio::time::sleep(ONCE_RETRY_INTERVAL).await;
    }
}

enum Locked {
    Ours,
    Theirs,
    Done,
}

/// The seed keeps our locks apart from those of applications that hash their own texts.
const TRY_LOCK: &str = "select pg_try_advisory_lock(hashtextextended('trilith.done:' || $1, 7202))";

async fn lock_and_look(session: &Session, key: &str, deadline: Instant) -> Result<Locked, Error> {
    let doing = "looking up what was done";
    loop {
        let row = session.query_one(TRY_LOCK, &[&key]).await.doing(doing)?;
        let ours: bool = row.try_get(0).doing(doing)?;
        if ours {
            break;
        }
        if Instant::now() >= deadline {
            return Ok(Locked::Theirs);
        }
        tokio::time::sleep(ONCE_RETRY_INTERVAL).await;
    }
    prepare_table(session).await?;
    let done = session
        .query_opt("select from trilith.done where key = $1", &[&key])
        .await
        .doing(doing)?;
    Ok(match done {
        Some(_) => Locked::Done,
        None => Locked::Ours,
    })
}

/// Makes schema and table if need be. `if not exists` alone can still fail when two do it at once, and
/// locks of different keys do not keep those apart: hence a lock of its own.
async fn prepare_table(session: &Session) -> Result<(), Error> {
    let doing = "creating the table trilith.done";
    let found = session
        .query_one("select to_regclass('trilith.done') is not null", &[])
        .await
        .doing(doing)?;
    if found.try_get(0).doing(doing)? {
        return Ok(());
    }
    session
        .batch_execute(
            "begin;
             set local client_min_messages = warning;
             select pg_advisory_xact_lock(hashtextextended('trilith.done', 7202));
             create schema if not exists trilith;
             create table if not exists trilith.done (
                 key text primary key,
                 done_at timestamptz not null default now()
             );
             commit;",
        )
        .await
        .doing(doing)
}

async fn record(session: &Session, key: &str, wait: Duration) -> Result<(), Error> {
    let doing = "recording what was done";
    let statement = "insert into trilith.done (key) values ($1) on conflict do nothing";
    let inserted = tokio::time::timeout(wait, session.execute(statement, &[&key])).await;
    inserted
        .map_err(|_| timed_out(doing, wait))?
        .doing(doing)
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn gives_up_on_a_primary_that_never_comes() {
        let closed = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        let options = OnceOptions {
            connect_wait: Duration::from_millis(10),
            lock_wait: Duration::from_millis(10),
        };
        let url = format!("postgresql://app:x@{closed}/app");
        let work = async { Ok::<(), String>(()) };
        let error = run_once(&url, "release 1", options, work)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("refused"), "{error}");

        let work = async { Ok::<(), String>(()) };
        let error = run_once(&url, "", options, work).await.unwrap_err();
        assert!(matches!(error, OnceError::Key));
    }
}
