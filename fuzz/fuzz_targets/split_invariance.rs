//! Input: `r` for requests or any other byte for responses, then a number of cuts (modulo 8), that
//! many distances between cuts, and a stream of pipelined messages.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trilith_fuzz::http1;

fuzz_target!(|bytes: &[u8]| {
    let Some((side, cut_stream)) = bytes.split_first() else {
        return;
    };
    match side {
        b'r' => http1::split_requests(cut_stream),
        _ => http1::split_responses(cut_stream),
    }
});
