use serde_json::json;

use super::*;

fn answer(published: bool, dry_run: bool, states: &[(&str, &str)]) -> Value {
    let servers: Vec<Value> = states
        .iter()
        .map(|(name, state)| json!({ "name": name, "state": state, "detail": ["ports.http"] }))
        .collect();
    json!({
        "schema": 1, "dry_run": dry_run, "version": 7, "published": published,
        "changes": [{
            "path": "ports.http", "old": "80", "new": "8080", "restart": ["one"],
            "line": "~ ports.http: 80 -> 8080   (when restarted: one)"
        }],
        "servers": servers,
        "something new": 1
    })
}

#[test]
fn tells_changes_and_servers() {
    let states = [("one", "restart"), ("two", "applied"), ("three", "down")];
    let told = serde_json::from_value(answer(true, false, &states)).unwrap();
    assert_eq!(
        text(&told),
        "~ ports.http: 80 -> 8080   (when restarted: one)\n\n\
         one    applied, but a restart is needed for ports.http\n\
         two    applied\n\
         three  down; it follows when it is back\n"
    );
    assert_eq!(summary(&told), "version 7 is in force");
    let dry = serde_json::from_value(answer(false, true, &[])).unwrap();
    assert_eq!(
        summary(&dry),
        "this would change; the cluster's version is 7"
    );
    assert_eq!(text(&dry).lines().count(), 1);
}

#[test]
fn a_server_that_does_not_follow_is_an_exit_code() {
    for (state, code) in [
        ("applied", None),
        ("down", None),
        ("failed", Some(UNHEALTHY)),
    ] {
        let shown = show(answer(true, false, &[("one", state)]), true);
        assert_eq!(shown.err().map(|failure| failure.code), code, "{state}");
    }
}
