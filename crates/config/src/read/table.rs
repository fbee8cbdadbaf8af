//! The tables of the file, with the key table in hand: unknown and missing keys are dealt with here,
//! types, bounds and defaults in `field.rs`, so that the rest of the reader deals with meaning.

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;
use trilith_base::ByteSize;

use super::check::Facts;
use super::field::{DEFAULTS, Field};
use crate::diagnostics::{Diagnostic, Report, quoted};
use crate::keys::{Key, Kind, Preset, SECTIONS, Section, Shape};
use crate::similar::most_similar;
use crate::values::InvalidValue;

pub(super) type Span = Range<usize>;

/// What the reader of every table needs.
pub(super) struct Context<'a> {
    pub base_dir: &'a Path,
    pub facts: RefCell<Facts>,
    pub report: RefCell<Report>,
    /// Lines that are no TOML. What else is wrong with them follows from that.
    marked: RefCell<Vec<Span>>,
    /// Which keys were asked for.
    #[cfg(test)]
    pub asked: RefCell<std::collections::BTreeSet<String>>,
}

impl<'a> Context<'a> {
    pub fn new(base_dir: &'a Path) -> Self {
        Self {
            base_dir,
            facts: RefCell::default(),
            report: RefCell::default(),
            marked: RefCell::default(),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    pub fn push(&self, diagnostic: Diagnostic) {
        let marked = self.marked.borrow();
        let is_marked = |at: usize| marked.iter().any(|line| line.start <= at && at <= line.end);
        if !diagnostic.starts_at().is_some_and(is_marked) {
            self.report.borrow_mut().push(diagnostic);
        }
    }

    /// Whether further errors are only counted, so that nothing need be found out for them.
    pub fn is_full(&self) -> bool {
        self.report.borrow().is_full()
    }

    /// Nothing more is to be said about this line.
    pub fn mark_line(&self, line: Span) {
        self.marked.borrow_mut().push(line);
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Placed<T> {
    pub value: T,
    pub span: Span,
}

/// A table of the file, and the section of the key table that it belongs to.
pub(super) struct Table<'a> {
    pub cx: &'a Context<'a>,
    pub section: &'static Section,
    /// Like the section's path, with a real name for `NAME`.
    pub path: String,
    pub table: &'a DeTable<'a>,
    /// Of the header, or of the whole inline table.
    pub span: Span,
    /// Keys that are written wrong, so that they are not missing as well.
    meant: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// Reports the keys that the section does not have.
    pub fn open(
        cx: &'a Context<'a>,
        section: &'static Section,
        path: impl Into<String>,
        table: &'a DeTable<'a>,
        span: Span,
    ) -> Self {
        let mut this = Self {
            cx,
            section,
            path: path.into(),
            table,
            span,
            meant: Vec::new(),
        };
        for (key, _) in table {
            if section.key(key.get_ref()).is_none() {
                let meant = this.report_unknown_key(key.get_ref(), key.span());
                this.meant.extend(meant);
            }
        }
        this
    }

    /// `[[server]]`, `[app.web]`, `site.tls`.
    pub fn header(&self) -> String {
        match self.section.shape {
            Shape::Table | Shape::Named => format!("[{}]", self.path),
            Shape::List => format!("[[{}]]", self.path),
            Shape::Inline => self.path.clone(),
        }
    }

    /// What the file says, or else the default. `None`: not given; that is reported where the key
    /// is required.
    pub fn field(&self, name: &'static str) -> Option<Field<'_, 'a>> {
        let field = self.written(name);
        let key = self.section.key(name)?;
        if field.is_some() {
            return field;
        }
        match key.default {
            Preset::Required => {
                self.report_missing(key);
                None
            }
            Preset::Unset(_) => None,
            Preset::Value(_) => Some(Field {
                table: self,
                key,
                value: DEFAULTS.get(&(self.section.path, name))?,
                written: false,
            }),
        }
    }

    /// Only what the file says.
    pub fn written(&self, name: &'static str) -> Option<Field<'_, 'a>> {
        let key = self.section.key(name);
        debug_assert!(key.is_some(), "{}.{name} is not in the table", self.path);
        #[cfg(test)]
        self.cx
            .asked
            .borrow_mut()
            .insert(format!("{}.{name}", self.section.path));
        Some(Field {
            table: self,
            key: key?,
            value: self.table.get(name)?,
            written: true,
        })
    }

    /// Whether another key was reported to mean this one.
    pub fn is_meant(&self, name: &str) -> bool {
        self.meant.contains(&name)
    }

    /// Where the key of a written field stands.
    pub fn key_span(&self, name: &str) -> Option<Span> {
        self.table.get_key_value(name).map(|(key, _)| key.span())
    }

    pub fn text(&self, name: &'static str) -> Option<&'a str> {
        self.field(name)?.text()
    }

    pub fn parsed<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, InvalidValue>,
    ) -> Option<T> {
        self.field(name)?.parsed(parse)
    }

    pub fn bool(&self, name: &'static str) -> Option<bool> {
        self.field(name)?.bool()
    }

    /// Bounds are the key table's, so that the conversion fails only where those are too wide.
    pub fn integer<T: TryFrom<u64>>(&self, name: &'static str) -> Option<T> {
        T::try_from(self.field(name)?.integer()?).ok()
    }

    pub fn duration(&self, name: &'static str) -> Option<Duration> {
        self.field(name)?.duration()
    }

    pub fn size(&self, name: &'static str) -> Option<ByteSize> {
        self.field(name)?.size()
    }

    pub fn choice<T: Copy>(
        &self,
        name: &'static str,
        all: &[T],
        as_str: fn(T) -> &'static str,
    ) -> Option<T> {
        self.field(name)?.choice(all, as_str)
    }

    pub fn path(&self, name: &'static str) -> Option<PathBuf> {
        self.field(name)?.path()
    }

    fn report_missing(&self, key: &Key) {
        if self.is_meant(key.name) {
            return;
        }
        let example = match key.kind {
            Kind::Tables => format!("write a `[[{}.{}]]` below it", self.path, key.name),
            _ => format!("write `{} = {}`", key.name, key.sample()),
        };
        self.cx.push(
            Diagnostic::error(
                self.span.clone(),
                format!("`{}` has no `{}`", self.header(), key.name),
            )
            .with_label(format!("`{}` is missing", key.name))
            .with_help(example),
        );
    }

    /// Returns the key that seems to be meant.
    fn report_unknown_key(&self, name: &str, span: Span) -> Option<&'static str> {
        let header = self.header();
        let diagnostic =
            Diagnostic::error(span, format!("unknown key {} in `{header}`", quoted(name)));
        if self.cx.is_full() {
            self.cx.push(diagnostic);
            return None;
        }
        let parents = |s: &&&Section| s.path == self.section.parent() && s.key(name).is_some();
        if let Some(parent) = SECTIONS.iter().find(parents) {
            // TOML's trap: what stands below `[[site.route]]` belongs to the route.
            let parent = parent.header();
            let help = format!("write it below `{parent}`, above the first `{header}`");
            self.cx.push(
                diagnostic
                    .with_label(format!("this is a key of `{parent}`"))
                    .with_help(help),
            );
            return None;
        }
        let own = self.section.keys.iter().map(|key| (key.name, key.also));
        let meant = most_similar(name, own);
        self.cx.push(match meant {
            Some(meant) => diagnostic.with_label(format!("did you mean `{meant}`?")),
            None => diagnostic.with_help(belongs_to(name).unwrap_or_else(|| self.known_keys())),
        });
        meant
    }

    fn known_keys(&self) -> String {
        const LISTED_MAX: usize = 8;
        let header = self.header();
        if self.section.keys.len() > LISTED_MAX {
            return format!(
                "`trilith explain {}` lists the keys of `{header}`",
                self.section.path
            );
        }
        let names: Vec<_> = self.section.keys.iter().map(|key| key.name).collect();
        format!("the keys of `{header}` are `{}`", names.join("`, `"))
    }
}

/// Says which tables have a key of this name, or one that other programs call so.
pub(super) fn belongs_to(name: &str) -> Option<String> {
    const NAMED_MAX: usize = 4;
    // Tables that have a header come first: what stands inline is rarely meant.
    let owners = |inline: bool| -> Vec<String> {
        let sections = SECTIONS.iter();
        let shaped = sections.filter(|s| (s.shape == Shape::Inline) == inline);
        let owners = shaped.filter(|section| section.key(name).is_some());
        owners.map(|section| section.header()).collect()
    };
    let mut headers = owners(false);
    if headers.is_empty() {
        headers = owners(true);
    }
    if !headers.is_empty() {
        let known = || format!("{} is a key of `{}`", quoted(name), headers.join("`, `"));
        return (headers.len() <= NAMED_MAX).then(known);
    }
    let tables = SECTIONS.iter().filter(|s| s.shape != Shape::Inline);
    let named = tables.flat_map(|section| section.keys.iter().map(move |key| (section, key)));
    let meant = named.filter(|(_, key)| key.also.contains(&name));
    let meant: Vec<_> = meant
        .map(|(section, key)| format!("`{}` of `{}`", key.name, section.header()))
        .collect();
    (!meant.is_empty() && meant.len() <= NAMED_MAX)
        .then(|| format!("that may be {}", meant.join(", ")))
}
