//! Every bound of this crate in one place.

use std::time::Duration;

/// Names of databases, roles and slots (`NAMEDATALEN - 1`).
pub const IDENTIFIER_BYTES_MAX: usize = 63;
pub const PARAMETERS_MAX: usize = 200;
pub const PARAMETER_NAME_BYTES_MAX: usize = 100;
pub const PARAMETER_VALUE_BYTES_MAX: usize = 1000;
pub const LISTEN_MAX: usize = 8;
pub const CLIENTS_MAX: usize = 256;
/// Database servers of one cluster that one PostgreSQL deals with.
pub const PEERS_MAX: usize = 32;

/// The oldest PostgreSQL that is supported.
pub const MAJOR_VERSION_MIN: u32 = 15;

/// `sockaddr_un.sun_path` holds 108 bytes, with the final NUL (unix(7)).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The log is cut when it has grown past this, at [`LOG_CHECK_INTERVAL`].
pub const LOG_BYTES_MAX: u64 = 16 << 20;
/// Old logs that are kept: `postgresql.log.1` to `.4`.
pub const LOG_FILES_KEPT: u32 = 4;
pub const LOG_CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// How much of the log's end an error message is looked for in.
pub const LOG_TAIL_BYTES_MAX: u64 = 16 << 10;

/// What is kept of the output of a helper program (initdb, pg_basebackup).
pub const PROGRAM_OUTPUT_LINES_MAX: usize = 20;
pub const PROGRAM_LINE_BYTES_MAX: usize = 1000;
/// For `pg_controldata`, which reads one small file.
pub const CONTROL_DATA_TIMEOUT: Duration = Duration::from_secs(10);
/// For looking through the WAL since the last checkpoint: a second for each gigabyte, from memory.
pub const WAL_SCAN_TIMEOUT: Duration = Duration::from_secs(120);
/// `initdb` takes seconds; a disk that needs longer than this is broken.
pub const INITDB_TIMEOUT: Duration = Duration::from_secs(300);

/// WAL that is kept for replicas without asking their slots.
pub const WAL_KEEP_SIZE_MB: u32 = 128;
/// WAL that a slot may hold back. A replica that is further behind is copied anew.
pub const SLOT_WAL_KEEP_SIZE_MB: u32 = 4096;
/// Settings `max_wal_senders` and `max_replication_slots`: each replica streams once and copies with
/// two more connections.
pub const WAL_SENDERS_MIN: usize = 10;

/// Between two looks at how far a PostgreSQL is that starts, or at anything else that ends soon.
pub const START_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Between two tries to connect to one that says it is ready and is not.
pub const NOT_READY_INTERVAL: Duration = Duration::from_millis(200);
/// For an address that something else is just giving up.
pub const ADDRESS_FREE_TIMEOUT: Duration = Duration::from_secs(2);
/// Processes of a dead postmaster end by themselves within this, if they are not busy.
pub const ORPHANS_PATIENCE: Duration = Duration::from_millis(500);
/// For them to end after they were told to.
pub const ORPHANS_TIMEOUT: Duration = Duration::from_secs(10);
/// For a process to end after SIGKILL.
pub const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// For a changed configuration to be read.
pub const RELOAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For roles, database and slots, when nothing is wrong.
pub const SETUP_TIMEOUT: Duration = Duration::from_secs(120);
/// What the file asks for besides, and could not be created, is tried again after that long.
pub const SETUP_AGAIN_INTERVAL: Duration = Duration::from_secs(60);
/// Between two tries to put a new certificate in place.
pub const TLS_RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// Of a timeline's history: a line for each failover there ever was.
pub const HISTORY_BYTES_MAX: i64 = 1 << 20;
/// For connecting to another server's PostgreSQL and asking it one thing.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(1);

/// After this long without trouble, earlier failures are forgotten.
pub const RESTART_CALM: Duration = Duration::from_secs(30);

/// Between two rounds of the observer.
pub const OBSERVE_INTERVAL: Duration = Duration::from_millis(500);
/// For one round: connecting, when needed, and asking.
pub const OBSERVE_TIMEOUT: Duration = Duration::from_secs(1);

/// `run_once`: between two tries to connect or to get the lock.
pub const ONCE_RETRY_INTERVAL: Duration = Duration::from_millis(200);
pub const ONCE_KEY_BYTES_MAX: usize = 200;

/// How long after the deadline the guard leaves the agent to stop PostgreSQL by itself.
pub const GUARD_GRACE: Duration = Duration::from_millis(150);
/// How soon after a suspend the guard sees that time has passed.
pub const GUARD_SUSPEND_CHECK: Duration = Duration::from_millis(50);
/// Between two looks whether what was killed is gone. It doubles from the first to the second.
pub const GUARD_KILL_PAUSE_MIN: Duration = Duration::from_millis(1);
pub const GUARD_KILL_PAUSE_MAX: Duration = Duration::from_millis(50);
/// How long a guard that has stopped PostgreSQL stays, and between two looks whether one has come up
/// that was just being started.
pub const GUARD_LINGER: Duration = Duration::from_secs(10);
pub const GUARD_LINGER_LOOK: Duration = Duration::from_millis(200);
/// A guard without a deadline that hears nothing for this long has been forgotten.
pub const GUARD_IDLE: Duration = Duration::from_secs(30);
/// Whoever looks at the lock holds it for a moment.
pub const GUARD_LOCK_TRIES: u32 = 5;
pub const GUARD_LOCK_INTERVAL: Duration = Duration::from_millis(10);
/// For a guard to start and read its first message.
pub const GUARD_START_TIMEOUT: Duration = Duration::from_secs(1);
/// Starts in a row of a guard that ends at once, because it found another one that was just ending.
pub const GUARD_STARTS_MAX: u32 = 3;
/// A guard that has left a message unread for this long is of no use.
pub const GUARD_FROZEN_AFTER: Duration = Duration::from_secs(1);
/// Between two looks at a guard that starts or ends.
pub const GUARD_POLL_INTERVAL: Duration = Duration::from_millis(2);
/// What the guard writes down is a few lines.
pub const GUARD_REPORT_BYTES_MAX: u64 = 4096;

