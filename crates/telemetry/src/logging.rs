//! Where `tracing` lines go.

use std::fmt;
use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// How the process writes its log.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// `info`, or per crate: `info,trilith_edge=debug`.
    pub level: String,
    pub format: LogFormat,
    /// Colour for people's terminals; no effect on JSON.
    pub colour: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(
        "`{level}` is not a log level: use error, warn, info, debug or trace, or for one crate \
         \"info,trilith_edge=debug\""
    )]
    Level { level: String },
    #[error("the log is already set up in this process")]
    Twice,
}

/// Libraries that call ordinary things errors, several times a second: openraft does while a server is
/// down. What matters of theirs is told by events of ours. Whoever wants their lines names them.
const CHATTY: [&str; 1] = ["openraft"];

fn quiet(level: &str) -> String {
    let mut filter = level.to_owned();
    for library in CHATTY {
        if !level.contains(library) {
            filter.push_str(&format!(",{library}=off"));
        }
    }
    filter
}

/// Sends `tracing` lines to stderr. Call it once, at the start of the program.
pub fn init_logging(options: &LogOptions) -> Result<(), LogError> {
    let filter = EnvFilter::builder()
        .parse(quiet(&options.level))
        .map_err(|_| LogError::Level {
            level: options.level.clone(),
        })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_timer(UtcMillis)
        .with_ansi(options.colour);
    match options.format {
        LogFormat::Human => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|_| LogError::Twice)
}

/// RFC 3339, UTC, milliseconds: the same as in the access log.
struct UtcMillis;

impl FormatTime for UtcMillis {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        write!(w, "{:.3}", jiff::Timestamp::now())
    }
}
