//! `[database]`.

use std::collections::BTreeMap;

use toml::de::DeValue;
use trilith_base::is_set_by_trilith;

use super::app::os_user;
use super::field::Field;
use super::server::check_unique;
use super::table::Table;
use crate::diagnostics::{Diagnostic, quoted};
use crate::limits::{ITEMS_MAX, PARAMETER_BYTES_MAX, PARAMETERS_MAX};
use crate::model::{Database, DatabaseUser, FurtherDatabase, Synchronous};
use crate::values::InvalidValue;

pub(super) fn database(table: &Table<'_>) -> Option<Database> {
    let name = table.parsed("name", sql_name);
    let user = table.parsed("user", sql_name);
    let synchronous = table.choice(
        "synchronous",
        &[Synchronous::Quorum, Synchronous::Off],
        |synchronous| match synchronous {
            Synchronous::Quorum => "quorum",
            Synchronous::Off => "off",
        },
    );
    let parameters = table
        .field("parameters")
        .and_then(|field| parameters(&field));
    let extensions = table
        .field("extensions")
        .and_then(|field| extensions(&field));
    let databases = table
        .field("databases")
        .and_then(|field| databases(&field, name.as_deref(), user.as_deref()));
    let users = table
        .field("users")
        .and_then(|field| users(&field, user.as_deref()));
    if let (Some(name), Some(databases), Some(users)) = (&name, &databases, &users) {
        check_users(table, name, databases, users);
    }
    let bin_dir = table.field("bin_dir").and_then(|field| field.path());
    let os_user = table.field("os_user").and_then(|field| {
        let user = os_user(&field)?;
        if user == "root" {
            field.invalid(
                &InvalidValue::new("PostgreSQL refuses to run as root")
                    .help("leave the key out, or name a plain user"),
            );
            return None;
        }
        Some(user)
    });
    table.cx.facts.borrow_mut().database = Some(table.span.clone());
    Some(Database {
        name: name?,
        user: user?,
        synchronous: synchronous?,
        parameters: parameters?,
        bin_dir,
        os_user: os_user?,
        extensions: extensions?,
        databases: databases?,
        users: users?,
    })
}

/// `name`: of the apps' database, and `user`: who owns what names no owner.
fn databases(
    field: &Field<'_, '_>,
    name: Option<&str>,
    user: Option<&str>,
) -> Option<Vec<FurtherDatabase>> {
    let items = field.items(ITEMS_MAX)?;
    let mut seen = BTreeMap::new();
    let mut databases = Vec::new();
    for item in &items {
        let (database, place) = match item.value.get_ref() {
            DeValue::String(_) => {
                let Some(name) = item.parsed(sql_name) else {
                    continue;
                };
                let database = FurtherDatabase {
                    name,
                    owner: user.unwrap_or_default().to_owned(),
                    extensions: Vec::new(),
                };
                (database, *item)
            }
            DeValue::Table(_) => {
                let Some(table) = item.table() else { continue };
                let Some(database) = further_database(&table, user) else {
                    continue;
                };
                (database, item.within("name"))
            }
            _ => {
                item.wrong_type("a name or a table", None);
                continue;
            }
        };
        if Some(database.name.as_str()) == name {
            let why = InvalidValue::new(format!(
                "{} is the apps' database already",
                quoted(&database.name)
            ));
            place.invalid(&why.help("leave it out: `database.name` creates it"));
            continue;
        }
        check_unique(&place, &mut seen, &database.name, "database");
        databases.push(database);
    }
    (databases.len() == items.len()).then_some(databases)
}

fn further_database(table: &Table<'_>, user: Option<&str>) -> Option<FurtherDatabase> {
    let name = table.parsed("name", sql_name);
    let owner = match table.field("owner") {
        Some(field) => field.parsed(sql_name),
        None => Some(user.unwrap_or_default().to_owned()),
    };
    let extensions = table
        .field("extensions")
        .and_then(|field| extensions(&field));
    Some(FurtherDatabase {
        name: name?,
        owner: owner?,
        extensions: extensions?,
    })
}

