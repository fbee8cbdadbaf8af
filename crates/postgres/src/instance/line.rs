//! The kept session to the local PostgreSQL, and the one question that is asked over it.

use std::path::PathBuf;

use tokio_postgres::types::PgLsn;
use tokio_postgres::{Row, Statement};
use trilith_base::ServerName;
use trilith_ha::Lsn;

use crate::error::{Error, SqlContext};
use crate::limits::PEER_TIMEOUT;
use crate::options::{ADMIN_ROLE, MAINTENANCE_DATABASE, MONITOR_ROLE, Options, REPLICATION_ROLE};
use crate::remote::Session;
use crate::secrets::Password;

/// Where the local PostgreSQL is reached, and how.
#[derive(Clone)]
pub(super) struct Door {
    folder: PathBuf,
    port: u16,
    password: Password,
}

impl Door {
    pub fn new(options: &Options, folder: PathBuf) -> Self {
        Self {
            folder,
            port: options.port,
            password: options.secrets.superuser.clone(),
        }
    }

    /// A session of its own, for what takes long.
    pub async fn session(&self) -> Result<Session, Error> {
        self.session_in(MAINTENANCE_DATABASE).await
    }

    pub async fn session_in(&self, database: &str) -> Result<Session, Error> {
        Session::local(
            &self.folder,
            self.port,
            database,
            &self.password,
            PEER_TIMEOUT,
        )
        .await
    }

    /// A session for questions.
    pub async fn line(&self) -> Result<Line, Error> {
        let doing = "preparing to look at the local PostgreSQL";
        let session = self.session().await?;
        let look = session.prepare(&look()).await.doing(doing)?;
        let row = session.query_one(SHAPE, &[]).await.doing(doing)?;
        let read = || {
            Ok(WalShape {
                segment_bytes: row.try_get::<_, i64>(0)?.cast_unsigned(),
                page_bytes: row.try_get::<_, i64>(1)?.cast_unsigned(),
            })
        };
        let shape = read().doing(doing)?;
        Ok(Line {
            session,
            look,
            shape,
        })
    }
}

/// How WAL is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WalShape {
    pub segment_bytes: u64,
    pub page_bytes: u64,
}

pub(super) struct Line {
    pub session: Session,
    look: Statement,
    pub shape: WalShape,
}

/// One look at the local PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub in_recovery: bool,
    pub system_id: u64,
    pub checkpoint_timeline: u32,
    /// `synchronous_standby_names` and `primary_conninfo`, as loaded.
    pub synchronous_standby_names: String,
    pub primary_conninfo: String,
    /// Sessions that are not Trilith's own.
    pub clients: i64,
    pub slots: Vec<SlotSeen>,
    pub primary: Option<PrimaryLook>,
    pub replica: Option<ReplicaLook>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PrimaryLook {
    pub timeline: u32,
    /// End of the WAL that is safely on disk.
    pub flushed: Lsn,
    pub senders: Vec<Sender>,
}

/// A connection that WAL is sent over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    /// `application_name`.
    pub name: String,
    pub streaming: bool,
    pub flushed: Lsn,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReplicaLook {
    pub replayed: Lsn,
    /// End of the WAL that was received and flushed since PostgreSQL was started; `None` when none was.
    pub received: Option<Lsn>,
    /// The timeline of what the WAL receiver writes, while there is one.
    pub received_timeline: Option<u32>,
    /// There is a WAL receiver.
    pub receiving: bool,
    pub streaming: bool,
    pub startup: Startup,
}

/// What the process that replays WAL is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Startup {
    /// Replaying.
    Busy,
    /// It has tried everything, and sleeps before it tries again: no WAL receiver is asked for.
    Resting,
    /// It waits for a WAL receiver.
    WaitingForWal,
    /// It waits for something else: a query that is in its way, or a person who has paused it.
    HeldUp,
}

/// A physical slot of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlotSeen {
    pub name: String,
    pub active: bool,
    pub lost: bool,
    pub held_bytes: u64,
}

impl Look {
    /// The sender of that server that is the furthest.
    pub fn sender(&self, name: &ServerName) -> Option<&Sender> {
        let senders = &self.primary.as_ref()?.senders;
        let of_server = senders.iter().filter(|sender| sender.name == name.as_str());
        of_server.max_by_key(|sender| (sender.streaming, sender.flushed))
    }
}

impl ReplicaLook {
    /// Nothing more will be replayed unless it is received first.
    pub fn is_at_end(&self) -> bool {
        matches!(self.startup, Startup::Resting | Startup::WaitingForWal)
    }
}

const SHAPE: &str = "\
    select (select setting::int8 from pg_settings where name = 'wal_segment_size'),
           (select setting::int8 from pg_settings where name = 'wal_block_size')";

