//! `trilith db psql`: psql with everything that it has to know.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use trilith_config::{Config, Server};
use trilith_postgres::{ADMIN_ROLE, MAINTENANCE_DATABASE, Secrets};

use super::args::Psql;
use crate::admin;
use crate::failure::{Failure, Outcome};
use crate::reach::Reach;

pub fn run(args: &Psql) -> Outcome {
    let local = admin::local(&args.place)?;
    let config = &local.config;
    let database = super::database(config)?;
    let secrets = secrets(config)?;
    let mut psql = Command::new(program(database.bin_dir.as_deref()));
    if args.admin {
        let server = with_postgres(config, &local.server)?;
        psql.env("PGHOST", socket_folder(config, server)?)
            .env("PGPORT", config.ports.postgres.to_string())
            .env("PGUSER", ADMIN_ROLE)
            .env("PGDATABASE", MAINTENANCE_DATABASE)
            .env("PGPASSWORD", secrets.superuser.expose());
    } else {
        psql.env("PGHOST", local.server.loopback().to_string())
            .env("PGPORT", config.ports.sql.to_string())
            .env("PGUSER", &database.user)
            .env("PGDATABASE", &database.name)
            .env("PGPASSWORD", secrets.app.expose());
    }
    psql.env("PGSSLMODE", "disable")
        .env_remove("PGSERVICE")
        .env_remove("PGHOSTADDR")
        .env_remove("PGOPTIONS")
        .args(&args.rest);
    let name = psql.get_program().to_string_lossy().into_owned();
    let reach = Reach::of(config);
    // It takes this process's place, with its terminal and its signals.
    let error = reach
        .inside(Some(local.server.name.as_str()), || psql.exec())
        .unwrap_or_else(|error| error);
    Err(Failure::failed(format!("{name}: {error}"))
        .next("install psql, such as Debian's package postgresql-client"))
}

/// The one beside PostgreSQL's other programs; else whichever is found.
fn program(bin_dir: Option<&Path>) -> PathBuf {
    let found = trilith_postgres::find_bin_dir(bin_dir).ok();
    let beside = found.map(|programs| programs.dir.join("psql"));
    beside
        .filter(|path| path.exists())
        .unwrap_or_else(|| PathBuf::from("psql"))
}

pub(super) fn secrets(config: &Config) -> Outcome<Secrets> {
    let path = config
        .cluster
        .secrets
        .join(trilith_node::secrets::DATABASE_FILE);
    let secrets = Secrets::load(&path).map_err(Failure::failed)?;
    secrets.ok_or_else(|| {
        Failure::failed(format!("there is no {}", path.display())).next("trilith init --secrets")
    })
}

fn with_postgres<'a>(config: &Config, server: &'a Server) -> Outcome<&'a Server> {
    match server.has(trilith_config::Role::Db) {
        true => Ok(server),
        false => {
            let names = config.with_role(trilith_config::Role::Db);
            let names: Vec<&str> = names.map(|server| server.name.as_str()).collect();
            Err(Failure::failed(format!(
                "{} runs no PostgreSQL: --admin works on {}",
                server.name,
                names.join(", ")
            ))
            .next("trilith db psql"))
        }
    }
}

/// As PostgreSQL itself says: line 5 of its `postmaster.pid`.
fn socket_folder(config: &Config, server: &Server) -> Outcome<String> {
    let path = config
        .state_dir(&server.name)
        .join("postgres")
        .join("postmaster.pid");
    let not_running = |why: String| {
        Failure::failed(format!("PostgreSQL does not run on {}: {why}", server.name))
            .next("trilith db status")
    };
    let text = fs::read_to_string(&path)
        .map_err(|error| not_running(format!("{}: {error}", path.display())))?;
    match text.lines().nth(4).filter(|line| !line.is_empty()) {
        Some(folder) => Ok(folder.to_owned()),
        None => Err(not_running("it is starting".to_owned())),
    }
}
