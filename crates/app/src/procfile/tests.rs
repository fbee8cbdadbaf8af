use proptest::prelude::*;

use super::*;

/// Text, expected processes, expected release command.
type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<&'a str>);

#[test]
fn reads_what_people_write() {
    let table: [Row<'_>; 9] = [
        ("", &[], None),
        ("\n\n  \n# nothing\n", &[], None),
        ("web: ./bin/server", &[("web", "./bin/server")], None),
        ("web:./bin/server\n", &[("web", "./bin/server")], None),
        ("web : ./bin/server\r\n", &[("web", "./bin/server")], None),
        (
            "\u{feff}web: a\nworker: b\n",
            &[("web", "a"), ("worker", "b")],
            None,
        ),
        (
            "release: ./migrate\nweb: a",
            &[("web", "a")],
            Some("./migrate"),
        ),
        (
            "# the site\nweb: gunicorn -b $HOST:$PORT app:app # not a comment\n",
            &[("web", "gunicorn -b $HOST:$PORT app:app # not a comment")],
            None,
        ),
        (
            "urgent_worker: a\nclock-1: b\nWeb2: c: d",
            &[("urgent_worker", "a"), ("clock-1", "b"), ("Web2", "c: d")],
            None,
        ),
    ];
    for (text, processes, release) in table {
        let file = Procfile::parse(text).unwrap_or_else(|errors| panic!("{text:?}: {errors:?}"));
        let found: Vec<(&str, &str)> = file
            .processes
            .iter()
            .map(|p| (p.name.as_str(), p.command.as_str()))
            .collect();
        assert_eq!(found, processes, "{text:?}");
        assert_eq!(
            file.release.as_ref().map(|p| p.command.as_str()),
            release,
            "{text:?}"
        );
    }
}

#[test]
fn says_what_is_wrong_with_every_line() {
    let text =
        "web ./bin/server\nweb: a\n\n: b\nwo rker: c\nweb: d\nempty:\nrelease: x\nrelease: y\n";
    let errors = Procfile::parse(text).unwrap_err();
    let shown: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "Procfile line 1: expected `name: command`, such as `web: ./bin/server`",
            "Procfile line 4: `` is no name: use 1 to 63 of letters, digits, `-` and `_`",
            "Procfile line 5: `wo rker` is no name: use 1 to 63 of letters, digits, `-` and `_`",
            "Procfile line 6: `web` stands on line 2 already",
            "Procfile line 7: `empty` has no command",
            "Procfile line 9: `release` stands on line 8 already",
        ]
    );
}

#[test]
fn a_file_without_end_is_refused() {
    let text = "# x\n".repeat(PROCFILE_LINES_MAX + 1);
    assert_eq!(Procfile::parse(&text).unwrap_err().len(), 1);
    let long = format!("web: {}", "x".repeat(COMMAND_BYTES_MAX + 1));
    assert!(Procfile::parse(&long).is_err());
}

proptest! {
    /// What was written is what is read, in order, whatever stands between the lines.
    #[test]
    fn reads_back_what_was_written(
        commands in prop::collection::btree_map(
            "[A-Za-z][A-Za-z0-9_-]{0,20}",
            "[!-~][ -~]{0,40}[!-~]",
            0..8,
        ),
        noise in prop::collection::vec("(|  |# [ -~]{0,20})", 8),
        crlf in any::<bool>(),
    ) {
        let end = if crlf { "\r\n" } else { "\n" };
        let mut text = String::new();
        for ((name, command), noise) in commands.iter().zip(&noise) {
            text.push_str(&format!("{noise}{end}{name}: {command}{end}"));
        }
        let file = Procfile::parse(&text).unwrap();
        prop_assert_eq!(file.release.is_some(), commands.contains_key("release"));
        for (name, command) in &commands {
            prop_assert_eq!(file.find(name).map(|p| p.command.as_str()), Some(command.as_str()));
        }
        let count = file.processes.len() + usize::from(file.release.is_some());
        prop_assert_eq!(count, commands.len());
    }

    /// No input makes it panic, and errors name lines that exist.
    #[test]
    fn survives_anything(text in "\\PC*|[ -~\\n\\r:#\0]{0,200}") {
        if let Err(errors) = Procfile::parse(&text) {
            for error in errors {
                prop_assert!(error.line >= 1 && error.line <= text.lines().count());
            }
        }
    }
}
