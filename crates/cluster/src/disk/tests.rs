use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::testing::{StoreBuilder, Suite};
use redb::StorageBackend;
use tempfile::TempDir;
use tokio::sync::watch;
use trilith_telemetry::Telemetry;

use super::*;
use crate::machine::Machine;
use crate::msg::{Command, Payload, State};
use crate::raft::Types;
use crate::status::DiskTimes;

// --- openraft's own suite -----------------------------------------------------------------------

struct InFolder;

impl StoreBuilder<Types<Machine>, LogStore<Machine>, StateMachine<Machine>, TempDir> for InFolder {
    async fn build(
        &self,
    ) -> Result<(TempDir, LogStore<Machine>, StateMachine<Machine>), openraft::StorageError<NodeId>>
    {
        let folder = TempDir::new().unwrap();
        let place = DiskPlace::Folder(folder.path().to_owned());
        let disk = Arc::new(Disk::open(&place, || 7).unwrap().disk);
        let times = Arc::new(DiskTimes::new(&Telemetry::new("one")));
        let machine = StateMachine::load(
            disk.clone(),
            watch::Sender::default(),
            watch::Sender::default(),
        );
        Ok((folder, LogStore::new(disk, times), machine.unwrap()))
    }
}

#[test]
fn openraft_is_content() {
    Suite::test_all(InFolder).unwrap();
}

// --- a disk that loses power --------------------------------------------------------------------

/// A file as a disk with a cache holds it: what was not synced may be there after a power cut, or
/// not, or in part, whatever the order in which it was written.
#[derive(Clone, Debug, Default)]
struct Platter(Arc<Mutex<Sectors>>);

#[derive(Debug, Default)]
struct Sectors {
    durable: Vec<u8>,
    /// What programs see.
    current: Vec<u8>,
    unsynced: Vec<Op>,
    /// Operations until the power is cut.
    left: Option<usize>,
    operations: usize,
    cut: bool,
    aside: Vec<Vec<u8>>,
}

#[derive(Clone, Debug)]
enum Op {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

impl Op {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Op::Write(at, bytes) => {
                let end = at + bytes.len();
                if file.len() < end {
                    file.resize(end, 0);
                }
                file[*at..end].copy_from_slice(bytes);
            }
            Op::SetLen(len) => file.resize(*len, 0),
        }
    }
}

/// A small generator: the test must give the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

impl Platter {
    fn step(&self) -> io::Result<std::sync::MutexGuard<'_, Sectors>> {
        let mut state = self.0.lock().unwrap();
        if state.left == Some(0) {
            state.cut = true;
        }
        if state.cut {
            return Err(io::Error::other("no power"));
        }
        state.left = state.left.map(|left| left - 1);
        state.operations += 1;
        Ok(state)
    }

    /// What the disk holds when the power is back.
    fn power_cut(&self, dice: &mut Dice) {
        let mut state = self.0.lock().unwrap();
        let state = &mut *state;
        let mut file = state.durable.clone();
        // Writes to the same place reach the disk in some order; all others cannot be told apart.
        for op in std::mem::take(&mut state.unsynced) {
            match (dice.roll(4), op) {
                (0, _) => {}
                (1, Op::Write(at, bytes)) => {
                    // Torn: some of its sectors.
                    for (n, sector) in bytes.chunks(512).enumerate() {
                        if dice.roll(2) == 0 {
                            Op::Write(at + n * 512, sector.to_owned()).apply(&mut file);
                        }
                    }
                }
                (_, op) => op.apply(&mut file),
            }
        }
        state.durable = file.clone();
        state.current = file;
        state.left = None;
        state.cut = false;
    }
}

impl StorageBackend for Platter {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let at = usize::try_from(offset).unwrap();
        let bytes = state.current.get(at..at + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Op::SetLen(usize::try_from(len).unwrap()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.step()?;
        state.durable = state.current.clone();
        state.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Op::Write(usize::try_from(offset).unwrap(), data.to_owned()))
    }
}

