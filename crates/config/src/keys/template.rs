//! The file that `trilith init` writes.

use super::{Key, Preset, SECTIONS, Section, Shape};

const WIDTH: usize = 80;

/// Keys that are written as lines in force; the others are comments to be uncommented.
const IN_FORCE: [&str; 7] = [
    "cluster.name",
    "server.name",
    "server.address",
    "site.host",
    "site.route.path",
    "site.route.app",
    "app.NAME.run",
];

/// Tables that are comments as a whole.
const COMMENTED: [&str; 4] = ["vip", "database", "upstream", "edge"];

/// A commented file for three servers that parses, with the keys that people change first.
pub fn commented_template() -> String {
    let mut out = String::from(
        "# Trilith: one file, the same on every server.\n\
         #\n\
         # A line such as `#vip = ...` is an example: take the `#` away to use it, and the one\n\
         # before the header of its table, if there is one. What is left out is at its default.\n\
         # There are more keys: `trilith explain` lists the tables, `trilith explain KEY` says\n\
         # all about a key. `trilith check` says everything that is wrong with this file.\n",
    );
    for section in SECTIONS {
        let keys: Vec<&Key> = section.keys.iter().filter(|key| key.in_template).collect();
        if keys.is_empty() || section.shape == Shape::Inline {
            continue;
        }
        push_section(&mut out, section, &keys);
        if section.path == "server" {
            for (name, address) in [("two", "10.0.0.2"), ("three", "10.0.0.3")] {
                out.push_str(&format!(
                    "\n[[server]]\nname = \"{name}\"\naddress = \"{address}\"\n"
                ));
            }
        }
    }
    out
}

fn push_section(out: &mut String, section: &Section, keys: &[&Key]) {
    let hash = if COMMENTED.contains(&section.path) {
        "#"
    } else {
        ""
    };
    out.push_str("\n\n");
    push_comment(out, section.meaning);
    out.push_str(&format!(
        "{hash}{}\n",
        section.header().replace("NAME", "web")
    ));
    for key in keys {
        if matches!(key.kind, super::Kind::Tables) {
            continue;
        }
        let in_force = IN_FORCE.contains(&section.dotted(key).as_str());
        let hash = if in_force { "" } else { "#" };
        out.push('\n');
        push_comment(out, key.meaning);
        for choice in key.kind.choices().iter().filter(|choice| choice.available) {
            out.push_str(&format!("#   \"{}\": {}\n", choice.value, choice.meaning));
        }
        if let (false, Preset::Value(default)) = (in_force, key.default) {
            push_comment(out, &format!("Default: {default}"));
        }
        out.push_str(&format!("{hash}{} = {}\n", key.name, key.sample()));
    }
}

/// `# ` and the text, in several lines where it is long.
fn push_comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}
