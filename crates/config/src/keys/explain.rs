//! `trilith explain KEY`.

use super::{Key, Kind, SECTIONS, Section, Shape, section};
use crate::similar::{SIMILAR_MAX, similar};

const WIDTH: usize = 80;

/// No key or table has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no key `{name}`{}", did_you_mean(.near))]
pub struct UnknownKey {
    pub name: String,
    /// Dotted names of keys and tables that may have been meant, the likeliest first.
    pub near: Vec<String>,
}

/// Describes a key (`server.roles`, `app.web.run`), a table and its keys (`server`, `site.route`,
/// also with its brackets), or all tables (an empty name). Ends with a newline.
///
/// # Errors
/// [`UnknownKey`], with names that may have been meant.
pub fn explain(name: &str) -> Result<String, UnknownKey> {
    let name = name.trim().trim_matches(['[', ']']).trim_matches('.');
    if name.is_empty() {
        return Ok(explain_all());
    }
    let key = name
        .rsplit_once('.')
        .and_then(|(path, key)| Some((section(path)?, section(path)?.key(key)?)))
        .filter(|(_, key)| !matches!(key.kind, Kind::Tables));
    if let Some((section, key)) = key {
        return Ok(explain_key(section, key));
    }
    let table = section(name).or_else(|| {
        let named = |s: &&Section| s.shape == Shape::Named && s.parent() == name;
        SECTIONS.into_iter().find(named)
    });
    match table {
        Some(table) => Ok(explain_section(table)),
        None => Err(UnknownKey {
            near: near(name),
            name: name.to_owned(),
        }),
    }
}

fn explain_all() -> String {
    let mut out = String::from("The tables of the file:\n\n");
    let tables = || SECTIONS.iter().filter(|s| s.shape != Shape::Inline);
    let width = tables().map(|s| s.header().len()).max().unwrap_or(0);
    for section in tables() {
        let header = section.header();
        push_item(&mut out, &format!("  {header:width$}  "), section.summary());
    }
    out.push_str("\n`trilith explain TABLE` lists the keys of a table, `trilith explain KEY` says all about one.\n");
    out
}

fn explain_section(section: &Section) -> String {
    let mut out = format!("{}\n\n", section.header());
    push_item(&mut out, "", section.meaning);
    out.push('\n');
    push_keys(&mut out, section);
    out.push_str(&format!(
        "\n`trilith explain {}`, for example, says all about a key.\n",
        section.dotted(&section.keys[0])
    ));
    out
}

fn explain_key(section: &Section, key: &Key) -> String {
    let dotted = section.dotted(key);
    let mut out = String::new();
    push_item(&mut out, &format!("{dotted} = "), &key.kind.to_string());
    out.push('\n');
    push_item(&mut out, "", key.meaning);
    let choices = key.kind.choices();
    if !choices.is_empty() {
        out.push('\n');
        let width = choices.iter().map(|c| c.value.len() + 2).max().unwrap_or(0);
        for choice in choices {
            let value = format!("\"{}\"", choice.value);
            let not_yet = if choice.available {
                ""
            } else {
                " (not available yet)"
            };
            let meaning = format!("{}{not_yet}", choice.meaning);
            push_item(&mut out, &format!("  {value:width$}  "), &meaning);
        }
    }
    if let Some(inline) = super::section(&dotted).filter(|s| s.shape == Shape::Inline) {
        out.push_str("\nAs a table:\n\n");
        push_keys(&mut out, inline);
    }
    out.push('\n');
    push_item(&mut out, "default  ", &key.default.to_string());
    push_item(&mut out, "applies  ", &section.applies(key).to_string());
    push_item(&mut out, "since    ", key.since);
    if section.shape != Shape::Inline {
        out.push_str(&format!(
            "example  {}\n",
            section.header().replace("NAME", "web")
        ));
        out.push_str(&format!("         {} = {}\n", key.name, key.sample()));
    }
    out
}

fn push_keys(out: &mut String, section: &Section) {
    let width = section
        .keys
        .iter()
        .map(|key| key.name.len())
        .max()
        .unwrap_or(0);
    for key in section.keys {
        push_item(out, &format!("  {:width$}  ", key.name), key.summary());
    }
}

/// `lead`, then the text, its further lines indented to where it begins.
fn push_item(out: &mut String, lead: &str, text: &str) {
    let indent = " ".repeat(lead.chars().count());
    let mut line = lead.to_owned();
    let mut empty = true;
    for word in text.split(' ') {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            line.clone_from(&indent);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

/// Names whose last part is what was asked for, then names that look like it.
fn near(name: &str) -> Vec<String> {
    let (path, last) = name.rsplit_once('.').unwrap_or(("", name));
    let mut near = Vec::new();
    let mut push = |dotted: String| {
        if near.len() < SIMILAR_MAX && !near.contains(&dotted) {
            near.push(dotted);
        }
    };
    let other_words = |s: &&Section| s.also.contains(&path);
    if let Some(section) = section(path).or_else(|| SECTIONS.into_iter().find(other_words)) {
        let names = section.keys.iter().map(|key| (key.name, key.also));
        for found in similar(last, names) {
            push(format!("{}.{found}", section.path));
        }
    }
    for section in SECTIONS {
        if section.also.contains(&name) {
            push(section.path.to_owned());
        }
    }
    for section in SECTIONS {
        let keys = section.keys.iter().filter(|key| key.name == last);
        keys.for_each(|key| push(section.dotted(key)));
    }
    for section in SECTIONS {
        let keys = section.keys.iter().filter(|key| key.also.contains(&last));
        keys.for_each(|key| push(section.dotted(key)));
    }
    let all: Vec<String> = SECTIONS
        .iter()
        .flat_map(|s| {
            s.keys
                .iter()
                .map(|key| s.dotted(key))
                .chain([s.path.to_owned()])
        })
        .collect();
    let names = all.iter().map(|dotted| (dotted.as_str(), &[][..]));
    for found in similar(name, names) {
        push(found.to_owned());
    }
    near
}

fn did_you_mean(near: &[String]) -> String {
    match near {
        [] => "; `trilith explain` lists all tables".to_owned(),
        [one] => format!("; did you mean `{one}`?"),
        [many @ .., last] => format!("; did you mean `{}` or `{last}`?", many.join("`, `")),
    }
}
