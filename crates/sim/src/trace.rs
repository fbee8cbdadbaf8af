//! What happened, line by line: equal for equal seeds.

use std::fmt::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::executor::{Nanos, WORLD, try_executor};

/// The lines so far; none when nobody wants them.
pub struct Trace {
    lines: Mutex<Option<String>>,
}

impl Trace {
    pub fn new(wanted: bool) -> Self {
        Self {
            lines: Mutex::new(wanted.then(String::new)),
        }
    }

    pub fn add(&self, line: fmt::Arguments<'_>) {
        if let Some(text) = &mut *self.lock() {
            let now = try_executor().map_or(0, |executor| executor.now());
            let _ = writeln!(text, "{} {line}", Stamp(now));
        }
    }

    pub fn take(&self) -> String {
        self.lock().take().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True time in seconds.
pub struct Stamp(pub Nanos);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0 / 1_000;
        write!(f, "{:3}.{:06}", micros / 1_000_000, micros % 1_000_000)
    }
}

/// Stamps the log lines of the servers' own code with the true time and the server.
pub struct LogTime;

impl tracing_subscriber::fmt::time::FormatTime for LogTime {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> fmt::Result {
        let Some(executor) = try_executor() else {
            return Ok(());
        };
        write!(w, "{} ", Stamp(executor.now()))?;
        match executor.current() {
            WORLD => w.write_str("-"),
            owner => w.write_str(crate::world::name_of(owner.server)),
        }
    }
}
