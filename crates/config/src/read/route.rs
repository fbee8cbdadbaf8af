//! `[[site.route]]`.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::field::Field;
use super::server::check_unique;
use super::site::{BALANCES, MODES};
use super::table::{Span, Table};
use super::tables_of;
use crate::diagnostics::{Diagnostic, quoted};
use crate::limits::{ITEMS_MAX, ROUTES_MAX};
use crate::model::{Mode, Route, RouteAction};
use crate::values::{AppName, CodePath, InvalidValue, PathPattern, RedirectStatus, UpstreamName};

/// What answers a route, and the keys that mean something beside it.
const ACTIONS: [(&str, &[&str]); 5] = [
    (
        "files",
        &["balance", "mode", "strip_prefix", "index", "cache_control"],
    ),
    ("app", &["balance", "mode", "strip_prefix", "body_max"]),
    ("upstream", &["strip_prefix", "body_max"]),
    ("redirect", &["status", "strip_prefix"]),
    ("respond", &["cache_control"]),
];

pub(super) fn routes(field: &Field<'_, '_>) -> Option<Vec<Route>> {
    let cx = field.table.cx;
    let tables = tables_of(cx, "site.route", field.value, field.value.span())?;
    if tables.is_empty() {
        field.invalid(&InvalidValue::new("the site has no route"));
        return None;
    }
    let read = cx.facts.borrow().routes;
    if read + tables.len() > ROUTES_MAX {
        let message = format!("there are more than {ROUTES_MAX} `[[site.route]]`");
        cx.push(Diagnostic::error(tables[0].span.clone(), message));
        return None;
    }
    cx.facts.borrow_mut().routes += tables.len();
    let mut paths = BTreeMap::new();
    let routes: Vec<_> = tables
        .iter()
        .map(|table| route(table, &mut paths))
        .collect();
    check_front_page(&tables, &routes);
    check_loops(&tables, &routes);
    routes.into_iter().collect()
}

fn route(table: &Table<'_>, paths: &mut BTreeMap<PathPattern, Span>) -> Option<Route> {
    let path = table.field("path").and_then(|field| {
        let path = field.parsed(PathPattern::new)?;
        check_unique(&field, paths, &path, "path");
        Some(path)
    });
    let action = action(table);
    let strip_prefix = table
        .field("strip_prefix")
        .map(|field| strip_prefix(&field, path.as_ref()));
    let cache_control = table
        .field("cache_control")
        .map(|field| field.parsed(header_value));
    let body_max = table.size("body_max");
    Some(Route {
        path: path?,
        action: action?,
        strip_prefix: option(strip_prefix)?,
        cache_control: option(cache_control)?,
        body_max: body_max?,
    })
}

/// `None` where the inner one says that something was wrong.
fn option<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        Some(read) => read.map(Some),
        None => Some(None),
    }
}

fn action(table: &Table<'_>) -> Option<RouteAction> {
    let written: Vec<_> = ACTIONS
        .iter()
        .filter_map(|(name, options)| Some((*name, *options, table.written(name)?)))
        .collect();
    let all = "`files`, `app`, `upstream`, `redirect` and `respond`";
    match &written[..] {
        [] if ACTIONS.iter().any(|(name, _)| table.is_meant(name)) => {}
        [] => {
            table.cx.push(
                Diagnostic::error(table.span.clone(), "this route has no answer")
                    .with_help(format!("add one of {all}")),
            );
        }
        [(name, options, _)] => check_options(table, name, options),
        [(first, _, first_field), more @ ..] => {
            for (name, _, field) in more {
                let message = format!("this route has two answers, `{first}` and `{name}`");
                let key = |name: &str, field: &Field<'_, '_>| {
                    table.key_span(name).unwrap_or_else(|| field.span())
                };
                table.cx.push(
                    Diagnostic::error(key(name, field), message)
                        .with_label("one too many")
                        .with_context(key(first, first_field), "the first answer")
                        .with_help("write a `[[site.route]]` of its own for each"),
                );
            }
        }
    }
    let mut actions = written.iter().map(|(name, _, field)| match *name {
        "files" => files(table, field),
        "app" => app(table, field),
        "upstream" => upstream(field),
        "redirect" => redirect(table, field),
        _ => respond(field),
    });
    let first = actions.next().flatten();
    // The errors of a second answer are told as well.
    actions.for_each(drop);
    first
}

/// Keys that have no effect beside this answer.
fn check_options(table: &Table<'_>, action: &str, options: &[&str]) {
    for key in table.section.keys {
        let of = |(name, options): &(&'static str, &[&str])| {
            options.contains(&key.name).then_some(*name)
        };
        let actions: Vec<_> = ACTIONS.iter().filter_map(of).collect();
        if actions.is_empty() || options.contains(&key.name) {
            continue;
        }
        if let Some(span) = table.key_span(key.name) {
            let message = format!("`{}` means nothing on a route with `{action}`", key.name);
            let mut diagnostic = Diagnostic::error(span, message);
            let of_upstream = matches!(key.name, "balance" | "mode") && action == "upstream";
            diagnostic = diagnostic.with_help(if of_upstream {
                "write it in the `[[upstream]]` that the route leads to".to_owned()
            } else {
                format!("it is for `{}`", actions.join("`, `"))
            });
            table.cx.push(diagnostic);
        }
    }
}

