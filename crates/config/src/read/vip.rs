//! `cluster.vip` and `[vip]`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use toml::de::DeValue;

use super::field::Field;
use super::server::check_unique;
use super::table::Table;
use crate::diagnostics::{Diagnostic, quoted};
use crate::limits::{ADDRESSES_MAX, HOOK_WORDS_MAX};
use crate::model::{FloatingAddress, OnQuorumLoss, VipConfig, VipMode};
use crate::values::InvalidValue;

const ON_QUORUM_LOSS: [OnQuorumLoss; 2] = [OnQuorumLoss::Orphan, OnQuorumLoss::Release];

/// `cluster.vip`: one address, or a list of them. `None` where one of them is none.
pub(super) fn addresses(table: &Table<'_>) -> Option<Vec<FloatingAddress>> {
    let Some(field) = table.field("vip") else {
        return Some(Vec::new());
    };
    let items = match field.value.get_ref() {
        DeValue::Array(_) => field.items(ADDRESSES_MAX)?,
        DeValue::String(_) => vec![field],
        _ => {
            field.wrong_type("a string, or a list of strings", None);
            return None;
        }
    };
    let mut seen = BTreeMap::new();
    let mut addresses = Vec::new();
    for item in &items {
        let Some(address) = item.parsed(address) else {
            continue;
        };
        check_unique(item, &mut seen, &address.ip, "floating address");
        table.cx.facts.borrow_mut().vips.push(item.place(address));
        addresses.push(address);
    }
    (addresses.len() == items.len()).then_some(addresses)
}

fn address(text: &str) -> Result<FloatingAddress, InvalidValue> {
    let net = match text.parse::<IpNet>() {
        Ok(net) => net,
        Err(_) => match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => {
                let is_prefix_wrong = text
                    .split_once('/')
                    .is_some_and(|(address, _)| address.parse::<IpAddr>().is_ok());
                let what = if is_prefix_wrong {
                    format!("the prefix length of {} is not possible", quoted(text))
                } else {
                    format!("{} is not an IP address", quoted(text))
                };
                return Err(InvalidValue::new(what).help(
                    "write an IP address and its network's prefix length, such as \"10.0.0.100/24\"",
                ));
            }
        },
    };
    let address = net.addr();
    if address.is_unspecified() || address.is_multicast() {
        return Err(InvalidValue::new("no server can hold this address")
            .help("write a free address of the servers' network, such as \"10.0.0.100/24\""));
    }
    // Networks of one or two addresses have no network and broadcast address (RFC 3021).
    let has_ends = net.max_prefix_len() - net.prefix_len() >= 2;
    if has_ends && (address == net.network() || address.is_ipv4() && address == net.broadcast()) {
        return Err(
            InvalidValue::new("this is the network, not an address in it")
                .help("write a free address of it, such as \"10.0.0.100/24\""),
        );
    }
    Ok(FloatingAddress {
        ip: address,
        prefix: net.prefix_len(),
    })
}

/// `[vip]`. `addresses`: what `cluster.vip` gave, `None` where that cannot be read.
pub(super) fn vip(table: &Table<'_>, addresses: Option<Vec<FloatingAddress>>) -> Option<VipConfig> {
    let on_quorum_loss = table.choice("on_quorum_loss", &ON_QUORUM_LOSS, |choice| choice.as_str());
    let interface = table
        .field("interface")
        .map(|field| field.parsed(interface));
    let take = table.field("hook_take").map(|field| command(&field));
    let release = table.field("hook_release").map(|field| command(&field));
    let word = match table.field("mode") {
        Some(field) => Some(field.word()?),
        None => None,
    };
    let addresses = addresses?;
    if addresses.is_empty() && word != Some("none") && !table.table.is_empty() {
        table.cx.push(
            Diagnostic::warning(table.span.clone(), "there is no floating address")
                .with_label("so this does nothing")
                .with_help("write `vip = \"10.0.0.100/24\"` below `[cluster]`"),
        );
    }
    let is_loopback = addresses.first().map(|address| address.ip.is_loopback());
    let word = word.unwrap_or(match is_loopback {
        Some(true) => "loopback",
        Some(false) => "l2",
        None => "none",
    });
    check_keys_fit(table, word, addresses.is_empty());
    let mode = match word {
        "loopback" | "l2" if !check_loopback(table, word, is_loopback) => return None,
        "loopback" => VipMode::Loopback,
        "l2" => VipMode::L2 {
            interface: match interface {
                Some(interface) => Some(interface?),
                None => None,
            },
        },
        "hook" => match take {
            Some(take) => VipMode::Hook {
                take: take?,
                release: match release {
                    Some(release) => release?,
                    None => Vec::new(),
                },
            },
            None => {
                report_no_hook(table);
                return None;
            }
        },
        _ => VipMode::None,
    };
    Some(VipConfig {
        mode: match addresses.is_empty() {
            true => VipMode::None,
            false => mode,
        },
        addresses,
        on_quorum_loss: on_quorum_loss?,
    })
}

