//! Whatever the bytes are, parsing and rendering return; and what is accepted holds what it promises.

use std::path::Path;

use proptest::prelude::*;
use trilith_config::{Config, Role, RouteAction, StoreKind, VipMode};

const GOOD: [&str; 5] = [
    include_str!("good/design.toml"),
    include_str!("good/everything.toml"),
    include_str!("good/load-balancer.toml"),
    include_str!("good/demo.toml"),
    include_str!("broken/mixture.toml"),
];

/// Pieces that mean something, so that mutations get past the first check.
const PIECES: [&str; 28] = [
    "[vip]\n",
    "mode = \"hook\"\n",
    "vip = [\"10.0.0.100/24\", \"10.0.0.101\"]\n",
    "hook_take = [\"/x\"]\n",
    "[[server]]\n",
    "[[site]]\n",
    "[[site.route]]\n",
    "[app.web]\n",
    "[database]\n",
    "[edge]\n",
    "[[upstream]]\n",
    "name = \"one\"\n",
    "path = \"/*\"\n",
    "app = \"web\"\n",
    "files = \"x\"\n",
    "address = \"10.0.0.9\"\n",
    "roles = []\n",
    "= ",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "\\",
    "\n",
    "'",
    "\u{1b}[31m",
    "ü",
];

fn check(content: &[u8]) {
    match Config::parse("file.toml", content, Path::new("/base")) {
        Ok(loaded) => {
            assert_eq!(loaded.warnings.errors(), 0);
            loaded.warnings.render(true);
            check_promises(&loaded.config);
        }
        Err(diagnostics) => {
            assert!(diagnostics.errors() > 0);
            assert!(diagnostics.to_string().contains("error"));
            diagnostics.render(true);
            for diagnostic in diagnostics.iter() {
                assert!(
                    diagnostic
                        .position()
                        .is_none_or(|(line, column)| line > 0 && column > 0)
                );
            }
        }
    }
}

/// What `model.rs` says of a config.
fn check_promises(config: &Config) {
    assert!(!config.servers.is_empty());
    if !config.sites.is_empty() {
        assert!(config.with_role(Role::Edge).next().is_some());
    }
    for route in config.sites.iter().flat_map(|site| &site.routes) {
        match &route.action {
            RouteAction::Upstream { upstream } => assert!(config.upstream(upstream).is_some()),
            RouteAction::App { app, .. } => assert!(config.app(app).instances > 0),
            _ => {}
        }
    }
    assert!(config.servers.len() != 2 || config.store != StoreKind::Embedded);
    assert_eq!(
        config.addresses().is_empty(),
        config.vip.mode == VipMode::None
    );
    for upstream in &config.upstreams {
        assert!(upstream.servers.iter().any(|server| !server.backup));
    }
}

#[derive(Clone, Debug)]
enum Change {
    Remove(usize, usize),
    Insert(usize, usize),
    Byte(usize, u8),
    RemoveLine(usize),
    RepeatLine(usize),
    SwapLines(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<usize>(), 1..20usize).prop_map(|(at, len)| Change::Remove(at, len)),
        (any::<usize>(), any::<usize>()).prop_map(|(at, piece)| Change::Insert(at, piece)),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        any::<usize>().prop_map(Change::RemoveLine),
        any::<usize>().prop_map(Change::RepeatLine),
        (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Change::SwapLines(a, b)),
    ]
}

fn apply(content: Vec<u8>, change: &Change) -> Vec<u8> {
    let at = |index: usize| index % (content.len() + 1);
    let mut out = content.clone();
    let mut lines: Vec<&[u8]> = content.split_inclusive(|b| *b == b'\n').collect();
    let line = |index: usize| index % lines.len().max(1);
    match *change {
        Change::Remove(from, len) => {
            let from = at(from);
            out.drain(from..(from + len).min(content.len()));
            return out;
        }
        Change::Insert(to, piece) => {
            let to = at(to);
            out.splice(to..to, PIECES[piece % PIECES.len()].bytes());
            return out;
        }
        Change::Byte(to, byte) => {
            if let Some(old) = out.get_mut(to % content.len().max(1)) {
                *old = byte;
            }
            return out;
        }
        _ if lines.is_empty() => {}
        Change::RemoveLine(index) => {
            lines.remove(line(index));
        }
        Change::RepeatLine(index) => {
            let index = line(index);
            lines.insert(index, lines[index]);
        }
        Change::SwapLines(a, b) => {
            let (a, b) = (line(a), line(b));
            lines.swap(a, b);
        }
    }
    lines.concat()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes(content in proptest::collection::vec(any::<u8>(), 0..400)) {
        check(&content);
    }

    #[test]
    fn arbitrary_text(content in "\\PC{0,200}") {
        check(content.as_bytes());
    }

    #[test]
    fn pieces_of_toml(pieces in proptest::collection::vec(0..PIECES.len(), 0..40)) {
        let content: String = pieces.into_iter().map(|piece| PIECES[piece]).collect();
        check(content.as_bytes());
    }

    #[test]
    fn changed_files(
        which in 0..GOOD.len(),
        changes in proptest::collection::vec(change(), 1..6),
    ) {
        let content = changes.iter().fold(GOOD[which].as_bytes().to_vec(), apply);
        check(&content);
    }
}

#[test]
fn large_and_deep_inputs_come_back() {
    let long = |piece: &str| piece.repeat(200_000 / piece.len());
    for piece in [
        "[",
        "{a=",
        "a.",
        "[a]\n",
        "[[server]]\n",
        "a=1\n",
        "\"",
        "'''",
        "[[site.route]]\n",
        "= \n",
        "x\n",
    ] {
        check(long(piece).as_bytes());
        check(format!("a = {}", long(piece)).as_bytes());
        check(format!("[[server]]\nroles = [{}", long(piece)).as_bytes());
    }
    let upstreams: String = (0..900)
        .map(|n| {
            format!(
                "[[upstream]]\nname = \"u{n}\"\nservers = [\"10.0.0.1:{}\"]\n",
                n + 1
            )
        })
        .collect();
    let routes: String = (0..9000)
        .map(|n| format!("[[site.route]]\npath = \"/{n}\"\nupstream = \"v{n}\"\n"))
        .collect();
    check(format!("{upstreams}[[site]]\nhost = \"h\"\n{routes}").as_bytes());
    let redirects: String = (0..9000)
        .map(|n| format!("[[site.route]]\npath = \"/{n}\"\nredirect = \"/x{n}\"\n"))
        .collect();
    check(
        format!(
            "[[server]]\nname = \"a\"\naddress = \"10.0.0.1\"\n[[site]]\nhost = \"h\"\n{redirects}"
        )
        .as_bytes(),
    );
}
