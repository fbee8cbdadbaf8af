use super::*;
use crate::api::{
    Agreed, DatabaseServer, DatabaseStatus, PlanStep, ReplicaStatus, SCHEMA, Survival,
    SyncSetStatus,
};

fn server(name: &str, local: DatabaseLocal) -> ServerStatus {
    let roles = vec!["db".to_owned()];
    let mut server = ServerStatus::down(name, "127.0.1.1", roles, String::new());
    server.state = ServerState::Ready;
    server.problems.clear();
    server.version = Some("0.1.0".into());
    let members = vec!["two".to_owned()];
    server.database = Some(DatabasePart {
        cluster: "foobar".into(),
        port: 5433,
        agreed: Agreed {
            holder: Some("one".into()),
            primary: Some("one".into()),
            term: 3,
            open: true,
            synchronous: SyncSetStatus { members, acks: 1 },
            system_id: Some("7".into()),
            ..Agreed::default()
        },
        local: Some(local),
    });
    server.database_view = vec![
        seen("one", Some("primary"), None),
        seen("two", Some("replica"), Some(96)),
        seen("three", Some("replica"), Some(2 << 20)),
    ];
    server
}

fn seen(name: &str, role: Option<&str>, lag_bytes: Option<u64>) -> DatabaseServer {
    DatabaseServer {
        server: name.into(),
        reachable: role.is_some(),
        role: role.map(str::to_owned),
        lsn: None,
        lag_bytes,
        error: None,
    }
}

fn primary() -> ServerStatus {
    let replica = ReplicaStatus {
        server: "two".into(),
        streaming: true,
        ..ReplicaStatus::default()
    };
    server(
        "one",
        DatabaseLocal {
            lease: "mine".into(),
            lease_left_ms: Some(1_500),
            state: "running".into(),
            data: "primary".into(),
            role: Some("primary".into()),
            timeline: Some(4),
            lsn: Some("0/5000060".into()),
            open: true,
            replicas: vec![replica],
            ..DatabaseLocal::default()
        },
    )
}

fn replica(name: &str) -> ServerStatus {
    server(
        name,
        DatabaseLocal {
            lease: "other".into(),
            state: "running".into(),
            data: "replica".into(),
            role: Some("replica".into()),
            timeline: Some(4),
            lsn: Some("0/5000000".into()),
            follows: Some("one".into()),
            ..DatabaseLocal::default()
        },
    )
}

fn local(server: &mut ServerStatus) -> &mut DatabaseLocal {
    server.database.as_mut().unwrap().local.as_mut().unwrap()
}

/// The checks that hold, in the order of [`PATHS`], each once.
fn passed(server: &ServerStatus, query: &str) -> Vec<Check> {
    let wanted = Wanted::read(query).unwrap();
    let mut passed: Vec<Check> = Vec::new();
    for (_, check) in PATHS {
        if holds(*check, &wanted, server) && !passed.contains(check) {
            passed.push(*check);
        }
    }
    passed
}

#[test]
fn each_check_says_what_patroni_would() {
    use Check::*;
    assert_eq!(
        passed(&primary(), ""),
        [
            Primary,
            ReadOnly,
            ReadOnlySync,
            Health,
            Liveness,
            Readiness,
            Status
        ]
    );
    assert_eq!(
        passed(&replica("two"), ""),
        [
            Replica,
            ReadOnly,
            Sync,
            ReadOnlySync,
            Health,
            Liveness,
            Readiness,
            Status
        ]
    );
    // Too far behind to be ready.
    assert_eq!(
        passed(&replica("three"), ""),
        [Replica, ReadOnly, Async, Health, Liveness, Status]
    );
}

#[test]
fn a_primary_without_lease_or_closed_is_none() {
    let passes = |change: fn(&mut DatabaseLocal)| {
        let mut one = primary();
        change(local(&mut one));
        holds(Check::Primary, &Wanted::default(), &one)
    };
    assert!(passes(|_| {}));
    assert!(!passes(|local| local.open = false));
    assert!(!passes(|local| local.lease = "unproven".into()));
    assert!(!passes(|local| local.lease_left_ms = Some(0)));
    assert!(!passes(|local| local.lease_left_ms = None));
    assert!(!passes(|local| local.state = "silent".into()));
}

