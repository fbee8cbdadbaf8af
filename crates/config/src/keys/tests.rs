use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::*;
use crate::{App, Config, Loaded};

/// A file in which every table stands, with nothing but what it must have; the keys of `section` are
/// as given.
fn file_with(section: &Section, keys: &[(&str, &str)]) -> String {
    let inline = |path: &str, base: &[(&str, &str)]| {
        let mut all: BTreeMap<&str, &str> = base.iter().copied().collect();
        if section.path == path {
            all.extend(keys.iter().copied());
        }
        let pairs: Vec<_> = all
            .iter()
            .map(|(key, value)| format!("{key} = {value}"))
            .collect();
        format!("{{ {} }}", pairs.join(", "))
    };
    let tls = inline("site.tls", &[("certificate", "\"c\""), ("key", "\"k\"")]);
    let respond = inline("site.route.respond", &[]);
    let server = inline("upstream.servers", &[("address", "\"10.0.1.1:80\"")]);
    let servers = format!("[\"10.0.1.2:80\", {server}]");
    let health = inline("upstream.health", &[]);
    let further = inline("database.databases", &[("name", "\"shop\"")]);
    let further = format!("[{further}]");
    let users = inline("database.users", &[("name", "\"reader\"")]);
    let users = format!("[{users}]");
    // A route has one answer: take the other one away for a key that goes with `redirect`, ...
    let route_answer = match section.path == "site.route" {
        true => match keys[0].0 {
            "files" | "app" | "upstream" | "redirect" | "respond" => None,
            "status" => Some(("redirect", "\"/elsewhere\"")),
            "index" | "cache_control" => Some(("files", "\".\"")),
            _ => Some(("app", "\"web\"")),
        },
        false => Some(("respond", &*respond)),
    };
    let mut route = vec![("path", "\"/api/*\"")];
    route.extend(route_answer);
    let store = inline("cluster.store", &[("etcd", "[\"http://10.0.0.5:2379\"]")]);
    let cluster = match section.path {
        "cluster.store" => vec![("store", &*store)],
        _ => vec![],
    };
    // A key of one mode needs the mode.
    let vip = match (section.path, keys.first().map_or("", |(key, _)| *key)) {
        ("vip", "interface") => vec![("mode", "\"l2\"")],
        ("vip", "hook_take") => vec![("mode", "\"hook\"")],
        ("vip", "hook_release") => vec![("mode", "\"hook\""), ("hook_take", "[\"/bin/true\"]")],
        _ => vec![],
    };
    let tables: [(&str, Vec<(&str, &str)>); 11] = [
        ("cluster", cluster),
        ("vip", vip),
        ("ports", vec![]),
        ("code", vec![]),
        (
            "server",
            vec![("name", "\"one\""), ("address", "\"10.0.0.1\"")],
        ),
        ("site", vec![("host", "\"www.example.org\""), ("tls", &tls)]),
        ("site.route", route),
        ("app.NAME", vec![]),
        ("database", vec![("databases", &further), ("users", &users)]),
        (
            "upstream",
            vec![
                ("name", "\"legacy\""),
                ("servers", &servers),
                ("health", &health),
            ],
        ),
        ("edge", vec![]),
    ];
    // Does whatever the server of the test does not.
    let mut text = String::from(
        "[[server]]\nname = \"other\"\naddress = \"10.0.0.9\"\nroles = [\"edge\", \"web\", \"db\"]\n\
         [[server]]\nname = \"witness\"\naddress = \"10.0.0.8\"\nroles = []\n",
    );
    for (path, base) in tables {
        let mut all: BTreeMap<&str, &str> = base.into_iter().collect();
        let table = super::section(path).unwrap();
        if table.path == section.path {
            all.extend(keys.iter().copied());
        }
        text.push_str(&format!("{}\n", table.header()));
        for (key, value) in all {
            text.push_str(&format!("{key} = {value}\n"));
        }
    }
    text
}

fn parse(text: &str) -> Loaded {
    match Config::parse("test.toml", text, Path::new("/etc/trilith")) {
        Ok(loaded) => loaded,
        Err(diagnostics) => panic!("{diagnostics}\n{text}"),
    }
}

fn all_keys() -> impl Iterator<Item = (&'static Section, &'static Key)> {
    SECTIONS
        .into_iter()
        .flat_map(|section| section.keys.iter().map(move |key| (section, key)))
}

#[test]
fn examples_and_defaults_are_accepted() {
    for (section, key) in all_keys().filter(|(_, key)| !matches!(key.kind, Kind::Tables)) {
        assert!(!key.example.is_empty(), "{}", section.dotted(key));
        parse(&file_with(section, &[(key.name, key.example)]));
        if let Preset::Value(default) = key.default {
            let with = parse(&file_with(section, &[(key.name, default)]));
            // A key that goes with this one must not go away, hence the comment.
            let without = file_with(section, &[(key.name, default)]);
            let line = format!("{} = {default}\n", key.name);
            let without = parse(&without.replacen(&line, "# left out\n", 1));
            assert_eq!(with.config, without.config, "{}", section.dotted(key));
        }
    }
}

