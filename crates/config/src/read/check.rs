//! What holds between the tables of a file.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::table::{Context, Placed, Span};
use crate::diagnostics::{Diagnostic, Severity, quoted};
use crate::model::{App, FloatingAddress, Ports, Role, Server};
use crate::similar::most_similar;
use crate::values::{AppName, UpstreamName};

/// What was seen while reading, with its places.
#[derive(Default)]
pub(super) struct Facts {
    pub vips: Vec<Placed<FloatingAddress>>,
    pub addresses: Vec<Placed<IpAddr>>,
    /// Some server could not be read: what no server seems to do, that one may.
    pub servers_broken: bool,
    pub database: Option<Span>,
    pub first_site: Option<Span>,
    pub has_site: bool,
    pub routes: usize,
    /// `files` or `app` of routes.
    pub web_uses: Vec<Placed<&'static str>>,
    pub app_uses: Vec<Placed<AppName>>,
    /// `mode = "active-passive"` of routes to web servers.
    pub passive_routes: Vec<Span>,
    /// Also those that have other errors.
    pub upstreams: BTreeMap<UpstreamName, Span>,
    pub upstream_uses: Vec<Placed<UpstreamName>>,
    pub upstream_addresses: Vec<Placed<SocketAddr>>,
}

pub(super) fn check(
    cx: &Context<'_>,
    servers: &[Server],
    apps: &BTreeMap<AppName, App>,
    ports: Option<&Ports>,
) {
    let facts = cx.facts.borrow();
    check_addresses(cx, &facts);
    if !facts.servers_broken && !servers.is_empty() {
        check_roles(cx, &facts, servers);
    }
    check_apps(cx, &facts, apps);
    check_upstreams(cx, &facts);
    if let Some(ports) = ports {
        check_own_upstreams(cx, &facts, servers, ports);
    }
    if !facts.has_site {
        cx.push(
            Diagnostic::about_file(Severity::Warning, "there is no `[[site]]`")
                .with_help("nothing answers requests until there is one; `trilith explain site`"),
        );
    }
}

fn kind(loopback: bool) -> &'static str {
    if loopback {
        "a loopback address"
    } else {
        "no loopback address"
    }
}

fn check_addresses(cx: &Context<'_>, facts: &Facts) {
    let Some(first) = facts.addresses.first() else {
        return;
    };
    let is_loopback = first.value.is_loopback();
    let differs = |address: &&Placed<IpAddr>| address.value.is_loopback() != is_loopback;
    let mixed = facts.addresses.iter().find(differs);
    if let Some(other) = mixed {
        cx.push(
            Diagnostic::error(
                other.span.clone(),
                "some servers have loopback addresses, others not",
            )
            .with_label(format!("this is {}", kind(!is_loopback)))
            .with_context(first.span.clone(), format!("this is {}", kind(is_loopback)))
            .with_help("a loopback address cannot be reached from another machine"),
        );
    }
    for vip in &facts.vips {
        check_floating(cx, facts, vip, mixed.is_none().then_some(first));
    }
}

/// `first`: a server's address that is of the same kind as all others.
fn check_floating(
    cx: &Context<'_>,
    facts: &Facts,
    vip: &Placed<FloatingAddress>,
    first: Option<&Placed<IpAddr>>,
) {
    let same = |address: &&Placed<IpAddr>| address.value == vip.value.ip;
    if let Some(server) = facts.addresses.iter().find(same) {
        cx.push(
            Diagnostic::error(vip.span.clone(), "the floating address belongs to a server")
                .with_label("this moves from server to server")
                .with_context(server.span.clone(), "this stays with its server")
                .with_help("choose a free address of the servers' network"),
        );
    } else if let Some(first) = first
        && vip.value.ip.is_loopback() != first.value.is_loopback()
    {
        let is_loopback = first.value.is_loopback();
        cx.push(
            Diagnostic::error(
                vip.span.clone(),
                format!("the floating address is {}", kind(!is_loopback)),
            )
            .with_label(format!("this is {}", kind(!is_loopback)))
            .with_context(first.span.clone(), format!("this is {}", kind(is_loopback)))
            .with_help(
                "all addresses are loopback addresses, for a trial on one machine, or none is",
            ),
        );
    }
}

