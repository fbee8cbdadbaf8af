//! Connections to PostgreSQL: over TCP to any server, over the Unix socket to the local one.

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::PgLsn;
use tokio_postgres::{Client, Config, NoTls, Socket};
use trilith_base::ServerName;
use trilith_ha::{History, Position, PrimarySeen, SlotSeen, parse_history};

use crate::error::{Error, SqlContext};
use crate::limits::{HISTORY_BYTES_MAX, PEER_TIMEOUT};
use crate::lsn::Lsn;
use crate::options::{
    ADMIN_ROLE, MAINTENANCE_DATABASE, MONITOR_ROLE, Options, Peer, REPLICATION_ROLE, slot_name,
};
use crate::secrets::Password;
use crate::tls::Tls;
use crate::wal::history_file;

/// A connection and the task that drives it. Dropping it closes the socket at once, without waiting
/// for a peer that may be gone.
pub(crate) struct Session {
    client: Client,
    driver: JoinHandle<()>,
}

impl Session {
    /// Connects without TLS, or gives up after `timeout`.
    pub async fn connect(config: &Config, timeout: Duration) -> Result<Self, Error> {
        Self::connect_with(config, NoTls, timeout).await
    }

    /// Connects to another server's PostgreSQL: over TLS, unless there is none.
    pub async fn connect_peer(
        config: &Config,
        server: &ServerName,
        tls: Option<&Tls>,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let Some(tls) = tls else {
            return Self::connect(config, timeout).await;
        };
        let mut config = config.clone();
        config.ssl_mode(SslMode::Require);
        Self::connect_with(&config, tls.connector(server), timeout).await
    }

    async fn connect_with<T>(config: &Config, tls: T, timeout: Duration) -> Result<Self, Error>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
    {
        let doing = "connecting to PostgreSQL";
        let connected = tokio::time::timeout(timeout, config.connect(tls)).await;
        let (client, connection) = connected
            .map_err(|_| timed_out(doing, timeout))?
            .doing(doing)?;
        let driver = tokio::spawn(async move {
            // Its error reaches whoever waits for an answer.
            let _ = connection.await;
        });
        Ok(Self { client, driver })
    }

