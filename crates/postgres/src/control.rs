//! What `pg_controldata` says about a data directory: whose it is, how it was left, and up to where it
//! must be recovered.

use std::fmt;
use std::str::FromStr;

use trilith_ha::Position;

use crate::error::Error;
use crate::hot_standby::HotStandby;
use crate::limits::CONTROL_DATA_TIMEOUT;
use crate::lsn::Lsn;
use crate::programs::Programs;

/// The control file, `global/pg_control` (pg_control.h, `ControlFileData`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ControlData {
    pub system_id: u64,
    pub state: DatabaseState,
    /// The latest checkpoint, or restartpoint of a replica: where its record is.
    pub checkpoint: Position,
    /// Where recovery begins.
    pub redo: Lsn,
    /// A replica's data are consistent only from here on. Also set by a promotion, on the new timeline.
    pub min_recovery_end: Option<Position>,
    /// It is a base backup, and the end of that has not been replayed yet.
    pub backup_end_required: bool,
    /// Bytes of a page of WAL.
    pub wal_block_size: u64,
    /// Bytes of a WAL file.
    pub wal_segment_size: u64,
    pub checksums: bool,
    pub wal_log_hints: bool,
    /// As a replica it does not start with less than that.
    pub hot_standby: HotStandby,
}

/// How PostgreSQL left the data, or what it is doing with them (pg_controldata.c, `dbState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DatabaseState {
    StartingUp,
    ShutDown,
    ShutDownInRecovery,
    ShuttingDown,
    InCrashRecovery,
    InArchiveRecovery,
    InProduction,
}

impl DatabaseState {
    const ALL: [Self; 7] = [
        Self::StartingUp,
        Self::ShutDown,
        Self::ShutDownInRecovery,
        Self::ShuttingDown,
        Self::InCrashRecovery,
        Self::InArchiveRecovery,
        Self::InProduction,
    ];

    fn words(self) -> &'static str {
        match self {
            Self::StartingUp => "starting up",
            Self::ShutDown => "shut down",
            Self::ShutDownInRecovery => "shut down in recovery",
            Self::ShuttingDown => "shutting down",
            Self::InCrashRecovery => "in crash recovery",
            Self::InArchiveRecovery => "in archive recovery",
            Self::InProduction => "in production",
        }
    }

    /// Whether it was stopped in good order.
    pub fn is_clean(self) -> bool {
        matches!(self, Self::ShutDown | Self::ShutDownInRecovery)
    }

    /// Whether it was a replica, which receives WAL that it may not have replayed yet.
    pub fn is_replica(self) -> bool {
        matches!(self, Self::ShutDownInRecovery | Self::InArchiveRecovery)
    }
}

impl fmt::Display for DatabaseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl Programs<'_> {
    /// Reads the control file. While PostgreSQL runs, what it says may be minutes old.
    ///
    /// # Errors
    /// The file is missing or damaged, or is that of another version.
    pub async fn control_data(&self) -> Result<ControlData, Error> {
        let program = "pg_controldata";
        let data_dir = self.options.data_dir.as_os_str().to_owned();
        let mut text = String::new();
        let ended = self
            .read(
                program,
                &["-D".into(), data_dir],
                CONTROL_DATA_TIMEOUT,
                |line| {
                    text.push_str(line);
                    text.push('\n');
                },
            )
            .await?;
        // It goes on after a wrong checksum, and only says so.
        if !ended.success || !ended.said.is_empty() {
            return Err(ended.failed(program));
        }
        parse(&text).map_err(|output| Error::Program { program, output })
    }
}

/// Reads the output of `pg_controldata`, in English. Labels that are not needed here may come and go with
/// versions; those that are must be there once, and make sense.
fn parse(text: &str) -> Result<ControlData, String> {
    let lines = text.lines().map(|line| {
        let (label, value) = line.split_once(':').unwrap_or((line, ""));
        (label.trim(), value.trim())
    });
    if let Some((label, value)) = lines
        .clone()
        .find(|(label, _)| label.starts_with("WARNING"))
    {
        return Err(format!("{label}: {value}"));
    }
    let value = |wanted: &str| {
        let mut found = lines.clone().filter(|(label, _)| *label == wanted);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Ok(value),
            (None, _) => Err(format!("no `{wanted}` in its output")),
            _ => Err(format!("`{wanted}` is in its output twice")),
        }
    };
    fn read<T: FromStr>(label: &str, value: &str) -> Result<T, String> {
        let error = |_| format!("`{label}` is `{value}`, which makes no sense");
        value.parse().map_err(error)
    }
    let number = |label| read::<u64>(label, value(label)?);
    let timeline = |label| read::<u32>(label, value(label)?);
    let lsn = |label| read::<Lsn>(label, value(label)?);
    let choice = |label, no: &str, yes: &str| match value(label)? {
        value if value == no => Ok(false),
        value if value == yes => Ok(true),
        value => Err(format!("`{label}` is `{value}`, which makes no sense")),
    };

    let words = value("Database cluster state")?;
    let mut states = DatabaseState::ALL.into_iter();
    let state = states
        .find(|state| state.words() == words)
        .ok_or_else(|| format!("the database is in the unknown state `{words}`"))?;
    let min_recovery_end = Position {
        timeline: timeline("Min recovery ending loc's timeline")?,
        lsn: lsn("Minimum recovery ending location")?,
    };
    let control = ControlData {
        system_id: number("Database system identifier")?,
        state,
        checkpoint: Position {
            timeline: timeline("Latest checkpoint's TimeLineID")?,
            lsn: lsn("Latest checkpoint location")?,
        },
        redo: lsn("Latest checkpoint's REDO location")?,
        min_recovery_end: (min_recovery_end.lsn != Lsn(0)).then_some(min_recovery_end),
        backup_end_required: choice("End-of-backup record required", "no", "yes")?,
        wal_block_size: number("WAL block size")?,
        wal_segment_size: number("Bytes per WAL segment")?,
        checksums: number("Data page checksum version")? != 0,
        wal_log_hints: choice("wal_log_hints setting", "off", "on")?,
        hot_standby: HotStandby::from_control(number)?,
    };
    // `IsValidWalSegSize`, and the bounds of configure's --with-wal-blocksize.
    let power =
        |size: u64, min: u64, max: u64| size.is_power_of_two() && (min..=max).contains(&size);
    if !power(control.wal_block_size, 1 << 10, 64 << 10)
        || !power(control.wal_segment_size, 1 << 20, 1 << 30)
        || control.checkpoint.timeline == 0
    {
        return Err("sizes or timelines in its output make no sense".to_owned());
    }
    Ok(control)
}

#[cfg(test)]
pub(crate) mod tests;
