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
    let metadata = fs::metadata(&closed).unwrap();
    let user = |uid, gid| RunAs {
        name: "somebody".to_owned(),
        uid,
        gid,
    };
    let stranger = user(metadata.uid() + 1, metadata.gid() + 1);
    assert_eq!(first_closed_folder(&inner, &stranger), None);
    open(&closed, 0o700);
    let found = first_closed_folder(&inner, &stranger).unwrap();
    assert_eq!(found, fs::canonicalize(&closed).unwrap());
    let owner = user(metadata.uid(), metadata.gid() + 1);
    assert_eq!(first_closed_folder(&inner, &owner), None);
    open(&closed, 0o755);
}
