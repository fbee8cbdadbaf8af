//! With real processes: stand-ins for PostgreSQL that are called `postgres` and work in a data directory.

use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use trilith_telemetry::Telemetry;

use super::*;
use crate::inspect::orphans;

/// Far beyond what anything here takes: it only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(60);
const DATA_DIR: &str = "TRILITH_TEST_GUARD_DATA";
const FIFO: &str = "TRILITH_TEST_GUARD_FIFO";

/// Run by the others as a process of its own: a guard.
#[test]
#[ignore = "the other tests start it"]
fn the_guard_process() {
    if let (Some(data_dir), Some(fifo)) = (std::env::var_os(DATA_DIR), std::env::var_os(FIFO)) {
        run(Path::new(&data_dir), Path::new(&fifo)).unwrap();
    }
}

/// Run by the others as a process of its own: an agent that goes on telling deadlines a second ahead.
#[test]
#[ignore = "the other tests start it"]
fn the_agent_process() {
    let (Some(data_dir), Some(fifo)) = (std::env::var_os(DATA_DIR), std::env::var_os(FIFO)) else {
        return;
    };
    let options = guard_options(Path::new(&data_dir), Path::new(&fifo));
    let mut guard = Guard::start(options).unwrap();
    loop {
        guard.tell(Some(from_now(1000))).unwrap();
        fs::write(Path::new(&fifo).with_extension("told"), "").unwrap();
        sleep(Duration::from_millis(50));
    }
}

/// The arguments with which this program becomes one of the above.
fn become_process(name: &str, data_dir: &Path, fifo: &Path) -> Vec<OsString> {
    let variable = |name: &str, path: &Path| -> OsString {
        let mut text = OsString::from(name);
        text.push("=");
        text.push(path);
        text
    };
    let test = format!("guard::tests::{name}");
    vec![
        variable(DATA_DIR, data_dir),
        variable(FIFO, fifo),
        std::env::current_exe().unwrap().into(),
        test.into(),
        "--exact".into(),
        "--ignored".into(),
        "--nocapture".into(),
    ]
}

fn guard_options(data_dir: &Path, fifo: &Path) -> GuardOptions {
    GuardOptions {
        program: "/usr/bin/env".into(),
        args: become_process("the_guard_process", data_dir, fifo),
        fifo: fifo.to_owned(),
    }
}

