use super::*;

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
