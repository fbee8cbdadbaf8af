//! `[[upstream]]`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use toml::de::DeValue;

use super::field::Field;
use super::server::check_unique;
use super::site::{BALANCES, MODES};
use super::table::Table;
use crate::diagnostics::{Diagnostic, quoted};
use crate::limits::ITEMS_MAX;
use crate::model::{HealthCheck, Mode, Upstream, UpstreamServer};
use crate::values::{InvalidValue, UpstreamName, UrlPath};

pub(super) fn upstreams(tables: &[Table<'_>]) -> Vec<Upstream> {
    let mut names = BTreeMap::new();
    let mut upstreams = Vec::new();
    for table in tables {
        let name = table.field("name").and_then(|field| {
            let name = field.parsed(UpstreamName::new)?;
            check_unique(&field, &mut names, &name, "upstream name");
            Some(name)
        });
        let servers = table.field("servers").and_then(|field| servers(&field));
        let balance = table.choice("balance", &BALANCES, |balance| balance.as_str());
        let mode = table.choice("mode", &MODES, |mode| mode.as_str());
        let health = table.field("health").and_then(|field| health(&field));
        let connect_timeout = table.duration("connect_timeout");
        let response_timeout = table.duration("response_timeout");
        if let (Some(servers), Some(mode)) = (&servers, mode) {
            check_passive(table, mode, servers.len());
        }
        let upstream = || {
            Some(Upstream {
                name: name?,
                servers: servers?,
                balance: balance?,
                mode: mode?,
                health: health?,
                connect_timeout: connect_timeout?,
                response_timeout: response_timeout?,
            })
        };
        upstreams.extend(upstream());
    }
    table_facts(tables, names);
    upstreams
}

/// Also names of upstreams that have other errors: a reference to them is no error of its own.
fn table_facts(tables: &[Table<'_>], names: BTreeMap<UpstreamName, super::table::Span>) {
    if let Some(table) = tables.first() {
        table.cx.facts.borrow_mut().upstreams = names;
    }
}

fn check_passive(table: &Table<'_>, mode: Mode, servers: usize) {
    if mode == Mode::ActivePassive
        && servers == 1
        && let Some(field) = table.written("mode")
    {
        field.push(
            Diagnostic::warning(field.span(), "\"active-passive\" with one server")
                .with_label("there is no other server to be passive")
                .with_help("add a second server to `servers`"),
        );
    }
}

fn servers(field: &Field<'_, '_>) -> Option<Vec<UpstreamServer>> {
    let items = field.items(ITEMS_MAX)?;
    if items.is_empty() {
        field.invalid(&InvalidValue::new("there is no server in it").help(field.write_sample()));
        return None;
    }
    let mut addresses = BTreeMap::new();
    let mut servers = Vec::new();
    for item in &items {
        let (server, place) = match item.value.get_ref() {
            DeValue::Table(_) => {
                let Some(table) = item.table() else { continue };
                let Some(server) = server(&table) else {
                    continue;
                };
                (server, item.within("address"))
            }
            DeValue::String(_) => {
                let Some(address) = item.parsed(upstream_address) else {
                    continue;
                };
                (plain_server(address), *item)
            }
            _ => {
                item.wrong_type("\"address:port\" or a table", None);
                continue;
            }
        };
        check_unique(&place, &mut addresses, &server.address, "address");
        let mut facts = field.table.cx.facts.borrow_mut();
        facts.upstream_addresses.push(place.place(server.address));
        servers.push(server);
    }
    if servers.len() < items.len() {
        return None;
    }
    if servers.iter().all(|server| server.backup) {
        field.push(
            Diagnostic::error(field.span(), "every server of the upstream is a backup")
                .with_help("take `backup = true` from at least one of them"),
        );
        return None;
    }
    Some(servers)
}

/// With the defaults of a server that is no more than an address.
fn plain_server(address: SocketAddr) -> UpstreamServer {
    UpstreamServer {
        address,
        weight: NonZeroU16::MIN,
        backup: false,
        max_connections: None,
    }
}

fn server(table: &Table<'_>) -> Option<UpstreamServer> {
    let address = table.parsed("address", upstream_address);
    let weight = table.integer::<u16>("weight");
    let backup = table.bool("backup");
    let max_connections = table
        .field("max_connections")
        .map(|field| field.integer().and_then(|max| u32::try_from(max).ok()));
    Some(UpstreamServer {
        address: address?,
        weight: weight.and_then(|weight| weight.try_into().ok())?,
        backup: backup?,
        max_connections: match max_connections {
            Some(max) => Some(max.and_then(|max| max.try_into().ok())?),
            None => None,
        },
    })
}

fn upstream_address(text: &str) -> Result<SocketAddr, InvalidValue> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 {
            Err(InvalidValue::new("0 is not a port").help("write the port it listens on"))
        } else if address.ip().is_unspecified() || address.ip().is_multicast() {
            Err(InvalidValue::new(
                "no server can be reached at this address",
            ))
        } else {
            Ok(address)
        };
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        let with_port = SocketAddr::new(address, 8080);
        return Err(InvalidValue::new("the port is missing")
            .help(format!("write for example \"{with_port}\"")));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let why = InvalidValue::new("this is a URL, not an address and port");
        let bare = rest.split('/').next().unwrap_or("");
        return Err(match (scheme, bare.parse::<SocketAddr>()) {
            ("https", _) => why.help(
                "write an IP address and port; upstreams are spoken to in plain HTTP, TLS to them is \
                 not available yet",
            ),
            (_, Ok(address)) => why.help(format!("write \"{address}\"")),
            _ => why.help("write for example \"10.0.1.5:8080\""),
        });
    }
    let why = InvalidValue::new(format!("{} is not an IP address and port", quoted(text)));
    Err(if text.bytes().any(|b| b.is_ascii_alphabetic()) {
        why.help(
            "write the address itself, such as \"10.0.1.5:8080\"; host names are not looked up",
        )
    } else {
        why.help("write for example \"10.0.1.5:8080\"")
    })
}

/// `Some(None)` for `false`.
fn health(field: &Field<'_, '_>) -> Option<Option<HealthCheck>> {
    match field.value.get_ref() {
        DeValue::Boolean(false) => Some(None),
        DeValue::Table(_) => health_check(&field.table()?).map(Some),
        other => {
            let path = other.as_str().filter(|path| UrlPath::new(path).is_ok());
            let meant = path.map(|path| format!("{{ path = \"{path}\" }}"));
            field.wrong_type("a table or false", meant);
            None
        }
    }
}

fn health_check(table: &Table<'_>) -> Option<HealthCheck> {
    let path = table.parsed("path", UrlPath::new);
    let interval = table.duration("interval");
    let rise = table.integer::<u32>("rise");
    let fall = table.integer::<u32>("fall");
    let timeout = table.duration("timeout");
    if let (Some(interval), Some(timeout)) = (interval, timeout)
        && timeout > interval
        && let Some(field) = table
            .written("timeout")
            .or_else(|| table.written("interval"))
    {
        let message = format!(
            "`{0}.timeout` ({1}) is longer than `{0}.interval` ({2})",
            table.path,
            trilith_base::format_duration(timeout),
            trilith_base::format_duration(interval)
        );
        field.push(
            Diagnostic::error(field.span(), message)
                .with_help("one check has to be over before the next one begins"),
        );
        return None;
    }
    Some(HealthCheck {
        path: path?,
        interval: interval?,
        rise: rise?.try_into().ok()?,
        fall: fall?.try_into().ok()?,
        timeout: timeout?,
    })
}
