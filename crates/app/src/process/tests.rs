use std::process::Command;

use super::*;

#[test]
fn parses_stat_with_any_command_name() {
    let rest = "S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
    for name in ["server", "a b", "x) S 1 1", "((", ""] {
        let stat = ProcessStat::parse(&format!("4711 ({name}) {rest}")).unwrap();
        assert_eq!(
            stat,
            ProcessStat {
                pid: 4711,
                state: 'S',
                group: 42,
                start_time: 987_654
            }
        );
    }
    for text in ["", "1", "1 (a", "1 (a) S 1", "x (a) S 7 42"] {
        assert_eq!(ProcessStat::parse(text), None, "{text}");
    }
}

#[test]
fn sees_itself() {
    let pid = std::process::id();
    let stat = ProcessStat::read(pid).unwrap();
    assert_eq!(stat.pid, pid);
    assert!(stat.is_alive() && stat.start_time > 0);
    assert_eq!(uid_of(pid), Some(nix::unistd::getuid().as_raw()));
    assert!(
        group_members(stat.group)
            .iter()
            .any(|member| member.pid == pid)
    );
    assert!(!boot_id().is_empty());
}

#[test]
fn reads_the_environment_of_a_child() {
    let mut child = Command::new("sleep")
        .arg("60")
        .env_clear()
        .env("INSTANCE", "web.1")
        .spawn()
        .unwrap();
    assert_eq!(
        environment_of(child.id(), "INSTANCE").as_deref(),
        Some("web.1")
    );
    assert_eq!(environment_of(child.id(), "INST"), None);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ProcessStat::read(child.id()).is_none_or(|stat| !stat.is_alive()));
}

#[test]
fn never_signals_everybody() {
    for pid in [0, 1, u32::MAX] {
        assert!(signal_process(pid, Signal::SIGKILL).is_err());
        assert!(signal_group(pid, Signal::SIGKILL).is_err());
    }
}
