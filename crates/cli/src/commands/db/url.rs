//! `trilith db url`: what an application connects with.

use std::net::SocketAddr;

use super::args::Url;
use super::psql::secrets;
use crate::admin;
use crate::failure::{Failure, Outcome};
use crate::terminal;

pub fn run(args: &Url) -> Outcome {
    let local = admin::local(&args.place)?;
    let config = &local.config;
    let database = super::database(config)?;
    let secrets = secrets(config)?;
    let user = args.user.as_ref().unwrap_or(&database.user);
    let password = match database.users.iter().any(|other| other.name == *user) {
        true => secrets.of_user(user),
        false if *user == database.user => secrets.app.clone(),
        false => {
            let further = database.users.iter().map(|user| user.name.as_str());
            let all: Vec<&str> = [database.user.as_str()]
                .into_iter()
                .chain(further)
                .collect();
            let why = format!("there is no user {user}: there is {}", all.join(", "));
            return Err(Failure::usage(why).next("trilith explain database.users"));
        }
    };
    let named = args.database.as_ref().unwrap_or(&database.name);
    let known =
        *named == database.name || database.databases.iter().any(|other| other.name == *named);
    if !known {
        let further = database.databases.iter().map(|other| other.name.as_str());
        let all: Vec<&str> = [database.name.as_str()]
            .into_iter()
            .chain(further)
            .collect();
        let why = format!("there is no database {named}: there is {}", all.join(", "));
        return Err(Failure::usage(why).next("trilith explain database.databases"));
    }
    let port = match args.replica {
        true => config.ports.sql_replica,
        false => config.ports.sql,
    };
    let entry = SocketAddr::new(local.server.loopback(), port);
    let url = trilith_postgres::url(user, &password, entry, named);
    terminal::data(&format!("{url}\n"));
    Ok(())
}
