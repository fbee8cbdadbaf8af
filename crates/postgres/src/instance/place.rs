//! Up to where a running PostgreSQL has WAL on this server's disk, and on which timeline.
//!
//! A replica's end decides elections, so it has to be exact once it has stopped receiving. What was received
//! last is known (`pg_last_wal_receive_lsn()` is what was *flushed*, and an ending WAL receiver flushes the
//! rest first), and what was replayed is; the further of the two is the end. Neither function tells its
//! timeline, and what does (`pg_control_checkpoint()`, `pg_control_recovery()`) is older than the end.
//!
//! The WAL files do tell. A segment lies there once for each timeline that this server has of it, and the
//! end is on the latest of those that have the page with the end's last byte: a WAL receiver writes a segment
//! from its beginning when it goes on to another timeline (xlogrecovery.c,
//! `WaitForWALToBecomeAvailable`), and it only goes on where what is replayed ends. Files made for later use
//! have other pages in them, or none.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use trilith_ha::{Lsn, Position};

use super::line::{ReplicaLook, WalShape};

impl ReplicaLook {
    /// The end of what this replica has.
    pub fn end(&self, data_dir: &Path, shape: WalShape, checkpoint_timeline: u32) -> Position {
        let received = self.received.unwrap_or_default();
        let lsn = received.max(self.replayed);
        let timeline = match self.received_timeline {
            Some(timeline) if received >= self.replayed => timeline,
            _ => timeline_at(&data_dir.join("pg_wal"), lsn, shape).unwrap_or(checkpoint_timeline),
        };
        Position { timeline, lsn }
    }

    /// Whether that end is all that there is, and nothing more can come in.
    pub fn is_settled(&self) -> bool {
        // Whatever lay there before has been replayed before the first byte is received.
        !self.receiving && (self.is_at_end() || self.received.is_some())
    }
}

/// The timeline of the WAL that ends at `end`. `None` when it is not there.
fn timeline_at(wal_dir: &Path, end: Lsn, shape: WalShape) -> Option<u32> {
    let last_byte = end.0.checked_sub(1)?;
    let suffix = segment_suffix(last_byte, shape)?;
    let mut timelines: Vec<u32> = fs::read_dir(wal_dir)
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let timeline = name.strip_suffix(&suffix)?;
            (timeline.len() == 8).then(|| u32::from_str_radix(timeline, 16).ok())?
        })
        .collect();
    timelines.sort_unstable_by(|a, b| b.cmp(a));
    timelines.into_iter().find(|timeline| {
        let path = wal_dir.join(format!("{timeline:08X}{suffix}"));
        has_page(&path, last_byte, shape, *timeline).unwrap_or(false)
    })
}

/// The last 16 digits of the name of the WAL file that holds the byte (xlog_internal.h, `XLogFileName`).
fn segment_suffix(byte: u64, shape: WalShape) -> Option<String> {
    let number = byte.checked_div(shape.segment_bytes)?;
    let per_high = (1 << 32) / shape.segment_bytes;
    Some(format!(
        "{:08X}{:08X}",
        number / per_high,
        number % per_high
    ))
}

/// Whether the page of that byte has been written. It begins with a magic number, flags, the timeline of its
/// first record, and its own position (xlog_internal.h, `XLogPageHeaderData`), in the machine's byte order.
fn has_page(path: &Path, byte: u64, shape: WalShape, timeline: u32) -> io::Result<bool> {
    let page = byte - byte % shape.page_bytes;
    let mut header = [0; 16];
    File::open(path)?.read_exact_at(&mut header, page % shape.segment_bytes)?;
    let [m0, m1, _, _, t0, t1, t2, t3, position @ ..] = header;
    let magic = u16::from_ne_bytes([m0, m1]);
    let page_timeline = u32::from_ne_bytes([t0, t1, t2, t3]);
    Ok(magic != 0 && page_timeline <= timeline && u64::from_ne_bytes(position) == page)
}

#[cfg(test)]
mod tests;
