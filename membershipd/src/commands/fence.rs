//! What stands between a write that takes a right away and the word that it is done.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::pace::Pace;
use unibus_core::domain::{RecordKey, RevocationOutcome, RoomId, Subject};
use unibus_store::Revision;

/// A record whose write took something away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// The record.
    pub record: RecordKey,
    /// The revision from which on it says so; nodes that have not seen it are waited for.
    pub revision: Revision,
}

/// The fence: it ends when no node honours any more what was true before the revoked revisions. It always ends.
pub trait Fence: fmt::Debug + Send + Sync {
    /// Waits for that, from now on: what is revoked was committed before.
    fn wait_for_revocation<'a>(&'a self, revoked: &'a [Revoked]) -> BoxFuture<'a, RevocationOutcome>;

    /// Makes sure that nothing keeps any more for `room` what is said on `subject`, which it uses no longer. Where that is not
    /// certain the claim must stay: whoever got the subject would be overheard. Says whether it is.
    fn release_subject<'a>(&'a self, _room: &'a RoomId, _subject: &'a Subject) -> BoxFuture<'a, bool> {
        std::future::ready(true).boxed()
    }
}

impl<F: Fence + ?Sized> Fence for Arc<F> {
    fn wait_for_revocation<'a>(&'a self, revoked: &'a [Revoked]) -> BoxFuture<'a, RevocationOutcome> {
        (**self).wait_for_revocation(revoked)
    }

    fn release_subject<'a>(&'a self, room: &'a RoomId, subject: &'a Subject) -> BoxFuture<'a, bool> {
        (**self).release_subject(room, subject)
    }
}

/// Waits until every node has seen the change or has lost its lease, whichever; asks nobody.
#[derive(Debug, Clone)]
pub struct WaitOut {
    bound: Duration,
    pace: Arc<dyn Pace>,
}

impl WaitOut {
    /// Waits for `bound`: `bus::revocation_bound` in a cluster; zero is enough where one process is all that decides.
    pub fn of(bound: Duration, pace: Arc<dyn Pace>) -> Self {
        Self { bound, pace }
    }
}

impl Fence for WaitOut {
    fn wait_for_revocation<'a>(&'a self, _: &'a [Revoked]) -> BoxFuture<'a, RevocationOutcome> {
        async {
            self.pace.pause(self.bound).await;
            RevocationOutcome::WaitedOut
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Instant;

    use super::*;
    use unibus_core::bus;

    /// A clock that only pauses move.
    #[derive(Debug)]
    struct Still(Mutex<Instant>);

    impl Pace for Still {
        fn now(&self) -> Instant {
            *self.0.lock().unwrap()
        }

        fn unix_ms(&self) -> i64 {
            0
        }

        fn pause(&self, time: Duration) -> BoxFuture<'_, ()> {
            *self.0.lock().unwrap() += time;
            std::future::ready(()).boxed()
        }

        fn random(&self) -> u128 {
            0
        }
    }

    #[tokio::test]
    async fn the_whole_bound_is_waited() {
        let pace = Arc::new(Still(Mutex::new(Instant::now())));
        let begun = pace.now();
        assert_eq!(
            WaitOut::of(bus::revocation_bound(), pace.clone()).wait_for_revocation(&[]).await,
            RevocationOutcome::WaitedOut
        );
        assert_eq!(pace.now() - begun, bus::revocation_bound());
    }
}
