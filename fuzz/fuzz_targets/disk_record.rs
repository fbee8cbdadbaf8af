//! A record of the store's file: damage is noticed, never believed. The input begins with a byte for
//! the table.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trilith_fuzz::cluster::record;

fuzz_target!(|bytes: &[u8]| {
    if let [table, record_bytes @ ..] = bytes {
        record(*table, record_bytes);
    }
});
