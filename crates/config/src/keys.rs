//! The one table of keys: what the parser accepts, `trilith explain`, the reference page, the
//! template and "did you mean" all read it.
//!
//! To add a key: add it here, read it in `read/`, carry it in `model.rs`. `keys/tests.rs` fails
//! until the parser asks for it.

mod applies;
mod cluster;
mod database;
mod explain;
mod program;
mod reference;
mod route;
mod site;
mod template;
mod upstream;
mod vip;

use std::fmt;

pub use applies::{Applies, Who};
pub use explain::{UnknownKey, explain};
pub use reference::reference_markdown;
pub use template::commented_template;

/// All tables of the file, in the order in which they are best read.
pub static SECTIONS: [&Section; 18] = [
    &cluster::CLUSTER,
    &vip::STORE,
    &vip::VIP,
    &cluster::PORTS,
    &cluster::CODE,
    &cluster::SERVER,
    &site::SITE,
    &site::SITE_TLS,
    &route::ROUTE,
    &route::RESPOND,
    &program::APP,
    &database::DATABASE,
    &database::FURTHER,
    &database::USER,
    &upstream::UPSTREAM,
    &upstream::UPSTREAM_SERVER,
    &upstream::HEALTH,
    &cluster::EDGE,
];

/// A table of the file and its keys.
#[derive(Debug)]
pub struct Section {
    /// `cluster`, `site.route`, `app.NAME`, `upstream.health`, ...
    pub path: &'static str,
    pub shape: Shape,
    /// Names from other programs under which people look for this table.
    pub also: &'static [&'static str],
    /// Full sentences. The first one can stand alone.
    pub meaning: &'static str,
    pub keys: &'static [Key],
}

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `[path]`, once.
    Table,
    /// `[[path]]`, any number of times.
    List,
    /// `[app.web]`: the last part of the path is a name of the author's choice.
    Named,
    /// `{ ... }`, as the value of the key of the same path.
    Inline,
}

#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub default: Preset,
    /// Full sentences. The first one can stand alone.
    pub meaning: &'static str,
    /// A value as TOML, or for [`Kind::Tables`] empty.
    pub example: &'static str,
    /// Names from other programs under which people look for this key.
    pub also: &'static [&'static str],
    /// The version that brought it.
    pub since: &'static str,
    /// Whether `trilith init` writes it.
    pub in_template: bool,
}

/// The type of a key's value.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Bool,
    Integer {
        min: u64,
        max: u64,
    },
    /// A string that `trilith_base::parse_duration` reads. Bounds in the same form.
    Duration {
        min: &'static str,
        max: &'static str,
    },
    /// A string that `ByteSize::parse` reads. Bounds in the same form.
    Size {
        min: &'static str,
        max: &'static str,
    },
    /// One of these strings; `or` says what else it may be.
    OneOf {
        choices: &'static [Choice],
        or: Option<&'static str>,
    },
    /// A list of these strings.
    ListOf(&'static [Choice]),
    /// A string; which one in words.
    Text(&'static str),
    /// A list; of what in words.
    List(&'static str),
    /// A table with free keys; in words.
    Map(&'static str),
    /// Anything else; in words.
    Mixed(&'static str),
    /// Tables of the section with the same path.
    Tables,
}

/// What holds when a key is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// It cannot be left out.
    Required,
    /// This value, as TOML. The parser reads it like a written one.
    Value(&'static str),
    /// This, in words.
    Unset(&'static str),
}

/// A value that is a word.
#[derive(Debug)]
pub struct Choice {
    pub value: &'static str,
    pub meaning: &'static str,
    /// False for a word that is known but not usable yet.
    pub available: bool,
    /// What to write instead of one that is not available.
    pub instead: &'static str,
    /// Words from other programs that mean it.
    pub also: &'static [&'static str],
}

/// The section with this path; [`Shape::Named`] ones also by a path with a real name in it.
pub fn section(path: &str) -> Option<&'static Section> {
    SECTIONS.into_iter().find(|section| {
        section.path == path
            || section.shape == Shape::Named
                && path.rsplit_once('.').map(|(parent, _)| parent) == Some(section.parent())
    })
}

/// The names that may stand at the top level of the file.
pub(crate) fn root_names() -> impl Iterator<Item = &'static str> {
    SECTIONS
        .into_iter()
        .filter(|section| section.shape != Shape::Inline)
        .filter_map(|section| match section.shape {
            Shape::Named => Some(section.parent()),
            _ => Some(section.path).filter(|path| !path.contains('.')),
        })
}

impl Section {
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// `[cluster]`, `[[site.route]]`, `[app.NAME]`, `site.tls`.
    pub fn header(&self) -> String {
        match self.shape {
            Shape::Table | Shape::Named => format!("[{}]", self.path),
            Shape::List => format!("[[{}]]", self.path),
            Shape::Inline => self.path.to_owned(),
        }
    }

    /// The path without its last part; empty at the top level.
    pub fn parent(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(parent, _)| parent)
    }

    /// The dotted name of one of its keys.
    pub fn dotted(&self, key: &Key) -> String {
        format!("{}.{}", self.path, key.name)
    }

    pub fn summary(&self) -> &'static str {
        first_sentence(self.meaning)
    }

    /// When a change of one of its keys takes effect.
    pub fn applies(&self, key: &Key) -> Applies {
        applies::applies(self, key)
    }
}

