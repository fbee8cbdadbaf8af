use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::keys::SECTIONS;

const EVERYTHING: &str = include_str!("../../tests/good/everything.toml");
const DESIGN: &str = include_str!("../../tests/good/design.toml");

fn parse(text: &str) -> Config {
    Config::parse("test.toml", text, Path::new("/etc/trilith"))
        .unwrap()
        .config
}

fn changes(old: &str, replacements: &[(&str, &str)]) -> Changes {
    let mut new = old.to_owned();
    for (from, to) in replacements {
        assert!(new.contains(from), "{from}");
        new = new.replacen(from, to, 1);
    }
    diff(&parse(old), &parse(&new))
}

fn names(servers: &[ServerName]) -> Vec<&str> {
    servers.iter().map(ServerName::as_str).collect()
}

#[test]
fn nothing_differs_from_itself() {
    for text in [EVERYTHING, DESIGN] {
        assert_eq!(diff(&parse(text), &parse(text)), Changes::default());
        let commented = format!("# only a comment\n{text}");
        assert!(diff(&parse(text), &parse(&commented)).is_empty());
    }
}

#[test]
fn every_key_of_the_key_table_is_compared() {
    let flat = flatten(&parse(EVERYTHING));
    let l2 = EVERYTHING
        .replace("mode = \"hook\"", "mode = \"l2\"\ninterface = \"eth0\"")
        .replace("hook_", "#hook_");
    let flat_l2 = flatten(&parse(&l2));
    let keys: BTreeSet<&str> = flat
        .items
        .iter()
        .chain(&flat_l2.items)
        .filter_map(|item| match item {
            Item::Leaf(leaf) => Some(leaf.key),
            Item::Element(_) => None,
        })
        .collect();
    for section in SECTIONS {
        for key in section.keys {
            let dotted = section.dotted(key);
            let inline = section.shape == crate::keys::Shape::Inline;
            // What makes the path, and tables that have an element of their own.
            let named = [
                "site.host",
                "site.route",
                "site.route.path",
                "database.databases",
                "database.users",
                "upstream.name",
            ];
            assert!(
                inline || keys.contains(&*dotted) || named.contains(&&*dotted),
                "{dotted} is not compared"
            );
        }
    }
}

#[test]
fn tells_keys_with_both_values_and_when_they_apply() {
    let changes = changes(
        EVERYTHING,
        &[
            ("retries = 0", "retries = 3"),
            ("connections_max = 20_000", "connections_max = 1000"),
            ("http = 8080", "http = 80"),
            (
                "balance = \"ip-hash\"\n",
                "balance = \"least-connections\"\n",
            ),
            ("instances = 4", "instances = 5"),
            (
                "roles = [\"web\", \"db\"]",
                "roles = [\"edge\", \"web\", \"db\"]",
            ),
            ("start_timeout = \"1m30s\"\n", ""),
        ],
    );
    assert_eq!(
        changes.to_string(),
        "~ ports.http: 8080 -> 80   (when restarted: one, two, three)\n\
         ~ server[two].roles: [\"web\", \"db\"] -> [\"edge\", \"web\", \"db\"]   (when restarted: two)\n\
         ~ site[www.example.com].route[/assets/*].balance: \"ip-hash\" -> \"least-connections\"\n\
         ~ app.api.instances: 4 -> 5   (when restarted: one, two)\n\
         ~ app.api.start_timeout: \"1m30s\" -> \"1m\"   (when restarted: one, two)\n\
         ~ edge.connections_max: 20000 -> 1000   (when restarted: one, two)\n\
         ~ edge.retries: 0 -> 3\n"
    );
    let two = ServerName::new("two").unwrap();
    assert_eq!(changes.restart_of(&two).len(), 5);
    let three = ServerName::new("three").unwrap();
    assert_eq!(changes.restart_of(&three), ["ports.http"]);
    assert_eq!(names(&changes.restarts()), ["one", "two", "three"]);
}