fn files(table: &Table<'_>, field: &Field<'_, '_>) -> Option<RouteAction> {
    let mut facts = table.cx.facts.borrow_mut();
    facts.web_uses.push(field.place("files"));
    drop(facts);
    let root = field.parsed(CodePath::new);
    let balance = table.choice("balance", &BALANCES, |balance| balance.as_str());
    let mode = mode(table);
    let index = table.field("index").and_then(|field| {
        let items = field.items(ITEMS_MAX)?;
        let names: Vec<_> = items.iter().map(|item| item.parsed(file_name)).collect();
        names.into_iter().collect::<Option<Vec<_>>>()
    });
    Some(RouteAction::Files {
        root: root?,
        index: index?,
        balance: balance?,
        mode: mode?,
    })
}

fn app(table: &Table<'_>, field: &Field<'_, '_>) -> Option<RouteAction> {
    let app = field.parsed(AppName::new);
    let mut facts = table.cx.facts.borrow_mut();
    facts.web_uses.push(field.place("app"));
    facts
        .app_uses
        .extend(app.clone().map(|app| field.place(app)));
    drop(facts);
    let balance = table.choice("balance", &BALANCES, |balance| balance.as_str());
    let mode = mode(table);
    Some(RouteAction::App {
        app: app?,
        balance: balance?,
        mode: mode?,
    })
}

fn mode(table: &Table<'_>) -> Option<Mode> {
    let mode = table.choice("mode", &MODES, |mode| mode.as_str());
    if let (Some(Mode::ActivePassive), Some(field)) = (mode, table.written("mode")) {
        let mut facts = table.cx.facts.borrow_mut();
        facts.passive_routes.push(field.span());
    }
    mode
}

fn upstream(field: &Field<'_, '_>) -> Option<RouteAction> {
    let upstream = field.parsed(UpstreamName::new)?;
    let mut facts = field.table.cx.facts.borrow_mut();
    facts.upstream_uses.push(field.place(upstream.clone()));
    Some(RouteAction::Upstream { upstream })
}

fn redirect(table: &Table<'_>, field: &Field<'_, '_>) -> Option<RouteAction> {
    let location = field.parsed(location);
    let status = table.field("status").and_then(|field| {
        let code = field.integer_within(0, u64::MAX, "")?;
        let status = RedirectStatus::from_code(code);
        if status.is_none() {
            let why = InvalidValue::new(format!("{code} is not the status of a redirect"));
            field.invalid(&why.help(
                "write 308 (for ever) or 307 (for now); browsers may turn a POST into a GET on 301, \
                 302 and 303",
            ));
        }
        status
    });
    Some(RouteAction::Redirect {
        location: location?,
        status: status?,
    })
}

fn location(text: &str) -> Result<String, InvalidValue> {
    let forms = "write a URL such as \"https://example.org{path}\", or a path such as \"/new\"";
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let good = match rest {
        Some(rest) => !rest.is_empty() && !rest.starts_with(['/', '{']),
        None => text.starts_with('/') && !text.starts_with("//") || text.starts_with("{path}"),
    };
    if !good {
        return Err(
            InvalidValue::new(format!("{} is neither a URL nor a path", quoted(text))).help(forms),
        );
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(InvalidValue::new("only visible ASCII may stand in a URL")
            .help("percent-encode the rest, such as %20 for a space"));
    }
    if text.contains("/{path}") {
        return Err(InvalidValue::new("`{path}` begins with a slash of its own")
            .help("leave out the slash before it"));
    }
    let without = text.replace("{path}", "");
    if without.contains(['{', '}', '*']) {
        return Err(InvalidValue::new("only `{path}` is replaced in a redirect").help(forms));
    }
    Ok(text.to_owned())
}

fn respond(field: &Field<'_, '_>) -> Option<RouteAction> {
    let Some(table) = field.table() else {
        let text = field.value.get_ref().as_str();
        let text = text.filter(|text| !text.contains(['"', '\\', '\n']) && text.len() < 60);
        let status = field.value.get_ref().as_integer();
        let meant = text
            .map(|text| format!("{{ body = \"{text}\" }}"))
            .or_else(|| status.map(|status| format!("{{ status = {} }}", status.as_str())));
        field.wrong_type("a table", meant);
        return None;
    };
    let status = table.integer::<u16>("status");
    let body = table.text("body");
    let content_type = table.parsed("content_type", header_value);
    if let (Some(status @ (204 | 205 | 304)), Some(body)) = (status, body)
        && !body.is_empty()
        && let Some(field) = table.written("body")
    {
        let message = format!("a response with status {status} has no body");
        field.push(
            Diagnostic::error(field.span(), message)
                .with_help("leave `body` out, or choose another status"),
        );
    }
    if let Some(status @ (301 | 302 | 303 | 307 | 308)) = status
        && let Some(field) = table.written("status")
    {
        let message = format!("status {status} says where to go, and nothing here does");
        field.push(Diagnostic::error(field.span(), message).with_help(format!(
            "write `redirect = \"...\"` and `status = {status}` in the route"
        )));
    }
    Some(RouteAction::Respond {
        status: status?,
        body: body?.to_owned(),
        content_type: content_type?,
    })
}

