//! Time and chance, as whoever carries commands out is given them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Either, select};
use sha2::{Digest, Sha256};

use unibus_core::clock;
use unibus_core::random::{self, NoRandomness};

/// Time and chance.
pub trait Pace: fmt::Debug + Send + Sync {
    /// Monotonic time, by which everything is decided.
    fn now(&self) -> Instant;
    /// Milliseconds since 1970, for people.
    fn unix_ms(&self) -> i64;
    /// Ends when `time` has passed.
    fn pause(&self, time: Duration) -> BoxFuture<'_, ()>;
    /// A number that nobody can guess and that never comes again.
    fn random(&self) -> u128;
}

/// The machine's own.
#[derive(Debug)]
pub struct Real {
    seed: [u8; 32],
    drawn: AtomicU64,
}

impl Real {
    /// Fails where the kernel has no randomness.
    pub fn new() -> Result<Self, NoRandomness> {
        Ok(Self { seed: random::bytes()?, drawn: AtomicU64::new(0) })
    }
}

impl Pace for Real {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn unix_ms(&self) -> i64 {
        clock::unix_ms()
    }

    fn pause(&self, time: Duration) -> BoxFuture<'_, ()> {
        tokio::time::sleep(time).boxed()
    }

    fn random(&self) -> u128 {
        let number = self.drawn.fetch_add(1, Ordering::Relaxed);
        let digest = Sha256::new().chain_update(self.seed).chain_update(number.to_be_bytes()).finalize();
        digest.iter().take(16).fold(0, |drawn, byte| drawn << 8 | u128::from(*byte))
    }
}

/// What `future` comes to, if it does within `time`.
pub(super) async fn within<T>(pace: &dyn Pace, time: Duration, future: impl Future<Output = T>) -> Option<T> {
    match select(Box::pin(future), pace.pause(time)).await {
        Either::Left((value, _)) => Some(value),
        Either::Right(((), _)) => None,
    }
}

/// A pause before attempt number `attempt`, from 1: twice as long each time up to 32 times `unit`, of which the second half
/// is left to chance, so that those who met do not meet again.
pub(super) fn back_off(pace: &dyn Pace, unit: Duration, attempt: u32) -> Duration {
    let most = unit.saturating_mul(1 << attempt.saturating_sub(1).min(5));
    let half = most / 2;
    let share = u32::try_from(pace.random() % 1000).unwrap_or_default();
    half + half.saturating_mul(share) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn chance_never_repeats_and_pauses_grow_to_a_limit() {
        let pace = Real::new().unwrap();
        let drawn: std::collections::BTreeSet<_> = (0..1000).map(|_| pace.random()).collect();
        assert_eq!(drawn.len(), 1000);
        let unit = Duration::from_millis(8);
        for (attempt, most) in [(1, 8), (2, 16), (6, 256), (7, 256), (u32::MAX, 256)] {
            let pause = back_off(&pace, unit, attempt).as_millis();
            assert!((most / 2..=most).contains(&pause), "{attempt}: {pause}");
        }
        assert_eq!(within(&pace, Duration::from_secs(60), async { 7 }).await, Some(7));
        assert_eq!(within(&pace, Duration::from_millis(1), std::future::pending::<()>()).await, None);
    }
}
