//! `[cluster]`, `[ports]`, `[code]`, `[edge]`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;

use ipnet::IpNet;
use toml::de::DeValue;
use trilith_base::ServerName;

use super::field::Field;
use super::server::check_unique;
use super::table::{Placed, Table};
use crate::diagnostics::{Diagnostic, quoted};
use crate::limits::{ENDPOINTS_MAX, ITEMS_MAX};
use crate::model::{Cluster, Code, Edge, Ports, StoreKind, Workers};
use crate::values::InvalidValue;

pub(super) fn cluster(table: &Table<'_>) -> Option<Cluster> {
    let name = table.parsed("name", server_name);
    let data = table.path("data");
    let secrets = table.path("secrets");
    let workers = table.field("workers").and_then(|field| workers(&field));
    Some(Cluster {
        name: name?,
        data: data?,
        secrets: secrets?,
        workers: workers?,
    })
}

/// `cluster.store`.
pub(super) fn store(table: &Table<'_>) -> Option<StoreKind> {
    let field = table.field("store")?;
    match field.value.get_ref() {
        DeValue::Table(_) => {
            let table = field.table()?;
            let endpoints = table.field("etcd").and_then(|field| endpoints(&field));
            Some(StoreKind::Etcd {
                endpoints: endpoints?,
            })
        }
        DeValue::String(text) if text == "embedded" => Some(StoreKind::Embedded),
        DeValue::String(text) => {
            let why = InvalidValue::new(format!("{} is no store", quoted(text)));
            field.invalid(&why.help(
                "leave it out for Trilith's own store, or write where an etcd is: \
                 `store = { etcd = [\"http://10.0.0.5:2379\"] }`",
            ));
            None
        }
        _ => {
            field.wrong_type("\"embedded\" or a table", None);
            None
        }
    }
}

fn endpoints(field: &Field<'_, '_>) -> Option<Vec<String>> {
    let items = field.items(ENDPOINTS_MAX)?;
    if items.is_empty() {
        field.invalid(&InvalidValue::new("there is no endpoint in it").help(field.write_sample()));
        return None;
    }
    let mut seen = BTreeMap::new();
    let mut endpoints = Vec::new();
    for item in &items {
        if let Some(endpoint) = item.parsed(endpoint) {
            check_unique(item, &mut seen, &endpoint, "endpoint");
            endpoints.push(endpoint);
        }
    }
    (endpoints.len() == items.len()).then_some(endpoints)
}

/// `http://host:port`, without anything behind it.
fn endpoint(text: &str) -> Result<String, InvalidValue> {
    const EXAMPLE: &str = "write for example \"http://10.0.0.5:2379\"";
    let Some(rest) = text.strip_prefix("http://") else {
        return Err(match text.split_once("://") {
            Some(("https", _)) => InvalidValue::new("TLS to etcd is not available yet")
                .help("write an `http://` endpoint, on a private network or through a tunnel"),
            Some((scheme, _)) => {
                InvalidValue::new(format!("{} is not etcd's protocol", quoted(scheme)))
                    .help(EXAMPLE)
            }
            None => InvalidValue::new("`http://` is missing").help(EXAMPLE),
        });
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let Some((host, port)) = rest
        .rsplit_once(':')
        .filter(|(_, port)| !port.contains(']'))
    else {
        return Err(InvalidValue::new("the port is missing").help(EXAMPLE));
    };
    if !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return Err(InvalidValue::new(format!("{} is not a port", quoted(port))).help(EXAMPLE));
    }
    let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let is_name = |name: &str| {
        !name.is_empty()
            && name.len() <= 253
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
    };
    let good = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_name(host),
    };
    if !good {
        return Err(InvalidValue::new(format!("{} is not a host", quoted(host))).help(EXAMPLE));
    }
    Ok(format!("http://{rest}"))
}

/// Also a cluster's: the same labels go into certificates.
pub(super) fn server_name(text: &str) -> Result<ServerName, InvalidValue> {
    ServerName::new(text).map_err(|_| {
        let why = InvalidValue::new(format!("{} is not a name", quoted(text)));
        let good: String = text
            .to_ascii_lowercase()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        let good = good.trim_matches('-');
        match ServerName::new(good) {
            Ok(good) => why.help(format!(
                "a name is 1 to 63 of a-z, 0-9 and -; write for example \"{good}\""
            )),
            Err(_) => why.help("a name is 1 to 63 of a-z, 0-9 and -"),
        }
    })
}

fn workers(field: &Field<'_, '_>) -> Option<Workers> {
    match field.value.get_ref() {
        DeValue::String(text) if text == "auto" => Some(Workers::Auto),
        DeValue::Integer(_) => {
            let count = usize::try_from(field.integer_within(1, 256, ", or \"auto\"")?).ok()?;
            NonZeroUsize::new(count).map(Workers::Count)
        }
        _ => {
            field.wrong_type("an integer or \"auto\"", None);
            None
        }
    }
}

pub(super) fn ports(table: &Table<'_>) -> Option<Ports> {
    let http = table.integer("http");
    let https = table.integer("https");
    let cluster = table.integer("cluster");
    let postgres = table.integer("postgres");
    let sql = table.integer("sql");
    let sql_replica = table.integer("sql_replica");
    let admin = table.integer("admin");
    let ports = Ports {
        http: http?,
        https: https?,
        cluster: cluster?,
        postgres: postgres?,
        sql: sql?,
        sql_replica: sql_replica?,
        admin: admin?,
    };
    check_ports_differ(table);
    Some(ports)
}

