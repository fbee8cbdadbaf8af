//! [`crate::Plant::ForgottenVote`]: the vote is taken out of a store's file while its server is down.

use std::fmt;
use std::io;
use std::sync::Arc;

use redb::{Database, StorageBackend, TableDefinition};
use trilith_cluster::Medium;

use crate::disk::{Disk, File};

/// As in `cluster`: should it be renamed there, the mistake is no longer put in, and the test that expects
/// it to be noticed fails.
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

pub fn forget_vote(disk: &Arc<Disk>) {
    let removed = remove(disk);
    if let Err(error) = removed {
        tracing::debug!("no vote to forget: {error}");
    }
}

fn remove(disk: &Arc<Disk>) -> Result<(), redb::Error> {
    let file = File::new(disk.clone())
        .open()
        .map_err(redb::StorageError::Io)?;
    if file.len().map_err(redb::StorageError::Io)? == 0 {
        return Ok(());
    }
    let database = Database::builder().create_with_backend(Sized(file))?;
    let change = database.begin_write()?;
    change.open_table(META)?.remove("vote")?;
    change.commit()?;
    Ok(())
}

/// redb wants a type of known size.
pub struct Sized(pub Box<dyn StorageBackend>);

impl fmt::Debug for Sized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StorageBackend for Sized {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}