impl Key {
    const fn new(name: &'static str, kind: Kind, default: Preset, meaning: &'static str) -> Self {
        Self {
            name,
            kind,
            default,
            meaning,
            example: "",
            also: &[],
            since: "0.1.0",
            in_template: false,
        }
    }

    const fn example(mut self, toml: &'static str) -> Self {
        self.example = toml;
        self
    }

    const fn also(mut self, names: &'static [&'static str]) -> Self {
        self.also = names;
        self
    }

    const fn in_template(mut self) -> Self {
        self.in_template = true;
        self
    }

    pub fn summary(&self) -> &'static str {
        first_sentence(self.meaning)
    }

    /// What to show where a value is wanted: the example, else the default.
    pub fn sample(&self) -> &'static str {
        match self.default {
            Preset::Value(value) if self.example.is_empty() => value,
            _ => self.example,
        }
    }
}

impl Choice {
    const fn new(value: &'static str, meaning: &'static str) -> Self {
        Self {
            value,
            meaning,
            available: true,
            instead: "",
            also: &[],
        }
    }

    const fn also(mut self, words: &'static [&'static str]) -> Self {
        self.also = words;
        self
    }

    const fn not_yet(mut self, instead: &'static str) -> Self {
        self.available = false;
        self.instead = instead;
        self
    }
}

impl Kind {
    pub fn choices(&self) -> &'static [Choice] {
        match self {
            Self::OneOf { choices, .. } | Self::ListOf(choices) => choices,
            _ => &[],
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |choices: &[Choice]| {
            let words = choices.iter().filter(|choice| choice.available);
            let words: Vec<_> = words.map(|c| format!("\"{}\"", c.value)).collect();
            words.join(", ")
        };
        match self {
            Self::Bool => f.write_str("true or false"),
            Self::Integer { min, max } => write!(f, "integer, {min} to {max}"),
            Self::Duration { min, max } => write!(f, "duration, \"{min}\" to \"{max}\""),
            Self::Size { min, max } => write!(f, "size, \"{min}\" to \"{max}\""),
            Self::OneOf { choices, or } => {
                write!(f, "one of {}", words(choices))?;
                or.map_or(Ok(()), |or| write!(f, ", or {or}"))
            }
            Self::ListOf(choices) => write!(f, "list of {}", words(choices)),
            Self::Text(words) => write!(f, "string: {words}"),
            Self::List(words) => write!(f, "list of {words}"),
            Self::Map(words) => write!(f, "table: {words}"),
            Self::Mixed(words) => f.write_str(words),
            Self::Tables => f.write_str("tables"),
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Required => f.write_str("none; it must be given"),
            Self::Value(value) => f.write_str(value),
            Self::Unset(words) => f.write_str(words),
        }
    }
}

fn first_sentence(text: &'static str) -> &'static str {
    text.find(". ").map_or(text, |at| &text[..=at])
}

#[cfg(test)]
mod tests;
