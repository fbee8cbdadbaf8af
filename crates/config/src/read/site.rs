//! `[[site]]`.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::field::Field;
use super::route::routes;
use super::server::check_unique;
use super::table::{Span, Table};
use crate::diagnostics::{Diagnostic, quoted};
use crate::limits::ITEMS_MAX;
use crate::model::{Balance, Mode, Site, SiteTls};
use crate::values::{CodePath, HostName};

pub(super) const BALANCES: [Balance; 3] = [
    Balance::RoundRobin,
    Balance::LeastConnections,
    Balance::IpHash,
];

pub(super) const MODES: [Mode; 2] = [Mode::ActiveActive, Mode::ActivePassive];

pub(super) fn sites(tables: &[Table<'_>]) -> Vec<Site> {
    let mut hosts = BTreeMap::new();
    let mut sites = Vec::new();
    for table in tables {
        table
            .cx
            .facts
            .borrow_mut()
            .first_site
            .get_or_insert(table.span.clone());
        let host = table
            .field("host")
            .and_then(|field| host_name(&field, &mut hosts));
        let aliases = table
            .field("aliases")
            .and_then(|field| aliases(&field, &mut hosts));
        let tls = table.field("tls").and_then(|field| tls(&field));
        let https_redirect = table.bool("https_redirect");
        if let (Some(SiteTls::Off), Some(true)) = (&tls, https_redirect) {
            check_redirect_without_tls(table);
        }
        let error_pages = table
            .field("error_pages")
            .and_then(|field| error_pages(&field));
        let routes = table.field("route").and_then(|field| routes(&field));
        let https_redirect = https_redirect.map(|on| on && tls != Some(SiteTls::Off));
        let site = || {
            Some(Site {
                host: host?,
                aliases: aliases?,
                tls: tls?,
                https_redirect: https_redirect?,
                error_pages: error_pages?,
                routes: routes?,
            })
        };
        sites.extend(site());
    }
    sites
}

fn host_name(field: &Field<'_, '_>, hosts: &mut BTreeMap<HostName, Span>) -> Option<HostName> {
    let host = field.parsed(HostName::new)?;
    check_unique(field, hosts, &host, "host name");
    Some(host)
}

fn aliases(field: &Field<'_, '_>, hosts: &mut BTreeMap<HostName, Span>) -> Option<Vec<HostName>> {
    let items = field.items(ITEMS_MAX)?;
    let hosts = items.iter().map(|item| host_name(item, hosts));
    hosts.collect::<Vec<_>>().into_iter().collect()
}

fn tls(field: &Field<'_, '_>) -> Option<SiteTls> {
    if let DeValue::Table(_) = field.value.get_ref() {
        let table = field.table()?;
        let certificate = table.path("certificate");
        let key = table.path("key");
        return Some(SiteTls::Files {
            certificate: certificate?,
            key: key?,
        });
    }
    match field.word()? {
        "internal" => Some(SiteTls::Internal),
        "off" => Some(SiteTls::Off),
        _ => None,
    }
}

fn check_redirect_without_tls(table: &Table<'_>) {
    if let (Some(redirect), Some(tls)) = (table.written("https_redirect"), table.written("tls")) {
        redirect.push(
            Diagnostic::error(redirect.span(), "there is no HTTPS to redirect to")
                .with_label("leave this out or make it `false`")
                .with_context(tls.span(), "this turns HTTPS off"),
        );
    }
}

fn error_pages(field: &Field<'_, '_>) -> Option<BTreeMap<u16, CodePath>> {
    let mut pages = BTreeMap::new();
    for (status, page) in field.entries(ITEMS_MAX)? {
        let code = status.value.parse::<u16>().ok();
        let code = code.filter(|code| (400..=599).contains(code) && status.value.len() == 3);
        if code.is_none() {
            let message = format!("{} is not the status of an error", quoted(status.value));
            field.push(
                Diagnostic::error(status.span, message)
                    .with_help("write 400 to 599, such as `\"404\" = \"errors/404.html\"`"),
            );
        }
        if let (Some(code), Some(page)) = (code, page.parsed(CodePath::new)) {
            pages.insert(code, page);
        }
    }
    Some(pages)
}