/// RFC 9110 section 5.5, without obsolete bytes.
fn header_value(text: &str) -> Result<String, InvalidValue> {
    let good = |c: char| c == ' ' || c == '\t' || c.is_ascii_graphic();
    if text.trim() != text || text.is_empty() {
        return Err(InvalidValue::new(
            "a header's value is not empty and has no space at its ends",
        ));
    }
    if !text.chars().all(good) {
        return Err(InvalidValue::new(
            "only visible ASCII and spaces may stand in a header's value",
        ));
    }
    Ok(text.to_owned())
}

fn file_name(text: &str) -> Result<String, InvalidValue> {
    if text.is_empty() || text.contains(['/', '\0']) || text == "." || text == ".." {
        return Err(
            InvalidValue::new(format!("{} is not a file name", quoted(text)))
                .help("write names without folders, such as \"index.html\""),
        );
    }
    Ok(text.to_owned())
}

fn strip_prefix(field: &Field<'_, '_>, path: Option<&PathPattern>) -> Option<String> {
    let path_prefix = match path {
        Some(PathPattern::Prefix(prefix)) => prefix.as_str(),
        Some(PathPattern::Exact(path)) => path.as_str(),
        None => "/",
    };
    if let DeValue::Boolean(flag) = field.value.get_ref() {
        let meant = if *flag { path_prefix } else { "/" };
        let meant = if meant.is_empty() { "/" } else { meant };
        field.wrong_type("a string", Some(format!("\"{meant}\"")));
        return None;
    }
    let text = field.text()?;
    if text == "/" {
        return Some(text.to_owned());
    }
    let trimmed = text.trim_end_matches('*').trim_end_matches('/');
    if !text.starts_with('/') || trimmed != text {
        let trimmed = trimmed.trim_start_matches('/');
        field.invalid(
            &InvalidValue::new("it begins with a slash and does not end with one")
                .help(format!("write `strip_prefix = \"/{trimmed}\"`")),
        );
        return None;
    }
    let below = |rest: &str| rest.is_empty() || rest.starts_with('/');
    if path.is_some() && !path_prefix.strip_prefix(text).is_some_and(below) {
        let why = InvalidValue::new(format!(
            "the route's paths do not begin with {}",
            quoted(text)
        ));
        field.invalid(&match path_prefix {
            "" => why.help("a route for \"/*\" has nothing to strip; leave it out"),
            prefix => why.help(format!(
                "write `strip_prefix = \"{prefix}\"`, or leave it out"
            )),
        });
        return None;
    }
    Some(text.to_owned())
}

/// People write `/` and mean everything.
fn check_front_page(tables: &[Table<'_>], routes: &[Option<Route>]) {
    if let ([table], [Some(route)]) = (tables, routes)
        && route.path == PathPattern::Exact("/".to_owned())
        && !matches!(route.action, RouteAction::Respond { .. })
        && let Some(field) = table.written("path")
    {
        field.push(
            Diagnostic::warning(field.span(), "the site answers at \"/\" and nowhere else")
                .with_label("only the front page")
                .with_help("write `path = \"/*\"` for everything"),
        );
    }
}

/// Redirects that lead to themselves.
fn check_loops(tables: &[Table<'_>], routes: &[Option<Route>]) {
    let paths = routes.iter().enumerate();
    let paths: BTreeMap<PathPattern, usize> = paths
        .filter_map(|(index, route)| Some((route.as_ref()?.path.clone(), index)))
        .collect();
    for (index, (table, route)) in tables.iter().zip(routes).enumerate() {
        let Some(RouteAction::Redirect { location, .. }) = route.as_ref().map(|r| &r.action) else {
            continue;
        };
        let target = location.replace("{path}", "/");
        let target = target.split(['?', '#']).next().unwrap_or("");
        if !target.starts_with('/') || best_match(&paths, target) != Some(index) {
            continue;
        }
        if let Some(field) = table.written("redirect") {
            let label = format!("{} is taken by this very route", quoted(target));
            let help = "browsers give up after some rounds; redirect to a path of another route";
            field.push(
                Diagnostic::warning(field.span(), "this redirect leads to itself")
                    .with_label(label)
                    .with_help(help),
            );
        }
    }
}

/// As the `route` crate decides: an exact path, else the longest prefix.
fn best_match(paths: &BTreeMap<PathPattern, usize>, path: &str) -> Option<usize> {
    if let Some(index) = paths.get(&PathPattern::Exact(path.to_owned())) {
        return Some(*index);
    }
    let mut prefix = path;
    loop {
        if let Some(index) = paths.get(&PathPattern::Prefix(prefix.to_owned())) {
            return Some(*index);
        }
        prefix = &prefix[..prefix.rfind('/')?];
    }
}
