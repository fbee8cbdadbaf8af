use super::*;
use crate::api::ReplicaStatus;

fn server() -> ServerStatus {
    let mut server = ServerStatus::down("one", "127.0.1.1", Vec::new(), String::new());
    server.database = Some(DatabasePart {
        local: Some(DatabaseLocal {
            lease: "mine".into(),
            lease_left_ms: Some(1_250),
            state: "running".into(),
            role: Some("primary".into()),
            replicas: vec![ReplicaStatus {
                server: "two".into(),
                behind_bytes: Some(96),
                ..ReplicaStatus::default()
            }],
            ..DatabaseLocal::default()
        }),
        ..DatabasePart::default()
    });
    server
}

#[test]
fn what_is_read_goes_before_the_end() {
    let readings = [Reading {
        name: "pg_stat_database_numbackends",
        help: "Sessions",
        series: vec![(vec![("datid", "5".into()), ("datname", "a\"b".into())], 3.0)],
    }];
    let mut text = "# TYPE x gauge\nx 1\n# EOF\n".to_owned();
    insert(&mut text, &server(), &readings);
    assert!(
        text.starts_with("# TYPE x gauge\nx 1\n# HELP trilith_database_term "),
        "{text}"
    );
    for line in [
        "pg_up 1\n",
        "trilith_database_role{role=\"primary\"} 1\n",
        "trilith_database_role{role=\"replica\"} 0\n",
        "trilith_database_lease_remaining_seconds 1.25\n",
        "trilith_database_replica_behind_bytes{replica=\"two\"} 96\n",
        "trilith_database_unreplicated_bytes 96\n",
        "# TYPE pg_stat_database_numbackends unknown\n\
         pg_stat_database_numbackends{datid=\"5\",datname=\"a\\\"b\"} 3\n# EOF\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert_eq!(text.matches("# EOF").count(), 1);
    // Nothing to say of a family: not even its name.
    assert!(!text.contains("slot_held"), "{text}");
}

#[test]
fn a_cluster_without_database_says_nothing_of_one() {
    let mut server = server();
    server.database = None;
    let mut text = "# EOF\n".to_owned();
    insert(&mut text, &server, &[]);
    assert_eq!(text, "# EOF\n");
    let mut cut = "x 1\n".to_owned();
    insert(&mut cut, &self::server(), &[]);
    assert_eq!(cut, "x 1\n");
}