fn check_ports_differ(table: &Table<'_>) {
    let mut seen: BTreeMap<u64, Field<'_, '_>> = BTreeMap::new();
    // Written ones last, so that the caret is under something that was written.
    let fields = || {
        table
            .section
            .keys
            .iter()
            .filter_map(|key| table.field(key.name))
    };
    let defaults = fields().filter(|field| !field.written);
    for field in defaults.chain(fields().filter(|field| field.written)) {
        let Some(port) = field.integer() else {
            continue;
        };
        let Some(first) = seen.insert(port, field) else {
            continue;
        };
        let (one, other) = (first.key.name, field.key.name);
        let message = format!("`ports.{one}` and `ports.{other}` are both {port}");
        let diagnostic = Diagnostic::error(field.span(), message);
        table.cx.push(
            if first.written {
                diagnostic.with_context(first.span(), format!("`{one}` is here"))
            } else {
                diagnostic.with_label(format!("{port} is the default of `{one}`"))
            }
            .with_help("every port must be another one"),
        );
    }
}

pub(super) fn code(table: &Table<'_>) -> Option<Code> {
    Some(Code {
        path: table.path("path")?,
    })
}

pub(super) fn edge(table: &Table<'_>) -> Option<Edge> {
    let trusted_proxies = table.field("trusted_proxies").and_then(trusted_proxies);
    let header_timeout = table.duration("header_timeout");
    let body_idle_timeout = table.duration("body_idle_timeout");
    let keep_alive_timeout = table.duration("keep_alive_timeout");
    let body_rate_min = table.size("body_rate_min");
    let header_bytes_max = table.size("header_bytes_max");
    let headers_max = table.integer("headers_max");
    let target_bytes_max = table.size("target_bytes_max");
    let connections_max = table.integer("connections_max");
    let connections_per_ip_max = table.integer("connections_per_ip_max");
    let drain_timeout = table.duration("drain_timeout");
    let access_log = table.bool("access_log");
    let retries = table.integer("retries");
    let retry_budget_percent = table.integer("retry_budget_percent");
    let edge = Edge {
        trusted_proxies: trusted_proxies?,
        header_timeout: header_timeout?,
        body_idle_timeout: body_idle_timeout?,
        keep_alive_timeout: keep_alive_timeout?,
        body_rate_min: body_rate_min?,
        header_bytes_max: header_bytes_max?,
        headers_max: headers_max?,
        target_bytes_max: target_bytes_max?,
        connections_max: connections_max?,
        connections_per_ip_max: connections_per_ip_max?,
        drain_timeout: drain_timeout?,
        access_log: access_log?,
        retries: retries?,
        retry_budget_percent: retry_budget_percent?,
    };
    check_edge(table, &edge);
    Some(edge)
}

/// What holds between keys.
fn check_edge(table: &Table<'_>, edge: &Edge) {
    if edge.target_bytes_max > edge.header_bytes_max {
        let field = table
            .written("target_bytes_max")
            .or_else(|| table.written("header_bytes_max"));
        if let Some(field) = field {
            let message = format!(
                "`edge.target_bytes_max` ({}) is more than `edge.header_bytes_max` ({})",
                edge.target_bytes_max, edge.header_bytes_max
            );
            field.push(
                Diagnostic::error(field.span(), message)
                    .with_help("path and query are part of the request head"),
            );
        }
    }
    if edge.connections_per_ip_max > edge.connections_max
        && let Some(field) = table.written("connections_per_ip_max")
    {
        let message = format!(
            "`edge.connections_per_ip_max` is more than `edge.connections_max` ({})",
            edge.connections_max
        );
        field.push(
            Diagnostic::warning(field.span(), message)
                .with_help("one client can take all connections; 0 says so plainly"),
        );
    }
}

fn trusted_proxies(field: Field<'_, '_>) -> Option<Vec<IpNet>> {
    let items = field.items(ITEMS_MAX)?;
    let nets: Vec<_> = items
        .iter()
        .filter_map(|item| Some(item.place(item.parsed(network)?)))
        .collect();
    for Placed { value: net, span } in &nets {
        if net.prefix_len() == 0 {
            let message = "`edge.trusted_proxies` trusts everybody";
            field.push(
                Diagnostic::warning(span.clone(), message)
                    .with_label("this is every address there is")
                    .with_help(
                        "any client can then pretend to be any other; list your proxies only",
                    ),
            );
        }
    }
    Some(nets.into_iter().map(|net| net.value).collect())
}

fn network(text: &str) -> Result<IpNet, InvalidValue> {
    if let Ok(net) = text.parse::<IpNet>() {
        let trunc = net.trunc();
        if trunc != net {
            return Err(InvalidValue::new(format!(
                "{} is an address, not a network",
                quoted(text)
            ))
            .help(format!("write \"{}\" or \"{trunc}\"", net.addr())));
        }
        return Ok(net);
    }
    text.parse::<IpAddr>().map(IpNet::from).map_err(|_| {
        InvalidValue::new(format!("{} is not an address or network", quoted(text)))
            .help("write IP addresses and networks, such as \"192.0.2.7\" or \"10.0.0.0/8\"")
    })
}
