//! Config files: whatever they hold, reading them ends, with a config or with diagnostics that can be
//! shown.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use trilith_config::Config;

fuzz_target!(|bytes: &[u8]| {
    if let Err(diagnostics) = Config::parse("fuzz.toml", bytes, Path::new("/fuzz")) {
        assert!(!diagnostics.render(false).is_empty());
    }
});
