//! What a stranger brings who wants to join: a token, a request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trilith_fuzz::cluster::{join_request, token};

fuzz_target!(|bytes: &[u8]| {
    token(bytes);
    join_request(bytes);
});
