//! What PostgreSQL counts itself, read for Prometheus under the names that `postgres_exporter` gives it.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_postgres::Row;

use crate::error::{Error, SqlContext};
use crate::limits::{SERIES_MAX, STATS_INTERVAL, STATS_TIMEOUT};
use crate::remote::{Session, monitor_config, timed_out};
use crate::secrets::Password;

/// Label names and values of one series.
pub type Labels = Vec<(&'static str, String)>;

/// One family of series.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The whole name, `pg_stat_database_xact_commit`.
    pub name: &'static str,
    pub help: &'static str,
    pub series: Vec<(Labels, f64)>,
}

/// The local PostgreSQL's own counters, as last read. Empty while it does not answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatsView {
    pub readings: Vec<Reading>,
    /// Settings that are in force after its next restart only.
    pub pending_restart: Vec<String>,
}

/// Reads until it is dropped.
pub struct Stats {
    view: watch::Receiver<Arc<StatsView>>,
    task: JoinHandle<()>,
}

impl Stats {
    /// `address`: of the local PostgreSQL, on an address of this server. `password`: of
    /// [`crate::MONITOR_ROLE`].
    pub fn start(address: SocketAddr, password: &Password) -> Self {
        let (sender, view) = watch::channel(Arc::default());
        let config = monitor_config(address, password);
        let task = tokio::spawn(read_forever(config, sender));
        Self { view, task }
    }

    /// The newest.
    pub fn view(&self) -> watch::Receiver<Arc<StatsView>> {
        self.view.clone()
    }
}