fn check_roles(cx: &Context<'_>, facts: &Facts, servers: &[Server]) {
    let count = |role: Role| servers.iter().filter(|server| server.has(role)).count();
    let help = |role: Role| format!("add \"{role}\" to the `roles` of a server");
    if count(Role::Edge) == 0 {
        let (span, message) = match (&facts.first_site, facts.vips.first()) {
            (Some(site), _) => (
                site,
                "no server has the role \"edge\", so nothing listens for this site",
            ),
            (None, Some(vip)) => (
                &vip.span,
                "no server has the role \"edge\", so none holds the floating address",
            ),
            (None, None) => return,
        };
        cx.push(Diagnostic::error(span.clone(), message).with_help(help(Role::Edge)));
    }
    if count(Role::Web) == 0
        && let Some(used) = facts.web_uses.first()
    {
        let message = format!(
            "no server has the role \"web\", which `{}` needs",
            used.value
        );
        cx.push(Diagnostic::error(used.span.clone(), message).with_help(help(Role::Web)));
    }
    let edges = count(Role::Edge);
    if edges > 0
        && let Some(vip) = facts.vips.get(edges)
    {
        cx.push(
            Diagnostic::warning(vip.span.clone(), "more floating addresses than edges")
                .with_label("some edge always holds two")
                .with_help("one address for each server with the role \"edge\" spreads the load"),
        );
    }
    if count(Role::Web) == 1 {
        for span in &facts.passive_routes {
            cx.push(
                Diagnostic::warning(span.clone(), "\"active-passive\" with one web server")
                    .with_label("there is no other server to be passive")
                    .with_help("give a second server the role \"web\""),
            );
        }
    }
    if let Some(database) = &facts.database {
        if count(Role::Db) == 0 {
            let message = "no server has the role \"db\", which `[database]` needs";
            let help = format!("{}, or leave `[database]` out", help(Role::Db));
            cx.push(Diagnostic::error(database.clone(), message).with_help(help));
        } else if count(Role::Web) == 0 {
            let message = "no server has the role \"web\", so no app can use the database";
            cx.push(Diagnostic::warning(database.clone(), message).with_help(help(Role::Web)));
        }
    }
}

/// Whether the servers can decide anything when one of them is gone. One server decides alone;
/// with two, neither may go on without the other, so that the second one doubles the outages.
pub(super) fn check_majority(cx: &Context<'_>, server_headers: &[Span]) {
    if let [first, second] = server_headers {
        cx.push(
            Diagnostic::error(
                second.clone(),
                "two servers cannot outvote each other when the line between them is cut",
            )
            .with_label("there is no third one")
            .with_context(first.clone(), "")
            .with_help("add a third; a witness with `roles = []` is enough, and can be small"),
        );
    }
}

fn check_apps(cx: &Context<'_>, facts: &Facts, apps: &BTreeMap<AppName, App>) {
    for used in &facts.app_uses {
        let name = &used.value;
        let Some(app) = apps.get(name) else {
            // The Procfile may know it. A name that is nearly another one is a slip all the same.
            let names = apps.keys().map(|name| (name.as_str(), &[][..]));
            if let Some(meant) = most_similar(name.as_str(), names) {
                let message = format!("there is no `[app.{name}]`");
                cx.push(
                    Diagnostic::warning(used.span.clone(), message)
                        .with_label(format!("did you mean \"{meant}\"?"))
                        .with_help(format!(
                            "without one, the `Procfile` has to have a line `{name}:`"
                        )),
                );
            }
            continue;
        };
        let why = if app.instances == 0 {
            "runs no instances"
        } else if app.health.is_none() {
            "does not speak HTTP"
        } else {
            continue;
        };
        let key = if app.instances == 0 {
            "instances = 0"
        } else {
            "health = false"
        };
        cx.push(
            Diagnostic::error(used.span.clone(), format!("`app.{name}` {why}"))
                .with_label("this route needs it to answer")
                .with_help(format!("take `{key}` out of `[app.{name}]`")),
        );
    }
}

fn check_upstreams(cx: &Context<'_>, facts: &Facts) {
    for used in &facts.upstream_uses {
        let name = used.value.as_str();
        if facts.upstreams.contains_key(&used.value) {
            continue;
        }
        if cx.is_full() {
            cx.push(Diagnostic::error(used.span.clone(), "unknown"));
            continue;
        }
        let names = facts.upstreams.keys().map(|name| (name.as_str(), &[][..]));
        let diagnostic = Diagnostic::error(
            used.span.clone(),
            format!("there is no upstream {}", quoted(name)),
        );
        cx.push(match most_similar(name, names) {
            Some(meant) => diagnostic.with_label(format!("did you mean \"{meant}\"?")),
            None => diagnostic.with_help(format!(
                "write an `[[upstream]]` with `name = \"{name}\"` and its `servers`"
            )),
        });
    }
    let used: BTreeSet<_> = facts.upstream_uses.iter().map(|used| &used.value).collect();
    for (name, span) in &facts.upstreams {
        if !used.contains(name) {
            cx.push(
                Diagnostic::warning(
                    span.clone(),
                    format!("no route leads to the upstream `{name}`"),
                )
                .with_help(format!(
                    "write `upstream = \"{name}\"` in a `[[site.route]]`"
                )),
            );
        }
    }
}

fn check_own_upstreams(cx: &Context<'_>, facts: &Facts, servers: &[Server], ports: &Ports) {
    let edges = servers.iter().filter(|server| server.has(Role::Edge));
    let mut own: Vec<IpAddr> = edges.map(|server| server.address).collect();
    own.extend(facts.vips.iter().map(|vip| vip.value.ip));
    for Placed { value, span } in &facts.upstream_addresses {
        let public = value.port() == ports.http || value.port() == ports.https;
        if public && own.contains(&value.ip()) {
            cx.push(
                Diagnostic::error(span.clone(), "this leads back to the cluster's own edge")
                    .with_label("an edge listens here")
                    .with_help(
                        "a request would go round in circles; write the address of another server",
                    ),
            );
        }
    }
}
