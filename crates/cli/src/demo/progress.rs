//! What each server is doing while the demo starts.

use std::net::SocketAddr;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use trilith_config::{Config, Role, Server};
use trilith_monitor::api::{ClusterStatus, ServerState, ServerStatus};

use crate::reach::Reach;
use crate::terminal;

/// Whether the demo is up.
pub enum Readiness {
    Ready,
    /// Waiting longer does not help.
    Failing {
        server: String,
        why: String,
    },
    Waiting {
        /// The server it waits for, where it is one.
        server: Option<String>,
        why: String,
    },
}

/// A line per server: spinners on a terminal, else a line of text whenever something changes.
pub struct Progress {
    lines: Vec<Line>,
    bars: Option<MultiProgress>,
}

struct Line {
    server: String,
    bar: Option<ProgressBar>,
    /// Without digits, so that percentages do not fill a log.
    last: String,
    done: bool,
}

impl Progress {
    pub fn new(config: &Config) -> Self {
        let bars = terminal::stderr_is_terminal().then(MultiProgress::new);
        let width = config
            .servers
            .iter()
            .map(|s| s.name.as_str().len())
            .max()
            .unwrap_or(0);
        let style = ProgressStyle::with_template("{spinner} {prefix} {msg}");
        let lines = config
            .servers
            .iter()
            .map(|server| Line {
                server: server.name.to_string(),
                bar: bars.as_ref().map(|bars| {
                    let bar = bars.add(ProgressBar::new_spinner());
                    if let Ok(style) = &style {
                        bar.set_style(style.clone());
                    }
                    bar.set_prefix(format!("{:width$}", server.name.as_str()));
                    bar.enable_steady_tick(Duration::from_millis(100));
                    bar
                }),
                last: String::new(),
                done: false,
            })
            .collect();
        Self { lines, bars }
    }

    /// Asks every server once, and the site once they are ready.
    pub fn poll(&mut self, config: &Config, reach: &Reach) -> Readiness {
        let (mut waiting, mut failing) = (None, None);
        for (line, server) in self.lines.iter_mut().zip(&config.servers) {
            let admin = SocketAddr::new(server.loopback(), config.ports.admin);
            let (text, ready) = match ask::<ServerStatus>(reach, server, admin, "/v1/server") {
                Some(status) => {
                    if let (Some(why), None) = (&status.failing, &failing) {
                        failing = Some((line.server.clone(), why.clone()));
                    }
                    (activity(&status), status.state == ServerState::Ready)
                }
                None => ("starting".to_owned(), false),
            };
            if !ready && waiting.is_none() {
                waiting = Some((line.server.clone(), text.clone()));
            }
            line.show(&text, ready);
        }
        let readiness = match (failing, waiting) {
            (Some((server, why)), _) => Readiness::Failing { server, why },
            (None, Some((server, text))) => Readiness::Waiting {
                why: format!("{server}: {text}"),
                server: Some(server),
            },
            (None, None) => site_readiness(config, reach),
        };
        if matches!(readiness, Readiness::Ready)
            && let Some(bars) = &self.bars
        {
            let _ = bars.clear();
        }
        readiness
    }
}

impl Line {
    fn show(&mut self, text: &str, ready: bool) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(text.to_owned());
                if ready && !self.done {
                    bar.finish();
                }
            }
            None => {
                let gist: String = text.chars().filter(|c| !c.is_ascii_digit()).collect();
                if gist != self.last {
                    terminal::say(&format!("{}: {text}", self.server));
                    self.last = gist;
                }
            }
        }
        self.done = ready;
    }
}

/// What a server is doing, in a few words: the first thing it waits for.
fn activity(status: &ServerStatus) -> String {
    if status.state == ServerState::Ready {
        return "ready".to_owned();
    }
    let first = status.problems.first().map(String::as_str);
    first.unwrap_or(status.state.as_str()).to_owned()
}

/// All servers are ready: does the site answer where its users are, with all servers in rotation?
fn site_readiness(config: &Config, reach: &Reach) -> Readiness {
    let waiting = |why: String| Readiness::Waiting { server: None, why };
    let Some(asked) = config.servers.first() else {
        return Readiness::Ready;
    };
    let admin = SocketAddr::new(asked.loopback(), config.ports.admin);
    let Some(status) = ask::<ClusterStatus>(reach, asked, admin, "/api/v1/status") else {
        return waiting(format!("{} does not tell the status", asked.name));
    };
    if !status.is_healthy() {
        return waiting("not everything is healthy yet".to_owned());
    }
    for server in &status.servers {
        for pool in &server.pools {
            if let Some(member) = pool.members.iter().find(|member| member.health != "up") {
                let (edge, pool) = (&server.name, &pool.name);
                return waiting(format!(
                    "{} is {} for {pool} on {edge}",
                    member.name, member.health
                ));
            }
        }
    }
    let holder = config.with_role(Role::Edge).next();
    let address = config
        .floating_address()
        .or(holder.map(|server| server.address));
    let (Some(address), Some(site)) = (address, config.sites.first()) else {
        return Readiness::Ready;
    };
    let address = SocketAddr::new(address, config.ports.http);
    match reach.get_public(address, site.host.as_str(), "/") {
        Ok(answer) if answer.status < 500 => Readiness::Ready,
        Ok(answer) => waiting(format!("{} answers {}", site.host, answer.status)),
        Err(error) => waiting(format!("{address}: {error}")),
    }
}

fn ask<T: serde::de::DeserializeOwned>(
    reach: &Reach,
    server: &Server,
    admin: SocketAddr,
    path: &str,
) -> Option<T> {
    let answer = reach.get_admin(server, admin, path).ok()?;
    serde_json::from_slice(&answer.body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_activity_names_what_is_missing() {
        let mut status =
            ServerStatus::down("one", "127.0.1.1", Vec::new(), "no floating address".into());
        status.state = ServerState::Starting;
        assert_eq!(activity(&status), "no floating address");
        status.problems = vec![
            "database: starting".into(),
            "no live instance of web".into(),
        ];
        assert_eq!(activity(&status), "database: starting");
        status.problems.clear();
        assert_eq!(activity(&status), "starting");
        status.state = ServerState::Ready;
        assert_eq!(activity(&status), "ready");
    }
}
