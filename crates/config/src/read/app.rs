//! `[app.NAME]` and `[database]`.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::field::Field;
use super::table::Table;
use crate::diagnostics::{Diagnostic, quoted};
use crate::limits::{COMMAND_BYTES_MAX, ITEMS_MAX, PARAMETER_BYTES_MAX, PARAMETERS_MAX};
use crate::model::{App, Database, Synchronous};
use crate::values::{InvalidValue, UrlPath};

/// What every instance gets from Trilith and cannot get from the file.
const ENV_RESERVED: [&str; 6] = ["PORT", "HOST", "SERVER", "INSTANCE", "RELEASE", "TMPDIR"];

pub(super) fn app(table: &Table<'_>) -> Option<App> {
    let run = table.field("run").and_then(|field| run(&field));
    let instances = table.integer("instances");
    let env = table.field("env").and_then(|field| env(&field));
    let health = table.field("health").and_then(|field| health(&field));
    let start_timeout = table.duration("start_timeout");
    let stop_grace = table.duration("stop_grace");
    let user = table.field("user").and_then(|field| {
        let user = os_user(&field)?;
        if user == "root" {
            let message = format!("`{}` is root", field.dotted());
            field.push(
                Diagnostic::warning(field.span(), message)
                    .with_help("what breaks into the app then owns the server; use a plain user"),
            );
        }
        Some(user)
    });
    Some(App {
        run,
        instances: instances?,
        env: env?,
        health: health?,
        start_timeout: start_timeout?,
        stop_grace: stop_grace?,
        user: user?,
    })
}

fn run(field: &Field<'_, '_>) -> Option<String> {
    if let DeValue::Array(items) = field.value.get_ref() {
        let words: Option<Vec<_>> = items.iter().map(|item| item.get_ref().as_str()).collect();
        let line = words
            .filter(|words| words.iter().all(|word| is_plain_word(word)))
            .map(|words| format!("\"{}\"", words.join(" ")));
        field.wrong_type("a string: one line, as for a shell", line);
        return None;
    }
    let line = field.filled()?;
    if line.len() > COMMAND_BYTES_MAX {
        field.invalid(&InvalidValue::new(format!(
            "it is longer than {COMMAND_BYTES_MAX} bytes"
        )));
        return None;
    }
    if line.trim().contains(['\n', '\r']) {
        let why = InvalidValue::new("a command is one line");
        field.invalid(&why.help("`&&` joins two commands; for more, write a script"));
        return None;
    }
    Some(line.trim().to_owned())
}

fn is_plain_word(word: &str) -> bool {
    word.bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_./=:,@%+$".contains(&b))
}

fn env(field: &Field<'_, '_>) -> Option<BTreeMap<String, String>> {
    let mut env = BTreeMap::new();
    for (name, value) in field.entries(ITEMS_MAX)? {
        let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let digit = |name: &str| name.starts_with(|c: char| c.is_ascii_digit());
        if name.value.is_empty() || !name.value.bytes().all(good) || digit(name.value) {
            let message = format!(
                "{} in `{}` is not the name of a variable",
                quoted(name.value),
                field.dotted()
            );
            field.push(
                Diagnostic::error(name.span, message)
                    .with_help("use A-Z, a-z, 0-9 and `_`, beginning with no digit"),
            );
            continue;
        }
        if ENV_RESERVED.contains(&name.value) {
            let message = format!("`{}.{}` is Trilith's to set", field.dotted(), name.value);
            let help = match name.value {
                "PORT" => "each instance gets a free port of its own; the app listens on `$PORT`",
                "HOST" => "the app listens on `$HOST`, which only this server can reach",
                _ => "leave it out",
            };
            field.push(Diagnostic::error(name.span, message).with_help(help));
            continue;
        }
        let Some(text) = plain_text(&value, name.value) else {
            continue;
        };
        if text.contains('\0') {
            let message = format!("`{}.{}` contains a zero byte", field.dotted(), name.value);
            field.push(Diagnostic::error(value.span(), message));
            continue;
        }
        env.insert(name.value.to_owned(), text.to_owned());
    }
    Some(env)
}

/// The string of an entry; what it has to look like for anything else.
fn plain_text<'a>(value: &Field<'_, 'a>, name: &str) -> Option<&'a str> {
    let in_quotes = match value.value.get_ref() {
        DeValue::String(text) => return Some(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        _ => "...".to_owned(),
    };
    let message = format!("`{}.{name}` must be a string", value.dotted());
    value.push(
        Diagnostic::error(value.span(), message)
            .with_help(format!("write `{name} = \"{in_quotes}\"`")),
    );
    None
}

/// `Some(None)` for `false`.
fn health(field: &Field<'_, '_>) -> Option<Option<UrlPath>> {
    match field.value.get_ref() {
        DeValue::Boolean(false) => Some(None),
        DeValue::String(_) => field.parsed(UrlPath::new).map(Some),
        DeValue::Table(table) => {
            let path = table.get("path").and_then(|path| path.get_ref().as_str());
            let path = path.filter(|path| UrlPath::new(path).is_ok());
            field.wrong_type("a path or false", path.map(|path| format!("\"{path}\"")));
            None
        }
        _ => {
            field.wrong_type("a path or false", None);
            None
        }
    }
}

fn os_user(field: &Field<'_, '_>) -> Option<String> {
    let user = field.filled()?;
    let good = |b: u8| b.is_ascii_alphanumeric() || b"_-.$".contains(&b);
    if user.len() > 32 || !user.bytes().all(good) || user.starts_with('-') {
        field.invalid(
            &InvalidValue::new(format!("{} is not the name of a user", quoted(user)))
                .help("write a user of the operating system, such as \"www-data\""),
        );
        return None;
    }
    Some(user.to_owned())
}

/// Settings that follow from the rest of the file, or whose change would break replication. The
/// `postgres` crate refuses the same ones.
const PARAMETERS_OURS: [&str; 27] = [
    "cluster_name",
    "config_file",
    "data_directory",
    "external_pid_file",
    "hba_file",
    "hot_standby",
    "ident_file",
    "lc_messages",
    "listen_addresses",
    "log_destination",
    "log_directory",
    "log_filename",
    "logging_collector",
    "max_replication_slots",
    "max_wal_senders",
    "password_encryption",
    "port",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "ssl",
    "synchronous_standby_names",
    "unix_socket_directories",
    "unix_socket_group",
    "unix_socket_permissions",
    "wal_level",
    "wal_log_hints",
];

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
    })
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
    let ours = PARAMETERS_OURS.contains(&name)
        || name.starts_with("recovery_target")
        || name.starts_with("ssl_");
    if ours {
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
