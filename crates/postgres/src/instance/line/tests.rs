use super::*;

#[test]
fn senders_and_slots_are_read() {
    let sender = read_sender("0/3000060 streaming 2 s-1", 2).unwrap();
    assert_eq!(sender.name, "s-1");
    assert!(sender.streaming);
    assert_eq!(sender.flushed, Lsn(0x300_0060));
    let odd = read_sender("0/0 startup - a b  c", 2).unwrap();
    assert_eq!((odd.name.as_str(), odd.streaming), ("a b  c", false));
    assert_eq!(read_sender("0/0 backup -", 2).unwrap().name, "");
    assert_eq!(read_sender("x streaming 2 s", 2), None);
    assert_eq!(read_sender("", 2), None);
    // Past the place where timeline 2 began, on timeline 1: it has nothing of what is written here.
    assert!(!read_sender("0/4000000 streaming 1 s", 2).unwrap().streaming);
    // What its query was is not to be seen.
    assert!(read_sender("0/4000000 streaming - s", 2).unwrap().streaming);

    let slot = read_slot("trilith_a t reserved 16777216").unwrap();
    assert_eq!(
        (slot.active, slot.lost, slot.held_bytes),
        (true, false, 16_777_216)
    );
    let lost = read_slot("trilith_a f lost").unwrap();
    assert_eq!((lost.active, lost.lost, lost.held_bytes), (false, true, 0));
    assert_eq!(read_slot("trilith_a"), None);
}

#[test]
fn the_furthest_sender_of_a_server_counts() {
    let sender = |name: &str, streaming, flushed| Sender {
        name: name.to_owned(),
        streaming,
        flushed: Lsn(flushed),
    };
    let look = Look {
        in_recovery: false,
        system_id: 1,
        checkpoint_timeline: 1,
        synchronous_standby_names: String::new(),
        primary_conninfo: String::new(),
        clients: 0,
        slots: Vec::new(),
        primary: Some(PrimaryLook {
            timeline: 1,
            flushed: Lsn(9),
            senders: vec![
                sender("a", false, 9),
                sender("a", true, 5),
                sender("b", true, 7),
                sender("a", true, 6),
            ],
        }),
        replica: None,
    };
    let found = |name| look.sender(&ServerName::new(name).unwrap());
    assert_eq!(found("a").unwrap().flushed, Lsn(6));
    assert_eq!(found("b").unwrap().flushed, Lsn(7));
    assert_eq!(found("c"), None);
}
