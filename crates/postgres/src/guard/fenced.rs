//! What the guard leaves for the next agent to read: that it stopped PostgreSQL, and when.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use rustix::fs::OFlags;
use trilith_base::BootTime;
use trilith_telemetry::Telemetry;

use crate::event::GuardStoppedPostgres;
use crate::limits::GUARD_REPORT_BYTES_MAX;

/// The guard stopped PostgreSQL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fenced {
    /// When, in seconds since 1970.
    pub time: u64,
    /// When, on the machine's clock.
    pub boot: BootTime,
    /// How long after the deadline.
    pub late: Duration,
    /// Until nothing ran any more.
    pub took: Duration,
    /// How many processes were killed.
    pub processes: usize,
}

impl Fenced {
    pub fn reason(&self) -> &'static str {
        "the deadline passed, and nobody extended it or stopped PostgreSQL"
    }

    /// Replaces `file`. Not made durable: after a power cut nothing of it matters.
    pub(super) fn write(&self, file: &Path) -> io::Result<()> {
        let unfinished = file.with_extension("fenced.new");
        let _ = fs::remove_file(&unfinished);
        let text = format!(
            "reason {}\ntime {}\nboot_ns {}\nlate_us {}\ntook_us {}\nprocesses {}\n",
            self.reason(),
            self.time,
            self.boot.0.as_nanos(),
            self.late.as_micros(),
            self.took.as_micros(),
            self.processes
        );
        // It does not follow a link that somebody put there.
        let mut new = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&unfinished)?;
        new.write_all(text.as_bytes())?;
        fs::rename(&unfinished, file)
    }

    fn parse(text: &str) -> Self {
        Self {
            time: value(text, "time"),
            boot: BootTime(Duration::from_nanos(value(text, "boot_ns"))),
            late: Duration::from_micros(value(text, "late_us")),
            took: Duration::from_micros(value(text, "took_us")),
            processes: value(text, "processes"),
        }
    }
}

/// Lines of a name, a space and a value. What is missing is zero: that it happened matters more.
fn value<T: FromStr + Default>(text: &str, name: &str) -> T {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let found = lines.find(|(found, _)| *found == name);
    found
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or_default()
}

/// Beside the pipe: `guard.fifo` -> `guard.fenced`.
pub(super) fn fenced_file(fifo: &Path) -> PathBuf {
    fifo.with_extension("fenced")
}

/// Whether the guard of the pipe `fifo` has stopped PostgreSQL since this was last asked. If so, it is
/// an event. To be asked when the agent starts, and when it finds that PostgreSQL has ended.
///
/// # Errors
/// What the guard left cannot be read or removed.
pub fn report_fenced(fifo: &Path, telemetry: &Telemetry) -> io::Result<Option<Fenced>> {
    let path = fenced_file(fifo);
    let mut text = String::new();
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(&path);
    match opened {
        Ok(file) => File::take(file, GUARD_REPORT_BYTES_MAX).read_to_string(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // Before it is told: one that cannot be removed would be told again and again.
    fs::remove_file(&path)?;
    let fenced = Fenced::parse(&text);
    telemetry.emit(&GuardStoppedPostgres { fenced: &fenced });
    Ok(Some(fenced))
}
