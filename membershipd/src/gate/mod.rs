//! The gate: the one place where view, lease and admitted connections meet, under one lock.
//!
//! Invariant: a connection is recorded before its admission leaves this process, and under the same lock under which
//! revocations are applied. So every connection that could outlive a revocation is known when the revocation is applied.
//!
//! Rights freeze when a connection is admitted. Whatever changes the view, each connection that would not be admitted with as
//! much from then on is named, to be cut; one whose user gained something goes on with what it has, for a while or until its user
//! wants to come back with more.

mod admissions;
mod grant;
mod met;

#[cfg(test)]
mod large;
#[cfg(test)]
mod property;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeSet, HashSet};
use std::hash::RandomState;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::config::{BusAuth, EngineBounds};
use crate::rate::Rate;
use admissions::{Admissions, Admitted, Holder};
use grant::Grant;
use met::Met;
pub use met::{MET, Telling};
use unibus_api_types::bound::Bound;
use unibus_core::bus::{self, Bucket};
use unibus_core::domain::{
    Action, Decision, Denial, Handle, Permissions, Records, Resource, SignPub, decide, takes_away,
};
use unibus_core::lease::{Closed, Lease};
use unibus_core::view::{Change, EntryKey, Unreadable, View, read_record};

/// Id of a connection in this node's engine.
pub type ConnectionId = u64;

/// Why a connection is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing may be decided now.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The connection did not say who it is.
    #[error("no key shown: nkey and signature are needed")]
    NoKey,
    /// The user may not.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// The user has, or does, as much as one may. The engine tells the client no reason.
    #[error("the user has met a bound: {bound:?}")]
    Bound {
        /// Who.
        handle: Handle,
        /// Of what.
        bound: Bound,
    },
}

/// Slots in which logins of users are counted: more than there are users, so two hardly ever share one.
const LOGIN_SLOTS: usize = 1 << 14;
/// Seconds' worth of logins that a user may do at once: all of its connections are made anew after a restart, some of them twice.
const LOGIN_BURST_S: u32 = 4;

/// An admission: what the connection may do.
#[derive(Debug)]
pub struct Admission {
    /// Its rights.
    pub permissions: Permissions,
}

/// What came of an entry.
#[derive(Debug, PartialEq, Eq)]
pub struct Applied {
    /// What it changed.
    pub change: Change,
    /// What follows for those who are connected.
    pub review: Review,
    /// Keys of the users who may have lost something by it, connected or not.
    pub lost: Vec<SignPub>,
}

/// What a change of the view means for the admitted connections.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Review {
    /// Connections with rights that their users have no longer: they may not go on.
    pub cut: Vec<ConnectionId>,
    /// Users with a connection that may go on, who are allowed more than before. New connections have it.
    pub gained: Vec<Handle>,
    /// Connections that lack what their users have gained by what they did themselves, and are to come back with it.
    pub reconnect: Vec<ConnectionId>,
}

#[derive(Debug, Default)]
struct Inner {
    view: View,
    lease: Lease,
    admitted: Admissions,
    met: Met,
    /// Recorded connections may have ended without a word: a user met the bound of them.
    doubted: bool,
    /// Why no view can be loaded: an entry that this release does not understand.
    unreadable: Option<String>,
}

/// The gate of one node.
#[derive(Debug)]
pub struct Gate {
    bus_auth: BusAuth,
    mute_until: Instant,
    hash: RandomState,
    bounds: EngineBounds,
    logins: Rate<RandomState>,
    inner: Mutex<Inner>,
    /// Told whenever the view has changed.
    moved: watch::Sender<()>,
}

impl Gate {
    /// A closed gate with the usual bounds; `started` is when the daemon was.
    pub fn new(bus_auth: BusAuth, started: Instant) -> Self {
        Self::bounded(bus_auth, EngineBounds::DEFAULT, started)
    }

    /// The same with these bounds.
    pub fn bounded(bus_auth: BusAuth, bounds: EngineBounds, started: Instant) -> Self {
        Self {
            bus_auth,
            mute_until: started + bus::AUTHORIZATION_TIMEOUT,
            hash: RandomState::new(),
            bounds,
            logins: Rate::new(bounds.logins_by_user, LOGIN_BURST_S, LOGIN_SLOTS, started, RandomState::new()),
            inner: Mutex::default(),
            moved: watch::Sender::new(()),
        }
    }