impl Drop for Stats {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_forever(config: tokio_postgres::Config, sender: watch::Sender<Arc<StatsView>>) {
    let mut ticks = tokio::time::interval(STATS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut session = None;
    loop {
        ticks.tick().await;
        let read = timeout(STATS_TIMEOUT, read(&config, &mut session)).await;
        let read = read.unwrap_or_else(|_| Err(timed_out(DOING, STATS_TIMEOUT)));
        if read.is_err() {
            // That it does not answer is told by those who watch it.
            session = None;
        }
        sender.send_replace(Arc::new(read.unwrap_or_default()));
    }
}

const DOING: &str = "reading PostgreSQL's counters";

async fn read(
    config: &tokio_postgres::Config,
    kept: &mut Option<Session>,
) -> Result<StatsView, Error> {
    let session = match kept {
        Some(session) => session,
        empty => empty.insert(Session::connect(config, STATS_TIMEOUT).await?),
    };
    let server = session.query_one(SERVER, &[]).await.doing(DOING)?;
    let databases = session.query(DATABASES, &[]).await.doing(DOING)?;
    let senders = session.query(SENDERS, &[]).await.doing(DOING)?;
    let sessions = session.query(SESSIONS, &[]).await.doing(DOING)?;
    let view = || {
        let mut readings = of_server(&server)?;
        readings.extend(columns(
            DATABASE_COLUMNS,
            &["datid", "datname"],
            &databases,
        )?);
        let labels = ["application_name", "client_addr", "slot_name", "state"];
        readings.extend(columns(SENDER_COLUMNS, &labels, &senders)?);
        readings.extend(columns(SESSION_COLUMNS, &["datname", "state"], &sessions)?);
        Ok(StatsView {
            readings,
            pending_restart: server.try_get("pending_restart")?,
        })
    };
    view().doing(DOING)
}

/// The age of the last transaction replayed says nothing while there is nothing to replay.
const SERVER: &str = "\
    select pg_is_in_recovery() as is_replica,
           (case when not pg_is_in_recovery() then 0
                 when pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn()
                      and exists (select from pg_stat_wal_receiver where status = 'streaming') then 0
                 else greatest(0, extract(epoch from now() - pg_last_xact_replay_timestamp()))
            end)::float8 as lag,
           extract(epoch from pg_postmaster_start_time())::float8 as started,
           current_setting('max_connections')::float8 as max_connections,
           current_setting('server_version') as version,
           array(select name from pg_settings where pending_restart order by name)
               as pending_restart";

const DATABASES: &str = "\
    select datid::text, datname::text, numbackends::float8, xact_commit::float8,
           xact_rollback::float8, blks_read::float8, blks_hit::float8, tup_returned::float8,
           tup_fetched::float8, tup_inserted::float8, tup_updated::float8, tup_deleted::float8,
           conflicts::float8, temp_files::float8, temp_bytes::float8, deadlocks::float8
      from pg_stat_database where datname is not null order by datname";

const DATABASE_COLUMNS: &[Column] = &[
    Column("numbackends", "pg_stat_database_numbackends", "Sessions"),
    Column(
        "xact_commit",
        "pg_stat_database_xact_commit",
        "Transactions committed",
    ),
    Column(
        "xact_rollback",
        "pg_stat_database_xact_rollback",
        "Transactions rolled back",
    ),
    Column(
        "blks_read",
        "pg_stat_database_blks_read",
        "Blocks read from files",
    ),
    Column(
        "blks_hit",
        "pg_stat_database_blks_hit",
        "Blocks found in shared buffers",
    ),
    Column(
        "tup_returned",
        "pg_stat_database_tup_returned",
        "Rows read by scans",
    ),
    Column(
        "tup_fetched",
        "pg_stat_database_tup_fetched",
        "Rows fetched by index scans",
    ),
    Column(
        "tup_inserted",
        "pg_stat_database_tup_inserted",
        "Rows inserted",
    ),
    Column(
        "tup_updated",
        "pg_stat_database_tup_updated",
        "Rows updated",
    ),
    Column(
        "tup_deleted",
        "pg_stat_database_tup_deleted",
        "Rows deleted",
    ),
    Column(
        "conflicts",
        "pg_stat_database_conflicts",
        "Queries cancelled on a replica by what it replayed",
    ),
    Column(
        "temp_files",
        "pg_stat_database_temp_files",
        "Temporary files written",
    ),
    Column(
        "temp_bytes",
        "pg_stat_database_temp_bytes",
        "Bytes written to temporary files",
    ),
    Column("deadlocks", "pg_stat_database_deadlocks", "Deadlocks"),
];

/// On a replica there are none, and `pg_current_wal_lsn()` would be an error.
const SENDERS: &str = "\
    select application_name, coalesce(host(client_addr), '') as client_addr,
           coalesce(slot_name, '')::text as slot_name, coalesce(state, '') as state,
           pg_wal_lsn_diff(position, replay_lsn)::float8 as behind,
           pg_wal_lsn_diff(position, '0/0')::float8 as position
      from (select case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
                        else pg_current_wal_lsn() end as position) here,
           pg_stat_replication left join pg_replication_slots on active_pid = pid
     order by application_name";

const SENDER_COLUMNS: &[Column] = &[
    Column(
        "behind",
        "pg_stat_replication_pg_wal_lsn_diff",
        "WAL that the replica has not replayed yet, in bytes",
    ),
    Column(
        "position",
        "pg_stat_replication_pg_current_wal_lsn_bytes",
        "End of the WAL written, in bytes",
    ),
];

const SESSIONS: &str = "\
    select coalesce(datname, '')::text as datname, coalesce(state, 'unknown') as state,
           count(*)::float8 as count
      from pg_stat_activity where backend_type = 'client backend'
     group by 1, 2 order by 1, 2";

const SESSION_COLUMNS: &[Column] = &[Column(
    "count",
    "pg_stat_activity_count",
    "Sessions by what they do",
)];

/// A column, the family that it becomes, and what that means.
struct Column(&'static str, &'static str, &'static str);

fn columns(
    columns: &[Column],
    labels: &[&'static str],
    rows: &[Row],
) -> Result<Vec<Reading>, tokio_postgres::Error> {
    let family = |column: &Column| {
        let series = rows.iter().take(SERIES_MAX).map(|row| {
            let label = |name: &&'static str| Ok((*name, row.try_get(*name)?));
            let labels = labels.iter().map(label).collect::<Result<Labels, _>>()?;
            Ok(row
                .try_get::<_, Option<f64>>(column.0)?
                .map(|value| (labels, value)))
        });
        let series: Vec<Option<_>> = series.collect::<Result<_, tokio_postgres::Error>>()?;
        Ok(Reading {
            name: column.1,
            help: column.2,
            series: series.into_iter().flatten().collect(),
        })
    };
    columns.iter().map(family).collect()
}

fn of_server(row: &Row) -> Result<Vec<Reading>, tokio_postgres::Error> {
    let one = |name, help, labels, value| Reading {
        name,
        help,
        series: vec![(labels, value)],
    };
    let replica: bool = row.try_get("is_replica")?;
    let version: String = row.try_get("version")?;
    let mut readings = vec![
        one(
            "pg_replication_is_replica",
            "Whether it is a replica",
            Labels::new(),
            f64::from(u8::from(replica)),
        ),
        one(
            "pg_postmaster_start_time_seconds",
            "When it was started, in seconds since 1970 UTC",
            Labels::new(),
            row.try_get("started")?,
        ),
        one(
            "pg_settings_max_connections",
            "The setting max_connections",
            Labels::new(),
            row.try_get("max_connections")?,
        ),
        one(
            "pg_static",
            "The version of PostgreSQL",
            vec![("short_version", version)],
            1.0,
        ),
    ];
    // None when it has replayed no transaction since its start.
    let lag: Option<f64> = row.try_get("lag")?;
    readings.extend(lag.map(|lag| {
        one(
            "pg_replication_lag_seconds",
            "Age of the last transaction replayed, or 0 when there is nothing to replay",
            Labels::new(),
            lag,
        )
    }));
    Ok(readings)
}