fn users(field: &Field<'_, '_>, user: Option<&str>) -> Option<Vec<DatabaseUser>> {
    let items = field.items(ITEMS_MAX)?;
    let mut seen = BTreeMap::new();
    let mut users = Vec::new();
    for item in &items {
        let (one, place) = match item.value.get_ref() {
            DeValue::String(_) => {
                let Some(name) = item.parsed(sql_name) else {
                    continue;
                };
                let one = DatabaseUser {
                    name,
                    databases: Vec::new(),
                    createdb: false,
                };
                (one, *item)
            }
            DeValue::Table(_) => {
                let Some(table) = item.table() else { continue };
                let Some(one) = further_user(&table) else {
                    continue;
                };
                (one, item.within("name"))
            }
            _ => {
                item.wrong_type("a name or a table", None);
                continue;
            }
        };
        if Some(one.name.as_str()) == user {
            let why = InvalidValue::new(format!("{} is the apps' user already", quoted(&one.name)));
            place.invalid(&why.help("leave it out: `database.user` creates it"));
            continue;
        }
        check_unique(&place, &mut seen, &one.name, "user");
        users.push(one);
    }
    (users.len() == items.len()).then_some(users)
}

fn further_user(table: &Table<'_>) -> Option<DatabaseUser> {
    let name = table.parsed("name", sql_name);
    let databases = table.field("databases").and_then(|field| {
        let items = field.items(ITEMS_MAX)?;
        let names: Vec<_> = items.iter().filter_map(|i| i.parsed(sql_name)).collect();
        (names.len() == items.len()).then_some(names)
    });
    let createdb = table.bool("createdb");
    Some(DatabaseUser {
        name: name?,
        databases: databases?,
        createdb: createdb?,
    })
}

/// Owners are users, and users' databases are there.
fn check_users(
    table: &Table<'_>,
    name: &str,
    databases: &[FurtherDatabase],
    users: &[DatabaseUser],
) {
    let known_user = |owner: &str| {
        let main = table.field("user").and_then(|field| field.text());
        main == Some(owner) || users.iter().any(|user| user.name == owner)
    };
    for database in databases {
        if !known_user(&database.owner)
            && let Some(field) = table.written("databases")
        {
            let owner = &database.owner;
            let why = InvalidValue::new(format!("no user is called {}", quoted(owner)));
            field.invalid(&why.help(format!("list it: `users = [\"{owner}\"]`")));
        }
    }
    let known = |wanted: &str| wanted == name || databases.iter().any(|d| d.name == wanted);
    for wanted in users.iter().flat_map(|user| &user.databases) {
        if !known(wanted)
            && let Some(field) = table.written("users")
        {
            let why = InvalidValue::new(format!("no database is called {}", quoted(wanted)));
            field.invalid(&why.help(format!("list it: `databases = [\"{wanted}\"]`")));
        }
    }
}

fn extensions(field: &Field<'_, '_>) -> Option<Vec<String>> {
    let items = field.items(ITEMS_MAX)?;
    let mut seen = BTreeMap::new();
    let mut extensions = Vec::new();
    for item in &items {
        if let Some(extension) = item.parsed(extension_name) {
            check_unique(item, &mut seen, &extension, "extension");
            extensions.push(extension);
        }
    }
    (extensions.len() == items.len()).then_some(extensions)
}

fn extension_name(text: &str) -> Result<String, InvalidValue> {
    let first = text.starts_with(|c: char| c.is_ascii_lowercase());
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if first && text.len() <= 63 && text.bytes().all(good) {
        return Ok(text.to_owned());
    }
    Err(
        InvalidValue::new(format!("{} is no extension", quoted(text)))
            .help("write its name as in `create extension`, such as \"pg_trgm\" or \"uuid-ossp\""),
    )
}

