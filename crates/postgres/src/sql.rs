//! What is said to the local PostgreSQL over its socket.

use postgres_protocol::password::scram_sha_256;

use crate::error::{Error, SqlContext};
use crate::event::SlotChange;
use crate::options::{MONITOR_ROLE, Options, Peer, REPLICATION_ROLE, slot_name};
use crate::remote::Session;
use crate::secrets::Password;

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

    ensure_database(session, &options.database, app).await
}

/// Further users and databases. May be repeated.
pub(crate) async fn set_up_further(session: &Session, options: &Options) -> Result<(), Error> {
    for user in &options.users {
        let attributes = if user.createdb {
            "createdb"
        } else {
            "nocreatedb"
        };
        let password = options.secrets.of_user(&user.name);
        ensure_role(session, &user.name, attributes, &password).await?;
    }
    for database in &options.databases {
        ensure_database(session, &database.name, &database.owner).await?;
    }
    Ok(())
}

/// In the database of that session, as superuser. May be repeated.
pub(crate) async fn ensure_extensions(session: &Session, names: &[String]) -> Result<(), Error> {
    for name in names {
        let create = format!("create extension if not exists \"{name}\"");
        let created = session.batch_execute(&create).await;
        created.doing("creating an extension")?;
    }
    Ok(())
}

/// Both names are checked by `Options::validate`: no quote can be in them.
async fn ensure_database(session: &Session, database: &str, owner: &str) -> Result<(), Error> {
    let doing = "creating a database";
    let exists = session
        .query_opt("select from pg_database where datname = $1", &[&database])
        .await
        .doing(doing)?;
    if exists.is_none() {
        let create = format!("create database \"{database}\" owner \"{owner}\"");
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
}

const SLOTS: &str = "\
    select slot_name::text, active, coalesce(wal_status = 'lost', false)
      from pg_replication_slots
     where slot_type = 'physical' and not temporary and slot_name like 'trilith\\_%'
     order by slot_name";

/// Makes the slots what they should be: one per replica, none that lost its WAL, none of former
/// replicas. Tells what was changed.
pub(crate) async fn keep_slots(
    session: &Session,
    replicas: &[Peer],
) -> Result<Vec<(SlotChange, String)>, Error> {
    let doing = "looking after the replication slots";
    let rows = session.query(SLOTS, &[]).await.doing(doing)?;
    let slot = |row: &tokio_postgres::Row| {
        Ok(SlotRow {
            name: row.try_get(0)?,
            active: row.try_get(1)?,
            lost: row.try_get(2)?,
        })
    };
    let slots: Result<Vec<SlotRow>, tokio_postgres::Error> = rows.iter().map(slot).collect();
    let changes = slot_changes(replicas, &slots.doing(doing)?);
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
    Ok(changes)
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

#[cfg(test)]
mod tests {
    use trilith_base::ServerName;

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
    }
}
