//! Messages one after the other on a connection, cut anywhere. The first byte chooses the direction.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trilith_fuzz::checks;

fuzz_target!(|bytes: &[u8]| {
    match bytes.split_first() {
        Some((first, rest)) if first % 2 == 0 => checks::split_requests(rest),
        Some((_, rest)) => checks::split_responses(rest),
        None => {}
    }
});
