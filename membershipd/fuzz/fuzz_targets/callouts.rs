#![no_main]
//! See `membershipd::fuzzing::callouts`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| membershipd::fuzzing::callouts(data));
