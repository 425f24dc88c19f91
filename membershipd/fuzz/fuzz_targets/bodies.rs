#![no_main]
//! See `membershipd::fuzzing::bodies`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| membershipd::fuzzing::bodies(data));
