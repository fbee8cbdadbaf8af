//! The WAL of a PostgreSQL that does not run: which timeline it is on, and where it ends.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use trilith_ha::{History, Position, parse_history};

use crate::control::ControlData;
use crate::error::{Error, FileContext};
use crate::limits::WAL_SCAN_TIMEOUT;
use crate::lsn::Lsn;
use crate::programs::{Ended, Programs};

/// Where WAL files and timeline histories are.
fn wal_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("pg_wal")
}

/// `0000000A.history`.
pub(crate) fn history_file(timeline: u32) -> String {
    format!("{timeline:08X}.history")
}

/// The timelines that led to `timeline`, each with the position at which it was left. Of the first one
/// there are none, and no file.
pub(crate) fn read_history(data_dir: &Path, timeline: u32) -> Result<Vec<Position>, Error> {
    if timeline <= 1 {
        return Ok(Vec::new());
    }
    let path = wal_dir(data_dir).join(history_file(timeline));
    let text = fs::read_to_string(&path).at("read", &path)?;
    parse_history(&text).map_err(|error| Error::Blocked {
        what: format!("{}: {error}", path.display()),
        hint: "have this server copied anew".to_owned(),
    })
}

impl Programs<'_> {
    /// What is on this server's disk: its timelines, and the exact end of the WAL that is whole, which is
    /// where PostgreSQL would go on after it has recovered. `control` must be of now, and PostgreSQL
    /// must not run.
    ///
    /// A replica may have received WAL of a later timeline than the one it has replayed; that counts,
    /// because it may have confirmed it.
    ///
    /// # Errors
    /// The WAL that the control file needs is not there: PostgreSQL could not start with it either.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "nobody asks yet while PostgreSQL is stopped")
    )]
    pub async fn end_of_wal(&self, control: &ControlData) -> Result<History, Error> {
        let data_dir = &self.options.data_dir;
        let dir = wal_dir(data_dir);
        let names = file_names(&dir).at("look at", &dir)?;
        for timeline in candidates(control, &names) {
            // Without its history nobody can follow it; then neither would PostgreSQL.
            let Ok(ended) = read_history(data_dir, timeline) else {
                continue;
            };
            let Some(start) = first_record(control, timeline, &ended) else {
                continue;
            };
            if let Some(lsn) = self.end_on(timeline, start, control, &names).await? {
                let end = Position { timeline, lsn };
                self.check_reached(control, end)?;
                return Ok(History::new(ended, end));
            }
        }
        Err(self.wal_missing(format!(
            "no WAL from the last checkpoint {} on",
            control.checkpoint
        )))
    }

    /// Recovery has been further than this end: WAL was lost since.
    fn check_reached(&self, control: &ControlData, end: Position) -> Result<(), Error> {
        match control.min_recovery_end {
            Some(needed) if needed.lsn > end.lsn => Err(self.wal_missing(format!(
                "the data need WAL up to {needed}, and it ends at {end}"
            ))),
            _ => Ok(()),
        }
    }

    fn wal_missing(&self, what: String) -> Error {
        Error::Blocked {
            what: format!("{}: {what}", self.options.data_dir.display()),
            hint: "put the missing files back into pg_wal, or have this server copied anew"
                .to_owned(),
        }
    }

    /// The end of the WAL from the record at `start` on, on one timeline. `None` when there is no record.
    async fn end_on(
        &self,
        timeline: u32,
        start: Lsn,
        control: &ControlData,
        names: &[String],
    ) -> Result<Option<Lsn>, Error> {
        let shape = Shape::of(control);
        let Some(files_end) = shape.end_of_files(timeline, start, names) else {
            return Ok(None);
        };
        // A missing file would be waited for.
        let start_at = |start: Lsn| [format!("--start={start}"), format!("--end={files_end}")];
        // Without printing it is four times as fast, and the complaint about the end names the last
        // record before it.
        let mut args = start_at(start).to_vec();
        args.push("--quiet".to_owned());
        let ended = self.waldump(timeline, &args, |_| {}).await?;
        if ended.text().contains("could not find a valid record") {
            return Ok(None);
        }
        // Without a complaint it ends where the files do.
        let from = last_record(&ended.text()).unwrap_or(start);
        let mut last = None;
        let keep_last = |line: &str| last = parse_record(line).or(last);
        let printed = self.waldump(timeline, &start_at(from), keep_last).await?;
        match last {
            Some(record) => Ok(Some(shape.end_of(record))),
            None => Err(printed.failed(WALDUMP)),
        }
    }

    async fn waldump(
        &self,
        timeline: u32,
        args: &[String],
        on_line: impl FnMut(&str),
    ) -> Result<Ended, Error> {
        let mut all: Vec<OsString> = args.iter().map(OsString::from).collect();
        all.extend([
            "--path".into(),
            wal_dir(&self.options.data_dir).into(),
            // Decimal: so that all versions read it alike.
            format!("--timeline={timeline}").into(),
        ]);
        self.read(WALDUMP, &all, WAL_SCAN_TIMEOUT, on_line).await
    }
}

const WALDUMP: &str = "pg_waldump";

fn file_names(dir: &Path) -> std::io::Result<Vec<String>> {
    let entries = fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
    let names = entries.into_iter().map(|entry| entry.file_name());
    Ok(names.filter_map(|name| name.into_string().ok()).collect())
}

