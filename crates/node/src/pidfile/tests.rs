use super::*;

#[test]
fn the_second_is_told_who_was_first() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(holder(dir.path()).unwrap(), None);
    let first = PidFile::acquire(dir.path()).unwrap();
    assert_eq!(holder(dir.path()).unwrap(), Some(std::process::id()));
    let error = PidFile::acquire(dir.path()).unwrap_err();
    let expected = Some(std::process::id());
    assert!(
        matches!(&error, NodeError::AlreadyRunning { pid, .. } if *pid == expected),
        "{error}"
    );
    drop(first);
    assert_eq!(holder(dir.path()).unwrap(), None);
    PidFile::acquire(dir.path()).unwrap();
}

#[test]
fn a_look_does_not_keep_a_server_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    drop(PidFile::acquire(dir.path()).unwrap());
    let file = open(&dir.path().join(FILE_NAME), false).unwrap();
    flock(&file, FlockOperation::NonBlockingLockShared).unwrap();
    let looker = std::thread::spawn(move || {
        std::thread::sleep(TRY_INTERVAL * 2);
        drop(file);
    });
    PidFile::acquire(dir.path()).unwrap();
    looker.join().unwrap();
}