impl Platter {
    fn change(&self, op: Op) -> io::Result<()> {
        let mut state = self.step()?;
        op.apply(&mut state.current);
        state.unsynced.push(op);
        Ok(())
    }

    fn place(&self) -> DiskPlace {
        DiskPlace::Medium(Arc::new(self.clone()))
    }

    fn open(&self) -> Opened {
        static NEXT: AtomicU64 = AtomicU64::new(1000);
        Disk::open(&self.place(), || NEXT.fetch_add(1, Ordering::Relaxed)).unwrap()
    }
}

impl Medium for Platter {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(self.clone()))
    }

    fn set_aside(&self) -> io::Result<String> {
        let mut state = self.0.lock().unwrap();
        let damaged = std::mem::take(&mut state.durable);
        state.current.clear();
        state.unsynced.clear();
        state.aside.push(damaged);
        Ok(format!("shelf {}", state.aside.len()))
    }
}

// --- what is done to it, and what must be in it -------------------------------------------------

/// What a file is to hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    vote: Option<Vote>,
    log: BTreeMap<u64, Entry>,
    purged: Option<Position>,
    snapshot: Option<String>,
}

#[derive(Clone, Debug)]
enum Job {
    Vote(u64),
    Append(u64, u64),
    Truncate(u64),
    Snapshot(u64),
    Purge(u64),
}

fn at(index: u64) -> Position {
    Position {
        term: 1,
        node: 7,
        index,
    }
}

fn entry(index: u64) -> Entry {
    let lease = format!(
        "lease/{}",
        "x".repeat(usize::try_from(index % 7 * 400).unwrap())
    );
    Entry {
        at: at(index),
        what: Payload::Command(Command::Expire {
            lease,
            epoch: index,
            term: 0,
            node: 0,
        }),
    }
}

fn vote(term: u64) -> Vote {
    Vote {
        term,
        node: 7,
        committed: term.is_multiple_of(2),
    }
}

fn snapshot(index: u64) -> Snapshot {
    Snapshot {
        name: format!("s{index}"),
        state: State {
            at: Some(at(index)),
            ..State::default()
        },
    }
}

impl Job {
    fn model(&self, model: &mut Model) {
        match self {
            Job::Vote(term) => model.vote = Some(vote(*term)),
            Job::Append(from, to) => model.log.extend((*from..*to).map(|n| (n, entry(n)))),
            Job::Truncate(from) => drop(model.log.split_off(from)),
            Job::Snapshot(n) => model.snapshot = Some(snapshot(*n).name),
            Job::Purge(upto) => {
                model.log = model.log.split_off(&(upto + 1));
                model.purged = Some(at(*upto));
            }
        }
    }

    fn run(&self, disk: &Disk) -> Result<(), DiskError> {
        match self {
            Job::Vote(term) => disk.save_vote(&vote(*term)),
            Job::Append(from, to) => disk.append(&(*from..*to).map(entry).collect::<Vec<_>>()),
            Job::Truncate(from) => disk.truncate(*from),
            Job::Snapshot(n) => disk.save_snapshot(&snapshot(*n)),
            Job::Purge(upto) => disk.purge(at(*upto)),
        }
    }
}

fn jobs() -> Vec<Job> {
    vec![
        Job::Vote(1),
        Job::Append(0, 1),
        Job::Vote(2),
        Job::Append(1, 20),
        Job::Truncate(15),
        Job::Append(15, 30),
        Job::Snapshot(19),
        Job::Purge(19),
        Job::Vote(3),
        Job::Append(30, 31),
        Job::Append(31, 90),
        Job::Snapshot(80),
        Job::Purge(60),
        Job::Vote(4),
    ]
}

