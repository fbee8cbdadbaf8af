//! Which rows are there in the end.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::sql_load::TABLE;
use super::sql_report::Verified;
use super::sql_session::{Place, Session, Trouble};
use super::{SQL_RETRY_MAX, VERIFY_TIMEOUT};
use crate::failure::{Failure, Outcome};

/// Makes the table, through the first place that leads to a primary.
pub fn make_table(places: &[Place]) -> Outcome {
    let sql =
        format!("CREATE TABLE IF NOT EXISTS {TABLE} (run text, id bigint, PRIMARY KEY (run, id))");
    on_a_primary(places, &sql).map_err(|why| {
        Failure::failed(format!(
            "nothing can be written before anything is broken: {why}"
        ))
    })
}

pub fn drop_table(places: &[Place]) -> Outcome {
    let sql = format!("DROP TABLE IF EXISTS {TABLE}");
    on_a_primary(places, &sql)
        .map_err(|why| Failure::failed(format!("the table {TABLE} stays: {why}")))
}

fn on_a_primary(places: &[Place], sql: &str) -> Result<(), String> {
    let mut reason = "no place to connect to".to_owned();
    for place in places {
        let done = place.block_on(async |place| {
            let session = place.connect().await?;
            session.ask_within(sql, VERIFY_TIMEOUT / 4).await
        });
        match done.map_err(|failure| failure.message) {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(trouble)) => reason = format!("{}: {}", place.name, trouble.why()),
            Err(why) => reason = why,
        }
    }
    Err(reason)
}

/// The rows of `run` as a client sees them through `places`, the first that leads to a primary, and on
/// those of `direct` that are replicas once they have replayed what the primary had written by then.
pub fn verify(places: &[Place], direct: &[Place], run: &str) -> Outcome<Verified> {
    let since = Instant::now();
    let mut reason = "no place to connect to".to_owned();
    let mut found = None;
    while found.is_none() && since.elapsed() < VERIFY_TIMEOUT {
        for place in places {
            match place.block_on(async |place| on_primary(place, run).await)? {
                Ok(rows) => {
                    found = Some(rows);
                    break;
                }
                Err(trouble) => reason = format!("{}: {}", place.name, trouble.why()),
            }
        }
        std::thread::sleep(SQL_RETRY_MAX);
    }
    let Some((present, lsn)) = found else {
        return Ok(Verified {
            primary: Err(reason),
            replicas: Vec::new(),
        });
    };
    let mut replicas = Vec::new();
    for place in direct {
        if let Some(seen) = place.block_on(async |place| on_replica(place, run, &lsn).await)? {
            replicas.push((place.name.clone(), seen));
        }
    }
    Ok(Verified {
        primary: Ok(present),
        replicas,
    })
}

async fn on_primary(place: &Place, run: &str) -> Result<(BTreeSet<i64>, String), Trouble> {
    let session = place.connect().await?;
    // Fails on a replica, which is what is wanted.
    let lsn = session.ask("SELECT pg_current_wal_lsn()").await?;
    let lsn = lsn.first().and_then(|row| row.get(0)).unwrap_or_default();
    Ok((rows(&session, run).await?, lsn.to_owned()))
}

/// `None` when it is no replica.
async fn on_replica(place: &Place, run: &str, lsn: &str) -> Option<Result<BTreeSet<i64>, String>> {
    let since = Instant::now();
    let mut reason = "it has not replayed everything".to_owned();
    // It says `t` or `f`; nothing on a primary.
    let sql = format!(
        "SELECT coalesce(pg_last_wal_replay_lsn() >= '{lsn}', false) WHERE pg_is_in_recovery()"
    );
    while since.elapsed() < VERIFY_TIMEOUT {
        let asked = async {
            let session = place.connect().await?;
            let caught_up = session.ask(&sql).await?;
            match caught_up.first().and_then(|row| row.get(0)) {
                None => Ok(None),
                Some("t") => rows(&session, run).await.map(|rows| Some(Some(rows))),
                Some(_) => Ok(Some(None)),
            }
        };
        match asked.await {
            Ok(None) => return None,
            Ok(Some(Some(rows))) => return Some(Ok(rows)),
            Ok(Some(None)) => {}
            Err(trouble) => reason = Trouble::why(trouble),
        }
        sleep(SQL_RETRY_MAX).await;
    }
    Some(Err(reason))
}

async fn rows(session: &Session, run: &str) -> Result<BTreeSet<i64>, Trouble> {
    let sql = format!("SELECT id FROM {TABLE} WHERE run = '{run}'");
    let limit: Duration = VERIFY_TIMEOUT / 2;
    let rows = session.ask_within(&sql, limit).await?;
    let ids = rows.iter().filter_map(|row| row.get(0)?.parse().ok());
    Ok(ids.collect())
}
