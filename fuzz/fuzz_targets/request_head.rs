//! Input: a request head.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trilith_fuzz::http1;

fuzz_target!(|bytes: &[u8]| http1::request_head(bytes));
