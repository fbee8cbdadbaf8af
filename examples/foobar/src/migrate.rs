//! `server migrate`: applies what is new in `migrations/`, in the order of the file names.
//!
//! Everything happens in one transaction under one lock, so it may run anywhere, at any time,
//! several times at once: each file is applied once, or the schema stays as it was.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::time::sleep;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, NoTls};

use crate::log;
use crate::settings::Settings;

/// A fresh cluster may still be starting its database.
const PATIENCE: Duration = Duration::from_secs(30);
/// Any number that nothing else in this database locks.
const LOCK: i64 = 0x666f_6f62_6172;

pub async fn run(settings: &Settings) -> anyhow::Result<()> {
    let files = read_files("migrations")?;
    let mut client = connect(&settings.database).await?;
    let transaction = client.transaction().await?;
    transaction
        .query_typed("SELECT pg_advisory_xact_lock($1)", &[(&LOCK, Type::INT8)])
        .await?;
    transaction
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (
                name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())",
        )
        .await?;
    for (name, sql) in &files {
        let sql_insert = "INSERT INTO schema_migrations (name) VALUES ($1)
            ON CONFLICT DO NOTHING RETURNING name";
        if transaction
            .query_typed(sql_insert, &[(name, Type::TEXT)])
            .await?
            .is_empty()
        {
            log(format_args!("{name}: applied before"));
        } else {
            transaction
                .batch_execute(sql)
                .await
                .with_context(|| format!("migrations/{name}"))?;
            log(format_args!("{name}: applied"));
        }
    }
    transaction.commit().await.context("cannot commit")
}

fn read_files(dir: &str) -> anyhow::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(dir).with_context(|| format!("no folder `{dir}` here"))?;
    for entry in entries {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.ends_with(".sql") {
            let sql = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            files.push((name.to_owned(), sql));
        }
    }
    files.sort();
    Ok(files)
}

async fn connect(config: &Config) -> anyhow::Result<Client> {
    let end = Instant::now() + PATIENCE;
    loop {
        match config.connect(NoTls).await {
            Ok((client, io)) => {
                tokio::spawn(io);
                return Ok(client);
            }
            // A wrong password does not become right by waiting.
            Err(error)
                if error
                    .as_db_error()
                    .is_some_and(|e| e.code().code().starts_with("28")) =>
            {
                return Err(error).context("the database refuses the login");
            }
            Err(error) if Instant::now() >= end => {
                bail!(
                    "no database after {} s: {:#}",
                    PATIENCE.as_secs(),
                    anyhow::Error::new(error)
                )
            }
            Err(_) => sleep(Duration::from_millis(250)).await,
        }
    }
}
