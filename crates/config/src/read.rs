//! From text to [`Config`].
//!
//! Nothing here stops at an error: each function reports what it finds to the [`Context`] and goes on,
//! and returns `None` for what cannot be had. In the end there is a config or there are errors.

mod app;
mod check;
mod cluster;
mod database;
mod field;
mod route;
mod server;
mod site;
mod syntax;
mod table;
mod upstream;
mod vip;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostics::{Diagnostic, Diagnostics, Severity, quoted};
use crate::keys::{self, SECTIONS, Section, Shape};
use crate::limits::{APPS_MAX, SERVERS_MAX, SITES_MAX, UPSTREAMS_MAX};
use crate::model::{App, Config, Loaded, StoreKind};
use crate::similar::similar;
use crate::values::AppName;
use table::{Context, Span, Table, belongs_to};

impl Config {
    /// Reads a file's content. `file_name` is for messages; relative paths of the file system are
    /// joined to `base_dir`, the folder of the file.
    ///
    /// # Errors
    /// Everything that is wrong with the file, and what is merely doubtful; not just the first.
    pub fn parse(
        file_name: &str,
        content: impl AsRef<[u8]>,
        base_dir: &Path,
    ) -> Result<Loaded, Diagnostics> {
        let cx = Context::new(base_dir);
        let text = syntax::text(&cx, content.as_ref());
        let config = syntax::tree(&cx, &text).and_then(|root| read(&cx, &root));
        let report = cx.report.into_inner();
        let errors = report.errors();
        let diagnostics = report.finish(file_name, &text);
        match config {
            Some(config) if errors == 0 => Ok(Loaded {
                config,
                warnings: diagnostics,
            }),
            _ => Err(diagnostics),
        }
    }
}

fn read<'a>(cx: &'a Context<'a>, root: &'a DeTable<'a>) -> Option<Config> {
    report_unknown_tables(cx, root);
    let cluster_table = single(cx, root, "cluster");
    let cluster = cluster_table.as_ref().and_then(cluster::cluster);
    let store = cluster_table.as_ref().and_then(cluster::store);
    let addresses = cluster_table.as_ref().and_then(vip::addresses);
    let vip = single(cx, root, "vip").and_then(|table| vip::vip(&table, addresses));
    let ports = single(cx, root, "ports").and_then(|table| cluster::ports(&table));
    let code = single(cx, root, "code").and_then(|table| cluster::code(&table));
    let edge = single(cx, root, "edge").and_then(|table| cluster::edge(&table));
    let database = match root.contains_key("database") {
        true => Some(single(cx, root, "database").and_then(|table| database::database(&table))),
        false => None,
    };
    let apps = apps(cx, root);
    let upstreams = upstream::upstreams(&list(cx, root, "upstream", UPSTREAMS_MAX)?);
    cx.facts.borrow_mut().has_site = root.contains_key("site");
    let server_tables = list(cx, root, "server", SERVERS_MAX)?;
    let servers = server::servers(&server_tables);
    let sites = site::sites(&list(cx, root, "site", SITES_MAX)?);
    if !root.contains_key("server") {
        cx.push(
            Diagnostic::about_file(Severity::Error, "there is no `[[server]]`").with_help(
                "write one for each machine: `[[server]]`, `name = \"one\"`, `address = \"10.0.0.1\"`",
            ),
        );
    }
    let headers: Vec<Span> = server_tables.iter().map(|t| t.span.clone()).collect();
    check::check(cx, &servers, &apps, ports.as_ref());
    if matches!(store, Some(StoreKind::Embedded)) && !cx.facts.borrow().servers_broken {
        check::check_majority(cx, &headers);
    }
    Some(Config {
        cluster: cluster?,
        vip: vip?,
        store: store?,
        ports: ports?,
        code: code?,
        servers,
        sites,
        apps,
        database: match database {
            Some(database) => Some(database?),
            None => None,
        },
        upstreams,
        edge: edge?,
    })
}

fn report_unknown_tables(cx: &Context<'_>, root: &DeTable<'_>) {
    for (key, value) in root {
        let name: &str = key.get_ref();
        if keys::root_names().any(|known| known == name) {
            continue;
        }
        if cx.is_full() {
            cx.push(Diagnostic::error(key.span(), "unknown"));
            continue;
        }
        let is_table = match value.get_ref() {
            DeValue::Table(_) => true,
            DeValue::Array(array) => array.iter().any(|item| item.get_ref().is_table()),
            _ => false,
        };
        let candidates = keys::root_names().map(|known| (known, also(known)));
        let meant = similar(name, candidates).into_iter().next();
        let mut diagnostic = if is_table {
            let what = format!("unknown table {}", quoted(name));
            Diagnostic::error(key.span(), what)
        } else {
            let what = format!("unknown key {} above the first table", quoted(name));
            Diagnostic::error(key.span(), what)
        };
        diagnostic = match (meant, belongs_to(name)) {
            (Some(meant), _) if is_table => {
                diagnostic.with_label(format!("did you mean `{}`?", header(meant)))
            }
            (_, Some(belongs)) if !is_table => diagnostic.with_help(format!(
                "{belongs}; a key stands below the header of its table"
            )),
            _ => diagnostic.with_help(format!(
                "the tables are {}",
                keys::root_names()
                    .map(|name| format!("`{}`", header(name)))
                    .collect::<Vec<_>>()
                    .join(", ")
            )),
        };
        cx.push(diagnostic);
    }
}

