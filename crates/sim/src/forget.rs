//! [`crate::Plant::ForgottenVote`]: the vote is taken out of a store's file while its server is down.

use std::sync::Arc;

use redb::{Database, TableDefinition};
use trilith_cluster::{DatabasePart, Medium};

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
    let database = Database::builder().create_with_backend(DatabasePart::of(file.into()))?;
    let change = database.begin_write()?;
    change.open_table(META)?.remove("vote")?;
    change.commit()?;
    Ok(())
}
