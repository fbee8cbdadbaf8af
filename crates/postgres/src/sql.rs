//! What is said to the local PostgreSQL over its socket.

use trilith_base::ServerName;

use postgres_protocol::password::scram_sha_256;
use tokio_postgres::types::PgLsn;

use crate::error::{Error, SqlContext};
use crate::event::SlotChange;
use crate::lsn::Lsn;
use crate::options::{MONITOR_ROLE, Options, Peer, REPLICATION_ROLE, slot_name};
use crate::remote::Session;
use crate::secrets::Password;
use crate::status::SlotStatus;

/// One look at the local PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub in_recovery: bool,
    /// Primary: end of the WAL written. Replica: end of the WAL replayed.
    pub lsn: Lsn,
    /// Replica: end of the WAL that it has, replayed or not.
    pub received: Lsn,
    pub streaming: bool,
    pub timeline: u32,
    pub system_id: u64,
}

const SAMPLE: &str = "\
    select pg_is_in_recovery(),
           case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
                else pg_current_wal_lsn() end,
           case when pg_is_in_recovery()
                then greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) end,
           exists (select from pg_stat_wal_receiver where status = 'streaming'),
           (select timeline_id from pg_control_checkpoint()),
           (select system_identifier from pg_control_system())";

pub(crate) async fn sample(session: &Session) -> Result<Sample, Error> {
    let doing = "looking at the local PostgreSQL";
    let row = session.query_one(SAMPLE, &[]).await.doing(doing)?;
    let lsn = |index| {
        let lsn: Option<PgLsn> = row.try_get(index)?;
        Ok(Lsn(lsn.map_or(0, u64::from)))
    };
    let read = || {
        Ok(Sample {
            in_recovery: row.try_get(0)?,
            lsn: lsn(1)?,
            received: lsn(2)?,
            streaming: row.try_get(3)?,
            timeline: row.try_get::<_, i32>(4)?.cast_unsigned(),
            system_id: row.try_get::<_, i64>(5)?.cast_unsigned(),
        })
    };
    read().doing(doing)
}

/// Creates roles and the application's database, and sets the passwords. May be repeated.
pub(crate) async fn set_up(session: &Session, options: &Options) -> Result<(), Error> {
    let secrets = &options.secrets;
    let app = options.user.as_str();
    ensure_role(
        session,
        REPLICATION_ROLE,
        "replication",
        &secrets.replication,
    )
    .await?;
    // What pg_rewind needs (its documentation, "Notes") and [`ask_primary`](crate::remote::ask_primary)
    // asks. Rights on functions are those of one database: this one.
    let grants = format!(
        "grant execute on function pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean),
             pg_read_binary_file(text), pg_read_binary_file(text, bigint, bigint, boolean)
             to {REPLICATION_ROLE};
         grant pg_monitor to {REPLICATION_ROLE}"
    );
    session
        .batch_execute(&grants)
        .await
        .doing("allowing other servers to rewind")?;
    ensure_role(session, MONITOR_ROLE, "", &secrets.monitor).await?;
    let grant = format!("grant pg_monitor to {MONITOR_ROLE}");
    session
        .batch_execute(&grant)
        .await
        .doing("allowing observers to observe")?;
    ensure_role(session, app, "", &secrets.app).await?;

    let doing = "creating the application's database";
    let exists = session
        .query_opt(
            "select from pg_database where datname = $1",
            &[&options.database],
        )
        .await
        .doing(doing)?;
    if exists.is_none() {
        // Both names are checked by `Options::validate`: no quote can be in them.
        let create = format!(
            "create database \"{}\" owner \"{}\"",
            options.database, options.user
        );
        session.batch_execute(&create).await.doing(doing)?;
    }
    Ok(())
}

/// The password goes over as a SCRAM verifier: in clear it could end in PostgreSQL's log.
async fn ensure_role(
    session: &Session,
    role: &str,
    attributes: &str,
    password: &Password,
) -> Result<(), Error> {
    let doing = "creating a role";
    let exists = session
        .query_opt("select from pg_roles where rolname = $1", &[&role])
        .await
        .doing(doing)?;
    let verb = if exists.is_some() { "alter" } else { "create" };
    let verifier = scram_sha_256(password.expose().as_bytes());
    let statement = format!("{verb} role \"{role}\" login {attributes} password '{verifier}'");
    session.batch_execute(&statement).await.doing(doing)
}

/// A physical slot of ours, as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlotRow {
    pub name: String,
    pub active: bool,
    pub lost: bool,
    pub held_bytes: u64,
}

const SLOTS: &str = "\
    select slot_name::text, active, coalesce(wal_status = 'lost', false),
           coalesce(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
                                         else pg_current_wal_lsn() end, restart_lsn), 0)::int8
      from pg_replication_slots
     where slot_type = 'physical' and not temporary and slot_name like 'trilith\\_%'
     order by slot_name";

