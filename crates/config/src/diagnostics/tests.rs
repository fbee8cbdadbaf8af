use super::*;

fn finish(diagnostic: Diagnostic, text: &str) -> Diagnostics {
    let mut report = Report::default();
    report.push(diagnostic);
    report.finish("t.toml", text)
}

#[test]
fn points_at_the_place() {
    let text = "a = 1\nbb = 2\n";
    let diagnostics = finish(
        Diagnostic::error(6..8, "no `bb`").with_help("write `b`"),
        text,
    );
    assert_eq!(
        diagnostics.to_string(),
        "error: no `bb`\n --> t.toml:2:1\n  |\n2 | bb = 2\n  | ^^\n  |\n  = help: write `b`\n"
    );
    assert_eq!(
        diagnostics.iter().next().and_then(Diagnostic::position),
        Some((2, 1))
    );
    assert_eq!(diagnostics.summary(), "1 error in t.toml");
}

#[test]
fn columns_count_characters() {
    let text = "über = \"ü\" x";
    let at = text.rfind('x').unwrap();
    let diagnostics = finish(Diagnostic::error(at..at + 1, "x"), text);
    assert_eq!(
        diagnostics.iter().next().and_then(Diagnostic::position),
        Some((1, 12))
    );
}

#[test]
fn spans_are_made_to_fit() {
    for (text, span) in [
        ("", 0..0),
        ("", 5..9),
        ("ü", 1..2),
        ("a\nb", 0..3),
        ("a\r\nb", 0..4),
        ("ab", 2..2),
        ("ab", std::ops::Range { start: 2, end: 1 }),
    ] {
        let diagnostics = finish(
            Diagnostic::error(span.clone(), "m").with_context(span, "c"),
            text,
        );
        assert!(diagnostics.render(true).contains('m'), "{text:?}");
    }
}

#[test]
fn nothing_drives_the_terminal() {
    let text = "k = \"\u{1b}[2J\"";
    let diagnostics = finish(
        Diagnostic::error(0..1, "m\u{1b}[2J")
            .with_label("l\u{7}")
            .with_help("h\u{1b}"),
        text,
    );
    assert!(!diagnostics.to_string().contains(['\u{1b}', '\u{7}']));
}

#[test]
fn counts_what_it_does_not_keep() {
    let mut report = Report::default();
    for _ in 0..DIAGNOSTICS_MAX + 5 {
        report.push(Diagnostic::error(0..1, "m"));
    }
    let diagnostics = report.finish("t.toml", "x");
    assert_eq!(diagnostics.errors(), DIAGNOSTICS_MAX + 5);
    assert!(
        diagnostics
            .to_string()
            .ends_with("... and 5 more like these\n")
    );
}

#[test]
fn nothing_is_endless() {
    let text = "x".repeat(100_000);
    let diagnostics = finish(Diagnostic::error(0..100_000, &text).with_help(&text), &text);
    assert!(diagnostics.to_string().len() < 3_000);
    let far = Diagnostic::error(99_999..100_000, "m").with_context(0..1, "far away");
    assert!(finish(far, &text).to_string().len() < 1_000);
}

#[test]
fn an_error_from_elsewhere_is_told_like_the_others() {
    let diagnostics = Diagnostics::about_file("trilith.toml", "no such file", Some("make it"));
    assert_eq!(diagnostics.errors(), 1);
    let text = diagnostics.to_string();
    assert!(
        text.contains("error: no such file") && text.contains("trilith.toml"),
        "{text}"
    );
    assert!(text.contains("help: make it"), "{text}");
}
