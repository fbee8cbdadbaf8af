use super::*;

/// A folder that looks like a data directory of ours.
fn data() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["base", "pg_wal", "global"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("PG_VERSION"), "15\n").unwrap();
    fs::write(folder.path().join(CONF_FILE), "").unwrap();
    let mut control = 7_654_321_u64.to_ne_bytes().to_vec();
    control.resize(8192, 0);
    fs::write(folder.path().join("global/pg_control"), control).unwrap();
    folder
}

#[test]
fn states_of_a_data_directory() {
    let folder = data();
    let path = folder.path();
    let ready = |standby| DataState::Ready {
        major: 15,
        system_id: 7_654_321,
        standby,
    };
    assert_eq!(data_state(path).unwrap(), ready(false));
    fs::write(path.join("standby.signal"), "").unwrap();
    assert_eq!(data_state(path).unwrap(), ready(true));

    fs::remove_dir(path.join("pg_wal")).unwrap();
    let state = data_state(path).unwrap();
    assert!(matches!(state, DataState::HalfMade { .. }), "{state:?}");
    fs::write(path.join("global/pg_control"), "x").unwrap();
    let state = data_state(path).unwrap();
    assert!(matches!(state, DataState::HalfMade { .. }), "{state:?}");

    fs::remove_file(path.join(CONF_FILE)).unwrap();
    let what = "a database of PostgreSQL 15".to_owned();
    assert_eq!(data_state(path).unwrap(), DataState::NotOurs { what });

    assert_eq!(data_state(&path.join("none")).unwrap(), DataState::Missing);
    fs::create_dir(path.join("empty")).unwrap();
    assert_eq!(data_state(&path.join("empty")).unwrap(), DataState::Empty);
}

#[test]
fn the_pid_file() {
    let text =
        "4242\n/srv/one/postgres\n1700000000\n5433\n/srv/one/run/pg\n10.0.0.1\n 12 34\nready\n";
    let running = parse_postmaster_pid(text).unwrap();
    assert_eq!((running.pid, running.port), (4242, Some(5433)));
    assert_eq!(running.socket_folder.unwrap(), Path::new("/srv/one/run/pg"));
    assert_eq!(parse_postmaster_pid("4242\n").unwrap().port, None);
    for text in ["", "\n", "-17\n", "1\n", "x\n"] {
        assert_eq!(parse_postmaster_pid(text), None, "{text:?}");
    }
}

#[test]
fn a_reused_pid_is_not_believed() {
    let folder = data();
    let ours = std::process::id();
    fs::write(folder.path().join("postmaster.pid"), format!("{ours}\n")).unwrap();
    assert_eq!(running(folder.path()), None);
    assert_eq!(orphans(folder.path()), Vec::<u32>::new());
}

#[test]
fn processes_have_parents_and_start_times() {
    let ours = std::process::id();
    assert_eq!(parent_of(ours), Some(std::os::unix::process::parent_id()));
    assert!(start_time(ours).unwrap() > 0);
    assert_eq!(start_time(u32::MAX), None);
}

#[test]
fn how_far_it_is() {
    let folder = data();
    let not_ready = |why| StartState::NotReady(why);
    assert_eq!(start_state(folder.path(), 4242), not_ready(""));
    let head = "4242\n/srv/one/postgres\n1700000000\n5433\n/srv/one/run/pg\n10.0.0.1\n 12 34\n";
    for (line, expected) in [
        ("", not_ready("")),
        ("starting\n", not_ready("it is starting up, or recovering")),
        ("standby \n", not_ready("its copy is not consistent yet")),
        ("ready   \n", StartState::Ready),
    ] {
        fs::write(
            folder.path().join("postmaster.pid"),
            format!("{head}{line}"),
        )
        .unwrap();
        assert_eq!(start_state(folder.path(), 4242), expected);
        assert_eq!(
            start_state(folder.path(), 4243),
            not_ready(""),
            "left by a dead one"
        );
    }
}

#[test]
fn a_lock_file_of_a_dead_postmaster() {
    use std::process::Command;

    let folder = data();
    let stale = |text: String| {
        fs::write(folder.path().join("postmaster.pid"), text).unwrap();
        lock_is_stale(folder.path())
    };
    // Nobody has that number, or none is said: PostgreSQL itself sees that. Single-user mode is a person's.
    for text in ["", "4194304\n/srv/one\n", "-1\n"] {
        assert!(!stale(text.to_owned()), "{text:?}");
    }
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    let text = format!("{}\n/srv/one\n", other.id());
    // Until it has become that program it is another one of ours, which is as good.
    assert!(stale(text.clone()));
    other.kill().unwrap();
    while stat_field(other.id(), 3).as_deref() != Some("Z") {
        std::thread::yield_now();
    }
    assert!(stale(text), "dead, and not waited for");
    other.wait().unwrap();
}