/// Makes the slots what they should be: one per replica, none that lost its WAL, none of former
/// replicas. Tells what was changed, and how the slots are.
pub(crate) async fn keep_slots(
    session: &Session,
    replicas: &[Peer],
) -> Result<(Vec<(SlotChange, String)>, Vec<SlotStatus>), Error> {
    let doing = "looking after the replication slots";
    let read = async || {
        let rows = session.query(SLOTS, &[]).await.doing(doing)?;
        let slot = |row: &tokio_postgres::Row| {
            Ok(SlotRow {
                name: row.try_get(0)?,
                active: row.try_get(1)?,
                lost: row.try_get(2)?,
                held_bytes: u64::try_from(row.try_get::<_, i64>(3)?).unwrap_or(0),
            })
        };
        let slots: Result<Vec<SlotRow>, tokio_postgres::Error> = rows.iter().map(slot).collect();
        slots.doing(doing)
    };
    let mut slots = read().await?;
    let changes = slot_changes(replicas, &slots);
    for (change, name) in &changes {
        if *change != SlotChange::Created {
            session
                .execute("select pg_drop_replication_slot($1)", &[name])
                .await
                .doing(doing)?;
        }
        if *change != SlotChange::Dropped {
            // Reserves WAL from now on, not from the first connection: the copy comes first.
            session
                .execute(
                    "select pg_create_physical_replication_slot($1, true)",
                    &[name],
                )
                .await
                .doing(doing)?;
        }
    }
    if !changes.is_empty() {
        slots = read().await?;
    }
    Ok((changes, slot_status(replicas, &slots)))
}

fn slot_changes(replicas: &[Peer], slots: &[SlotRow]) -> Vec<(SlotChange, String)> {
    let wanted: Vec<String> = replicas
        .iter()
        .map(|replica| slot_name(&replica.name))
        .collect();
    let mut changes: Vec<(SlotChange, String)> = wanted
        .iter()
        .filter(|name| !slots.iter().any(|slot| slot.name == **name))
        .map(|name| (SlotChange::Created, name.clone()))
        .collect();
    // An active slot cannot be dropped, and somebody uses it.
    for slot in slots.iter().filter(|slot| !slot.active) {
        if !wanted.contains(&slot.name) {
            changes.push((SlotChange::Dropped, slot.name.clone()));
        } else if slot.lost {
            changes.push((SlotChange::Recreated, slot.name.clone()));
        }
    }
    changes
}

fn slot_status(replicas: &[Peer], slots: &[SlotRow]) -> Vec<SlotStatus> {
    let of = |name: &ServerName| {
        let slot_name = slot_name(name);
        let slot = slots.iter().find(|slot| slot.name == slot_name)?;
        Some(SlotStatus {
            replica: name.clone(),
            active: slot.active,
            held_bytes: slot.held_bytes,
        })
    };
    replicas
        .iter()
        .filter_map(|replica| of(&replica.name))
        .collect()
}

/// When the configuration was last read.
pub(crate) async fn conf_load_time(session: &Session) -> Result<String, Error> {
    let doing = "asking when the configuration was read";
    let row = session
        .query_one("select pg_conf_load_time()::text", &[])
        .await
        .doing(doing)?;
    row.try_get(0).doing(doing)
}

/// Settings that have changed in the files and need a restart.
pub(crate) async fn pending_restart(session: &Session) -> Result<Vec<String>, Error> {
    let doing = "asking which settings need a restart";
    let rows = session
        .query("select name from pg_settings where pending_restart", &[])
        .await
        .doing(doing)?;
    let names: Result<_, tokio_postgres::Error> = rows.iter().map(|row| row.try_get(0)).collect();
    names.doing(doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> Peer {
        Peer {
            name: ServerName::new(name).unwrap(),
            address: ([10, 0, 0, 1], 5433).into(),
        }
    }

    fn slot(name: &str, active: bool, lost: bool) -> SlotRow {
        SlotRow {
            name: name.to_owned(),
            active,
            lost,
            held_bytes: 5,
        }
    }

    #[test]
    fn slots_follow_the_replicas() {
        let replicas = [peer("two"), peer("three"), peer("four")];
        let slots = [
            slot("trilith_two", true, false),
            slot("trilith_three", false, true),
            slot("trilith_old", false, false),
            slot("trilith_busy", true, false),
        ];
        let changes = slot_changes(&replicas, &slots);
        let expected = [
            (SlotChange::Created, "trilith_four"),
            (SlotChange::Recreated, "trilith_three"),
            (SlotChange::Dropped, "trilith_old"),
        ]
        .map(|(change, name)| (change, name.to_owned()));
        assert_eq!(changes, expected);
        let status = slot_status(&replicas, &slots);
        let names: Vec<_> = status
            .iter()
            .map(|s| (s.replica.as_str(), s.active))
            .collect();
        assert_eq!(names, [("two", true), ("three", false)]);
    }
}