    /// The local server, as superuser, over its socket. Transactions of this session never wait for
    /// replicas: setting a server up must not depend on them.
    pub async fn local(
        socket_folder: &Path,
        port: u16,
        database: &str,
        password: &Password,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let mut config = base_config(ADMIN_ROLE, password, database);
        config.host_path(socket_folder).port(port).options(
            "-c synchronous_commit=local -c statement_timeout=0 -c lock_timeout=0 \
                 -c client_min_messages=warning",
        );
        Self::connect(&config, timeout).await
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

pub(crate) fn timed_out(doing: &'static str, timeout: Duration) -> Error {
    Error::Timeout {
        doing,
        seconds: timeout.as_secs().max(1),
    }
}

fn base_config(user: &str, password: &Password, database: &str) -> Config {
    let mut config = Config::new();
    config
        .user(user)
        .password(password.expose())
        .dbname(database)
        .application_name("trilith")
        .ssl_mode(SslMode::Disable);
    config
}

/// How observers connect to the PostgreSQL at `address`.
pub(crate) fn monitor_config(address: SocketAddr, password: &Password) -> Config {
    let mut config = base_config(MONITOR_ROLE, password, MAINTENANCE_DATABASE);
    reach(&mut config, address);
    config
}

fn reach(config: &mut Config, address: SocketAddr) {
    config
        .host(address.ip().to_string())
        .port(address.port())
        .tcp_user_timeout(Duration::from_secs(5));
}

/// `pg_walfile_name` would need a timeline; the oldest file's position follows from its name and the
/// segment size (xlog_internal.h, `XLogFromFileName`).
const PRIMARY_QUERY: &str = "\
    select (select system_identifier from pg_control_system()),
           (select timeline_id from pg_control_checkpoint()),
           case when pg_is_in_recovery() then null else pg_current_wal_flush_lsn() end,
           case when pg_is_in_recovery() then null
                else pg_walfile_name(pg_current_wal_flush_lsn()) end,
           (select min(substring(name from 9)) from pg_ls_waldir()
             where name ~ '^[0-9A-F]{24}$'),
           (select setting::int8 from pg_settings where name = 'wal_segment_size'),
           (select active from pg_replication_slots where slot_name = $1),
           (select wal_status from pg_replication_slots where slot_name = $1)";

/// Asks the PostgreSQL of another server about itself, its timelines, and this server's slot there. Of one
/// that is no primary, only that and its database are told.
pub(crate) async fn ask_primary(options: &Options, peer: &Peer) -> Result<PrimarySeen, Error> {
    let doing = "asking the primary";
    let asked = tokio::time::timeout(PEER_TIMEOUT, async {
        // The role that may read timeline histories.
        let password = &options.secrets.replication;
        let mut config = base_config(REPLICATION_ROLE, password, MAINTENANCE_DATABASE);
        reach(&mut config, peer.address);
        let tls = options.tls.as_ref();
        let session = Session::connect_peer(&config, &peer.name, tls, PEER_TIMEOUT).await?;
        let slot = slot_name(&options.server);
        let row = session
            .query_one(PRIMARY_QUERY, &[&slot])
            .await
            .doing(doing)?;
        let mut seen = read_primary(&peer.name, &row).doing(doing)?;
        seen.history.ended = timeline_history(&session, seen.history.end.timeline).await?;
        Ok(seen)
    });
    asked
        .await
        .unwrap_or_else(|_| Err(timed_out(doing, PEER_TIMEOUT)))
}

fn read_primary(
    server: &ServerName,
    row: &tokio_postgres::Row,
) -> Result<PrimarySeen, tokio_postgres::Error> {
    let checkpoint_timeline = row.try_get::<_, i32>(1)?.cast_unsigned();
    let flushed: Option<PgLsn> = row.try_get(2)?;
    let file: Option<&str> = row.try_get(3)?;
    let oldest: Option<String> = row.try_get(4)?;
    let segment_size: i64 = row.try_get(5)?;
    let timeline = file.and_then(|file| u32::from_str_radix(file.get(..8)?, 16).ok());
    let end = Position {
        timeline: timeline.unwrap_or(checkpoint_timeline),
        lsn: Lsn(flushed.map_or(0, u64::from)),
    };
    Ok(PrimarySeen {
        server: server.clone(),
        is_primary: flushed.is_some(),
        system_id: row.try_get::<_, i64>(0)?.cast_unsigned(),
        history: History::new(Vec::new(), end),
        checkpoint_timeline,
        oldest: oldest
            .and_then(|name| segment_start(&name, segment_size.cast_unsigned()))
            .unwrap_or_default(),
        slot: read_slot(row.try_get(6)?, row.try_get(7)?),
    })
}

/// The timelines that led to `timeline`, from the file of the server at the other end.
pub(crate) async fn timeline_history(
    session: &Session,
    timeline: u32,
) -> Result<Vec<Position>, Error> {
    if timeline <= 1 {
        return Ok(Vec::new());
    }
    let doing = "reading a timeline's history";
    let path = format!("pg_wal/{}", history_file(timeline));
    let query = "select convert_from(pg_read_binary_file($1, 0, $2, false), 'UTF8')";
    let row = session
        .query_one(query, &[&path, &HISTORY_BYTES_MAX])
        .await
        .doing(doing)?;
    let text: String = row.try_get(0).doing(doing)?;
    parse_history(&text).map_err(|error| Error::Blocked {
        what: format!("{path} of the primary: {error}"),
        hint: "look at that file there".to_owned(),
    })
}

fn read_slot(active: Option<bool>, wal_status: Option<&str>) -> SlotSeen {
    match (active, wal_status) {
        (None, _) => SlotSeen::Missing,
        (_, Some("lost")) => SlotSeen::Lost,
        (Some(true), _) => SlotSeen::Active,
        (Some(false), _) => SlotSeen::Ready,
    }
}

/// The last 16 digits of a WAL file's name: the high half of the position, and the number of the
/// segment within 4 GiB.
fn segment_start(digits: &str, segment_size: u64) -> Option<Lsn> {
    if digits.len() != 16 || !digits.is_ascii() {
        return None;
    }
    let high = u64::from_str_radix(&digits[..8], 16).ok()?;
    let number = u64::from_str_radix(&digits[8..], 16).ok()?;
    let low = number.checked_mul(segment_size)?;
    (low < 1 << 32).then_some(Lsn(high << 32 | low))
}

/// An error in the few words that fit a table.
pub(crate) fn describe(error: &Error) -> String {
    match error {
        Error::Timeout { .. } => "no answer".to_owned(),
        Error::Sql { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_give_positions() {
        let at = |digits| segment_start(digits, 16 << 20).map(|lsn| lsn.to_string());
        assert_eq!(at("0000000000000001").as_deref(), Some("0/1000000"));
        assert_eq!(at("00000002000000FF").as_deref(), Some("2/FF000000"));
        assert_eq!(at("0000000200000100"), None);
        assert_eq!(at("1"), None);
        assert_eq!(at("ü00000200000010"), None);
    }
}
