use super::*;

pub(crate) mod pair;
mod real;

#[test]
fn progress_lines() {
    for (line, expected) in [
        ("    0/23104 kB (0%), 0/1 tablespace", Some(0)),
        (
            "12345/67890 kB (18%), 0/1 tablespace (...postgres.new/base/1)",
            Some(18),
        ),
        ("67890/67890 kB (100%), 1/1 tablespace", Some(100)),
        ("waiting for checkpoint", None),
        ("pg_basebackup: error: could not connect", None),
        ("x kB (18%)", None),
    ] {
        assert_eq!(percent(line), expected, "{line}");
    }
}

#[tokio::test]
async fn lines_end_in_several_ways_and_are_bounded() {
    let text = format!("one\ntwo\rthree\r\n{}\nlast", "x".repeat(5000));
    let mut lines = Vec::new();
    for_each_line(text.as_bytes(), |line| lines.push(line.to_owned()))
        .await
        .unwrap();
    assert_eq!(lines[..4], ["one", "two", "three", ""]);
    assert_eq!(lines[4].len(), PROGRAM_LINE_BYTES_MAX);
    assert_eq!(lines[5], "last");
}

#[tokio::test]
async fn a_left_helper_is_killed_and_another_process_is_not() {
    let private = tempfile::tempdir().unwrap();
    let file = private.path().join(HELPER_FILE);
    let sleep = || {
        let mut command = Command::new("sleep");
        command.arg("600").process_group(0).kill_on_drop(true);
        command.spawn().unwrap()
    };
    let mut helper = sleep();
    let pid = helper.id().unwrap();
    fs::write(&file, format!("{pid} {}\n", start_time(pid).unwrap() + 1)).unwrap();
    kill_left_helper(private.path());
    assert!(
        helper.try_wait().unwrap().is_none(),
        "another start time, another process"
    );
    assert!(!file.exists());

    fs::write(&file, format!("{pid} {}\n", start_time(pid).unwrap())).unwrap();
    kill_left_helper(private.path());
    assert!(!helper.wait().await.unwrap().success());

    // Dropped early, as when the server is told to stop.
    let helper = sleep();
    let pid = helper.id().unwrap();
    drop(Group::record(helper, &file).unwrap());
    assert!(!file.exists());
    while start_time(pid).is_some_and(|_| !is_zombie(pid)) {
        tokio::task::yield_now().await;
    }
}

fn is_zombie(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

#[test]
fn what_pg_rewind_says_before_it_changes_anything() {
    let before = [
        "pg_rewind: connected to server",
        "pg_rewind: executing \"/bin/postgres\" for target server to complete crash recovery",
        "2026-11-23 17:55:26.645 UTC [19673] LOG:  database system was interrupted",
        "pg_rewind: servers diverged at WAL location 0/D0C4488 on timeline 68",
        "pg_rewind: rewinding from last common checkpoint at 0/D0C4410 on timeline 68",
        "pg_rewind: reading source file list",
        "pg_rewind: reading target file list",
        "pg_rewind: reading WAL in target",
        "pg_rewind: error: could not fetch file list: server closed the connection unexpectedly",
        "\tThis probably means the server terminated abnormally",
        "pg_rewind: fatal: could not find previous WAL record at 0/D0C4488",
        "pg_rewind: detail: why",
        "pg_rewind: hint: what to do",
        "",
    ];
    for line in before {
        assert!(is_before_changes(line), "{line}");
    }
    let after = [
        "pg_rewind: need to copy 51 MB (total source directory size is 71 MB)",
        "     0/52467 kB (0%) copied",
        "pg_rewind: creating backup label and updating control file",
        "pg_rewind: something that a later version says",
    ];
    for line in after {
        assert!(!is_before_changes(line), "{line}");
    }
}

#[test]
fn nobody_rewinds_to_a_primary_before_its_checkpoint() {
    use trilith_ha::{History, Lsn, Position, SlotSeen};

    let control = crate::control::tests::sample();
    let end = Position {
        timeline: 2,
        lsn: Lsn(1 << 24),
    };
    let primary = PrimarySeen {
        server: trilith_base::ServerName::new("two").unwrap(),
        is_primary: true,
        system_id: control.system_id,
        history: History::new(Vec::new(), end),
        checkpoint_timeline: 2,
        oldest: Lsn(0),
        slot: SlotSeen::Ready,
    };
    can_rewind_to(&control, &primary).unwrap();
    let why = |change: fn(&mut PrimarySeen)| {
        let mut primary = primary.clone();
        change(&mut primary);
        can_rewind_to(&control, &primary).unwrap_err().to_string()
    };
    let expected = "two has made no checkpoint on its timeline 2 yet";
    assert_eq!(why(|primary| primary.checkpoint_timeline = 1), expected);
    assert!(why(|primary| primary.system_id = 1).contains("another database"));
    assert!(why(|primary| primary.is_primary = false).contains("no primary"));
}
