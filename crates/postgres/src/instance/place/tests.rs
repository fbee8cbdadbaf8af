use super::*;
use crate::instance::line::Startup;

const SHAPE: WalShape = WalShape {
    segment_bytes: 1 << 20,
    page_bytes: 8192,
};

/// A WAL file whose pages up to `end` are written.
fn write(dir: &Path, timeline: u32, segment: u64, end: u64, page_timeline: u32) {
    let mut bytes = vec![0; SHAPE.segment_bytes as usize];
    let start = segment * SHAPE.segment_bytes;
    for page in (start..end).step_by(8192) {
        let at = (page - start) as usize;
        bytes[at..at + 2].copy_from_slice(&0xD110_u16.to_ne_bytes());
        bytes[at + 4..at + 8].copy_from_slice(&page_timeline.to_ne_bytes());
        bytes[at + 8..at + 16].copy_from_slice(&page.to_ne_bytes());
    }
    let suffix = segment_suffix(start, SHAPE).unwrap();
    fs::write(dir.join(format!("{timeline:08X}{suffix}")), bytes).unwrap();
}

#[test]
fn the_latest_timeline_that_has_the_last_byte_counts() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let base = 5 << 20;
    write(dir, 1, 5, base + 100_000, 1);
    fs::write(dir.join("00000002.history"), "").unwrap();
    fs::write(dir.join("junk"), "").unwrap();
    let at = |offset: u64| timeline_at(dir, Lsn(base + offset), SHAPE);
    assert_eq!(at(50_000), Some(1));
    assert_eq!(at(100_000), Some(1));
    assert_eq!(at(500_000), None);
    assert_eq!(timeline_at(dir, Lsn(0), SHAPE), None);
    assert_eq!(
        timeline_at(dir, Lsn(base), SHAPE),
        None,
        "the segment before"
    );

    // The next timeline parted in the second page, and was received up to the fifth.
    write(dir, 2, 5, base + 40_000, 1);
    assert_eq!(at(20_000), Some(2));
    assert_eq!(at(40_000), Some(2));
    assert_eq!(at(60_000), Some(1), "received on the first one before");

    // A file that is kept for later use has other positions in it.
    write(dir, 3, 5, base + (1 << 20), 3);
    let kept = dir.join(format!("{:08X}{}", 3, segment_suffix(base, SHAPE).unwrap()));
    let other = dir.join(format!(
        "{:08X}{}",
        3,
        segment_suffix(9 << 20, SHAPE).unwrap()
    ));
    fs::rename(kept, &other).unwrap();
    assert_eq!(timeline_at(dir, Lsn((9 << 20) + 50_000), SHAPE), None);
    // One that names a later timeline in its pages is not what its name says.
    write(dir, 2, 7, (7 << 20) + 50_000, 3);
    assert_eq!(timeline_at(dir, Lsn((7 << 20) + 10_000), SHAPE), None);
}

#[test]
fn names_are_those_of_postgresql() {
    let name = |byte, segment_bytes| {
        segment_suffix(
            byte,
            WalShape {
                segment_bytes,
                page_bytes: 8192,
            },
        )
    };
    assert_eq!(
        name(0x100_0000, 16 << 20).as_deref(),
        Some("0000000000000001")
    );
    assert_eq!(
        name(0x2_FF00_0001, 16 << 20).as_deref(),
        Some("00000002000000FF")
    );
    assert_eq!(
        name(0x2_0000_0000, 1 << 20).as_deref(),
        Some("0000000200000000")
    );
    assert_eq!(name(1, 0), None);
}

#[test]
fn it_is_settled_when_nothing_more_can_come() {
    let look = |received: Option<u64>, receiving, startup| ReplicaLook {
        replayed: Lsn(5),
        received: received.map(Lsn),
        received_timeline: None,
        receiving,
        streaming: receiving,
        startup,
    };
    for (received, receiving, startup, settled) in [
        (None, false, Startup::Busy, false),
        (None, false, Startup::HeldUp, false),
        (None, false, Startup::Resting, true),
        (None, true, Startup::WaitingForWal, false),
        (Some(9), true, Startup::Resting, false),
        (Some(9), false, Startup::Busy, true),
        (Some(9), false, Startup::HeldUp, true),
    ] {
        let look = look(received, receiving, startup);
        assert_eq!(look.is_settled(), settled, "{look:?}");
    }
    let look = look(Some(9), false, Startup::HeldUp);
    let end = look.end(Path::new("/nowhere"), SHAPE, 3);
    assert_eq!((end.timeline, end.lsn), (3, Lsn(9)));
}