/// An agent that has not come round for so long is stuck: its lease is not renewed any more.
pub const AGENT_BEAT_MAX: Duration = Duration::from_secs(5);
/// Renewals of the lease under way at once: one that gets no answer does not hold up the next.
pub const RENEWALS_MAX: usize = 6;
/// Between two looks at PostgreSQL while something is going on, and while all is well.
pub const LOOK_INTERVAL_BUSY: Duration = Duration::from_millis(50);
pub const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Looks that wait for something come often at first: a failover is a chain of such waits.
pub const WAITS_BUSY_MAX: u32 = 200;
/// After a step that failed, and after one that a person has to help with.
pub const STEP_RETRY_MIN: Duration = Duration::from_millis(200);
pub const STEP_RETRY_MAX: Duration = Duration::from_secs(10);
/// For one call of the cluster store.
pub const STORE_TIMEOUT: Duration = Duration::from_secs(3);
/// For this server's view of the store to show what was just written.
pub const VIEW_TIMEOUT: Duration = Duration::from_millis(500);
/// Between two questions to the primary, while this server needs to know something of it.
pub const ASK_INTERVAL: Duration = Duration::from_millis(300);
/// An answer of the primary is not used for longer.
pub const ASKED_MAX: Duration = Duration::from_secs(2);
/// For handing over and stopping when this server ends.
pub const LEAVE_TIMEOUT: Duration = Duration::from_secs(20);

/// For the local PostgreSQL to answer.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// The kept session is replaced by a new one after this: only that proves that the postmaster lives.
pub const LINE_AGE_MAX: Duration = Duration::from_millis(1500);
/// A PostgreSQL that ends so soon after it was ready has not started well.
pub const QUICK_DEATH_MAX: Duration = Duration::from_secs(10);
/// With less than this, PostgreSQL is not started again after it found the disk full, and no data are rewound
/// or copied: four WAL files.
pub const DISK_FREE_MIN_BYTES: u64 = 64 << 20;
/// A fast shutdown that takes longer becomes an immediate one, and that a kill.
pub const STOP_FAST_MAX: Duration = Duration::from_secs(5);
pub const STOP_IMMEDIATE_MAX: Duration = Duration::from_millis(500);
/// Between two looks whether what was killed is gone, and for all of it at the deadline.
pub const STOP_KILL_POLL_INTERVAL: Duration = Duration::from_millis(2);
pub const KILL_ALL_TIMEOUT: Duration = Duration::from_millis(200);
/// Between two questions whether something that takes milliseconds is done.
pub const RELOAD_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// For sessions that were told to end.
pub const CLIENTS_END_TIMEOUT: Duration = Duration::from_secs(2);
pub const SENDERS_END_TIMEOUT: Duration = Duration::from_secs(2);
/// Rounds of finding out what is in force and setting it right.
pub const SETTLE_ROUNDS_MAX: u32 = 4;
/// For seeing a commit wait. It is that of the checkpointer, see `instance/confirm.rs`.
pub const PROVE_TIMEOUT: Duration = Duration::from_secs(3);
/// The session of such a commit is kept for so long.
pub const PROBE_KEPT_MAX: Duration = Duration::from_secs(10);
/// A checkpoint writes everything that is in memory.
pub const CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(600);
/// A replica that stops receiving: when its WAL receiver is told to end once more, and when that failed.
pub const FOLLOW_NOBODY_PATIENCE: Duration = Duration::from_millis(500);
pub const FOLLOW_NOBODY_TIMEOUT: Duration = Duration::from_secs(5);
/// A replica streams when so many looks in a row have seen it.
pub const STREAMING_LOOKS: u32 = 3;
/// For a promotion, which replays what was received first.
pub const PROMOTE_TIMEOUT: Duration = Duration::from_secs(30);
/// Numbers of timelines that may be left out at a promotion; each is a small file.
pub const TIMELINE_GAP_MAX: u32 = 1000;
/// A copy, or a rewind, that says nothing for so long is stuck. It begins with a checkpoint.
pub const COPY_PATIENCE: Duration = Duration::from_secs(300);
pub const COPY_WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// Between two reads of PostgreSQL's own counters: as often as the most eager scrape.
pub const STATS_INTERVAL: Duration = Duration::from_secs(5);
/// For one of them, connecting included.
pub const STATS_TIMEOUT: Duration = Duration::from_secs(2);
/// Series of one family: more databases than that are not told apart.
pub const SERIES_MAX: usize = 200;
