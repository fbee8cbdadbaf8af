//! `[[server]]`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};

use super::cluster::server_name;
use super::field::Field;
use super::table::{Placed, Span, Table};
use crate::diagnostics::{Diagnostic, quoted};
use crate::model::{Role, Roles, Server};
use crate::values::InvalidValue;

pub(super) fn servers(tables: &[Table<'_>]) -> Vec<Server> {
    let mut names = BTreeMap::new();
    let mut addresses = BTreeMap::new();
    let mut servers = Vec::new();
    for table in tables {
        let name = table.field("name").and_then(|field| {
            let name = field.parsed(server_name)?;
            check_unique(&field, &mut names, &name, "server name");
            Some(name)
        });
        let address = table.field("address").and_then(|field| {
            let address = field.parsed(server_address)?;
            check_unique(&field, &mut addresses, &address, "address");
            let mut facts = table.cx.facts.borrow_mut();
            facts.addresses.push(field.place(address));
            Some(address)
        });
        let roles = table.field("roles").and_then(roles);
        match (name, address, roles) {
            (Some(name), Some(address), Some(roles)) => servers.push(Server {
                name,
                address,
                roles,
            }),
            _ => table.cx.facts.borrow_mut().servers_broken = true,
        }
    }
    servers
}

/// Remembers the value, and complains when it was there before.
pub(super) fn check_unique<K: Ord + Clone + Display>(
    field: &Field<'_, '_>,
    seen: &mut BTreeMap<K, Span>,
    value: &K,
    what: &str,
) {
    match seen.get(value) {
        None => {
            seen.insert(value.clone(), field.span());
        }
        Some(first) => field.push(
            Diagnostic::error(
                field.span(),
                format!("the {what} {} is given twice", quoted(&value.to_string())),
            )
            .with_label("here again")
            .with_context(first.clone(), "first here"),
        ),
    }
}

fn server_address(text: &str) -> Result<IpAddr, InvalidValue> {
    let address = match text.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => return Err(no_address(text)),
    };
    if address.is_unspecified() {
        return Err(
            InvalidValue::new("this means every address, so no other server can reach it")
                .help("write the address that the other servers reach this one by"),
        );
    }
    if address.is_multicast() || address == IpAddr::V4(std::net::Ipv4Addr::BROADCAST) {
        return Err(InvalidValue::new("no single server has this address"));
    }
    Ok(address)
}

fn no_address(text: &str) -> InvalidValue {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return InvalidValue::new("a server's address has no port").help(format!(
            "write \"{}\"; the ports are in `[ports]`",
            address.ip()
        ));
    }
    if let Ok(net) = text.parse::<ipnet::IpNet>() {
        return InvalidValue::new("a server's address has no prefix length")
            .help(format!("write \"{}\"", net.addr()));
    }
    let why = InvalidValue::new(format!("{} is not an IP address", quoted(text)));
    if text.bytes().any(|b| b.is_ascii_alphabetic()) {
        why.help("write the address itself, such as \"10.0.0.1\"; host names are not looked up")
    } else {
        why.help("write for example \"10.0.0.1\"")
    }
}

fn roles(field: Field<'_, '_>) -> Option<Roles> {
    let mut seen: Vec<Placed<Role>> = Vec::new();
    let mut good = true;
    for item in field.items(crate::limits::ITEMS_MAX)? {
        let Some(role) = item.choice(&Role::ALL, Role::as_str) else {
            good = false;
            continue;
        };
        if let Some(first) = seen.iter().find(|first| first.value == role) {
            item.push(
                Diagnostic::error(item.span(), format!("the role \"{role}\" is given twice"))
                    .with_label("here again")
                    .with_context(first.span.clone(), "first here"),
            );
            continue;
        }
        seen.push(item.place(role));
    }
    good.then(|| seen.into_iter().map(|role| role.value).collect())
}
