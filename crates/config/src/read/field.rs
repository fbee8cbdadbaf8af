//! One value of the file: its type, its bounds, its default.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;
use trilith_base::{ByteSize, parse_duration};

use super::table::{Placed, Span, Table};
use crate::diagnostics::{Diagnostic, quoted};
use crate::keys::{self, Key, Kind, Preset, SECTIONS};
use crate::similar::most_similar;
use crate::values::InvalidValue;

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
                let in_quotes = match (other, self.key.kind) {
                    (DeValue::Integer(number), Kind::Text(_)) => Some(number.as_str()),
                    (DeValue::Float(number), Kind::Text(_)) => Some(number.as_str()),
                    _ => None,
                };
                self.wrong_type("a string", in_quotes.map(|text| format!("\"{text}\"")));
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
        self.integer_within(min, max, "")
    }

    /// `or` says what else it may be.
    pub fn integer_within(&self, min: u64, max: u64, or: &str) -> Option<u64> {
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
                let message = format!("`{}` must be {min} to {max}{or}", self.dotted());
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
        let dotted = self.dotted();
        let meant = most_similar(text, names());
        let found = choices.iter().find(|choice| Some(choice.value) == meant);
        match found {
            Some(choice) if choice.available && choice.value == &**text => {
                return Some(choice.value);
            }
            Some(choice) if !choice.available => {
                let message = format!("`{dotted} = \"{}\"` is not available yet", choice.value);
                self.push(
                    Diagnostic::error(self.span(), message)
                        .with_label(choice.meaning)
                        .with_help(choice.instead),
                );
                return None;
            }
            _ => {}
        }
        let usable = choices.iter().filter(|choice| choice.available);
        let usable: Vec<_> = usable
            .map(|choice| format!("\"{}\"", choice.value))
            .collect();
        let or = match self.key.kind {
            Kind::OneOf { or: Some(or), .. } => format!(", or {or}"),
            _ => String::new(),
        };
        let help = format!("use one of {}{or}", usable.join(", "));
        let message = format!("`{dotted}` cannot be {}", quoted(text));
        let diagnostic = Diagnostic::error(self.span(), message).with_help(help);
        self.push(match meant {
            Some(meant) => diagnostic.with_label(format!("did you mean \"{meant}\"?")),
            None => diagnostic,
        });
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
pub(super) static DEFAULTS: LazyLock<BTreeMap<(&str, &str), Spanned<DeValue<'static>>>> =
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