fn sql_name(text: &str) -> Result<String, InvalidValue> {
    let first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !first || text.len() > 63 || !text.bytes().all(good) {
        return Err(
            InvalidValue::new(format!("{} cannot be used", quoted(text)))
                .help("use 1 to 63 of A-Z, a-z, 0-9, `_` and `-`, beginning with a letter or `_`"),
        );
    }
    let taken = ["postgres", "template0", "template1", "public", "none"];
    if taken.contains(&text) || text.starts_with("pg_") || text.starts_with("trilith") {
        let owner = if text.starts_with("trilith") {
            "Trilith"
        } else {
            "PostgreSQL"
        };
        return Err(
            InvalidValue::new(format!("{} belongs to {owner}", quoted(text)))
                .help("choose another name, such as \"app\""),
        );
    }
    Ok(text.to_owned())
}

fn parameters(field: &Field<'_, '_>) -> Option<BTreeMap<String, String>> {
    let mut parameters = BTreeMap::new();
    for (name, value) in field.entries(PARAMETERS_MAX)? {
        if let Some(why) = why_no_parameter(name.value) {
            let message = format!("invalid `{}`: {}", field.dotted(), why.problem);
            let diagnostic = Diagnostic::error(name.span, message);
            field.push(match why.help {
                Some(help) => diagnostic.with_help(help),
                None => diagnostic,
            });
            continue;
        }
        let text = match value.value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) if number.radix() == 10 => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(true) => "on".to_owned(),
            DeValue::Boolean(false) => "off".to_owned(),
            _ => {
                let message = format!(
                    "`{}.{}` must be a string, a number, or true or false",
                    field.dotted(),
                    name.value
                );
                field.push(Diagnostic::error(value.span(), message));
                continue;
            }
        };
        if text.len() > PARAMETER_BYTES_MAX || text.chars().any(char::is_control) {
            let message = format!(
                "`{}.{}` must be one line of at most {PARAMETER_BYTES_MAX} bytes",
                field.dotted(),
                name.value
            );
            field.push(Diagnostic::error(value.span(), message));
            continue;
        }
        if name.value == "fsync" && text == "off" {
            let message = "`fsync = off` can destroy the database when a server loses power";
            field.push(
                Diagnostic::warning(value.span(), message).with_help(
                    "`synchronous_commit` is the setting that only costs recent commits",
                ),
            );
        }
        if name.value == "synchronous_commit"
            && matches!(text.as_str(), "off" | "local" | "remote_write")
        {
            let message =
                format!("with `synchronous_commit = {text}` acknowledged writes may be lost");
            field.push(Diagnostic::warning(value.span(), message).with_help(
                "commits wait for replicas as `synchronous` says; a single session may ask for less",
            ));
        }
        parameters.insert(name.value.to_owned(), text);
    }
    Some(parameters)
}

fn why_no_parameter(name: &str) -> Option<InvalidValue> {
    let word = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    // `setting`, or `extension.setting`.
    let shape = name.split('.').count() <= 2 && name.split('.').all(word);
    if !shape || name.len() > 100 {
        return Some(
            InvalidValue::new(format!("{} is not a setting of PostgreSQL", quoted(name)))
                .help("settings are written as in postgresql.conf, with a-z, 0-9 and `_`"),
        );
    }
    if is_set_by_trilith(name) {
        let help = match name {
            "port" => "leave it out; the port is `ports.postgres`",
            "synchronous_standby_names" => "leave it out; say `database.synchronous` instead",
            "listen_addresses" => "leave it out; PostgreSQL listens on the servers' addresses",
            _ => "leave it out",
        };
        return Some(InvalidValue::new(format!("Trilith itself sets `{name}`")).help(help));
    }
    name.starts_with("include").then(|| {
        InvalidValue::new("other files cannot be included").help("write their settings here")
    })
}