/// A data directory, and processes that work in it. All of them are gone when it is dropped, the guard
/// included.
struct Place {
    folder: tempfile::TempDir,
    processes: Vec<Child>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["data", "other", "bin"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::copy("/bin/sleep", folder.path().join("bin/postgres")).unwrap();
        Self {
            folder,
            processes: Vec::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn data_dir(&self) -> PathBuf {
        self.path("data")
    }

    fn fifo(&self) -> PathBuf {
        self.path("guard.fifo")
    }

    fn options(&self) -> GuardOptions {
        guard_options(&self.data_dir(), &self.fifo())
    }

    fn guard(&self) -> Guard {
        Guard::start(self.options()).unwrap()
    }

    /// The process that is the guard.
    fn guard_pid(&self) -> Option<u32> {
        lock_holder(&connect(&self.fifo()).ok()??)
    }

    /// Starts a process, and returns its index.
    fn start(&mut self, program: &Path, works_in: &str) -> usize {
        let child = Command::new(program)
            .arg0("sleep")
            .arg("1000")
            .current_dir(self.path(works_in))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.processes.push(child);
        self.processes.len() - 1
    }

    fn start_postgres(&mut self, count: usize) {
        for _ in 0..count {
            self.start(&self.path("bin/postgres"), "data");
        }
        let postmaster = self.processes[0].id();
        fs::write(self.path("data/postmaster.pid"), format!("{postmaster}\n")).unwrap();
    }

    fn pid(&self, index: usize) -> u32 {
        self.processes[index].id()
    }

    /// How it ended, if it has.
    fn ended(&mut self, index: usize) -> Option<ExitStatus> {
        self.processes[index].try_wait().unwrap()
    }

    fn all_run(&mut self) -> bool {
        (0..self.processes.len()).all(|index| self.ended(index).is_none())
    }

    /// Waits until the first `count` processes have ended by SIGKILL; when the last one did.
    fn until_killed(&mut self, count: usize) -> BootTime {
        use std::os::unix::process::ExitStatusExt;
        for index in 0..count {
            let how = until("it ends", || self.ended(index));
            assert_eq!(how.signal(), Some(9), "{how}");
        }
        BootTime::now()
    }

    fn fenced(&self) -> Option<Fenced> {
        report_fenced(&self.fifo(), &Telemetry::new("test")).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
        // Only when a test has failed.
        if let Some(pid) = self.guard_pid() {
            signal(pid, Signal::KILL);
        }
    }
}

fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        sleep(Duration::from_millis(1));
    }
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

fn from_now(millis: u64) -> BootTime {
    BootTime::now() + Duration::from_millis(millis)
}

#[test]
fn messages_survive_the_pipe() {
    let at = BootTime(Duration::from_nanos(123_456_789_012));
    for message in [Message::NoDeadline, Message::End, Message::Deadline(at)] {
        assert_eq!(Message::decode(message.encode()), message);
    }
    // No deadline looks like something else.
    let zero = Message::Deadline(BootTime::default());
    let decoded = Message::decode(zero.encode());
    assert_eq!(
        decoded,
        Message::Deadline(BootTime(Duration::from_nanos(2)))
    );
    assert_eq!(Message::last(&[]), None);
    let mut bytes = Message::End.encode().to_vec();
    bytes.extend(Message::Deadline(at).encode());
    assert_eq!(Message::last(&bytes), Some(Message::Deadline(at)));
}

#[test]
fn a_deadline_that_passes_ends_everything_stopped_or_not() {
    for stopped in [0, 5] {
        let mut place = Place::new();
        place.start_postgres(5);
        let program = place.path("bin/postgres");
        let another = place.start(&program, "other");
        let no_postgres = place.start(Path::new("/bin/sleep"), "data");
        for index in 0..stopped {
            signal(place.pid(index), Signal::STOP);
        }
        let mut guard = place.guard();
        let deadline = from_now(300);
        guard.tell(Some(deadline)).unwrap();
        let ended = place.until_killed(5);
        assert!(ended >= deadline + GUARD_GRACE, "{ended:?} {deadline:?}");
        assert_eq!(place.ended(another), None, "of another data directory");
        assert_eq!(place.ended(no_postgres), None);

        let fenced = until("it reports", || place.fenced());
        println!("{stopped} of 5 stopped: {fenced:?}");
        assert_eq!(fenced.processes, 5);
        assert_eq!(fenced.boot, deadline + fenced_late(&fenced, deadline));
        assert!(fenced.late >= GUARD_GRACE);
        assert_eq!(place.fenced(), None, "it is told once");
        guard.end().unwrap();
    }
}

/// To the nanosecond, which the report has of one of the two only.
fn fenced_late(fenced: &Fenced, deadline: BootTime) -> Duration {
    let late = fenced.boot.since(deadline);
    assert_eq!(late.as_micros(), fenced.late.as_micros());
    late
}

#[test]
fn a_deadline_that_is_extended_or_taken_back_ends_nothing() {
    let mut place = Place::new();
    place.start_postgres(2);
    let mut guard = place.guard();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(3000) {
        guard.tell(Some(from_now(1000))).unwrap();
        sleep(Duration::from_millis(20));
    }
    guard.tell(None).unwrap();
    sleep(Duration::from_millis(2000));
    assert!(place.all_run());
    assert!(guard.is_alive());
    assert_eq!(place.fenced(), None);
    guard.end().unwrap();
    assert!(place.all_run());
}

#[test]
fn an_agent_that_is_killed_or_frozen_is_survived() {
    for fault in [Signal::STOP, Signal::KILL] {
        let mut place = Place::new();
        place.start_postgres(3);
        let args = become_process("the_agent_process", &place.data_dir(), &place.fifo());
        let mut agent = Command::new("/usr/bin/env")
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let guard = until("the guard runs", || place.guard_pid());
        // It is told again and again.
        sleep(Duration::from_millis(2500));
        assert!(place.all_run());

        let fault_at = BootTime::now();
        signal(agent.id(), fault);
        let ended = place.until_killed(3);
        println!(
            "{fault:?} of the agent: ended after {:?}",
            ended.since(fault_at)
        );
        // The last deadline was told 50 ms before, at the earliest on a machine with nothing to do.
        assert!(ended.since(fault_at) > GUARD_GRACE);
        assert_eq!(place.guard_pid(), Some(guard), "it outlives the agent");
        let fenced = until("it reports", || place.fenced());
        assert_eq!(fenced.processes, 3);

        let told = if fault == Signal::STOP {
            // It comes to itself: the same guard goes on.
            signal(agent.id(), Signal::CONT);
            // The first time it may say so of a message from before.
            for _ in 0..2 {
                let _ = fs::remove_file(place.path("guard.told"));
                until("it tells", || {
                    place.path("guard.told").exists().then_some(())
                });
            }
            place.start_postgres(1);
            let index = place.processes.len() - 1;
            sleep(Duration::from_millis(1500));
            assert_eq!(place.ended(index), None);
            agent.kill().unwrap();
            // Another agent finds it.
            let mut next = place.guard();
            assert!(next.children.is_empty());
            next.tell(None).unwrap();
            assert_eq!(place.guard_pid(), Some(guard));
            sleep(Duration::from_millis(1500));
            assert_eq!(place.ended(index), None);
            next.end().unwrap();
            true
        } else {
            false
        };
        agent.wait().unwrap();
        // Without anybody it ends by itself.
        until("the guard ends", || {
            place.guard_pid().is_none().then_some(())
        });
        if !told {
            assert!(BootTime::now().since(ended) > Duration::from_secs(9));
        }
        assert!(!end_left_behind(&place.fifo()).unwrap());
    }
}

#[test]
fn one_that_forks_while_it_is_killed() {
    let mut place = Place::new();
    fs::copy("/bin/sh", place.path("bin/postgres")).unwrap();
    // A postmaster whose backends wait for a client that never comes, and who starts others when they
    // have ended.
    let script = "mkfifo never; while :; do for i in 1 2 3 4 5 6 7 8; do \
                  (exec 3<>never; read x <&3) & done; wait; done";
    let postmaster = Command::new(place.path("bin/postgres"))
        .args(["-c", script])
        .current_dir(place.data_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    place.processes.push(postmaster);
    let data_dir = place.data_dir();
    let postmaster = place.pid(0);
    fs::write(data_dir.join("postmaster.pid"), format!("{postmaster}\n")).unwrap();
    until("all run", || (orphans(&data_dir).len() == 9).then_some(()));
    // It does start others.
    let victim = orphans(&data_dir)
        .into_iter()
        .find(|pid| *pid != postmaster);
    for pid in orphans(&data_dir) {
        if pid != postmaster {
            signal(pid, Signal::KILL);
        }
    }
    until("all run again", || {
        let now = orphans(&data_dir);
        (now.len() == 9 && !now.iter().any(|pid| Some(*pid) == victim)).then_some(())
    });

    let mut guard = place.guard();
    guard.tell(Some(BootTime::now())).unwrap();
    place.until_killed(1);
    let fenced = until("it reports", || place.fenced());
    println!("{fenced:?}");
    assert!(fenced.processes >= 9, "{fenced:?}");
    assert_eq!(orphans(&data_dir), Vec::<u32>::new());
    guard.end().unwrap();
}

#[test]
fn what_is_just_being_started_is_ended_unless_the_agent_says_that_it_knows() {
    let mut place = Place::new();
    place.start_postgres(1);
    let mut guard = place.guard();
    guard.tell(Some(BootTime::now())).unwrap();
    place.until_killed(1);
    // Its start had been on the way already.
    place.start_postgres(1);
    place.until_killed(2);
    // A replica.
    guard.tell(None).unwrap();
    place.start_postgres(1);
    sleep(Duration::from_secs(1));
    assert_eq!(place.ended(2), None);
    guard.end().unwrap();
}

#[test]
fn there_is_one_guard() {
    let place = Place::new();
    let mut guard = place.guard();
    let pid = place.guard_pid().unwrap();
    let options = place.options();
    let mut second = Command::new(&options.program)
        .args(&options.args)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert!(second.wait().unwrap().success());
    // Two agents at once start one.
    let racing: Vec<_> = (0..4)
        .map(|_| {
            let options = place.options();
            std::thread::spawn(move || Guard::start(options).unwrap())
        })
        .collect();
    for racer in racing {
        drop(racer.join().unwrap());
    }
    assert_eq!(place.guard_pid(), Some(pid));
    guard.tell(Some(from_now(60_000))).unwrap();
    guard.end().unwrap();
    assert_eq!(place.guard_pid(), None);
    assert!(!end_left_behind(&place.fifo()).unwrap());

    // The same without one that runs already.
    let racing: Vec<_> = (0..4)
        .map(|_| {
            let options = place.options();
            std::thread::spawn(move || {
                let mut guard = Guard::start(options).unwrap();
                guard.tell(None).unwrap();
                guard
            })
        })
        .collect();
    let mut guards: Vec<Guard> = racing
        .into_iter()
        .map(|racer| racer.join().unwrap())
        .collect();
    let mut running = || {
        let running = guards.iter_mut().map(Guard::any_child_runs);
        running.filter(|runs| *runs).count()
    };
    until("the others have seen that there is one", || {
        (running() == 1).then_some(())
    });
    let pid = place.guard_pid().unwrap();
    assert!(guards.iter().all(Guard::is_alive));
    assert!(end_left_behind(&place.fifo()).unwrap());
    for mut guard in guards {
        until("it has ended", || (!guard.any_child_runs()).then_some(()));
    }
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_guard_that_is_killed_is_replaced() {
    let mut place = Place::new();
    place.start_postgres(2);
    let mut guard = place.guard();
    guard.tell(Some(from_now(60_000))).unwrap();
    let first = place.guard_pid().unwrap();
    signal(first, Signal::KILL);
    until("it is gone", || (!guard.is_alive()).then_some(()));
    guard.tell(Some(from_now(100))).unwrap();
    assert_ne!(place.guard_pid(), Some(first));
    place.until_killed(2);
    guard.end().unwrap();
}

#[test]
fn a_guard_that_is_frozen_is_noticed() {
    let place = Place::new();
    let mut guard = place.guard();
    guard.tell(Some(from_now(60_000))).unwrap();
    let pid = place.guard_pid().unwrap();
    signal(pid, Signal::STOP);
    let error = until("it is noticed", || guard.tell(Some(from_now(60_000))).err());
    let text = error.to_string();
    assert!(
        text.ends_with(&format!("end it with `kill -9 {pid}`")),
        "{text}"
    );
    assert!(guard.is_alive(), "a frozen one is there");
    // Whoever begins with it notices at once.
    let mut other = place.guard();
    assert!(other.tell(None).is_err());
    signal(pid, Signal::CONT);
    until("it is well again", || guard.tell(None).ok());
    guard.end().unwrap();
}

#[test]
fn a_guard_that_is_just_ending_is_not_relied_on() {
    let place = Place::new();
    let mut guard = place.guard();
    let mut replaced = 0;
    for round in 0..60_u64 {
        let before = place.guard_pid();
        let mut writer = connect(&place.fifo()).unwrap().unwrap();
        writer.write_all(&Message::End.encode()).unwrap();
        drop(writer);
        // Sometimes before it has read that, sometimes after, and sometimes just then.
        sleep(Duration::from_micros(round * 4));
        guard.tell(Some(from_now(60_000))).unwrap();
        sleep(Duration::from_millis(5));
        assert!(guard.is_alive(), "round {round}");
        replaced += usize::from(place.guard_pid() != before);
    }
    println!("{replaced} of 60 guards were replaced");
    guard.end().unwrap();
}

#[test]
fn what_cannot_be_a_guard_is_refused() {
    let place = Place::new();
    let with = |program: &str| GuardOptions {
        program: program.into(),
        args: Vec::new(),
        fifo: place.fifo(),
    };
    assert!(Guard::adopt(with("/bin/true")).unwrap().is_none());
    for (program, expected) in [
        ("/bin/true", "ends as soon as it is started"),
        ("/bin/false", "cannot start: exit status: 1"),
        (
            "/bin/cat-that-is-not-there",
            "cannot start /bin/cat-that-is-not-there: No such file",
        ),
        // It runs, but is no guard.
        ("/usr/bin/yes", "does not start"),
    ] {
        let error = Guard::start(with(program)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    fs::remove_file(place.fifo()).unwrap();
    fs::write(place.fifo(), "").unwrap();
    let error = Guard::start(place.options()).unwrap_err().to_string();
    assert!(
        error.contains("is no named pipe of this user: remove it with `rm "),
        "{error}"
    );
    let error = run(&place.data_dir(), &place.fifo())
        .unwrap_err()
        .to_string();
    assert!(error.contains("is no named pipe"), "{error}");
}

#[test]
fn strange_messages_do_not_shift_the_next_ones() {
    let mut place = Place::new();
    place.start_postgres(1);
    let mut guard = place.guard();
    guard.tell(Some(from_now(60_000))).unwrap();
    let mut writer = connect(&place.fifo()).unwrap().unwrap();
    writer.write_all(b"hello").unwrap();
    until("it is read", || {
        (!guard.has_unread().unwrap()).then_some(())
    });
    guard.tell(Some(BootTime::now())).unwrap();
    place.until_killed(1);
    guard.end().unwrap();
}

#[test]
fn a_report_without_its_numbers_is_one() {
    let place = Place::new();
    assert_eq!(place.fenced(), None);
    fs::write(place.path("guard.fenced"), "processes many\n").unwrap();
    assert_eq!(place.fenced(), Some(Fenced::default()));
    assert_eq!(place.fenced(), None);
}
