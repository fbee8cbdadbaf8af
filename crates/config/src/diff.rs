//! What is different between two configs, key by key, and when each difference takes effect.
//!
//! Both configs are flattened into their keys (`flat.rs`); the rest is a comparison of two ordered maps.

mod flat;
mod shown;

use std::fmt;

use trilith_base::ServerName;

use crate::keys::{Applies, Who, section};
use crate::model::{Config, Role, SiteTls};
use flat::{Element, Item, Leaf, flatten};

/// The differences between two configs, in the order of the file's tables. Values that may be secret
/// are not in it, only that they differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub list: Vec<Change>,
}

/// One key that differs, or a whole table that came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `edge.retries`, `server[two].roles`, `site[www.foobar.com].route[/*].balance`; the path alone of a
    /// table that came or went, such as `upstream[legacy]`.
    pub path: String,
    /// As it would stand in the file; `None`: it was not there.
    pub old: Option<String>,
    /// As it would stand in the file; `None`: it is not there any more.
    pub new: Option<String>,
    pub effect: Effect,
}

/// When a change takes effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// At once: no connection closes, health and drain states stay.
    Live,
    /// On each of these servers when it is restarted; elsewhere at once. In file order, of the new
    /// config; may be empty when it matters to none.
    Restart { servers: Vec<ServerName> },
}

/// What is different in `new`.
pub fn diff(old: &Config, new: &Config) -> Changes {
    let (before, after) = (flatten(old), flatten(new));
    let mut list = Vec::new();
    // What is in a table that came or went is told with the table.
    for item in after
        .items
        .iter()
        .filter(|item| before.has_parents_of(item))
    {
        list.extend(compare(before.item(item.path()), Some(item), old, new));
    }
    let gone = before
        .items
        .iter()
        .filter(|item| after.has_parents_of(item) && !after.has(item.path()));
    for item in gone {
        list.extend(compare(Some(item), None, old, new));
    }
    Changes { list }
}

/// One of an item that is in one config or in both.
fn compare(was: Option<&Item>, is: Option<&Item>, old: &Config, new: &Config) -> Option<Change> {
    match (was, is) {
        (Some(Item::Element(_)), Some(Item::Element(_))) => None,
        (Some(Item::Leaf(was)), Some(Item::Leaf(is))) if !was.value.differs(&is.value) => None,
        (was, is) => {
            let item = is.or(was)?;
            let text = |item: &Item| match item {
                Item::Element(element) => element.summary.clone(),
                Item::Leaf(leaf) => leaf.shown.clone(),
            };
            let (path, effect) = match item {
                Item::Element(element) => (&element.path, element_effect(element, old, new)),
                Item::Leaf(leaf) => (&leaf.path, leaf_effect(leaf, old, new)),
            };
            Some(Change {
                path: path.clone(),
                old: was.map(text),
                new: is.map(text),
                effect,
            })
        }
    }
}

fn leaf_effect(leaf: &Leaf, old: &Config, new: &Config) -> Effect {
    let Leaf { key, owner, .. } = leaf;
    let owner = owner.as_ref();
    let applies = key
        .rsplit_once('.')
        .and_then(|(table, key)| {
            let section = section(table)?;
            Some(section.applies(section.key(key)?))
        })
        .unwrap_or(Applies::Live);
    let databases = old.database.is_some() || new.database.is_some();
    match applies {
        // The port for HTTPS is bound at the start, when a site wants it.
        _ if *key == "site.tls" && uses_tls(new) && !uses_tls(old) => {
            restart(Who::Edges, None, new)
        }
        // Databases and those who watch them know each other by address and role.
        _ if databases
            && key.starts_with("server.")
            && concerns_databases(key, owner, old, new) =>
        {
            restart(Who::All, None, new)
        }
        Applies::Live => Effect::Live,
        Applies::Restart(who) => restart(who, owner, new),
    }
}

fn concerns_databases(key: &str, owner: Option<&ServerName>, old: &Config, new: &Config) -> bool {
    let is_db = |config: &Config| {
        owner
            .and_then(|name| config.server(name))
            .is_some_and(|server| server.has(Role::Db))
    };
    match key {
        "server.address" => true,
        "server.roles" => is_db(old) != is_db(new),
        _ => false,
    }
}

fn element_effect(element: &Element, old: &Config, new: &Config) -> Effect {
    let databases = old.database.is_some() || new.database.is_some();
    match element.table {
        "server" if databases => restart(Who::All, None, new),
        "app.NAME" => restart(Who::WebServers, None, new),
        "database" => restart(Who::All, None, new),
        "site" if uses_tls(new) && !uses_tls(old) => restart(Who::Edges, None, new),
        _ => Effect::Live,
    }
}

fn uses_tls(config: &Config) -> bool {
    config.sites.iter().any(|site| site.tls != SiteTls::Off)
}

fn restart(who: Who, owner: Option<&ServerName>, config: &Config) -> Effect {
    let concerned = config.servers.iter().filter(|server| match who {
        Who::All => true,
        Who::Edges => server.has(Role::Edge),
        Who::WebServers => server.has(Role::Web),
        Who::DatabaseServers => server.has(Role::Db),
        Who::Itself => owner == Some(&server.name),
    });
    Effect::Restart {
        servers: concerned.map(|server| server.name.clone()).collect(),
    }
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Paths of what `server` does only when it is restarted.
    pub fn restart_of(&self, server: &ServerName) -> Vec<String> {
        let concerned = self
            .list
            .iter()
            .filter(|change| change.needs_restart_of(server));
        concerned.map(|change| change.path.clone()).collect()
    }

    /// The servers that have to be restarted for all of it, in file order.
    pub fn restarts(&self) -> Vec<ServerName> {
        let mut servers: Vec<ServerName> = Vec::new();
        for change in &self.list {
            if let Effect::Restart { servers: more } = &change.effect {
                let new: Vec<_> = more
                    .iter()
                    .filter(|s| !servers.contains(s))
                    .cloned()
                    .collect();
                servers.extend(new);
            }
        }
        servers
    }
}

impl Change {
    pub fn needs_restart_of(&self, server: &ServerName) -> bool {
        matches!(&self.effect, Effect::Restart { servers } if servers.contains(server))
    }
}

impl fmt::Display for Changes {
    /// One line or two for each change, with `+`, `-` and `~` in front; nothing where there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.list {
            writeln!(f, "{change}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match (&self.old, &self.new) {
            (None, Some(new)) => write!(f, "+ {path}: {new}")?,
            (Some(old), None) => write!(f, "- {path}: {old}")?,
            (Some(old), Some(new)) if old == new => write!(f, "~ {path}: differs")?,
            (old, new) => {
                let text = |value: &Option<String>| value.clone().unwrap_or_default();
                write!(f, "~ {path}: {} -> {}", text(old), text(new))?;
            }
        }
        match &self.effect {
            Effect::Live => Ok(()),
            Effect::Restart { servers } if servers.is_empty() => Ok(()),
            Effect::Restart { servers } => {
                let names: Vec<_> = servers.iter().map(ServerName::as_str).collect();
                write!(f, "   (when restarted: {})", names.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests;
