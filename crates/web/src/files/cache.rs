//! Small files in memory.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Equivalent, OptionsBuilder, Weighter};

use crate::files::respond::Meta;
use crate::limits::{FILE_CACHE_BYTES_MAX, FILE_CACHE_SHARDS};

/// A file in memory.
#[derive(Debug)]
pub struct Entry {
    pub meta: Meta,
    pub body: Bytes,
    /// When the file system last said that this is still the file.
    checked_ms: AtomicU64,
}

impl Entry {
    pub fn new(meta: Meta, body: Bytes, now_ms: u64) -> Self {
        Self {
            meta,
            body,
            checked_ms: AtomicU64::new(now_ms),
        }
    }

    pub fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.checked_ms.load(Relaxed))
    }

    pub fn checked(&self, now_ms: u64) {
        self.checked_ms.store(now_ms, Relaxed);
    }
}

/// Entries by folder and path, bounded in bytes. Every worker reads and fills it.
pub struct FileCache {
    entries: Cache<Key, Arc<Entry>, Weight>,
}

impl FileCache {
    pub fn new() -> Self {
        // Only the hint for the initial size of tables depends on the number of items.
        let options = OptionsBuilder::new()
            .shards(FILE_CACHE_SHARDS)
            .estimated_items_capacity(FILE_CACHE_SHARDS * 64)
            .weight_capacity(FILE_CACHE_BYTES_MAX)
            .build()
            .unwrap_or_else(|_| unreachable!("all three values are given"));
        let hasher = DefaultHashBuilder::default();
        let entries = Cache::with_options(options, Weight, hasher, Default::default());
        Self { entries }
    }

    pub fn get(&self, folder: u64, path: &str) -> Option<Arc<Entry>> {
        self.entries.get(&KeyRef { folder, path })
    }

    pub fn insert(&self, folder: u64, path: &str, entry: Arc<Entry>) {
        self.entries.insert(
            Key {
                folder,
                path: path.into(),
            },
            entry,
        );
    }

    pub fn remove(&self, folder: u64, path: &str) {
        self.entries.remove(&KeyRef { folder, path });
    }
}

impl std::fmt::Debug for FileCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "FileCache({} files, {} bytes)",
            self.entries.len(),
            self.entries.weight()
        )
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    folder: u64,
    path: Box<str>,
}

/// Looks up without making a key.
struct KeyRef<'a> {
    folder: u64,
    path: &'a str,
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As the derived one of `Key`.
        self.folder.hash(state);
        self.path.hash(state);
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.folder == key.folder && *self.path == *key.path
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<Key, Arc<Entry>> for Weight {
    fn weight(&self, key: &Key, entry: &Arc<Entry>) -> u64 {
        /// Tables, header fields, allocations: about that much.
        const OVERHEAD_BYTES: u64 = 512;
        (key.path.len() + entry.body.len()) as u64 + OVERHEAD_BYTES
    }
}

#[cfg(test)]
mod tests;
