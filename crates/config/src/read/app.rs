//! `[app.NAME]`.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::field::Field;
use super::table::Table;
use crate::diagnostics::{Diagnostic, quoted};
use crate::limits::{COMMAND_BYTES_MAX, ITEMS_MAX};
use crate::model::App;
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

pub(super) fn os_user(field: &Field<'_, '_>) -> Option<String> {
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
