use super::*;
use crate::environment::SimEnvironment;
use crate::executor::{Executor, WORLD};
use openraft::AsyncRuntime;
use redb::{Database, ReadableDatabase, TableDefinition};
use trilith_cluster::DatabasePart;

const TABLE: TableDefinition<'static, u64, u64> = TableDefinition::new("t");

fn open(disk: &Arc<Disk>) -> Database {
    let handle = File::new(disk.clone()).open().expect("a disk opens");
    Database::builder()
        .create_with_backend(DatabasePart::of(handle.into()))
        .expect("the file is whole")
}

fn put(database: &Database, key: u64) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    write.open_table(TABLE)?.insert(key, key)?;
    write.commit()?;
    Ok(())
}

fn count(database: &Database) -> u64 {
    let read = database.begin_read().expect("reads");
    match read.open_table(TABLE) {
        Ok(table) => (0..)
            .take_while(|key| table.get(key).ok().flatten().is_some())
            .count() as u64,
        Err(_) => 0,
    }
}

#[test]
fn what_was_committed_survives_every_power_loss() {
    for seed in 0..60 {
        let disk = Disk::new(seed, false);
        let how = [PowerLoss::Nothing, PowerLoss::Prefix, PowerLoss::Torn][seed as usize % 3];
        let mut committed = 0;
        for _ in 0..5 {
            let database = open(&disk);
            assert!(count(&database) >= committed);
            committed = count(&database);
            for _ in 0..4 {
                put(&database, committed).expect("commits");
                committed += 1;
            }
            // One more, which dies somewhere in the middle.
            disk.lock().fuse = Some(seed % 20);
            let _ = put(&database, committed);
            disk.kill();
            drop(database);
            disk.lose_power(how);
        }
    }
}

#[test]
fn a_lying_disk_loses_what_was_committed() {
    let disk = Disk::new(1, true);
    let database = open(&disk);
    put(&database, 0).expect("commits");
    disk.kill();
    drop(database);
    disk.lose_power(PowerLoss::Nothing);
    assert_eq!(count(&open(&disk)), 0);
}

#[test]
fn a_kill_alone_loses_nothing_that_was_written() {
    let disk = Disk::new(1, true);
    let database = open(&disk);
    put(&database, 0).expect("commits");
    disk.kill();
    assert!(put(&database, 1).is_err(), "the dead write no more");
    drop(database);
    assert_eq!(count(&open(&disk)), 1);
}

#[test]
fn work_takes_its_time_and_ends_even_if_nobody_waits() {
    let executor = Executor::install(7);
    let server = executor.add_server(crate::clock::Clock::new(0, 0, 0));
    let disk = Disk::new(7, false);
    disk.set_speed(Speed {
        shortest: Duration::from_millis(10),
        longest: Duration::from_millis(20),
    });
    install(vec![disk]);
    let done = Arc::new(Mutex::new(0));
    let (first, second) = (done.clone(), done.clone());
    let owner = executor.owner(server);
    spawn_for(owner, async move {
        let work = blocking(move || *first.lock().unwrap() += 1);
        let _ = SimEnvironment::timeout(Duration::from_millis(1), work).await;
        blocking(move || *second.lock().unwrap() += 10).await;
    });
    executor.run_until(50_000_000, || Ok(())).unwrap();
    assert_eq!(*done.lock().unwrap(), 11);
    assert_eq!(executor.current(), WORLD);
    install(Vec::new());
    executor.finish();
}
