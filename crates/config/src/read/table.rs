//! Reading single values out of TOML's tree, with the key table in hand: types, bounds, defaults and
//! unknown keys are dealt with here, so that the rest of the reader deals with meaning.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use trilith_base::{ByteSize, parse_duration};

use super::check::Facts;
use crate::diagnostics::{Diagnostic, Report, quoted};
use crate::keys::{self, Key, Kind, Preset, SECTIONS, Section, Shape};
use crate::similar::most_similar;
use crate::values::InvalidValue;

pub(super) type Span = Range<usize>;

/// What the reader of every table needs.
pub(super) struct Context<'a> {
    pub base_dir: &'a Path,
    pub facts: RefCell<Facts>,
    pub report: RefCell<Report>,
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
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    pub fn push(&self, diagnostic: Diagnostic) {
        self.report.borrow_mut().push(diagnostic);
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
        let this = Self {
            cx,
            section,
            path: path.into(),
            table,
            span,
        };
        for (key, _) in table {
            if section.key(key.get_ref()).is_none() {
                this.report_unknown_key(key.get_ref(), key.span());
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

    fn report_unknown_key(&self, name: &str, span: Span) {
        let header = self.header();
        let diagnostic =
            Diagnostic::error(span, format!("unknown key {} in `{header}`", quoted(name)));
        let own = self.section.keys.iter().map(|key| (key.name, key.also));
        let parents = |s: &&&Section| s.path == self.section.parent() && s.key(name).is_some();
        if let Some(parent) = SECTIONS.iter().find(parents) {
            // TOML's trap: what stands below `[[site.route]]` belongs to the route.
            let parent = parent.header();
            self.cx.push(
                diagnostic
                    .with_label(format!("this is a key of `{parent}`"))
                    .with_help(format!(
                        "write it below `{parent}`, above the first `{header}`"
                    )),
            );
        } else if let Some(meant) = most_similar(name, own) {
            self.cx
                .push(diagnostic.with_label(format!("did you mean `{meant}`?")));
        } else {
            let help = belongs_to(name).unwrap_or_else(|| self.known_keys());
            self.cx.push(diagnostic.with_help(help));
        }
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

/// Says which tables have a key of this name.
pub(super) fn belongs_to(name: &str) -> Option<String> {
    let tables = SECTIONS
        .iter()
        .filter(|section| section.key(name).is_some());
    let headers: Vec<_> = tables.map(|section| section.header()).collect();
    (!headers.is_empty() && headers.len() <= 4)
        .then(|| format!("{} is a key of `{}`", quoted(name), headers.join("`, `")))
}

/// A value, and the key it belongs to.
#[derive(Clone, Copy)]
pub(super) struct Field<'t, 'a> {
    pub table: &'t Table<'a>,
    pub key: &'static Key,
    pub value: &'a Spanned<DeValue<'a>>,
    /// False for a default.
    pub written: bool,
}

impl<'t, 'a> Field<'t, 'a> {
    pub fn span(&self) -> Span {
        self.value.span()
    }

    /// `server.roles`, `app.web.run`.
    pub fn dotted(&self) -> String {
        format!("{}.{}", self.table.path, self.key.name)
    }

    pub fn push(&self, diagnostic: Diagnostic) {
        self.table.cx.push(diagnostic);
    }

    pub fn place<T>(&self, value: T) -> Placed<T> {
        Placed {
            value,
            span: self.span(),
        }
    }

    pub fn text(&self) -> Option<&'a str> {
        match self.value.get_ref() {
            DeValue::String(text) => Some(text),
            other => {
                let in_quotes = match other {
                    DeValue::Integer(number) => Some(number.as_str().to_owned()),
                    DeValue::Float(number) => Some(number.as_str().to_owned()),
                    DeValue::Boolean(flag) => Some(flag.to_string()),
                    _ => None,
                };
                let help = in_quotes.map(|text| format!("\"{text}\""));
                self.wrong_type("a string", help);
                None
            }
        }
    }

    pub fn parsed<T>(&self, parse: impl FnOnce(&str) -> Result<T, InvalidValue>) -> Option<T> {
        match parse(self.text()?) {
            Ok(value) => Some(value),
            Err(why) => {
                self.invalid(&why);
                None
            }
        }
    }

    /// Any text but the empty one.
    pub fn filled(&self) -> Option<&'a str> {
        let text = self.text()?;
        if text.trim().is_empty() {
            self.invalid(&InvalidValue::new("it is empty").help(self.write_sample()));
            return None;
        }
        if text.contains('\0') {
            self.invalid(&InvalidValue::new("it contains a zero byte"));
            return None;
        }
        Some(text)
    }

    pub fn bool(&self) -> Option<bool> {
        match self.value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            other => {
                let meant = match other.as_str() {
                    Some("true" | "on" | "yes") => Some("true".to_owned()),
                    Some("false" | "off" | "no") => Some("false".to_owned()),
                    _ => None,
                };
                self.wrong_type("true or false", meant);
                None
            }
        }
    }

    pub fn integer(&self) -> Option<u64> {
        let Kind::Integer { min, max } = self.key.kind else {
            debug_assert!(false, "{} has no bounds", self.dotted());
            return None;
        };
        self.integer_within(min, max)
    }

    pub fn integer_within(&self, min: u64, max: u64) -> Option<u64> {
        let number = match self.value.get_ref() {
            DeValue::Integer(number) => number,
            other => {
                let digits =
                    |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                let meant = other.as_str().filter(digits).map(str::to_owned);
                self.wrong_type("an integer", meant);
                return None;
            }
        };
        let value = u64::from_str_radix(number.as_str().trim_start_matches('+'), number.radix());
        match value {
            Ok(value) if (min..=max).contains(&value) => Some(value),
            _ => {
                let message = format!("`{}` must be {min} to {max}", self.dotted());
                self.push(Diagnostic::error(self.span(), message).with_help(self.write_sample()));
                None
            }
        }
    }

    pub fn duration(&self) -> Option<Duration> {
        let Kind::Duration { min, max } = self.key.kind else {
            debug_assert!(false, "{} has no bounds", self.dotted());
            return None;
        };
        let text = match self.value.get_ref() {
            DeValue::String(text) => text,
            other => {
                let seconds = other
                    .as_integer()
                    .map(|number| format!("\"{}s\"", number.as_str()));
                self.wrong_type("a duration in quotes, with its unit", seconds);
                return None;
            }
        };
        let Ok(duration) = parse_duration(text) else {
            let forms =
                "a duration is a number and a unit, such as \"500ms\", \"30s\", \"5m\" or \"1h\"";
            self.invalid(
                &InvalidValue::new(format!("{} is not a duration", quoted(text))).help(forms),
            );
            return None;
        };
        let bounds = [parse_duration(min).ok()?, parse_duration(max).ok()?];
        if duration < bounds[0] || duration > bounds[1] {
            self.out_of_bounds(min, max);
            return None;
        }
        Some(duration)
    }

    pub fn size(&self) -> Option<ByteSize> {
        let Kind::Size { min, max } = self.key.kind else {
            debug_assert!(false, "{} has no bounds", self.dotted());
            return None;
        };
        let text = match self.value.get_ref() {
            DeValue::String(text) => text,
            other => {
                let number = other.as_integer().filter(|number| number.radix() == 10);
                let size = number.and_then(|number| ByteSize::parse(number.as_str()).ok());
                let size = size.map(|size| match size.to_string() {
                    text if text.ends_with('B') => format!("\"{text}\""),
                    text => format!("\"{text}B\""),
                });
                self.wrong_type("a size in quotes, with its unit", size);
                return None;
            }
        };
        let Ok(size) = ByteSize::parse(text) else {
            let forms = "a size is a number and a unit, such as \"64KiB\", \"16MiB\" or \"1GiB\"";
            self.invalid(&InvalidValue::new(format!("{} is not a size", quoted(text))).help(forms));
            return None;
        };
        if size < ByteSize::parse(min).ok()? || size > ByteSize::parse(max).ok()? {
            self.out_of_bounds(min, max);
            return None;
        }
        Some(size)
    }

    /// One of the key's choices. `all` are the values that they become.
    pub fn choice<T: Copy>(&self, all: &[T], as_str: fn(T) -> &'static str) -> Option<T> {
        let word = self.word()?;
        all.iter().copied().find(|value| as_str(*value) == word)
    }

    /// The word of one of the key's choices that can be used.
    pub fn word(&self) -> Option<&'static str> {
        let choices = self.key.kind.choices();
        let names = || choices.iter().map(|choice| (choice.value, choice.also));
        let text = match self.value.get_ref() {
            DeValue::String(text) => text,
            other => {
                let flag = other.as_bool().map(|flag| flag.to_string());
                let meant = flag.and_then(|flag| most_similar(&flag, names()));
                self.wrong_type("a string", meant.map(|word| format!("\"{word}\"")));
                return None;
            }
        };
        let usable = || {
            let usable = choices.iter().filter(|choice| choice.available);
            let usable: Vec<_> = usable
                .map(|choice| format!("\"{}\"", choice.value))
                .collect();
            let or = match self.key.kind {
                Kind::OneOf { or: Some(or), .. } => format!(", or {or}"),
                _ => String::new(),
            };
            format!("use one of {}{or}", usable.join(", "))
        };
        let dotted = self.dotted();
        let found = choices.iter().find(|choice| choice.value == &**text);
        if let Some(choice) = found {
            if choice.available {
                return Some(choice.value);
            }
            let message = format!("`{dotted} = \"{}\"` is not available yet", choice.value);
            self.push(
                Diagnostic::error(self.span(), message)
                    .with_label(choice.meaning)
                    .with_help(usable()),
            );
            return None;
        }
        let message = format!("`{dotted}` cannot be {}", quoted(text));
        let mut diagnostic = Diagnostic::error(self.span(), message);
        if let Some(meant) = most_similar(text, names()) {
            diagnostic = diagnostic.with_label(format!("did you mean \"{meant}\"?"));
        }
        self.push(diagnostic.with_help(usable()));
        None
    }

    /// The items of a list, each as a field of the same key.
    pub fn items(&self, items_max: usize) -> Option<Vec<Self>> {
        let DeValue::Array(array) = self.value.get_ref() else {
            let in_brackets = self.value.get_ref().as_str();
            let meant = in_brackets.filter(|text| text.len() < 60 && !text.contains(['"', '\\']));
            self.wrong_type("a list", meant.map(|text| format!("[\"{text}\"]")));
            return None;
        };
        if array.len() > items_max {
            let message = format!("`{}` has more than {items_max} items", self.dotted());
            self.push(Diagnostic::error(self.span(), message));
            return None;
        }
        Some(array.iter().map(|value| Self { value, ..*self }).collect())
    }

    /// The entries of a table with free keys.
    pub fn entries(&self, entries_max: usize) -> Option<Vec<(Placed<&'a str>, Self)>> {
        let DeValue::Table(table) = self.value.get_ref() else {
            self.wrong_type("a table", None);
            return None;
        };
        if table.len() > entries_max {
            let message = format!("`{}` has more than {entries_max} entries", self.dotted());
            self.push(Diagnostic::error(self.span(), message));
            return None;
        }
        let entry = |(key, value): (&'a Spanned<_>, _)| {
            let key: &'a std::borrow::Cow<'a, str> = key.get_ref();
            let name: &'a str = key;
            (name, Self { value, ..*self })
        };
        Some(
            table
                .iter()
                .map(|(key, value)| {
                    let (name, field) = entry((key, value));
                    let span = key.span();
                    (Placed { value: name, span }, field)
                })
                .collect(),
        )
    }

    /// The inline table that belongs to the key, opened.
    pub fn table(&self) -> Option<Table<'a>> {
        let dotted = format!("{}.{}", self.table.section.path, self.key.name);
        let section = keys::section(&dotted)?;
        match self.value.get_ref() {
            DeValue::Table(table) => {
                let cx = self.table.cx;
                Some(Table::open(cx, section, self.dotted(), table, self.span()))
            }
            _ => None,
        }
    }

    /// The value of a key of this inline table, for its place; the field itself where there is none.
    pub fn within(&self, name: &str) -> Self {
        let inner = self
            .value
            .get_ref()
            .as_table()
            .and_then(|table| table.get(name));
        Self {
            value: inner.unwrap_or(self.value),
            ..*self
        }
    }

    /// A file system path; relative ones are joined to the folder of the file.
    pub fn path(&self) -> Option<PathBuf> {
        let text = self.filled()?;
        Some(self.table.cx.base_dir.join(text))
    }

    pub fn invalid(&self, why: &InvalidValue) {
        let message = format!("invalid `{}`: {}", self.dotted(), why.problem);
        let diagnostic = Diagnostic::error(self.span(), message);
        self.push(match &why.help {
            Some(help) => diagnostic.with_help(help),
            None => diagnostic,
        });
    }

    /// `meant` is the value that the author seems to have meant, as TOML.
    pub fn wrong_type(&self, expected: &str, meant: Option<String>) {
        let found = match self.value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let one_of = matches!(
            self.key.kind,
            Kind::List(_) | Kind::ListOf(_) | Kind::Map(_)
        );
        let is_item = one_of && expected != "a list" && expected != "a table";
        let (what, meant) = if is_item {
            ("an item of ", meant.map(|meant| format!("write `{meant}`")))
        } else {
            let line = |value: String| format!("write `{} = {value}`", self.key.name);
            ("", Some(meant.map_or_else(|| self.write_sample(), line)))
        };
        let message = format!("{what}`{}` must be {expected}", self.dotted());
        let diagnostic =
            Diagnostic::error(self.span(), message).with_label(format!("this is {found}"));
        self.push(match meant {
            Some(meant) => diagnostic.with_help(meant),
            None => diagnostic,
        });
    }

    fn out_of_bounds(&self, min: &str, max: &str) {
        let message = format!("`{}` must be \"{min}\" to \"{max}\"", self.dotted());
        self.push(Diagnostic::error(self.span(), message).with_help(self.write_sample()));
    }

    pub fn write_sample(&self) -> String {
        format!(
            "write for example `{} = {}`",
            self.key.name,
            self.key.sample()
        )
    }
}

/// The defaults of the key table, by section and name. They are constants of this crate, and a test
/// parses each of them, so one that is no TOML cannot be met here.
static DEFAULTS: LazyLock<BTreeMap<(&str, &str), Spanned<DeValue<'static>>>> =
    LazyLock::new(|| {
        let mut defaults = BTreeMap::new();
        for section in SECTIONS {
            for key in section.keys {
                if let Preset::Value(text) = key.default
                    && let Ok(value) = DeValue::parse(text)
                {
                    defaults.insert((section.path, key.name), value);
                }
            }
        }
        defaults
    });
