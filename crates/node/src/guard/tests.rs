use super::*;

#[test]
fn messages_survive_the_pipe() {
    let (reader, mut writer) = io::pipe().unwrap();
    assert!(!wait_readable(&reader, Duration::ZERO).unwrap());
    let at = BootTime(Duration::from_nanos(123_456_789_012));
    writer.write_all(&Message::Deadline(at).encode()).unwrap();
    assert!(wait_readable(&reader, Duration::ZERO).unwrap());
    assert_eq!(read_all(&reader).unwrap(), Some(Some(at)));
    // Only the last one counts.
    for deadline in [Some(at), None, Some(at + Duration::from_secs(1)), None] {
        writer.write_all(&Message::from(deadline).encode()).unwrap();
    }
    assert_eq!(read_all(&reader).unwrap(), Some(None));
    drop(writer);
    assert_eq!(read_all(&reader).unwrap(), None);
}