    /// Decides on a connection whose signature was verified for `key` (none: it showed none), and records it if admitted. So those
    /// whose admission is still on its way count among the user's connections.
    pub fn admit(&self, key: Option<SignPub>, id: ConnectionId, now: Instant) -> Result<Admission, Refusal> {
        let inner = &mut *self.lock();
        inner.lease.open(self.mute_until, now)?;
        let (holder, permissions) = match self.bus_auth {
            BusAuth::Off => (None, Permissions::unauthenticated()),
            BusAuth::Enforce => {
                let user = inner.view.user_of_key(&key.ok_or(Refusal::NoKey)?);
                match (decide(user, Action::Connect, Resource::Bus, &inner.view), user) {
                    (Decision::Allow, Some(user)) => {
                        let full = |bound| Refusal::Bound { handle: user.handle.clone(), bound };
                        self.logins.take(&user.handle, now).map_err(|_| full(Bound::Logins))?;
                        if inner.admitted.count(&user.handle) >= self.bounds.most(Bound::Connections) {
                            inner.doubted = true;
                            return Err(full(Bound::Connections));
                        }
                        let permissions = Permissions::of(user, &inner.view);
                        let given = Grant::of(user, &permissions, &inner.view, &self.hash);
                        (Some(Holder::new(user.handle.clone(), given)), permissions)
                    }
                    (Decision::Allow, None) => return Err(Denial::UnknownKey.into()),
                    (Decision::Deny(denial), _) => return Err(denial.into()),
                }
            }
        };
        inner.admitted.insert(id, Admitted { holder, since: now });
        Ok(Admission { permissions })
    }

    /// Applies an entry to the view.
    pub fn apply(&self, bucket: Bucket, key: &str, value: &[u8], revision: u64) -> Result<Applied, Unreadable> {
        let inner = &mut *self.lock();
        let record = match EntryKey::parse(bucket, key) {
            Ok(EntryKey::Record(key)) => read_record(&key, value).ok(),
            _ => None,
        };
        let takes = record.is_some_and(|record| takes_away(&[record], &inner.view));
        let change = inner.view.apply(bucket, key, value, revision)?;
        let concerned = inner.view.concerned(&change);
        let key_of = |handle: &Handle| inner.view.user(handle).map(|user| user.sign_pub);
        let lost = concerned.iter().filter(|_| takes).filter_map(|handle| key_of(handle)).collect();
        let mut review = review(&inner.view, &mut inner.admitted, concerned, &self.hash);
        if let Change::Membership(room, handle) = &change
            && inner.view.membership(room, handle).is_some_and(|membership| membership.reconnects)
        {
            let lacks = |id: ConnectionId, holder: &mut Holder| {
                if holder.is_behind() && !review.cut.contains(&id) {
                    review.reconnect.push(id);
                }
            };
            inner.admitted.each_of(handle, lacks);
        }
        self.moved.send_replace(());
        Ok(Applied { change, review, lost })
    }

    /// Connections, [`bus::OUTDATED_AT_ONCE`] at most, that were found to have less than their users so long before `now` that they are
    /// to come back. They are found whenever this is asked.
    pub fn outdated(&self, now: Instant) -> Vec<ConnectionId> {
        let mut outdated = Vec::new();
        self.lock().admitted.each(|id, holder| {
            holder.behind = holder.is_behind().then(|| holder.behind.unwrap_or(now));
            let old = holder.behind.is_some_and(|since| now.saturating_duration_since(since) >= bus::OUTDATED);
            if old && outdated.len() < bus::OUTDATED_AT_ONCE {
                outdated.push(id);
            }
        });
        outdated
    }

    /// Whether this connection was admitted here, and has not ended as far as is known.
    pub fn has_admitted(&self, id: ConnectionId) -> bool {
        self.lock().admitted.get(id).is_some()
    }

    /// Of connections that the engine lists the ones that may not go on: they are not recorded, or they have more than their
    /// users.
    pub fn uncovered(&self, listed: impl IntoIterator<Item = ConnectionId>) -> BTreeSet<ConnectionId> {
        let inner = &*self.lock();
        let covered = |id: &ConnectionId| match inner.admitted.get(*id) {
            Some(Admitted { holder: Some(holder), .. }) => {
                Grant::now(&holder.handle, &inner.view, &self.hash).is_some_and(|now| now.covers(&holder.given))
            }
            Some(Admitted { holder: None, .. }) => true,
            None => false,
        };
        listed.into_iter().filter(|id| !covered(id)).collect()
    }

    /// Puts a freshly loaded view in the place of the old one.
    pub fn replace_view(&self, view: View) -> Review {
        let inner = &mut *self.lock();
        inner.view = view;
        inner.unreadable = None;
        self.moved.send_replace(());
        let everybody: Vec<Handle> = inner.admitted.handles().cloned().collect();
        review(&inner.view, &mut inner.admitted, &everybody, &self.hash)
    }

    /// Notes that the view cannot be loaded, and why, until it is. Returns whether that is news.
    pub fn stay_out(&self, why: String) -> bool {
        let unreadable = &mut self.lock().unreadable;
        let is_news = unreadable.as_ref() != Some(&why);
        *unreadable = Some(why);
        is_news
    }

