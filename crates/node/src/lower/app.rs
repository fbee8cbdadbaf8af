//! Options of the application server: the config file and the Procfile of the code base together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::{fs, io};

use trilith_app::{AppKind, AppOptions, CommandLine, Options, Procfile, Release, RunAs, limits};
use trilith_config::{App, AppName, Config, Server};
use trilith_postgres::Password;

use crate::error::NodeError;
use crate::privileges;

pub(crate) const PROCFILE: &str = "Procfile";

/// Everything that runs of a release.
pub(crate) struct Apps {
    pub apps: Vec<AppOptions>,
    /// The Procfile's `release` line, and as whom it runs.
    pub release_command: Option<(CommandLine, Option<RunAs>)>,
}

/// What the config file names (`[app.NAME]` and routes) and what the Procfile has besides.
pub(crate) fn apps(config: &Config, release: &Release) -> Result<Apps, NodeError> {
    let procfile_path = release.dir.join(PROCFILE);
    let procfile = read_procfile(&procfile_path)?;
    let mut names: Vec<AppName> = config.apps.keys().cloned().collect();
    names.extend(config.routed_apps().into_iter().cloned());
    for process in &procfile.processes {
        names.extend(AppName::new(&process.name).ok());
    }
    names.sort();
    names.dedup();
    let routed = config.routed_apps();
    let mut apps = Vec::new();
    for name in &names {
        let settings = config.app(name);
        let command = command(name, &settings, &procfile, &procfile_path)?;
        apps.push(app(name, &settings, command, routed.contains(name))?);
    }
    let release_user = || {
        // It migrates the database of the web app, so it runs as that one.
        let web = AppName::new("web")
            .map(|name| config.app(&name))
            .unwrap_or_default();
        user("release", &web)
    };
    let release_command = match &procfile.release {
        Some(process) => Some((process.command.clone(), release_user()?)),
        None => None,
    };
    Ok(Apps {
        apps,
        release_command,
    })
}

fn command(
    name: &AppName,
    settings: &App,
    procfile: &Procfile,
    procfile_path: &Path,
) -> Result<CommandLine, NodeError> {
    if let Some(run) = &settings.run {
        return CommandLine::parse(run).map_err(|reason| NodeError::App {
            app: name.to_string(),
            reason: format!("run: {reason}"),
        });
    }
    let process = procfile
        .processes
        .iter()
        .find(|process| process.name == name.as_str());
    let process = process.ok_or_else(|| NodeError::NoCommand {
        app: name.to_string(),
        procfile: procfile_path.to_owned(),
    })?;
    Ok(process.command.clone())
}

fn app(
    name: &AppName,
    settings: &App,
    command: CommandLine,
    routed: bool,
) -> Result<AppOptions, NodeError> {
    let mut options = AppOptions::new(name.as_str(), command);
    // The Procfile's convention: `web` listens, the rest works; a route says that it listens, too.
    options.kind = match &settings.health {
        Some(health) if routed || name.as_str() == "web" => {
            options.health_path = health.to_string();
            AppKind::Web
        }
        _ => AppKind::Worker,
    };
    options.instances = settings.instances;
    options.env = settings.env.clone();
    options.start_timeout = settings.start_timeout;
    options.stop_grace = settings.stop_grace;
    options.user = user(name.as_str(), settings)?;
    Ok(options)
}

fn user(app: &str, settings: &App) -> Result<Option<RunAs>, NodeError> {
    if !privileges::is_root() {
        return Ok(None);
    }
    RunAs::lookup(&settings.user)
        .map(Some)
        .map_err(|error| NodeError::App {
            app: app.to_owned(),
            reason: error.to_string(),
        })
}

/// Options of the supervisor.
pub(crate) fn options(
    config: &Config,
    server: &Server,
    release: Release,
    apps: Vec<AppOptions>,
    env: BTreeMap<String, String>,
) -> Options {
    let state = config.state_dir(&server.name);
    Options {
        server: server.name.clone(),
        release,
        apps,
        host: server.loopback(),
        ports: limits::PORTS,
        log_dir: state.join("log"),
        run_dir: state.join("run"),
        tmp_dir: state.join("tmp"),
        env,
    }
}

/// `DATABASE_URL` and its kin: the sql entry of this server, never PostgreSQL itself.
pub(crate) fn database_env(
    config: &Config,
    server: &Server,
    password: Option<&Password>,
) -> BTreeMap<String, String> {
    let (Some(database), Some(password)) = (&config.database, password) else {
        return BTreeMap::new();
    };
    let host = server.loopback();
    let url = |port: u16| {
        let entry = SocketAddr::new(host, port);
        trilith_postgres::url(&database.user, password, entry, &database.name)
    };
    BTreeMap::from(
        [
            ("DATABASE_URL", url(config.ports.sql)),
            ("DATABASE_REPLICA_URL", url(config.ports.sql_replica)),
            ("PGHOST", host.to_string()),
            ("PGPORT", config.ports.sql.to_string()),
            ("PGUSER", database.user.clone()),
            ("PGDATABASE", database.name.clone()),
            ("PGPASSWORD", password.expose().to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    )
}

fn read_procfile(path: &Path) -> Result<Procfile, NodeError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        // A code base of files alone, or one whose apps have a `run` each.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Procfile::default()),
        Err(error) => return Err(NodeError::file(path)(error)),
    };
    Procfile::parse(&text).map_err(|errors| NodeError::Procfile {
        path: path.to_owned(),
        problems: errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; "),
    })
}
