use trilith_base::ServerName;

use super::*;
use crate::secrets::Secrets;

fn options(state: &Path) -> Options {
    let two = ServerName::new("two").unwrap();
    Options::new(two, state, Secrets::generate().unwrap())
}

#[test]
fn files_are_replaced_whole() {
    let folder = tempfile::tempdir().unwrap();
    let owner = Owner { os_user: None };
    let path = folder.path().join("file");
    fs::write(folder.path().join("file.new"), "left by a crash").unwrap();
    assert!(owner.write_file_if_changed(&path, "a", 0o600).unwrap());
    assert!(!owner.write_file_if_changed(&path, "a", 0o600).unwrap());
    assert!(owner.write_file_if_changed(&path, "b", 0o600).unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), "b");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_planted_link_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (victim, path) = (folder.path().join("victim"), folder.path().join("file"));
    fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, folder.path().join("file.new")).unwrap();
    let owner = Owner { os_user: None };
    owner.write_file(&path, "text", 0o600).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");

    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path(), &link).unwrap();
    assert!(owner.make_private_folder(&link).is_err());
}

#[test]
fn sockets_get_a_short_folder() {
    let short = options(Path::new("/srv/two"));
    assert_eq!(socket_folder(&short, None), Path::new("/srv/two/run/pg"));
    let long = options(&Path::new("/srv").join("x".repeat(100)));
    let folder = socket_folder(&long, None);
    assert!(folder.starts_with("/tmp"), "{folder:?}");
    assert!(folder.as_os_str().len() < 60, "{folder:?}");
    assert_eq!(socket_folder(&long, None), folder, "always the same");
    let other = options(&Path::new("/srv").join("y".repeat(100)));
    assert_ne!(socket_folder(&other, None), folder);
    let runtime = Path::new("/run/user/1000");
    assert!(socket_folder(&long, Some(runtime)).starts_with(runtime));
}

#[test]
fn moving_aside_never_replaces() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("postgres");
    for expected in ["aside-7", "aside-7-2", "aside-7-3"] {
        fs::create_dir(&data).unwrap();
        let target = move_aside(&data, 7).unwrap();
        assert_eq!(target, sibling(&data, expected));
    }
    assert_eq!(siblings(&data, "aside").len(), 3);
    assert_eq!(siblings(&data, "new").len(), 0);
}

#[test]
fn closed_folders_are_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let closed = folder.path().join("closed");
    DirBuilder::new().mode(0o700).create(&closed).unwrap();
    let stranger = OsUser {
        name: "stranger".to_owned(),
        uid: 4_000_000,
        gid: 4_000_000,
    };
    let data = closed.join("state/postgres");
    assert_eq!(closed_folder(&data, &stranger), Some(closed.clone()));
    let own = OsUser {
        uid: fs::metadata(&closed).unwrap().uid(),
        ..stranger
    };
    assert_eq!(closed_folder(&data, &own), None);
}
