use super::*;

#[test]
fn an_older_or_newer_server_is_still_read() {
    let minimal = r#"{"schema":1,"name":"one","address":"127.0.1.1","roles":["web"],
        "state":"levitating","a_field_of_the_future":[1,2]}"#;
    let status: ServerStatus = serde_json::from_str(minimal).unwrap();
    assert_eq!(status.state, ServerState::Unknown);
    assert!(status.state.is_up());
    assert!(status.instances.is_empty());
}

#[test]
fn what_is_written_is_read_back() {
    let status = ServerStatus::down("one", "127.0.1.1", vec!["web".into()], "no answer".into());
    let text = serde_json::to_string(&status).unwrap();
    assert!(text.contains(r#""state":"down""#), "{text}");
    assert_eq!(serde_json::from_str::<ServerStatus>(&text).unwrap(), status);
    assert!(status.has_role("web") && !status.has_role("db"));
}
