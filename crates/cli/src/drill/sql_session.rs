//! A connection to a database that is given up as soon as it does not answer.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::error::Severity;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, SimpleQueryRow};

use super::{CONNECT_TIMEOUT, SQL_ANSWER_TIMEOUT, SQL_CONNECT_TIMEOUT};
use crate::failure::{Failure, Outcome};
use crate::lab::Namespace;

/// A database, and where it is reached from.
#[derive(Clone, Debug)]
pub struct Place {
    /// For people.
    pub name: String,
    /// `None`: from here.
    pub namespace: Option<Namespace>,
    pub config: Config,
}

/// Dropped, it closes the connection at once.
pub struct Session {
    client: Client,
    driver: JoinHandle<()>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The server said no, and nothing else happened.
    Refused(String),
    /// The connection is gone, or silent.
    Lost(String),
}

impl Trouble {
    pub fn why(self) -> String {
        match self {
            Self::Refused(why) | Self::Lost(why) => why,
        }
    }
}

impl Place {
    /// From a connection string of libpq's form, which may begin with `netns=NAME`. `Err`: what is
    /// wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (namespace, text) = match text.trim_start().strip_prefix("netns=") {
            None => (None, text),
            Some(rest) => {
                let (name, rest) = rest.split_once(' ').ok_or("nothing after netns=")?;
                let namespace = Namespace::named(name);
                (Some(namespace.ok_or("netns= needs a name")?), rest)
            }
        };
        let mut config: Config = text.parse().map_err(|error| format!("{error}"))?;
        let host = config.get_hosts().first().map(|host| match host {
            tokio_postgres::config::Host::Tcp(host) => host.clone(),
            tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
        });
        let host = host.ok_or("it has no host=")?;
        let port = config.get_ports().first().copied().unwrap_or(5432);
        config.application_name("trilith-drill");
        Ok(Self {
            name: format!("{host}:{port}"),
            namespace,
            config,
        })
    }

    pub async fn connect(&self) -> Result<Session, Trouble> {
        let mut config = self.config.clone();
        config.connect_timeout(CONNECT_TIMEOUT);
        let (client, connection) = match timeout(SQL_CONNECT_TIMEOUT, config.connect(NoTls)).await {
            Err(_) => return Err(Trouble::Lost("not connected in time".to_owned())),
            Ok(Err(error)) => return Err(trouble(&error)),
            Ok(Ok(both)) => both,
        };
        // How it ends is seen by whoever asks.
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Session { client, driver })
    }

    /// Runs `work` on a thread that lives where the place is reached from, in a runtime of its own.
    pub fn block_on<T: Send>(&self, work: impl AsyncFnOnce(&Self) -> T + Send) -> Outcome<T> {
        let on_this_thread = || -> std::io::Result<T> {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            Ok(runtime.block_on(work(self)))
        };
        match &self.namespace {
            Some(namespace) => namespace.inside(on_this_thread).and_then(|result| result),
            None => on_this_thread(),
        }
        .map_err(|error| Failure::failed(format!("{}: {error}", self.name)))
    }
}

impl Session {
    /// One statement, or several, as they are. The rows of all of them.
    pub async fn ask(&self, sql: &str) -> Result<Vec<SimpleQueryRow>, Trouble> {
        self.ask_within(sql, SQL_ANSWER_TIMEOUT).await
    }

    pub async fn ask_within(
        &self,
        sql: &str,
        limit: Duration,
    ) -> Result<Vec<SimpleQueryRow>, Trouble> {
        let messages = match timeout(limit, self.client.simple_query(sql)).await {
            Err(_) => return Err(Trouble::Lost("no answer in time".to_owned())),
            Ok(Err(error)) => return Err(trouble(&error)),
            Ok(Ok(messages)) => messages,
        };
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(rows.collect())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn trouble(error: &tokio_postgres::Error) -> Trouble {
    let Some(told) = error.as_db_error() else {
        let cause = std::error::Error::source(error)
            .and_then(|source| source.downcast_ref::<std::io::Error>());
        return Trouble::Lost(match cause {
            Some(cause) => super::load::describe(cause).to_owned(),
            None if error.is_closed() => "connection lost".to_owned(),
            None => "connection lost in the middle".to_owned(),
        });
    };
    let why = format!("{} {}", told.code().code(), told.message());
    // ERROR alone leaves nothing open. FATAL and PANIC may come after the commit.
    match told.parsed_severity() {
        Some(Severity::Error) => Trouble::Refused(why),
        _ => Trouble::Lost(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_may_begin_with_a_namespace() {
        let place = Place::parse("netns=lab-one host=10.0.0.1 user=app dbname=app").unwrap();
        assert_eq!(place.name, "10.0.0.1:5432");
        assert_eq!(place.namespace, Namespace::named("lab-one"));
        let here = Place::parse("host=10.0.0.1 port=5000 user=app").unwrap();
        assert_eq!(
            (here.name.as_str(), here.namespace),
            ("10.0.0.1:5000", None)
        );
        for wrong in [
            "netns=x",
            "netns=a/b host=h",
            "netns= host=h",
            "user=app",
            "host='h",
        ] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }
}
