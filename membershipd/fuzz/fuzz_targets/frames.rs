#![no_main]
//! See `membershipd::fuzzing::frames`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| membershipd::fuzzing::frames(data));