#[test]
fn lag_is_bounded_where_it_is_asked() {
    let two = replica("two");
    let check = |query: &str, server: &ServerStatus| {
        holds(Check::Replica, &Wanted::read(query).unwrap(), server)
    };
    assert!(check("lag=96", &two) && check("lag=1MB", &two) && check("lag=1kB&x=y", &two));
    assert!(!check("lag=95", &two));
    let mut unknown = replica("two");
    unknown.database_view.clear();
    assert!(check("", &unknown) && !check("lag=1GB", &unknown));
    let mut waiting = replica("two");
    local(&mut waiting).not_streaming_ms = 1;
    assert!(check("", &waiting) && !check("replication_state=streaming", &waiting));
    assert!(!holds(Check::Readiness, &Wanted::default(), &waiting));
    assert_eq!(bytes("16kB"), Some(16 << 10));
    assert_eq!(bytes("1TB"), Some(1 << 40));
    for wrong in [
        "",
        "MB",
        "1PB",
        "-1",
        "99999999999999999999",
        "99999999999TB",
    ] {
        assert_eq!(bytes(wrong), None, "{wrong}");
    }
    assert!(Wanted::read("lag=near").is_err());
}

#[test]
fn a_drained_server_takes_no_readers_but_stays_well() {
    let mut two = replica("two");
    two.state = ServerState::Draining;
    assert_eq!(
        passed(&two, ""),
        [
            Check::Health,
            Check::Liveness,
            Check::Readiness,
            Check::Status
        ]
    );
}

#[test]
fn an_old_look_counts_for_nothing_unless_it_is_at_work() {
    let mut two = replica("two");
    local(&mut two).looked_ms_ago = LOOK_MAX_MS + 1;
    assert_eq!(passed(&two, ""), [Check::Status]);
    local(&mut two).plan.steps.push(PlanStep {
        step: "copy one's data".into(),
        why: String::new(),
    });
    assert_eq!(passed(&two, ""), [Check::Liveness, Check::Status]);
    two.database = None;
    assert_eq!(passed(&two, ""), [Check::Status]);
}

#[test]
fn bodies_have_patronis_shape() {
    let one = own(&primary());
    assert_eq!(
        one,
        json!({
            "state": "running", "role": "primary", "timeline": 4,
            "xlog": { "location": 83_886_176 },
            "replication": [
                { "application_name": "two", "state": "streaming", "sync_state": "quorum" },
            ],
            "database_system_identifier": "7",
            "patroni": { "scope": "foobar", "name": "one" },
            "trilith": { "version": "0.1.0", "state": "ready" },
        })
    );
    let two = own(&replica("two"));
    assert_eq!(two["xlog"]["received_location"], 83_886_080);
    assert_eq!(version_number("15.18"), Some(150_018));
    assert_eq!(version_number("18beta1"), None);
}

#[test]
fn the_cluster_lists_its_members() {
    let one = primary();
    let mut three = replica("three");
    local(&mut three).follows = None;
    let status = ClusterStatus {
        schema: SCHEMA,
        cluster: "foobar".into(),
        asked: "one".into(),
        time_unix_ms: 1,
        floating_addresses: Vec::new(),
        store: None,
        database: Some(DatabaseStatus {
            primary: Some("one".into()),
            fails_over: true,
            agreed: one.database.as_ref().map(|part| part.agreed.clone()),
            servers: one.database_view.clone(),
        }),
        servers: vec![one, replica("two"), three],
        sites: Vec::new(),
        survives_one_loss: Survival::default(),
    };
    let member = |name: &str, role: &str, state: &str| {
        json!({
            "name": name, "role": role, "state": state, "host": "127.0.1.1", "port": 5433,
            "timeline": 4,
        })
    };
    let mut wanted = json!({
        "scope": "foobar",
        "members": [
            member("one", "leader", "running"),
            member("two", "sync_standby", "streaming"),
            member("three", "replica", "running"),
        ],
    });
    wanted["members"][1]["lag"] = 96.into();
    wanted["members"][2]["lag"] = (2 << 20).into();
    assert_eq!(members(&status), wanted);
}
