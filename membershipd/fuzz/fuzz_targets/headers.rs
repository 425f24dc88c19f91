#![no_main]
//! See `membershipd::fuzzing::headers`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| membershipd::fuzzing::headers(data));
