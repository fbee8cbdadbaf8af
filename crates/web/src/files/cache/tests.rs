use super::*;
use crate::files::root::Identity;

fn entry(bytes: usize) -> Arc<Entry> {
    let file = tempfile::tempfile().unwrap();
    let meta = Meta::new(Identity::of_open(&file).unwrap(), "text/plain", None);
    Arc::new(Entry::new(meta, vec![0; bytes].into(), 0))
}

#[test]
fn found_by_folder_and_path() {
    let cache = FileCache::new();
    cache.insert(1, "/a", entry(1));
    cache.insert(2, "/a", entry(2));
    assert_eq!(cache.get(1, "/a").unwrap().body.len(), 1);
    assert_eq!(cache.get(2, "/a").unwrap().body.len(), 2);
    assert!(cache.get(1, "/b").is_none() && cache.get(3, "/a").is_none());
    cache.remove(1, "/a");
    assert!(cache.get(1, "/a").is_none());
}

#[test]
fn bounded_in_bytes() {
    let cache = FileCache::new();
    let size = 64 * 1024;
    let count = 2 * FILE_CACHE_BYTES_MAX as usize / size;
    for i in 0..count {
        cache.insert(0, &format!("/{i}"), entry(size));
    }
    assert!(cache.entries.weight() <= FILE_CACHE_BYTES_MAX);
    let kept = (0..count)
        .filter(|i| cache.get(0, &format!("/{i}")).is_some())
        .count();
    assert!(kept > count / 4, "only {kept} of {count} kept");
}

#[test]
fn the_largest_file_has_room() {
    let cache = FileCache::new();
    cache.insert(
        0,
        "/large",
        entry(crate::limits::CACHED_FILE_BYTES_MAX as usize),
    );
    assert!(cache.get(0, "/large").is_some());
}
