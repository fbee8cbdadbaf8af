//! `trilith config`: the versions of the cluster's config.

use clap::{Args as ClapArgs, Subcommand};
use comfy_table::{ContentArrangement, Table, presets};
use trilith_monitor::api::{ConfigAnswer, HistoryAnswer, RollbackRequest};

use crate::admin;
use crate::args::Where;
use crate::commands::reload;
use crate::failure::{Failure, Outcome};
use crate::terminal;

/// The cluster's config: what is in force, its versions, the way back.
#[derive(Debug, ClapArgs)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// The versions that are kept, the newest first.
    History {
        #[command(flatten)]
        place: Where,
        /// JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// The text of a version; of the one in force, if none is given.
    Show {
        /// Number of the version.
        #[arg(value_name = "N")]
        version: Option<u64>,
        #[command(flatten)]
        place: Where,
        /// JSON instead of the text alone.
        #[arg(long)]
        json: bool,
    },
    /// Put an earlier version in force again, as a new one.
    Rollback {
        /// Number of the version [default: the one before the present one].
        #[arg(value_name = "N")]
        version: Option<u64>,
        #[command(flatten)]
        place: Where,
        /// Only say what would change, and when it would take effect.
        #[arg(long)]
        dry_run: bool,
        /// JSON instead of text.
        #[arg(long)]
        json: bool,
    },
}

pub fn run(args: &Arguments) -> Outcome {
    match &args.command {
        Command::History { place, json } => history(place, *json),
        Command::Show {
            version,
            place,
            json,
        } => show(*version, place, *json),
        Command::Rollback {
            version,
            place,
            dry_run,
            json,
        } => {
            let request = RollbackRequest {
                version: *version,
                dry_run: *dry_run,
                by: reload::user(),
            };
            let body = serde_json::to_value(&request).map_err(Failure::failed)?;
            let local = admin::local(place)?;
            let answer = local.call("POST", "/v1/config/rollback", Some(&body))?;
            reload::show(answer, *json)
        }
    }
}

fn history(place: &Where, json: bool) -> Outcome {
    let answer = admin::local(place)?.call("GET", "/v1/config/history", None)?;
    if json {
        let text = serde_json::to_string_pretty(&answer).unwrap_or_default();
        terminal::data(&format!("{text}\n"));
        return Ok(());
    }
    let history: HistoryAnswer = serde_json::from_value(answer).map_err(Failure::failed)?;
    terminal::data(&table(&history));
    Ok(())
}

fn table(history: &HistoryAnswer) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(["VERSION", "WHEN (UTC)", "BY", "SHA-256", ""]);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for entry in &history.versions {
        let mut notes = Vec::new();
        if history.current == Some(entry.version) {
            notes.push("in force".to_owned());
        }
        notes.extend(
            entry
                .rollback_to
                .map(|version| format!("version {version} again")),
        );
        table.add_row([
            entry.version.to_string(),
            utc(entry.at_unix_ms),
            entry.by.clone(),
            entry.sha256.chars().take(12).collect(),
            notes.join(", "),
        ]);
    }
    let lines = table.to_string();
    lines
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

/// `2026-11-23 05:40:00`.
fn utc(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1_000).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => "?".to_owned(),
    }
}

fn show(version: Option<u64>, place: &Where, json: bool) -> Outcome {
    let path = match version {
        Some(version) => format!("/v1/config?version={version}"),
        None => "/v1/config".to_owned(),
    };
    let answer = admin::local(place)?.call("GET", &path, None)?;
    if json {
        let text = serde_json::to_string_pretty(&answer).unwrap_or_default();
        terminal::data(&format!("{text}\n"));
        return Ok(());
    }
    let shown: ConfigAnswer = serde_json::from_value(answer).map_err(Failure::failed)?;
    terminal::data(&shown.current.text);
    for notice in shown.server.notices() {
        terminal::say(&notice);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use trilith_monitor::api::{CONFIG_SCHEMA, ConfigEntry};

    use super::*;

    #[test]
    fn the_history_is_a_table() {
        let entry = |version, rollback_to| ConfigEntry {
            version,
            sha256: "ba7816bf8f01cfea414140de".into(),
            by: "root@one".into(),
            at_unix_ms: 1_700_000_000_000,
            rollback_to,
        };
        let history = HistoryAnswer {
            schema: CONFIG_SCHEMA,
            current: Some(3),
            versions: vec![entry(3, Some(1)), entry(2, None)],
        };
        assert_eq!(
            table(&history),
            "VERSION  WHEN (UTC)           BY        SHA-256\n\
             3        2023-11-14 22:13:20  root@one  ba7816bf8f01  in force, version 1 again\n\
             2        2023-11-14 22:13:20  root@one  ba7816bf8f01\n"
        );
    }
}
