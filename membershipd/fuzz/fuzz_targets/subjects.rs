#![no_main]
//! See `membershipd::fuzzing::subjects`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| membershipd::fuzzing::subjects(data));