#[test]
fn tables_that_come_and_go_are_one_change_each() {
    let changes = changes(
        EVERYTHING,
        &[
            (
                "[[site.route]]\npath = \"/ping\"\nrespond = { status = 202, body = \"pong\", \
                 content_type = \"text/html\" }\ncache_control = \"no-store\"\n",
                "",
            ),
            (
                "[[site]]\nhost = \"plain.example.com\"",
                "[[site]]\nhost = \"new.example.com\"\n[[site.route]]\npath = \"/*\"\napp = \"api\"\n\
                 [[site]]\nhost = \"plain.example.com\"",
            ),
            ("[app.worker]\nhealth = false\ninstances = 0\n", ""),
            (
                "[[server]]\nname = \"three\"",
                "[[server]]\nname = \"four\"\naddress = \"10.0.0.4\"\n[[server]]\nname = \"three\"",
            ),
        ],
    );
    assert_eq!(
        changes.to_string(),
        "+ server[four]: \"10.0.0.4\", edge, web, db   (when restarted: one, two, four, three)\n\
         + site[new.example.com]: tls = \"internal\", 1 route\n\
         - site[www.example.com].route[/ping]: respond = { status = 202 }\n\
         - app.worker: instances = 0   (when restarted: one, two, four)\n"
    );
}

#[test]
fn without_a_database_servers_come_and_go_at_once() {
    let text = DESIGN
        .replace("[database]", "")
        .replace("synchronous = \"quorum\"", "");
    let witness = "[[server]]\nname = \"four\"\naddress = \"10.0.0.4\"\nroles = []\n[[site]]";
    let changes = changes(&text, &[("[[site]]", witness)]);
    assert_eq!(
        changes.to_string(),
        "+ server[four]: \"10.0.0.4\", witness\n"
    );
    assert_eq!(changes.restarts(), []);
}

#[test]
fn the_order_of_servers_is_a_preference() {
    let swapped = DESIGN
        .replace("\"one\"", "\"x\"")
        .replace("\"two\"", "\"one\"")
        .replace("\"x\"", "\"two\"")
        .replace("10.0.0.1\"", "x\"")
        .replace("10.0.0.2\"", "10.0.0.1\"")
        .replace("x\"", "10.0.0.2\"");
    let changes = diff(&parse(DESIGN), &parse(&swapped));
    assert_eq!(
        changes.to_string(),
        "~ server: in the order one, two, three -> in the order two, one, three\n"
    );
}

#[test]
fn the_first_site_with_tls_needs_its_port() {
    let plain = DESIGN.replace("tls = \"internal\"", "tls = \"off\"");
    let change = &diff(&parse(&plain), &parse(DESIGN)).list[0];
    assert_eq!(change.path, "site[www.foobar.com].tls");
    assert!(matches!(&change.effect, Effect::Restart { servers } if servers.len() == 3));
    // An open port that no site uses does no harm.
    let change = &diff(&parse(DESIGN), &parse(&plain)).list[0];
    assert_eq!(change.effect, Effect::Live);
}

#[test]
fn secrets_never_appear() {
    let run = "run = \"TOKEN=hunter1 ./bin/api --password hunter2 --url https://me:hunter3@host/x --port 1\"";
    let changes = changes(
        EVERYTHING,
        &[
            ("LOG = \"debug\"", "LOG = \"hunter4\", NEW = \"hunter5\""),
            ("run = \"./bin/api --port $PORT\"", run),
            (
                "work_mem = \"16MB\"",
                "work_mem = \"1MB\", \"vault.api_key\" = \"hunter6\"",
            ),
            (
                "[app.worker]",
                "[app.more]\nrun = \"./x --api-token hunter7\"\nenv = { A = \"hunter8\" }\n[app.worker]",
            ),
        ],
    );
    let text = format!("{changes}{changes:?}");
    assert!(!text.contains("hunter"), "{text}");
    for part in [
        "~ app.api.env.LOG: differs",
        "+ app.api.env.NEW: (hidden)",
        "TOKEN=(hidden) ./bin/api --password (hidden) --url https://me:(hidden)@host/x --port 1",
        "+ database.parameters.vault.api_key: (hidden)",
        "+ app.more: run = \"./x --api-token (hidden)\"",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn values_are_one_line_and_not_long() {
    assert_eq!(shown::text("a\n\"b\"\u{1b}"), "\"a\\n\\\"b\\\"\\u{1b}\"");
    assert!(shown::text(&"x".repeat(1_000)).len() < 130);
    assert_eq!(shown::list(["a", "b"]), "[\"a\", \"b\"]");
}