/// The timelines that the end may be on, the latest first.
fn candidates(control: &ControlData, names: &[String]) -> Vec<u32> {
    // After a promotion the control file knows the new timeline before a checkpoint does.
    let reached = control.min_recovery_end.map_or(0, |end| end.timeline);
    let known = control.checkpoint.timeline.max(reached);
    let mut timelines = vec![known];
    if control.state.is_replica() {
        let files = names.iter().filter_map(|name| Segment::parse(name));
        timelines.extend(
            files
                .map(|file| file.timeline)
                .filter(|found| *found > known),
        );
    }
    timelines.sort_unstable_by(|a, b| b.cmp(a));
    timelines.dedup();
    timelines
}

/// Where to begin on `timeline`: at the checkpoint, or where the timeline begins. `None` when the data
/// cannot be on it, because it parted before.
fn first_record(control: &ControlData, timeline: u32, ended: &[Position]) -> Option<Lsn> {
    let history = History::new(
        ended.to_vec(),
        Position {
            timeline,
            lsn: Lsn(u64::MAX),
        },
    );
    let parted = |place: &Position| !history.contains(*place);
    if parted(&control.checkpoint) || control.min_recovery_end.as_ref().is_some_and(parted) {
        return None;
    }
    if control.checkpoint.timeline == timeline {
        return Some(control.checkpoint.lsn);
    }
    ended.last().map(|last| last.lsn)
}

/// A WAL file: its timeline and number (xlog_internal.h, `XLogFromFileName`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    timeline: u32,
    high: u32,
    low: u32,
}

impl Segment {
    fn parse(name: &str) -> Option<Self> {
        let hex = |c: u8| c.is_ascii_digit() || (b'A'..=b'F').contains(&c);
        if name.len() != 24 || !name.bytes().all(hex) {
            return None;
        }
        let part = |at: usize| u32::from_str_radix(&name[at..at + 8], 16).ok();
        Some(Self {
            timeline: part(0)?,
            high: part(8)?,
            low: part(16)?,
        })
    }
}

/// A record: where it is and how long, without the headers of the pages that it goes across.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    at: Lsn,
    length: u64,
    /// Nothing follows it in its file.
    switches: bool,
}

/// How WAL is cut into pages and files.
#[derive(Clone, Copy, Debug)]
struct Shape {
    page: u64,
    file: u64,
}

/// xlog_internal.h: `SizeOfXLogShortPHD` and `SizeOfXLogLongPHD`, the latter on a file's first page.
const PAGE_HEADER_BYTES: u64 = 24;
const FILE_HEADER_BYTES: u64 = 40;

impl Shape {
    fn of(control: &ControlData) -> Self {
        Self {
            page: control.wal_block_size,
            file: control.wal_segment_size,
        }
    }

    /// Where the next record may begin: `EndRecPtr`, as PostgreSQL counts positions.
    fn end_of(self, record: Record) -> Lsn {
        let mut at = record.at.0;
        let mut left = record.length;
        loop {
            let room = self.page - at % self.page;
            if left <= room {
                at += left;
                break;
            }
            left -= room;
            at += room;
            at += match at.is_multiple_of(self.file) {
                true => FILE_HEADER_BYTES,
                false => PAGE_HEADER_BYTES,
            };
        }
        Lsn(match record.switches {
            true => at.next_multiple_of(self.file),
            // MAXALIGN, 8 on every machine that PostgreSQL 15 supports and we do.
            false => at.next_multiple_of(8),
        })
    }

    /// The end of the last file of those that lie there without a gap from `start` on. `None` when the
    /// first one is missing.
    fn end_of_files(self, timeline: u32, start: Lsn, names: &[String]) -> Option<Lsn> {
        let per_high = (1 << 32) / self.file;
        let mut number = start.0 / self.file;
        let first = number;
        let exists = |number: u64| {
            let (high, low) = (number / per_high, number % per_high);
            let name = format!("{timeline:08X}{high:08X}{low:08X}");
            names.contains(&name)
        };
        while exists(number) {
            number += 1;
        }
        (number > first).then(|| Lsn(number * self.file))
    }
}

/// A line of `pg_waldump`, such as
/// `rmgr: Transaction len (rec/tot):     34/    34, tx:   735, lsn: 0/1C91F2F0, prev 0/1C91F2A0, desc: ...`.
fn parse_record(line: &str) -> Option<Record> {
    let rest = line.strip_prefix("rmgr: ")?;
    let (manager, rest) = rest.split_once("len (rec/tot):")?;
    let (lengths, rest) = rest.split_once(',')?;
    let (_, length) = lengths.split_once('/')?;
    let (_, rest) = rest.split_once("lsn: ")?;
    let (at, rest) = rest.split_once(',')?;
    let (_, what) = rest.split_once("desc: ")?;
    let length: u32 = length.trim().parse().ok()?;
    Some(Record {
        at: at.trim().parse().ok()?,
        length: length.into(),
        switches: manager.trim() == "XLOG" && what.trim_start().starts_with("SWITCH"),
    })
}

/// From `error in WAL record at 0/1C91F2F0: invalid record length at ...`: the last one that was whole.
fn last_record(complaint: &str) -> Option<Lsn> {
    let (_, rest) = complaint.split_once("error in WAL record at ")?;
    let (at, _) = rest.split_once(':')?;
    at.parse().ok()
}

#[cfg(test)]
mod tests;