#[test]
fn apps_without_a_table_are_at_the_defaults() {
    let text = file_with(&site::SITE, &[]).replace("[app.NAME]", "[app.web]");
    let config = parse(&text).config;
    let declared = config.apps.values().next().unwrap();
    assert_eq!(*declared, App::default());
    assert_eq!(
        config.app(&crate::AppName::new("other").unwrap()),
        App::default()
    );
}

#[test]
fn names_are_unambiguous() {
    for section in SECTIONS {
        let mut names = BTreeSet::new();
        for key in section.keys {
            for name in [key.name].iter().chain(key.also) {
                assert!(names.insert(*name), "{}: {name} twice", section.path);
            }
        }
        for key in section.keys {
            let mut words = BTreeSet::new();
            for choice in key.kind.choices() {
                assert!(choice.available || !choice.instead.is_empty());
                for word in [choice.value].iter().chain(choice.also) {
                    assert!(words.insert(*word), "{}: {word} twice", section.dotted(key));
                }
            }
        }
    }
    let paths: BTreeSet<_> = SECTIONS.iter().map(|section| section.path).collect();
    assert_eq!(paths.len(), SECTIONS.len());
}

#[test]
fn texts_are_sentences() {
    let sections = SECTIONS
        .iter()
        .map(|section| (section.path.to_owned(), section.meaning));
    let keys = all_keys().map(|(section, key)| (section.dotted(key), key.meaning));
    for (name, meaning) in sections.chain(keys) {
        assert!(meaning.ends_with(['.', ')']), "{name}: {meaning}");
        assert!(!meaning.contains("  "), "{name}: {meaning}");
        assert!(meaning.is_ascii(), "{name}: {meaning}");
    }
}

#[test]
fn every_commented_line_of_the_template_may_be_uncommented() {
    let template = commented_template();
    let loaded = parse(&template);
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let lines: Vec<&str> = template.lines().collect();
    let mut tried = 0;
    for (number, line) in lines.iter().enumerate() {
        let is_key = line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
        if !is_key || line.starts_with("#[") {
            continue;
        }
        let header = lines[..number]
            .iter()
            .rposition(|l| l.trim_start_matches('#').starts_with('['));
        let header = header.unwrap();
        let mut changed = lines.clone();
        changed[header] = lines[header].trim_start_matches('#');
        changed[number] = &line[1..];
        // A route has one answer, so that the one in force has to give way.
        if ["files", "upstream", "redirect", "respond"]
            .iter()
            .any(|key| line[1..].starts_with(key))
        {
            let answer = lines.iter().position(|l| l.starts_with("app = ")).unwrap();
            changed[answer] = "";
        }
        let mut text = changed.join("\n");
        if changed[header] == "[[upstream]]" {
            // It cannot be without these two.
            for (key, value) in [("name", "\"legacy\""), ("servers", "[\"10.0.1.5:8080\"]")] {
                if !line[1..].starts_with(key) {
                    let with_key = format!("\n[[upstream]]\n{key} = {value}");
                    text = text.replacen("\n[[upstream]]", &with_key, 1);
                }
            }
        }
        if line.starts_with("#upstream = ") {
            text.push_str("\n[[upstream]]\nname = \"legacy\"\nservers = [\"10.0.1.5:8080\"]\n");
        }
        parse(&text);
        tried += 1;
    }
    assert!(tried > 20, "only {tried}");
}

#[test]
fn everything_can_be_explained() {
    for (section, key) in all_keys() {
        let text = explain(&section.dotted(key)).unwrap();
        assert!(text.ends_with('\n'));
        if !matches!(key.kind, Kind::Tables) {
            assert!(text.starts_with(&section.dotted(key)), "{text}");
        }
        for line in text.lines().filter(|line| !line.contains(" = ")) {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
    for section in SECTIONS {
        let text = explain(section.path).unwrap();
        assert!(text.contains(section.keys[0].name), "{text}");
    }
    let index = explain("").unwrap();
    assert!(
        index.contains("[[site.route]]") && !index.contains("site.tls"),
        "{index}"
    );
}

#[test]
fn explains_names_as_people_write_them() {
    let of = |name: &str| explain(name).unwrap();
    assert_eq!(of("[[server]]"), of("server"));
    assert_eq!(
        of("app.web.run").lines().next(),
        Some("app.NAME.run = string: command line")
    );
    assert_eq!(of("app"), of("[app.web]"));
    assert_eq!(of(" server.roles "), of("server.roles"));
}

#[test]
fn says_what_an_unknown_key_may_mean() {
    for (name, meant) in [
        ("server.role", "server.roles"),
        ("server.rolse", "server.roles"),
        ("roles", "server.roles"),
        ("aliases", "site.aliases"),
        ("replicas", "app.NAME.instances"),
        ("backend", "upstream"),
        ("databse", "database"),
        ("site.routes.path", "site.route.path"),
    ] {
        let error = explain(name).unwrap_err();
        assert_eq!(
            error.near.first().map(String::as_str),
            Some(meant),
            "{error}"
        );
    }
    let error = explain("entirely.different").unwrap_err();
    assert_eq!(error.near, [""; 0]);
    assert!(error.to_string().contains("`trilith explain`"), "{error}");
}
