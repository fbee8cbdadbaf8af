use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn finds_the_closed_folder() {
    let root = tempfile::tempdir().unwrap();
    let open =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    open(root.path(), 0o755);
    let closed = root.path().join("a/closed");
    let inner = closed.join("b");
    fs::create_dir_all(&inner).unwrap();
    let stranger = RunAs {
        name: "nobody".to_owned(),
        uid: 65_534,
        gid: 65_534,
    };
    assert_eq!(first_closed_folder(&inner, &stranger), None);
    open(&closed, 0o700);
    let found = first_closed_folder(&inner, &stranger).unwrap();
    assert_eq!(found, fs::canonicalize(&closed).unwrap());
    let owner_uid = fs::metadata(&closed).unwrap().uid();
    let owner = RunAs {
        name: "me".to_owned(),
        uid: owner_uid,
        gid: 1,
    };
    assert_eq!(first_closed_folder(&inner, &owner), None);
    open(&closed, 0o755);
}
