//! The gate: the one place where view, lease and admitted connections meet, under one lock.
//!
//! Invariant: a connection is recorded before its admission leaves this process, and under the same lock under which
//! revocations are applied. So every connection that could outlive a revocation is known when the revocation is applied.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::bus::{self, Bucket};
use crate::config::BusAuth;
use crate::domain::{Action, Decision, Denial, Handle, Permissions, Resource, SignPub, decide};
use crate::lease::Lease;
use crate::view::{Change, Unreadable, View};

/// Id of a connection in this node's engine.
pub type ConnectionId = u64;

/// Why a connection is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The view may be out of date.
    #[error("no proof that the view of users is current")]
    NoLease,
    /// Too soon after the start of the daemon.
    #[error("just started")]
    Mute,
    /// The connection did not say who it is.
    #[error("no key shown: nkey and signature are needed")]
    NoKey,
    /// The user may not.
    #[error(transparent)]
    Denied(#[from] Denial),
}

/// An admission: what the connection may do.
#[derive(Debug)]
pub struct Admission {
    /// Its rights.
    pub permissions: Permissions,
}

#[derive(Debug)]
struct Admitted {
    /// Whose connection; none where nothing is authenticated.
    handle: Option<Handle>,
    since: Instant,
}

#[derive(Debug, Default)]
struct Inner {
    view: View,
    lease: Lease,
    admitted: HashMap<ConnectionId, Admitted>,
}

/// The gate of one node.
#[derive(Debug)]
pub struct Gate {
    bus_auth: BusAuth,
    mute_until: Instant,
    inner: Mutex<Inner>,
}

impl Gate {
    /// A closed gate; `started` is when the daemon was.
    pub fn new(bus_auth: BusAuth, started: Instant) -> Self {
        Self { bus_auth, mute_until: started + bus::AUTHORIZATION_TIMEOUT, inner: Mutex::default() }
    }

    /// Decides on a connection whose signature was verified for `key` (none: it showed none), and records it if admitted.
    pub fn admit(&self, key: Option<SignPub>, id: ConnectionId, now: Instant) -> Result<Admission, Refusal> {
        let mut inner = self.lock();
        if now < self.mute_until {
            return Err(Refusal::Mute);
        }
        if !inner.lease.valid(now) {
            return Err(Refusal::NoLease);
        }
        let (handle, permissions) = match self.bus_auth {
            BusAuth::Off => (None, Permissions::unauthenticated()),
            BusAuth::Enforce => {
                let user = inner.view.user_of_key(&key.ok_or(Refusal::NoKey)?);
                match (decide(user, Action::Connect, Resource::Bus, &()), user) {
                    (Decision::Allow, Some(user)) => (Some(user.handle.clone()), Permissions::of(user, &())),
                    (Decision::Allow, None) => return Err(Denial::UnknownKey.into()),
                    (Decision::Deny(denial), _) => return Err(denial.into()),
                }
            }
        };
        inner.admitted.insert(id, Admitted { handle, since: now });
        Ok(Admission { permissions })
    }

    /// Applies an entry to the view. Returns what it was and the connections that may not go on.
    pub fn apply(
        &self,
        bucket: Bucket,
        key: &str,
        value: &[u8],
        revision: u64,
    ) -> Result<(Change, Vec<ConnectionId>), Unreadable> {
        let mut inner = self.lock();
        let change = inner.view.apply(bucket, key, value, revision)?;
        let kicked = match &change {
            Change::User(handle) => inner.no_longer_allowed(|of| of == handle),
            Change::None | Change::Heartbeat(..) => Vec::new(),
        };
        Ok((change, kicked))
    }

    /// Puts a freshly loaded view in the place of the old one. Returns the connections that it does not allow.
    pub fn replace_view(&self, view: View) -> Vec<ConnectionId> {
        let mut inner = self.lock();
        inner.view = view;
        inner.no_longer_allowed(|_| true)
    }

    /// Notes a complete heartbeat round.
    pub fn renew(&self, sent: Instant) {
        self.lock().lease.renew(sent);
    }

    /// Whether access may be decided at `now`.
    pub fn lease_valid(&self, now: Instant) -> bool {
        now >= self.mute_until && self.lock().lease.valid(now)
    }

    /// Age of the last proof at `now`.
    pub fn lease_age(&self, now: Instant) -> Option<Duration> {
        self.lock().lease.age(now)
    }

    /// When the lease ends unless renewed.
    pub fn lease_expires(&self) -> Option<Instant> {
        self.lock().lease.expires()
    }