    /// Why the view cannot be loaded; none: it was, or nothing is known to be in the way.
    pub fn stays_out(&self) -> Option<String> {
        self.lock().unreadable.clone()
    }

    /// Notes a complete heartbeat round.
    pub fn renew(&self, sent: Instant) {
        self.lock().lease.renew(sent);
    }

    /// Whether access may be decided at `now`.
    pub fn lease_valid(&self, now: Instant) -> bool {
        self.require_lease(now).is_ok()
    }

    /// Fails where nothing may be decided at `now`: the one check of the lease. What it fails with turns into the error of the
    /// API, of the control socket and of changes.
    pub fn require_lease(&self, now: Instant) -> Result<(), Closed> {
        self.lock().lease.open(self.mute_until, now)
    }

    /// Age of the last proof at `now`.
    pub fn lease_age(&self, now: Instant) -> Option<Duration> {
        self.lock().lease.age(now)
    }

    /// When the heartbeats were sent that prove the view: it has everything that was committed before.
    pub fn proven(&self) -> Option<Instant> {
        self.lock().lease.proven()
    }

    /// When the lease ends unless renewed.
    pub fn lease_expires(&self) -> Option<Instant> {
        self.lock().lease.expires()
    }

    /// Reads from the view.
    pub fn view<T>(&self, read: impl FnOnce(&View) -> T) -> T {
        read(&self.lock().view)
    }

    /// Ends when the view has everything of `bucket` up to `revision`. It may take for ever.
    pub async fn reached(&self, bucket: Bucket, revision: u64) {
        let mut moved = self.moved.subscribe();
        while self.view(|view| view.applied(bucket)) < revision {
            // The sender lives as long as we do.
            let _ = moved.changed().await;
        }
    }

    /// Told whenever the view has changed.
    pub fn moves(&self) -> watch::Receiver<()> {
        self.moved.subscribe()
    }

    /// All recorded connections.
    pub fn admitted(&self) -> Vec<ConnectionId> {
        self.lock().admitted.ids().collect()
    }

    /// What a user may have here.
    pub fn bounds(&self) -> &EngineBounds {
        &self.bounds
    }

    /// Notes that `handle` met a bound at `now`. Says who is to be told of it this time.
    pub fn note_met(&self, handle: &Handle, bound: Bound, now: Instant) -> Telling {
        self.lock().met.note(handle, bound, now)
    }

    /// The bound that `handle` met last, in the time of [`MET`] before `now`.
    pub fn met(&self, handle: &Handle, now: Instant) -> Option<Bound> {
        self.lock().met.last(handle, now)
    }

    /// Whether the recorded connections are to be compared with the engine's list, since the last time that this was asked.
    pub fn take_doubt(&self) -> bool {
        std::mem::take(&mut self.lock().doubted)
    }

    /// Of what the engine says of connections, that of recorded ones of users, with their users.
    pub fn owned(&self, said: impl IntoIterator<Item = (ConnectionId, u64)>) -> Vec<(Handle, ConnectionId, u64)> {
        let inner = self.lock();
        let owner = |id| inner.admitted.get(id)?.holder.as_ref().map(|holder| holder.handle.clone());
        said.into_iter().filter_map(|(id, much)| Some((owner(id)?, id, much))).collect()
    }

    /// Forgets a connection that has ended.
    pub fn ended(&self, id: ConnectionId) {
        self.lock().admitted.remove(id);
    }

    /// Forgets all connections: their engine has ended.
    pub fn engine_ended(&self) {
        self.lock().admitted.clear();
    }

    /// Forgets what the engine does not list any more; young ones may not be listed yet.
    pub fn reconcile(&self, listed: &HashSet<ConnectionId>, now: Instant) {
        let settled = bus::AUTHORIZATION_TIMEOUT * 5;
        let young = |admitted: &Admitted| now.saturating_duration_since(admitted.since) < settled;
        self.lock().admitted.retain(|id, admitted| listed.contains(&id) || young(admitted));
    }

    // A panic while an entry was applied ends the daemon with its session, and the engine with it; wherever else the lock is
    // held nothing is changed in two steps.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at the connections of `handles` in the light of `view`.
fn review<'a>(
    view: &View,
    admitted: &mut Admissions,
    handles: impl IntoIterator<Item = &'a Handle>,
    hash: &RandomState,
) -> Review {
    let mut review = Review::default();
    for handle in handles {
        if !admitted.has(handle) {
            continue;
        }
        let now = Grant::now(handle, view, hash).map(Arc::new);
        let mut gained = false;
        admitted.each_of(handle, |id, holder| match &now {
            Some(now) if now.covers(&holder.given) => {
                gained |= !holder.known.covers(now);
                holder.known = now.clone();
            }
            _ => review.cut.push(id),
        });
        if gained {
            review.gained.push(handle.clone());
        }
    }
    review
}
