//! How long a roster log takes to be read and verified: `cargo bench --package unibus-crypto --bench roster`. It prints, and demands nothing.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on ends")]

mod long_log;

use std::time::{Duration, Instant};

use long_log::LongLog;
use unibus_core::domain::Policy;
use unibus_crypto::roster::{RosterAction, SignedEntry, State, Takings};

/// The best of five: what the machine does meanwhile is not measured.
fn best<T>(mut work: impl FnMut() -> T) -> (Duration, T) {
    let mut runs = (0..5).map(|_| {
        let begun = Instant::now();
        let done = work();
        (begun.elapsed(), done)
    });
    let first = runs.next().unwrap();
    runs.fold(first, |best, run| if run.0 < best.0 { run } else { best })
}

fn main() {
    for length in [100, 1_000, 7_900] {
        let log = LongLog::new(length);
        let raw: Vec<Vec<u8>> = log.entries.iter().map(|entry| entry.bytes().to_vec()).collect();
        let (read, _) = best(|| raw.iter().map(|bytes| SignedEntry::decode(bytes).unwrap()).collect::<Vec<_>>().len());
        let (verified, state) = best(|| log.verify());
        // What a client keeps, so that it verifies only what is new the next time.
        let kept = serde_json::to_string(&state).unwrap();
        let (restored, state) = best(|| serde_json::from_str::<State>(&kept).unwrap());
        let news = RosterAction::SetPolicy { policy: Policy::TELEMETRY };
        let news = log.next(&log.owner, news).unwrap();
        let mut again = state.clone();
        let begun = Instant::now();
        again.apply(&news).unwrap();
        let added = begun.elapsed();
        let (asked, recipients) = best(|| state.recipients(&Takings::default()).len());
        let bytes: usize = raw.iter().map(Vec::len).sum();
        println!(
            "{length} entries, {bytes} bytes: read in {read:?}, verified in {verified:?}; kept as {} bytes and read back in {restored:?}, \
             one more entry in {added:?}; {recipients} recipients in {asked:?}",
            kept.len()
        );
    }
}
