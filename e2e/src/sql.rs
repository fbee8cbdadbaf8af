//! A session with a database: one statement at a time, none of them for ever.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_postgres::error::Severity;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// For a connection, and for an answer. A session that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(3);

/// Dropped, it closes the connection.
pub struct Sql {
    client: Client,
    // The connection lives in it: dropped last.
    runtime: Runtime,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The statement was refused, and nothing else happened.
    Refused(String),
    /// Nobody knows what became of it.
    Lost(String),
}

impl Sql {
    /// `to`: a connection string.
    pub fn connect(to: &str) -> Result<Self, Trouble> {
        Self::connect_within(to, PATIENCE)
    }

    pub fn connect_within(to: &str, patience: Duration) -> Result<Self, Trouble> {
        let lost = |why: &dyn fmt::Display| Trouble::Lost(why.to_string());
        let mut config: Config = to.parse().map_err(|why| lost(&why))?;
        config.connect_timeout(patience);
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|why| lost(&why))?;
        let client = runtime.block_on(async {
            match timeout(patience, config.connect(NoTls)).await {
                Err(_) => Err(Trouble::Lost("not connected in time".to_owned())),
                Ok(Err(error)) => Err(trouble(&error)),
                Ok(Ok((client, connection))) => {
                    // How it ends is seen by whoever asks.
                    tokio::spawn(async move {
                        let _ = connection.await;
                    });
                    Ok(client)
                }
            }
        })?;
        Ok(Self { client, runtime })
    }

    /// One statement, or several, as they are: the rows of all of them, as text, a NULL as nothing.
    pub fn ask(&self, sql: &str) -> Result<Vec<Vec<String>>, Trouble> {
        self.ask_within(sql, PATIENCE)
    }

    pub fn ask_within(&self, sql: &str, patience: Duration) -> Result<Vec<Vec<String>>, Trouble> {
        let answer = async { timeout(patience, self.client.simple_query(sql)).await };
        let messages = match self.runtime.block_on(answer) {
            Err(_) => return Err(Trouble::Lost("no answer in time".to_owned())),
            Ok(Err(error)) => return Err(trouble(&error)),
            Ok(Ok(messages)) => messages,
        };
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let field = |i| row.get(i).unwrap_or_default().to_owned();
                Some((0..row.len()).map(field).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    /// The only field of the only row.
    pub fn value(&self, sql: &str) -> Result<String> {
        let mut rows = self.ask(sql)?;
        match rows.as_mut_slice() {
            [row] if row.len() == 1 => Ok(row.swap_remove(0)),
            _ => bail!("{sql}: one value is wanted, not {rows:?}"),
        }
    }
}

/// ERROR alone leaves nothing open. FATAL and PANIC may come after the commit.
fn trouble(error: &tokio_postgres::Error) -> Trouble {
    let Some(told) = error.as_db_error() else {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
        return Trouble::Lost(format!("{error}{}", cause.unwrap_or_default()));
    };
    let why = format!("{} {}", told.code().code(), told.message());
    match told.parsed_severity() {
        Some(Severity::Error) => Trouble::Refused(why),
        _ => Trouble::Lost(why),
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Lost(why) => write!(f, "lost: {why}"),
        }
    }
}

impl std::error::Error for Trouble {}

impl Trouble {
    /// As an error of a test.
    pub fn when(self, what: &str) -> anyhow::Error {
        anyhow!(self).context(what.to_owned())
    }
}
