//! Request paths: the normal form is normal, and never leaves the root.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trilith_route::normalise_path;

fuzz_target!(|path: &str| {
    if let Ok(normal) = normalise_path(path) {
        assert!(normal.starts_with('/'));
        assert!(!normal.contains('\0'));
        assert!(normal.split('/').all(|part| part != ".." && part != "."));
    }
});
