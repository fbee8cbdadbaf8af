//! Request heads: the codec agrees with a simple reference, however the bytes are split.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trilith_fuzz::checks;

fuzz_target!(|bytes: &[u8]| checks::request_head(bytes));