/// Other words for a table of the top level.
fn also(root_name: &str) -> &'static [&'static str] {
    root_section(root_name).map_or(&[], |section| section.also)
}

fn header(root_name: &str) -> String {
    root_section(root_name).map_or(root_name.to_owned(), Section::header)
}

fn root_section(name: &str) -> Option<&'static Section> {
    let named = |s: &&&Section| s.path == name || s.shape == Shape::Named && s.parent() == name;
    SECTIONS.iter().find(named).copied()
}

/// A table that may stand once. Without it, all its keys are at their defaults.
fn single<'a>(cx: &'a Context<'a>, root: &'a DeTable<'a>, name: &'static str) -> Option<Table<'a>> {
    static EMPTY: LazyLock<DeTable<'static>> = LazyLock::new(DeTable::new);
    let section = keys::section(name)?;
    let Some(value) = root.get(name) else {
        return Some(Table::open(cx, section, name, &EMPTY, 0..0));
    };
    if let DeValue::Table(table) = value.get_ref() {
        return Some(Table::open(cx, section, name, table, value.span()));
    }
    let diagnostic = Diagnostic::error(value.span(), format!("`{name}` must be a table"));
    cx.push(match value.get_ref() {
        DeValue::Array(_) => diagnostic
            .with_label("there is only one of it")
            .with_help(format!("write `[{name}]`, with single brackets")),
        _ => diagnostic.with_help(format!("write `[{name}]` and its keys below it")),
    });
    None
}

/// Tables that may stand any number of times. `None` only when there are too many.
fn list<'a>(
    cx: &'a Context<'a>,
    root: &'a DeTable<'a>,
    name: &'static str,
    tables_max: usize,
) -> Option<Vec<Table<'a>>> {
    let Some(value) = root.get(name) else {
        return Some(Vec::new());
    };
    if let DeValue::Array(array) = value.get_ref()
        && array.len() > tables_max
    {
        let message = format!("there are more than {tables_max} `[[{name}]]`");
        cx.push(Diagnostic::error(value.span(), message));
        return None;
    }
    let tables = tables_of(cx, name, value, value.span());
    if tables.is_none() && name == "server" {
        cx.facts.borrow_mut().servers_broken = true;
    }
    Some(tables.unwrap_or_default())
}

/// The tables of a list. `None`, and an error, where the value is none.
fn tables_of<'a>(
    cx: &'a Context<'a>,
    path: &'static str,
    value: &'a Spanned<DeValue<'a>>,
    span: Span,
) -> Option<Vec<Table<'a>>> {
    let section = keys::section(path)?;
    let array = match value.get_ref() {
        DeValue::Array(array) => array,
        DeValue::Table(table) => {
            let message = format!("`{path}` is a list of tables");
            let without_parent = path == "site" && table.contains_key("route");
            let help = if without_parent && !table.contains_key("host") {
                "write `[[site]]` with its `host` above the first `[[site.route]]`".to_owned()
            } else {
                format!("write `[[{path}]]`, with double brackets")
            };
            cx.push(Diagnostic::error(span, message).with_help(help));
            return None;
        }
        _ => {
            let message = format!("`{path}` must be a list of tables");
            let help = format!("write `[[{path}]]` and its keys below it");
            cx.push(Diagnostic::error(span, message).with_help(help));
            return None;
        }
    };
    let mut tables = Vec::new();
    for item in array {
        match item.get_ref() {
            DeValue::Table(table) => {
                tables.push(Table::open(cx, section, path, table, item.span()));
            }
            _ => {
                let message = format!("an item of `{path}` must be a table");
                let help = format!("write `[[{path}]]` and its keys below it");
                cx.push(Diagnostic::error(item.span(), message).with_help(help));
            }
        }
    }
    (tables.len() == array.len()).then_some(tables)
}

fn apps<'a>(cx: &'a Context<'a>, root: &'a DeTable<'a>) -> BTreeMap<AppName, App> {
    let mut apps = BTreeMap::new();
    let Some(value) = root.get("app") else {
        return apps;
    };
    let Some(section) = keys::section("app.NAME") else {
        return apps;
    };
    let DeValue::Table(tables) = value.get_ref() else {
        cx.push(
            Diagnostic::error(
                value.span(),
                "an app's table has the app's name in its header",
            )
            .with_help("write for example `[app.web]`"),
        );
        return apps;
    };
    if tables.len() > APPS_MAX {
        let message = format!("there are more than {APPS_MAX} apps");
        cx.push(Diagnostic::error(value.span(), message));
        return apps;
    }
    for (key, value) in tables {
        let name: &str = key.get_ref();
        let DeValue::Table(table) = value.get_ref() else {
            cx.push(
                Diagnostic::error(key.span(), format!("{} is not an app", quoted(name))).with_help(
                    if section.key(name).is_some() {
                        "write it below a header with the app's name, such as `[app.web]`"
                    } else {
                        "write `[app.NAME]` and its keys below it"
                    },
                ),
            );
            continue;
        };
        let app_name = AppName::new(name);
        if let Err(why) = &app_name {
            let diagnostic = Diagnostic::error(key.span(), &why.problem);
            cx.push(match &why.help {
                Some(help) => diagnostic.with_help(help),
                None => diagnostic,
            });
        }
        let table = Table::open(cx, section, format!("app.{name}"), table, value.span());
        if let (Ok(name), Some(app)) = (app_name, app::app(&table)) {
            apps.insert(name, app);
        }
    }
    apps
}

#[cfg(test)]
mod tests;