    /// Reads from the view.
    pub fn view<T>(&self, read: impl FnOnce(&View) -> T) -> T {
        read(&self.lock().view)
    }

    /// All recorded connections.
    pub fn admitted(&self) -> Vec<ConnectionId> {
        self.lock().admitted.keys().copied().collect()
    }

    /// Forgets a connection that has ended.
    pub fn ended(&self, id: ConnectionId) {
        self.lock().admitted.remove(&id);
    }

    /// Forgets all connections: their engine has ended.
    pub fn engine_ended(&self) {
        self.lock().admitted.clear();
    }

    /// Forgets what the engine does not list any more; young ones may not be listed yet.
    pub fn reconcile(&self, listed: &HashSet<ConnectionId>, now: Instant) {
        let settled = bus::AUTHORIZATION_TIMEOUT * 5;
        self.lock().admitted.retain(|id, c| listed.contains(id) || now.saturating_duration_since(c.since) < settled);
    }

    // A panic while the lock was held ends the task, not the truth of the data: nothing here is changed in two steps.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn no_longer_allowed(&self, concerned: impl Fn(&Handle) -> bool) -> Vec<ConnectionId> {
        let denied = |handle: &Handle| {
            let user = self.view.user(handle).map(|user| &user.value);
            decide(user, Action::Connect, Resource::Bus, &()) != Decision::Allow
        };
        self.admitted
            .iter()
            .filter(|(_, c)| c.handle.as_ref().is_some_and(|handle| concerned(handle) && denied(handle)))
            .map(|(id, _)| *id)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Role, State, User};
    use crate::view::{claim_key, user_key};

    fn alice(state: State) -> User {
        let pair = nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::User, [1; 32]).unwrap();
        let sign_pub = SignPub::from_nkey(&pair.public_key()).unwrap();
        User { handle: "alice".parse().unwrap(), sign_pub, role: Role::User, state }
    }

    fn put(gate: &Gate, key: &str, value: &impl serde::Serialize, revision: u64) -> Vec<ConnectionId> {
        gate.apply(Bucket::Users, key, &serde_json::to_vec(value).unwrap(), revision).unwrap().1
    }

    #[test]
    fn nobody_is_admitted_without_lease_key_or_user() {
        let start = Instant::now();
        let later = start + bus::AUTHORIZATION_TIMEOUT;
        let user = alice(State::Active);
        let gate = Gate::new(BusAuth::Enforce, start);
        let refusal = |key, now| gate.admit(key, 1, now).map(|_| ()).unwrap_err();
        assert_eq!(refusal(Some(user.sign_pub), start), Refusal::Mute);
        assert_eq!(refusal(Some(user.sign_pub), later), Refusal::NoLease);
        gate.renew(start);
        assert_eq!(refusal(None, later), Refusal::NoKey);
        assert_eq!(refusal(Some(user.sign_pub), later), Refusal::Denied(Denial::UnknownKey));
        put(&gate, &claim_key(&user.sign_pub), &user.handle, 1);
        put(&gate, &user_key(&user.handle), &user, 2);
        assert!(gate.admit(Some(user.sign_pub), 1, later).is_ok());
        assert_eq!(refusal(Some(user.sign_pub), start + bus::LEASE), Refusal::NoLease);
    }

    #[test]
    fn a_revocation_names_every_connection_admitted_before_it() {
        let start = Instant::now();
        let now = start + bus::AUTHORIZATION_TIMEOUT;
        let user = alice(State::Active);
        let gate = Gate::new(BusAuth::Enforce, start);
        gate.renew(start);
        put(&gate, &claim_key(&user.sign_pub), &user.handle, 1);
        put(&gate, &user_key(&user.handle), &user, 2);
        for id in [7, 8] {
            gate.admit(Some(user.sign_pub), id, now).unwrap();
        }
        gate.ended(8);
        assert_eq!(put(&gate, &user_key(&user.handle), &alice(State::Disabled), 3), [7]);
        assert_eq!(gate.replace_view(View::default()), [7], "a view without the user allows nothing either");
        gate.reconcile(&HashSet::new(), now + Duration::from_secs(60));
        assert!(gate.admitted().is_empty());
    }

    #[test]
    fn without_authentication_the_lease_still_counts() {
        let start = Instant::now();
        let gate = Gate::new(BusAuth::Off, start);
        let later = start + bus::AUTHORIZATION_TIMEOUT;
        assert_eq!(gate.admit(None, 1, later).map(|_| ()).unwrap_err(), Refusal::NoLease);
        gate.renew(later);
        assert!(gate.admit(None, 1, later).is_ok());
    }
}
