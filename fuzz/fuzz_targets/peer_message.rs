//! What another server sends: whatever it is, reading it ends, and what is understood is said again
//! in a way that is understood the same. The first byte picks the kind.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trilith_fuzz::cluster::message;

fuzz_target!(|bytes: &[u8]| {
    if let [kind, body @ ..] = bytes {
        message(*kind, body);
    }
});
