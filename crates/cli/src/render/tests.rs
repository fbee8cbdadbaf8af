use super::*;

const THREE_SERVERS: &str = include_str!("../../tests/fixtures/status.json");

fn fixture() -> ClusterStatus {
    serde_json::from_str(THREE_SERVERS).unwrap()
}

#[test]
fn the_table_of_three_servers() {
    insta::assert_snapshot!(status(&fixture(), false));
}

#[test]
fn colour_changes_nothing_else() {
    let coloured = status(&fixture(), true);
    assert!(coloured.contains("\x1b[32mready\x1b[0m"), "{coloured}");
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some(start) = rest.find("\x1b[") {
        plain.push_str(&rest[..start]);
        rest = &rest[start..];
        rest = &rest[rest.find('m').unwrap() + 1..];
    }
    plain.push_str(rest);
    let trimmed = |text: &str| {
        text.lines()
            .map(str::trim_end)
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(trimmed(&plain), trimmed(&status(&fixture(), false)));
}

#[test]
fn a_lonely_healthy_server_survives_in_words_only_when_true() {
    let mut one = fixture();
    one.survives_one_loss.yes = true;
    assert!(status(&one, false).ends_with("survives the loss of any one server: yes\n"));
}

#[test]
fn ages_have_one_unit() {
    for (ms, text) in [
        (0, "0s"),
        (119_999, "119s"),
        (120_000, "2m"),
        (7_200_000, "2h"),
        (172_800_000, "2d"),
    ] {
        assert_eq!(age(ms), text);
    }
}
