//! The state of a node: the view of its gate, for as long as its lease is valid.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::pace::Pace;
use super::state::{NotProven, State};
use crate::gate::Gate;
use unibus_core::view::View;
use unibus_store::{Records, Revision};

/// The view of a gate. Without a lease there is nothing to decide on.
#[derive(Debug, Clone)]
pub struct Gated {
    gate: Arc<Gate>,
    pace: Arc<dyn Pace>,
}

impl Gated {
    /// Behind `gate`, whose lease counts by the time of `pace`.
    pub fn new(gate: Arc<Gate>, pace: Arc<dyn Pace>) -> Self {
        Self { gate, pace }
    }
}

impl State for Gated {
    fn show(&self, look: &mut dyn FnMut(&View)) -> Result<(), NotProven> {
        // The lease first: what the view has then it has later, too.
        if !self.gate.lease_valid(self.pace.now()) {
            let why = "it has no lease, as there is no quorum or it has just started".to_owned();
            return Err(NotProven { why });
        }
        self.gate.view(look);
        Ok(())
    }

    fn seen(&self, bucket: Records, revision: Revision) -> BoxFuture<'_, ()> {
        self.gate.reached(bucket.bucket(), revision.get()).boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::pace::Real;
    use super::*;
    use crate::config::BusAuth;
    use unibus_core::bus::{AUTHORIZATION_TIMEOUT, Bucket, LEASE};
    use unibus_core::domain::{Record, Role, State as UserState};
    use unibus_core::view::fixtures::{Entry, user};

    #[tokio::test]
    async fn nothing_is_decided_without_a_lease_and_waiting_ends_with_the_entry() {
        let now = Instant::now();
        let gate = Arc::new(Gate::new(BusAuth::Enforce, now.checked_sub(AUTHORIZATION_TIMEOUT + LEASE).unwrap()));
        let state = Gated::new(gate.clone(), Arc::new(Real::new().unwrap()));
        let state: &dyn State = &state;
        assert!(state.read(|_| ()).is_err(), "there never was a lease");
        gate.renew(now.checked_sub(LEASE).unwrap());
        assert!(state.read(|_| ()).is_err(), "it has ended");
        gate.renew(now);
        assert_eq!(state.read(|view| view.users().count()), Ok(0));

        let revision = Revision::new(7).unwrap();
        let mut waiting = Box::pin(state.seen(Records::Users, revision));
        let apply = |revision| {
            let Entry { bucket, key, value } = Entry::of(&Record::User(user("bob", Role::User, UserState::Active)));
            gate.apply(bucket, &key, &value, revision).unwrap();
        };
        apply(6);
        gate.apply(Bucket::Rooms, "heartbeat.homer", br#"{"boot":"x","round":1}"#, 9).unwrap();
        assert!(futures::poll!(&mut waiting).is_pending(), "neither an earlier entry nor one of another bucket");
        apply(7);
        tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap();
    }
}
