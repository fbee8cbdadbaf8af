//! Two real PostgreSQLs that part, and one that goes back.

use trilith_ha::{History, Kind, Position};

use super::pair::{STREAMING, ask, lsn, servers, until};
use super::*;
use crate::lsn::Lsn;
use crate::sql::keep_slots;
use crate::wal::read_history;

#[tokio::test]
async fn a_primary_that_went_on_alone_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let (_, [mut one, mut two]) = servers(folder.path(), ["one", "two"]);
    let first = one.start_new_primary(&two.peer()).await;
    first
        .batch_execute("create table entry (text text); insert into entry values ('both')")
        .await
        .unwrap();
    let second = two.start_new_replica(&one.peer()).await;

    // A replica that follows nobody receives nothing any more, and its end is where it stopped.
    let error = one
        .programs()
        .rewind(&two.peer(), |_| {})
        .await
        .unwrap_err();
    assert!(error.to_string().contains("two is no primary"), "{error}");
    two.write_config(Kind::Replica, None);
    two.running.as_ref().unwrap().reload().unwrap();
    until(
        &second,
        "select not exists (select from pg_stat_wal_receiver)",
    )
    .await;
    first
        .batch_execute("insert into entry values ('lost')")
        .await
        .unwrap();
    let written = lsn(&first, "select pg_current_wal_flush_lsn()").await;
    let received = lsn(&second, "select pg_last_wal_receive_lsn()").await;
    assert!(received < written);
    two.crash().await;
    let expected = Position {
        timeline: 1,
        lsn: received,
    };
    assert_eq!(two.end_of_wal().await, History::new(Vec::new(), expected));

    // It takes over, and the old primary crashes.
    let second = two.start().await;
    assert!(ask::<bool>(&second, "select pg_promote()").await);
    second
        .batch_execute("insert into entry values ('new'); checkpoint")
        .await
        .unwrap();
    keep_slots(&second, &[one.peer()]).await.unwrap();
    one.crash().await;
    let end = one.end_of_wal().await.end;
    assert!(end.timeline == 1 && end.lsn >= written, "{end} {written}");

    // What fails before anything is changed leaves whole data: here it cannot even be recovered.
    let wal = one.options.data_dir.join("pg_wal");
    let aside = folder.path().join("pg_wal");
    fs::rename(&wal, &aside).unwrap();
    fs::create_dir(&wal).unwrap();
    let failed = one.programs().rewind(&two.peer(), |_| {}).await;
    assert!(matches!(failed, Err(Error::Program { .. })), "{failed:?}");
    assert!(!is_half_rewound(&one.options.data_dir));
    fs::remove_dir_all(&wal).unwrap();
    fs::rename(&aside, &wal).unwrap();

    // It goes back to where they parted, and follows.
    let mut told = Vec::new();
    one.programs()
        .rewind(&two.peer(), |percent| told.push(percent))
        .await
        .unwrap();
    assert_eq!(told.last(), Some(&100));
    assert!(is_half_rewound(&one.options.data_dir));
    one.write_config(Kind::Replica, Some(&two.peer()));
    rewound(&one.options.data_dir).unwrap();
    assert!(!is_half_rewound(&one.options.data_dir));
    let first = one.start().await;
    until(&first, STREAMING).await;
    let entries = "select string_agg(text, ' ' order by text) from entry";
    assert_eq!(ask::<String>(&first, entries).await, "both new");
    second
        .batch_execute("insert into entry values ('after')")
        .await
        .unwrap();
    until(&first, "select count(*) = 3 from entry").await;

    // Both tell of the same history, running or not.
    let seen = ask_primary(&one.options, &two.peer()).await.unwrap();
    assert!(seen.is_primary);
    assert_eq!(
        (seen.checkpoint_timeline, seen.history.end.timeline),
        (2, 2)
    );
    assert_eq!(seen.slot, trilith_ha::SlotSeen::Active);
    let parted = read_history(&two.options.data_dir, 2).unwrap();
    assert_eq!(parted.len(), 1);
    assert!(parted[0].lsn >= received && parted[0].lsn < end.lsn);
    assert_eq!(seen.history.ended, parted);
    one.stop().await;
    let of_one = one.end_of_wal().await;
    assert_eq!((&of_one.ended, of_one.end.timeline), (&parted, 2));
    assert!(seen.history.contains(of_one.end) || of_one.continues(&seen.history));

    // The end is exactly where PostgreSQL goes on after a crash.
    second
        .batch_execute("checkpoint; select pg_switch_wal(); insert into entry values ('next file')")
        .await
        .unwrap();
    let inserted = lsn(&second, "select pg_current_wal_flush_lsn()").await;
    two.crash().await;
    let control = two.programs().control_data().await.unwrap();
    assert!(!control.state.is_clean() && control.checksums);
    let end = two.programs().end_of_wal(&control).await.unwrap().end.lsn;
    assert!(end >= inserted);

    // A file is missing: the end is that of the one before.
    let next = inserted.0 / control.wal_segment_size;
    let file = |number: u64| {
        let name = format!("0000000200000000{number:08X}");
        two.options.data_dir.join("pg_wal").join(name)
    };
    let aside = folder.path().join("aside");
    fs::rename(file(next), &aside).unwrap();
    let earlier = two.programs().end_of_wal(&control).await.unwrap().end.lsn;
    assert_eq!(earlier, Lsn(next * control.wal_segment_size));
    fs::rename(&aside, file(next)).unwrap();

    let before = two.log().len();
    two.start().await;
    let log = two.log().split_off(before);
    assert!(log.contains(&format!(" at {end}: ")), "{end}: {log}");

    // Nobody to go back to.
    two.stop().await;
    let error = one
        .programs()
        .rewind(&two.peer(), |_| {})
        .await
        .unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(!is_half_rewound(&one.options.data_dir));
}
