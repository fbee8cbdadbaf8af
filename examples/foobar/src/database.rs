//! A small connection pool, and when it is right to try again.

use std::error::Error as _;
use std::ops::Deref;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

/// Connections per pool. Few: an instance is one of many, and PostgreSQL serves them all.
const CONNECTIONS_MAX: usize = 4;
/// Older connections are not used again, so that the load spreads over databases that have come
/// back.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(60);
/// How long a request tries to get an answer out of the database.
const PATIENCE: Duration = Duration::from_secs(5);
/// One try of a read.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

pub struct Pool {
    config: Config,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum DatabaseError {
    /// It did not answer in time, or not at all.
    Unavailable(String),
    /// It answered, with an error.
    Query(tokio_postgres::Error),
}

struct Connection {
    client: Client,
    since: Instant,
}

/// A connection in use. It goes back into the pool only when [`Guard::keep`] says that all went
/// well.
struct Guard<'a> {
    connection: Connection,
    _permit: SemaphorePermit<'a>,
}

impl Deref for Guard<'_> {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.connection.client
    }
}

impl Pool {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            idle: Mutex::default(),
            permits: Semaphore::new(CONNECTIONS_MAX),
        }
    }

    /// Runs a read. When its connection breaks, because the database behind it died, it is asked
    /// again on a fresh one: reading twice does no harm.
    pub async fn read<T>(
        &self,
        query: impl AsyncFn(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, DatabaseError> {
        let end = Instant::now() + PATIENCE;
        loop {
            let guard = self.get(end).await?;
            let problem = match timeout(READ_TIMEOUT, query(&guard)).await {
                Ok(Ok(value)) => {
                    self.keep(guard);
                    return Ok(value);
                }
                Ok(Err(error)) if is_broken(&error) => describe(&error),
                Ok(Err(error)) => return Err(DatabaseError::Query(error)),
                Err(_) => "no answer".to_owned(),
            };
            drop(guard);
            // The others in the pool led to the same database.
            self.forget_idle();
            if Instant::now() >= end {
                return Err(DatabaseError::Unavailable(problem));
            }
            sleep(PAUSE).await;
        }
    }

    /// Runs a write, once. Only getting a connection is tried again: when one breaks after the
    /// statement went out, nobody knows whether it was done.
    pub async fn write<T>(
        &self,
        query: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, DatabaseError> {
        let end = Instant::now() + PATIENCE;
        let guard = loop {
            let guard = self.get(end).await?;
            // A round trip, so that a connection that died in the pool is found out in time.
            match timeout(READ_TIMEOUT, guard.check_connection()).await {
                Ok(Ok(())) => break guard,
                _ if Instant::now() >= end => {
                    return Err(DatabaseError::Unavailable("no answer".to_owned()));
                }
                _ => self.forget_idle(),
            }
        };
        match timeout(PATIENCE, query(&guard)).await {
            Ok(Ok(value)) => {
                self.keep(guard);
                Ok(value)
            }
            Ok(Err(error)) if is_broken(&error) => {
                Err(DatabaseError::Unavailable(describe(&error)))
            }
            Ok(Err(error)) => Err(DatabaseError::Query(error)),
            Err(_) => Err(DatabaseError::Unavailable("no answer".to_owned())),
        }
    }

    async fn get(&self, end: Instant) -> Result<Guard<'_>, DatabaseError> {
        let left = || end.saturating_duration_since(Instant::now());
        let busy = || DatabaseError::Unavailable("every connection is busy".to_owned());
        let permit = timeout(left(), self.permits.acquire())
            .await
            .map_err(|_| busy())?
            .map_err(|_| busy())?;
        let idle = || {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop()
        };
        while let Some(connection) = idle() {
            if !connection.client.is_closed() && connection.since.elapsed() < CONNECTION_AGE_MAX {
                return Ok(Guard {
                    connection,
                    _permit: permit,
                });
            }
        }
        loop {
            match self.config.connect(NoTls).await {
                Ok((client, io)) => {
                    // Ends when the client is dropped, or with an error that the client sees too.
                    tokio::spawn(io);
                    let connection = Connection {
                        client,
                        since: Instant::now(),
                    };
                    return Ok(Guard {
                        connection,
                        _permit: permit,
                    });
                }
                Err(error) if left().is_zero() => {
                    return Err(DatabaseError::Unavailable(describe(&error)));
                }
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    fn keep(&self, guard: Guard<'_>) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(guard.connection);
    }

    fn forget_idle(&self) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

/// The connection or the server behind it is gone, as opposed to: the statement was refused.
fn is_broken(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        None => error.as_db_error().is_none(),
        Some(code) => {
            [
                SqlState::ADMIN_SHUTDOWN,
                SqlState::CRASH_SHUTDOWN,
                SqlState::CANNOT_CONNECT_NOW,
                // A replica cancels a read that is in the way of what it replays.
                SqlState::T_R_SERIALIZATION_FAILURE,
            ]
            .contains(code)
                || code.code().starts_with("08")
        }
    }
}

/// With its cause, which tokio-postgres leaves out.
fn describe(error: &tokio_postgres::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

impl std::fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unavailable(problem) => write!(f, "the database is not available: {problem}"),
            Self::Query(error) => write!(f, "the database refused: {}", describe(error)),
        }
    }
}

impl std::error::Error for DatabaseError {}