fn found(disk: &Disk) -> Model {
    Model {
        vote: disk.vote().unwrap(),
        log: (disk.entries(.., usize::MAX).unwrap().into_iter())
            .map(|entry| (entry.at.index, entry))
            .collect(),
        purged: disk.meta("purged").unwrap().flatten(),
        snapshot: disk.snapshot().unwrap().map(|snapshot| snapshot.name),
    }
}

/// Runs the jobs until the power goes; says how many were acknowledged, and the id of the file.
fn run(platter: &Platter, jobs: &[Job]) -> (usize, NodeId) {
    let Ok(opened) = Disk::open(&platter.place(), || 7) else {
        return (0, 0);
    };
    let done = jobs.iter().take_while(|job| job.run(&opened.disk).is_ok());
    (done.count(), opened.disk.id())
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_any_moment() {
    let jobs = jobs();
    let models: Vec<Model> = (0..=jobs.len())
        .map(|count| {
            let mut model = Model::default();
            jobs[..count].iter().for_each(|job| job.model(&mut model));
            model
        })
        .collect();
    let whole = Platter::default();
    assert_eq!(run(&whole, &jobs), (jobs.len(), 7));
    let operations = whole.0.lock().unwrap().operations;
    assert!(operations > 50, "{operations}");

    for moment in 0..operations {
        for seed in 1..=6 {
            let platter = Platter::default();
            platter.0.lock().unwrap().left = Some(moment);
            let (done, id) = run(&platter, &jobs);
            let mut dice = Dice(seed * 7919 + moment as u64 * 104_729);
            platter.power_cut(&mut dice);
            let opened = platter.open();
            let context = format!("operation {moment}, seed {seed}, {done} jobs acknowledged");
            if id == 0 || opened.disk.id() != id {
                assert_eq!(done, 0, "{context}: {:?}", opened.set_aside);
                continue;
            }
            let found = found(&opened.disk);
            let next = models.get(done + 1).unwrap_or(&models[done]);
            assert!(
                found == models[done] || found == *next,
                "{context}: neither before nor after the next: {found:#?}"
            );
            // And it goes on from there.
            opened.disk.save_vote(&vote(9)).unwrap();
        }
    }
}

/// How a file is left.
#[derive(Clone, Copy, Debug)]
enum End {
    Closed,
    Killed,
}

/// The file after so many jobs, and what must be in it.
fn file_after(count: usize, end: End) -> (Vec<u8>, Model) {
    let jobs = &jobs()[..count];
    let platter = Platter::default();
    let disk = Disk::open(&platter.place(), || 7).unwrap().disk;
    jobs.iter().for_each(|job| job.run(&disk).unwrap());
    let killed = platter.0.lock().unwrap().current.clone();
    drop(disk);
    let closed = platter.0.lock().unwrap().current.clone();
    let mut model = Model::default();
    jobs.iter().for_each(|job| job.model(&mut model));
    let bytes = match end {
        End::Closed => closed,
        End::Killed => killed,
    };
    (bytes, model)
}

impl Platter {
    fn holding(bytes: Vec<u8>) -> Self {
        let platter = Self::default();
        platter.0.lock().unwrap().durable = bytes.clone();
        platter.0.lock().unwrap().current = bytes;
        platter
    }
}

/// Opens the file with these bits changed: everything acknowledged is in it, or it is set aside. Why
/// it was.
fn open_changed(bytes: &[u8], bits: &[(usize, u8)], expected: &Model) -> Option<String> {
    let mut damaged = bytes.to_vec();
    bits.iter().for_each(|(at, bit)| damaged[*at] ^= 1 << bit);
    let platter = Platter::holding(damaged);
    let opened = platter.open();
    let (_, problem) = opened.set_aside.clone().unzip();
    if problem.is_some() {
        assert_eq!(found(&opened.disk), Model::default(), "{bits:?}");
        assert_ne!(opened.disk.id(), 7, "{bits:?}");
        assert_eq!(platter.0.lock().unwrap().aside.len(), 1, "kept");
    } else {
        assert_eq!(&found(&opened.disk), expected, "{bits:?}");
        assert_eq!(opened.disk.id(), 7, "{bits:?}");
    }
    problem
}

#[test]
fn a_damaged_file_is_noticed_whatever_is_damaged() {
    for end in [End::Closed, End::Killed] {
        let (bytes, expected) = file_after(jobs().len(), end);
        let sectors = (0..bytes.len()).step_by(512).enumerate();
        let noticed = sectors.filter(|(n, sector)| {
            let at = sector + (n * 37) % 512.min(bytes.len() - sector);
            let bit = u8::try_from(n % 8).unwrap();
            open_changed(&bytes, &[(at, bit)], &expected).is_some()
        });
        assert!(noticed.count() > 0);
    }
}

/// Bytes of redb's header that mean something: what they say decides which commit counts.
const HEADER: usize = 320;

#[test]
fn no_bit_of_the_header_brings_an_older_commit_back() {
    let begin = usize::try_from(witness::SPACE).unwrap();
    // The last of the first three jobs is a vote, of the first four an append.
    for count in [1, 3, 4, 9] {
        for end in [End::Closed, End::Killed] {
            let (bytes, expected) = file_after(count, end);
            let mut older = 0;
            for at in begin..begin + HEADER {
                for bit in 0..8 {
                    let problem = open_changed(&bytes, &[(at, bit)], &expected);
                    older += usize::from(problem.is_some_and(|it| it.contains("older state")));
                }
            }
            // After a kill, redb takes the commit before for any bit of the last one's 128 bytes.
            // Should it refuse one day, this test would show nothing any more.
            let enough = matches!(end, End::Closed) || older >= 1000;
            assert!(enough, "{older} after {count}");
        }
    }
}

#[test]
fn a_damaged_witness_costs_nothing_and_two_cost_the_file() {
    for end in [End::Closed, End::Killed] {
        let (bytes, expected) = file_after(jobs().len(), end);
        let block = usize::try_from(witness::SPACE).unwrap() / 2;
        for at in 0..32 {
            let bit = u8::try_from(at % 8).unwrap();
            assert_eq!(open_changed(&bytes, &[(at, bit)], &expected), None);
            assert_eq!(open_changed(&bytes, &[(block + at, bit)], &expected), None);
            let problem = open_changed(&bytes, &[(at, bit), (block + at, bit)], &expected);
            assert!(problem.unwrap().contains("witness"));
        }
    }
}

#[test]
fn a_damaged_block_of_the_witness_is_written_first() {
    let (bytes, _) = file_after(4, End::Killed);
    for damaged in [0, usize::try_from(witness::SPACE).unwrap() / 2] {
        let platter = Platter::holding(bytes.clone());
        platter.0.lock().unwrap().current[damaged] ^= 1;
        drop(platter.open());
        let repaired = platter.0.lock().unwrap().current.clone();
        let other = usize::try_from(witness::SPACE).unwrap() / 2 - damaged;
        assert_eq!(repaired[damaged..damaged + 16], repaired[other..other + 16]);
        assert_eq!(repaired[other..other + 32], bytes[other..other + 32]);
    }
}

/// A commit that a kill separated from its witness counts from the next start on: others hear of it.
#[test]
fn opening_bears_witness() {
    let whole = Platter::default();
    run(&whole, &jobs());
    let operations = whole.0.lock().unwrap().operations;
    let mut ahead = 0;
    for moment in 0..operations {
        let platter = Platter::default();
        platter.0.lock().unwrap().left = Some(moment);
        run(&platter, &jobs());
        // Killed: what was written stays.
        {
            let mut state = platter.0.lock().unwrap();
            (state.left, state.cut) = (None, false);
        }
        let before = witnessed(&platter);
        let disk = platter.open().disk;
        let found = *lock(&disk.generation);
        assert_eq!(witnessed(&platter), Some(found));
        ahead += usize::from(before < Some(found));
    }
    assert!(ahead > jobs().len(), "{ahead}");
}

fn witnessed(platter: &Platter) -> Option<Generation> {
    Witness::new(Arc::new(platter.clone())).read().ok()
}

#[test]
fn a_file_from_before_the_witness_is_left_where_it_is() {
    let platter = Platter::default();
    let database = redb::Builder::new().create_with_backend(platter.clone());
    drop(database.unwrap());
    let before = platter.0.lock().unwrap().current.clone();
    let Err(error) = Disk::open(&platter.place(), || 7) else {
        panic!("opened");
    };
    let text = error.to_string();
    assert!(text.contains("move the file away"), "{text}");
    assert!(platter.0.lock().unwrap().current == before);
}

#[test]
fn a_file_that_was_emptied_is_not_taken_for_a_fresh_one() {
    let platter = Platter::default();
    drop(
        redb::Builder::new()
            .create_with_backend(DatabasePart::of(Arc::new(platter.clone())))
            .unwrap(),
    );
    let opened = platter.open();
    assert!(opened.set_aside.is_some());
}

#[test]
fn a_hole_in_the_log_is_damage() {
    let platter = Platter::default();
    let opened = platter.open();
    opened.disk.append(&[entry(0), entry(1), entry(3)]).unwrap();
    drop(opened);
    let (_, problem) = platter.open().set_aside.unwrap();
    assert!(problem.contains("entry 2 is missing"), "{problem}");
}

#[test]
fn damaged_files_are_kept_but_not_all() {
    let folder = TempDir::new().unwrap();
    let place = DiskPlace::Folder(folder.path().to_owned());
    for round in 0..6 {
        let opened = Disk::open(&place, || round + 1).unwrap();
        assert_eq!(opened.set_aside.is_some(), round > 0);
        assert_eq!(opened.disk.id(), round + 1);
        opened.disk.close();
        drop(opened);
        std::fs::write(folder.path().join("store.redb"), [1; 9000]).unwrap();
    }
    let files = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, 1 + crate::limits::DAMAGED_FILES_KEPT);
}