/// Everything in one round trip. `pg_is_in_recovery` is asked again before each function that fails in
/// recovery: it may end meanwhile.
fn look() -> String {
    format!(
        "select pg_is_in_recovery(),
                (select system_identifier from pg_control_system()),
                (select timeline_id from pg_control_checkpoint()),
                current_setting('synchronous_standby_names'),
                current_setting('primary_conninfo'),
                activity.clients,
                array(select concat_ws(' ', slot_name, active, coalesce(wal_status, '-'),
                             greatest(0, pg_wal_lsn_diff(
                                 case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
                                      else pg_current_wal_lsn() end, restart_lsn)))
                        from pg_replication_slots
                       where slot_type = 'physical' and not temporary
                         and slot_name like 'trilith\\_%'
                       order by slot_name),
                case when not pg_is_in_recovery()
                     then pg_walfile_name(pg_current_wal_insert_lsn()) end,
                case when not pg_is_in_recovery() then pg_current_wal_flush_lsn() end,
                array(select concat_ws(' ', flush_lsn, state, timeline, application_name)
                        from (select coalesce(flush_lsn, '0/0') as flush_lsn, replication.state,
                                     coalesce(substring(query from 'TIMELINE ([0-9]+)$'), '-')
                                         as timeline,
                                     replication.application_name
                                from pg_stat_replication replication
                                left join pg_stat_activity using (pid)) senders),
                pg_last_wal_replay_lsn(),
                pg_last_wal_receive_lsn(),
                receiver.received_tli,
                activity.receiver or receiver.pid is not null,
                coalesce(receiver.status = 'streaming', false),
                activity.startup
           from (select count(*) filter (where backend_type = 'client backend' and usename
                             not in ('{ADMIN_ROLE}', '{MONITOR_ROLE}', '{REPLICATION_ROLE}')) as clients,
                        coalesce(bool_or(backend_type = 'walreceiver'), false) as receiver,
                        max(wait_event) filter (where backend_type = 'startup') as startup
                   from pg_stat_activity) activity
           left join pg_stat_wal_receiver receiver on true"
    )
}

impl Line {
    /// Looks. Bounded by whoever asks.
    pub async fn look(&self) -> Result<Look, Error> {
        let doing = "looking at the local PostgreSQL";
        let row = self.session.query_one(&self.look, &[]).await.doing(doing)?;
        read_look(&row).doing(doing)
    }
}

fn read_look(row: &Row) -> Result<Look, tokio_postgres::Error> {
    let lsn = |index: usize| -> Result<Option<Lsn>, tokio_postgres::Error> {
        let lsn: Option<PgLsn> = row.try_get(index)?;
        Ok(lsn.map(|lsn| Lsn(lsn.into())))
    };
    let in_recovery: bool = row.try_get(0)?;
    let slots: Vec<String> = row.try_get(6)?;
    let file: Option<String> = row.try_get(7)?;
    let senders: Vec<String> = row.try_get(9)?;
    let timeline = file.and_then(|file| u32::from_str_radix(file.get(..8)?, 16).ok());
    let primary = match (in_recovery, timeline, lsn(8)?) {
        (false, Some(timeline), Some(flushed)) => Some(PrimaryLook {
            timeline,
            flushed,
            senders: senders
                .iter()
                .filter_map(|text| read_sender(text, timeline))
                .collect(),
        }),
        _ => None,
    };
    let replica = match in_recovery {
        true => Some(ReplicaLook {
            replayed: lsn(10)?.unwrap_or_default(),
            received: lsn(11)?,
            received_timeline: row.try_get::<_, Option<i32>>(12)?.map(i32::cast_unsigned),
            receiving: row.try_get(13)?,
            streaming: row.try_get(14)?,
            startup: startup(row.try_get::<_, Option<&str>>(15)?),
        }),
        false => None,
    };
    Ok(Look {
        in_recovery,
        system_id: row.try_get::<_, i64>(1)?.cast_unsigned(),
        checkpoint_timeline: row.try_get::<_, i32>(2)?.cast_unsigned(),
        synchronous_standby_names: row.try_get(3)?,
        primary_conninfo: row.try_get(4)?,
        clients: row.try_get(5)?,
        slots: slots.iter().filter_map(|text| read_slot(text)).collect(),
        primary,
        replica,
    })
}

/// `flush_lsn state timeline application_name`, of which the last may hold anything.
///
/// A replica that streams an earlier timeline may be past the place where this primary's began. What it has
/// flushed there is another history, and says nothing about what is written here.
fn read_sender(text: &str, timeline: u32) -> Option<Sender> {
    let mut words = text.splitn(4, ' ');
    let flushed = words.next()?.parse().ok()?;
    let state = words.next()?;
    let its: Option<u32> = words.next()?.parse().ok();
    Some(Sender {
        flushed,
        streaming: state == "streaming" && its.is_none_or(|its| its == timeline),
        name: words.next().unwrap_or_default().to_owned(),
    })
}

/// `name t|f wal_status held`.
fn read_slot(text: &str) -> Option<SlotSeen> {
    let mut words = text.split(' ');
    let name = words.next()?.to_owned();
    let active = words.next()? == "t";
    let lost = words.next()? == "lost";
    let held = words.next().and_then(|held| held.parse().ok());
    Some(SlotSeen {
        name,
        active,
        lost,
        held_bytes: held.unwrap_or(0),
    })
}

/// `wait_event` of the startup process (wait_event.h). It rests in `WaitForWALToBecomeAvailable` once
/// archive, WAL folder and WAL receiver have failed in turn; a receiver that still ran was stopped before.
fn startup(wait_event: Option<&str>) -> Startup {
    match wait_event {
        None => Startup::Busy,
        Some("RecoveryRetrieveRetryInterval") => Startup::Resting,
        Some("RecoveryWalStream") => Startup::WaitingForWal,
        Some("RecoveryPause") => Startup::HeldUp,
        Some(event) if event.starts_with("RecoveryConflict") || event == "BufferPin" => {
            Startup::HeldUp
        }
        // Reading and writing files, mostly.
        Some(_) => Startup::Busy,
    }
}

#[cfg(test)]
mod tests;