/// Keys of one mode, with another mode.
fn check_keys_fit(table: &Table<'_>, mode: &str, no_addresses: bool) {
    let is_written = table.written("mode").is_some();
    if !is_written && no_addresses {
        return;
    }
    for (key, of) in [
        ("interface", "l2"),
        ("hook_take", "hook"),
        ("hook_release", "hook"),
    ] {
        if let Some(field) = table.written(key)
            && mode != of
        {
            let message = format!("`vip.{key}` goes with `mode = \"{of}\"`");
            let help = format!("write `mode = \"{of}\"`, or take `{key}` away");
            field.push(
                Diagnostic::error(field.span(), message)
                    .with_label(match is_written {
                        true => format!("the mode is \"{mode}\""),
                        false => format!("the mode of such an address is \"{mode}\""),
                    })
                    .with_help(help),
            );
        }
    }
}

/// Whether mode and addresses fit; says so where not.
fn check_loopback(table: &Table<'_>, mode: &str, is_loopback: Option<bool>) -> bool {
    let Some(field) = table.written("mode") else {
        return true;
    };
    let (message, help) = match (mode, is_loopback) {
        ("loopback", Some(false)) => (
            "`mode = \"loopback\"` is for an address in 127.0.0.0/8",
            "leave `mode` out: then the holder puts the address on its network interface",
        ),
        ("l2", Some(true)) => (
            "`mode = \"l2\"` is for an address of the servers' network",
            "leave `mode` out: the holder of a loopback address only has to listen on it",
        ),
        _ => return true,
    };
    field.push(Diagnostic::error(field.span(), message).with_help(help));
    false
}

fn report_no_hook(table: &Table<'_>) {
    if table.is_meant("hook_take") {
        return;
    }
    if let Some(field) = table.written("mode") {
        field.push(
            Diagnostic::error(field.span(), "`mode = \"hook\"` needs `hook_take`").with_help(
                "write the program that leads the address to this server, such as \
                 `hook_take = [\"/etc/trilith/take-address\", \"{ip}\"]`",
            ),
        );
    }
}

/// The kernel's rule: 1 to 15 bytes, no slash, no space (`dev_valid_name` in net/core/dev.c).
fn interface(text: &str) -> Result<String, InvalidValue> {
    let good = !matches!(text, "" | "." | "..")
        && text.len() <= 15
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':'));
    if good {
        return Ok(text.to_owned());
    }
    Err(
        InvalidValue::new(format!("{} is not the name of an interface", quoted(text)))
            .help("`ip link` lists them; write for example \"eth0\""),
    )
}

/// An argument list; the program first, with its whole path.
fn command(field: &Field<'_, '_>) -> Option<Vec<String>> {
    if let DeValue::String(line) = field.value.get_ref() {
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '\\');
        let is_plain = line.len() < 100 && line.chars().all(|c| c == ' ' || plain(c));
        let words = line.split_whitespace().map(|word| format!("\"{word}\""));
        let words = is_plain.then(|| words.collect::<Vec<_>>().join(", "));
        field.wrong_type("a list", words.map(|words| format!("[{words}]")));
        return None;
    }
    let items = field.items(HOOK_WORDS_MAX)?;
    let Some(program) = items.first() else {
        field.invalid(&InvalidValue::new("it is empty").help(field.write_sample()));
        return None;
    };
    let words: Vec<&str> = items
        .iter()
        .filter_map(|item| {
            let text = item.text()?;
            if text.contains('\0') {
                item.invalid(&InvalidValue::new("it contains a zero byte"));
                return None;
            }
            Some(text)
        })
        .collect();
    if words.len() < items.len() {
        return None;
    }
    if !words[0].starts_with('/') {
        let why = InvalidValue::new(format!(
            "{} is not the whole path of a program",
            quoted(words[0])
        ));
        program.invalid(&why.help(if words[0].contains(' ') {
            "no shell reads it: one item for the program, one for each argument"
        } else {
            "write it with its folder; no search path is used"
        }));
        return None;
    }
    Some(words.into_iter().map(str::to_owned).collect())
}
