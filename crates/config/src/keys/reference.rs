//! docs/reference/config.md.

use super::{Key, SECTIONS, Section, Shape};

/// The reference page. `docs/reference/config.md` must be exactly this; a test compares.
pub fn reference_markdown() -> String {
    let mut out = String::from(
        "<!-- Generated from the key table in crates/config/src/keys. Do not edit: change the table, \
         then run TRILITH_BLESS=1 cargo test -p trilith-config. -->\n\n\
         # The config file\n\n\
         One TOML file, the same on every server. `trilith check` says everything that is wrong with \
         it; `trilith explain KEY` shows what stands here.\n\n\
         Durations are strings such as `\"500ms\"`, `\"30s\"`, `\"5m\"`, `\"1h30m\"`. Sizes are strings \
         such as `\"64KiB\"`, `\"16MiB\"` (powers of 1,024) or `\"1kB\"`, `\"1MB\"` (powers of 1,000).\n\n",
    );
    for section in SECTIONS {
        out.push_str(&format!(
            "- [`{}`](#{}): {}\n",
            section.header(),
            anchor(section),
            section.summary()
        ));
    }
    for section in SECTIONS {
        out.push_str(&format!("\n## {}\n\n", heading(section)));
        out.push_str(&format!("{}\n", section.meaning));
        for key in section.keys {
            push_key(&mut out, section, key);
        }
    }
    out
}

fn push_key(out: &mut String, section: &Section, key: &Key) {
    let dotted = section.dotted(key);
    out.push_str(&format!("\n### `{dotted}`\n\n{}\n\n", key.meaning));
    let inline = super::section(&dotted).filter(|s| s.path == dotted);
    let also = inline.map_or(String::new(), |s| {
        format!(" See [{}](#{}).", s.header(), anchor(s))
    });
    out.push_str(&format!("- Type: {}.{also}\n", key.kind));
    for choice in key.kind.choices() {
        let not_yet = if choice.available {
            ""
        } else {
            " (not available yet)"
        };
        out.push_str(&format!(
            "  - `\"{}\"`: {}{not_yet}\n",
            choice.value, choice.meaning
        ));
    }
    let default = match key.default {
        super::Preset::Value(value) => format!("`{value}`"),
        other => other.to_string(),
    };
    out.push_str(&format!("- Default: {default}\n"));
    if !key.example.is_empty() {
        out.push_str(&format!("- Example: `{} = {}`\n", key.name, key.example));
    }
    out.push_str(&format!("- Applies: {}\n", section.applies(key)));
    out.push_str(&format!("- Since: {}\n", key.since));
}

fn heading(section: &Section) -> String {
    match section.shape {
        Shape::Inline => format!("`{}` as a table", section.path),
        _ => format!("`{}`", section.header()),
    }
}

/// As Markdown renderers make it from the heading: lower case, only letters, digits, `-`.
fn anchor(section: &Section) -> String {
    heading(section)
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_ascii_alphanumeric() => Some(c.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}
