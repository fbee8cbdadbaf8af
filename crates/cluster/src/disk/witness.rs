//! The witness: the number of the last commit, written where redb does not write.
//!
//! redb keeps two commits, and takes the older when its header or a page of the newer is damaged.
//! That is right after a power cut, when nobody was told of the newer one, and it looks the same
//! when the newer one was acknowledged and damaged later. So the number of each commit is written
//! beside redb, once the commit is durable, and is durable itself before anybody is told. A database
//! that is behind its witness has lost something that it promised.
//!
//! The order matters: a witness written along with the commit, in one sync for both, could be ahead
//! of it after a power cut, and servers that lost power together would all set their files aside.
//!
//! The first two blocks of the file hold one number each, and are written in turn: a write that is
//! torn spoils its own block only, and the other holds the number before. A damaged block thus costs
//! nothing; both are damage.

use std::io;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;
use xxhash_rust::xxh3::Xxh3;

use super::{Damage, DiskError, Generation, lock};

/// What a disk may lose in one torn write: drives with sectors of 512 bytes write 4 KiB at a time.
const BLOCK: usize = 4096;
const SLOTS: u64 = 2;
/// Bytes at the beginning of the file that are not redb's. Whole pages of redb, so that its pages
/// stay where disks want them.
pub(super) const SPACE: u64 = SLOTS * BLOCK as u64;

const MAGIC: &[u8; 16] = b"trilith store 1\n";
/// Magic, generation, checksum.
const RECORD: usize = 32;
/// How a file begins that redb has to itself, as before the first release.
const REDB: &[u8; 4] = b"redb";

pub(super) struct Witness {
    file: Arc<dyn StorageBackend>,
    /// The block that is written next: never the one with the highest number.
    spare: Mutex<u64>,
}

impl Witness {
    /// Of a file that is new, or not yet read.
    pub(super) fn new(file: Arc<dyn StorageBackend>) -> Self {
        Self {
            file,
            spare: Mutex::new(0),
        }
    }

    /// The number of the last commit that may have been acknowledged.
    pub(super) fn read(&self) -> Result<Generation, DiskError> {
        let mut newest = None;
        for slot in 0..SLOTS {
            let mut record = [0; RECORD];
            self.file.read(slot * BLOCK as u64, &mut record)?;
            newest = newest.max(parse(slot, &record).map(|generation| (generation, slot)));
        }
        let (generation, slot) = newest.ok_or_else(|| Damage {
            table: "file",
            key: "witness".to_owned(),
            problem: "wrong checksums".to_owned(),
        })?;
        *lock(&self.spare) = (slot + 1) % SLOTS;
        Ok(generation)
    }

    /// Durable when it returns.
    pub(super) fn write(&self, generation: Generation) -> Result<(), DiskError> {
        let mut slot = lock(&self.spare);
        // All of the block: otherwise the system has to read it first.
        let mut block = [0; BLOCK];
        block[..RECORD].copy_from_slice(&form(*slot, generation));
        self.file.write(*slot * BLOCK as u64, &block)?;
        self.file.sync_data()?;
        *slot = (*slot + 1) % SLOTS;
        Ok(())
    }
}

/// Whether the file is redb's from its first byte.
pub(super) fn without_witness(file: &dyn StorageBackend) -> io::Result<bool> {
    let mut begin = [0; REDB.len()];
    if file.len()? < SPACE {
        return Ok(false);
    }
    file.read(0, &mut begin)?;
    Ok(&begin == REDB)
}

fn form(slot: u64, generation: Generation) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[..16].copy_from_slice(MAGIC);
    record[16..24].copy_from_slice(&generation.to_le_bytes());
    let mut hash = Xxh3::new();
    hash.update(&slot.to_le_bytes());
    hash.update(&record[..24]);
    record[24..].copy_from_slice(&hash.digest().to_le_bytes());
    record
}

fn parse(slot: u64, record: &[u8; RECORD]) -> Option<Generation> {
    let generation = u64::from_le_bytes(record[16..24].try_into().ok()?);
    (*record == form(slot, generation)).then_some(generation)
}
