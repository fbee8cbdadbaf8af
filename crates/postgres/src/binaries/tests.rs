use std::os::unix::fs::PermissionsExt;

use super::*;

/// A folder with programs that say they are `version`.
fn install(dir: &Path, version: &str) {
    fs::create_dir_all(dir).unwrap();
    for name in PROGRAMS {
        let path = dir.join(name);
        fs::write(
            &path,
            format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n"),
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn versions_are_read() {
    for (text, expected) in [
        (
            "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n",
            Some((15, "15.18")),
        ),
        ("postgres (PostgreSQL) 18beta1\n", Some((18, "18beta1"))),
        ("postgres (EnterpriseDB) 15\n", None),
        ("", None),
    ] {
        let got = parse_version(text);
        assert_eq!(
            got.as_ref().map(|(major, v)| (*major, v.as_str())),
            expected
        );
    }
}

#[test]
fn the_newest_wins_unless_the_data_needs_another() {
    let root = tempfile::tempdir().unwrap();
    for version in ["9.6", "15", "16", "17"] {
        let dir = root.path().join(version).join("bin");
        install(&dir, &format!("{version}.1"));
    }
    // A package with clients only.
    fs::remove_file(root.path().join("17/bin/postgres")).unwrap();
    let layouts = [(root.path(), "")];
    let found = |major| search(&layouts, None, major).unwrap().version;
    assert_eq!(found(None), "16.1");
    assert_eq!(found(Some(15)), "15.1");
    assert_eq!(found(Some(14)), "16.1", "the planner explains the rest");
}

#[test]
fn path_is_the_last_place() {
    let root = tempfile::tempdir().unwrap();
    install(&root.path().join("bin"), "16.2");
    let path = Some(root.path().join("bin").into_os_string());
    let nowhere = root.path().join("nowhere");
    let found = search(&[(&nowhere, "")], path, None).unwrap();
    assert_eq!(found.major, 16);
}

#[test]
fn errors_say_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let layouts = [(root.path(), "")];
    let text = |error: BinariesError| error.to_string();
    let error = text(search(&layouts, None, None).unwrap_err());
    assert!(error.contains("apt-get install postgresql"), "{error}");

    install(&root.path().join("14/bin"), "14.9");
    let error = text(search(&layouts, None, None).unwrap_err());
    assert!(error.contains("PostgreSQL 14.9; 15 or newer"), "{error}");

    let error = text(find_bin_dir(Some(root.path())).unwrap_err());
    assert!(error.contains("no program `postgres`"), "{error}");
}
