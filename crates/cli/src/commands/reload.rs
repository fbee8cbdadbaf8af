//! `trilith reload`: the file becomes the config of the whole cluster.

use clap::Args as ClapArgs;
use serde_json::Value;
use trilith_monitor::api::{ReloadAnswer, ReloadRequest};

use crate::admin;
use crate::args::Where;
use crate::config_file::{self, Warnings};
use crate::failure::{Failure, Outcome, UNHEALTHY};
use crate::terminal;

/// Apply the config file, on all servers; print what changes.
///
/// It is checked and put in place on a server of this machine first; what cannot be used there changes
/// nothing anywhere. No connection closes. Exit code 3 when a server does not follow.
#[derive(Debug, ClapArgs)]
pub struct Arguments {
    #[command(flatten)]
    pub place: Where,
    /// Only say what would change, and when it would take effect.
    #[arg(long)]
    pub dry_run: bool,
    /// JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &Arguments) -> Outcome {
    let path = admin::config_path(&args.place)?;
    let file = config_file::load_file(&path, Warnings::Show)?;
    let local = admin::local_of(path, file.config)?;
    let request = ReloadRequest {
        text: file.text,
        dry_run: args.dry_run,
        by: user(),
    };
    let body = serde_json::to_value(&request).map_err(Failure::failed)?;
    let answer = local.call("POST", "/v1/reload", Some(&body))?;
    show(answer, args.json)
}

/// Who asks, for the history.
pub fn user() -> String {
    let user = std::env::var("SUDO_USER")
        .ok()
        .filter(|user| !user.is_empty());
    let own = || {
        nix::unistd::User::from_uid(nix::unistd::Uid::current())
            .ok()
            .flatten()
    };
    user.or_else(|| own().map(|user| user.name))
        .unwrap_or_default()
}

/// What a reload or a rollback did: changes and servers to stdout, the rest to stderr.
pub fn show(answer: Value, json: bool) -> Outcome {
    let told: ReloadAnswer = serde_json::from_value(answer.clone()).map_err(|error| {
        Failure::failed(format!("an answer that is no reload's: {error}"))
            .next("trilith version   (is the server's the same?)")
    })?;
    if json {
        let text = serde_json::to_string_pretty(&answer).unwrap_or_default();
        terminal::data(&format!("{text}\n"));
    } else {
        terminal::data(&text(&told));
        terminal::say(&summary(&told));
    }
    let lagging = |state: &str| matches!(state, "failed" | "pending");
    match told.servers.iter().any(|server| lagging(&server.state)) {
        true => Err(Failure::silent(UNHEALTHY)),
        false => Ok(()),
    }
}

/// A line for each change, and for each server.
fn text(told: &ReloadAnswer) -> String {
    let mut text = String::new();
    for change in &told.changes {
        text.push_str(&format!("{}\n", change.line));
    }
    if !told.changes.is_empty() && !told.servers.is_empty() {
        text.push('\n');
    }
    let width = told.servers.iter().map(|s| s.name.len()).max().unwrap_or(0);
    for server in &told.servers {
        let state = match server.state.as_str() {
            "applied" => "applied".to_owned(),
            "restart" => format!(
                "applied, but a restart is needed for {}",
                server.detail.join(", ")
            ),
            "pending" => "not applied yet".to_owned(),
            "down" => "down; it follows when it is back".to_owned(),
            state => [&[state.to_owned()], &server.detail[..]]
                .concat()
                .join(": "),
        };
        text.push_str(&format!("{:width$}  {state}\n", server.name));
    }
    text
}

fn summary(told: &ReloadAnswer) -> String {
    let version = told
        .version
        .map_or_else(|| "none yet".to_owned(), |v| v.to_string());
    match (told.dry_run, told.published, told.changes.is_empty()) {
        (true, _, true) => format!("nothing would change; the cluster's version is {version}"),
        (true, _, false) => format!("this would change; the cluster's version is {version}"),
        (false, true, true) => format!("version {version} is in force; only the text differs"),
        (false, true, false) => format!("version {version} is in force"),
        (false, false, _) => format!("nothing has changed; the cluster's version is {version}"),
    }
}

#[cfg(test)]
mod tests;