#[test]
fn a_file_in_use_is_not_damaged() {
    let folder = TempDir::new().unwrap();
    let place = DiskPlace::Folder(folder.path().to_owned());
    let _first = Disk::open(&place, || 1).unwrap();
    assert!(matches!(Disk::open(&place, || 2), Err(Error::Disk { .. })));
}

#[test]
fn the_highest_vote_only_rises() {
    let begun = HighestVote(Mutex::new((0, 0)));
    begun.raise(&vote(5));
    begun.raise(&vote(4));
    assert!(begun.is(5, 7) && !begun.is(4, 7) && !begun.is(5, 6));
}

/// Records as the first release wrote them: this one must read them, and so must the next.
#[test]
fn records_of_the_first_release_are_read() {
    let vote = Vote {
        term: 3,
        node: 7,
        committed: true,
    };
    let record = seal("meta", "vote", 5, &vote).unwrap();
    let text = r#"{"term":3,"node":7,"committed":true}"#;
    assert_eq!(&record[16..], text.as_bytes());
    assert_eq!(
        record[..8],
        [168, 153, 74, 8, 91, 14, 148, 185],
        "the checksum"
    );
    assert_eq!(record[8..16], 5u64.to_le_bytes());
    let (generation, read): (_, Vote) = unseal("meta", "vote", &record).unwrap();
    assert_eq!((generation, read), (5, vote));
    assert!(
        unseal::<Vote>("meta", "other", &record).is_err(),
        "under another key"
    );
    let mut old = record.clone();
    old[8] = 4;
    assert!(
        unseal::<Vote>("meta", "vote", &old).is_err(),
        "of another generation"
    );
    assert!(unseal::<Vote>("meta", "vote", &record[..10]).is_err());
}
