//! Changes of users: decided on the view, written by compare-and-set, finished when no node honours the old state.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::commands::{Fence as _, Revoked};
use crate::domain::{Handle, RecordKey, RevocationOutcome, Role, SignPub, State, User};
use crate::fence::RevocationFence;
use crate::gate::Gate;
use crate::store::{self, Key, Operation, Records, Revision, Standing, Store, StoreError};
use crate::view::{Versioned, claim_key, user_key};

/// Attempts at a change that others keep changing too.
const CONTENTION: u32 = 5;
/// Time for our own view to show what we have written; longer than it takes to watch anew after a node was lost.
const CATCH_UP: Duration = Duration::from_secs(6);

/// Why a change of users was not made, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// This node cannot prove that its view is current.
    #[error("this node has no proof that its view is current: no quorum, or it has just started")]
    NoLease,
    /// There is no such user.
    #[error("there is no user '{0}'")]
    Missing(Handle),
    /// The change contradicts what is there.
    #[error("{0}")]
    Conflict(String),
    /// The user was changed since the revision for which the change was meant.
    #[error("user '{0}' was changed in the meantime; read it again, and decide anew")]
    Stale(Handle),
    /// The store did not take it, or did not say.
    #[error(transparent)]
    Write(#[from] StoreError),
    /// The audit log did not take the record that comes before a change.
    #[error("nothing was changed, as the audit log did not take its record: {0}")]
    Audit(StoreError),
}

impl UserError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            UserError::NoLease => "see 'membershipd status' and 'cargo xtask verify'; try again, or on another node",
            UserError::Missing(_) => "see 'membershipd user list'",
            UserError::Conflict(_) => "see 'membershipd user list', removed users included",
            UserError::Stale(_) => "see 'membershipd user show'",
            UserError::Write(StoreError::Unknown { .. }) => {
                "run it again once 'membershipd status' shows a lease: repeating is safe"
            }
            UserError::Write(error) | UserError::Audit(error) => error.remedy(),
        }
    }

    /// Whether the change may have been made, or may still be.
    pub fn is_unknown(&self) -> bool {
        matches!(self, UserError::Write(StoreError::Unknown { .. }))
    }

    /// A word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            UserError::NoLease | UserError::Audit(_) => "unavailable",
            UserError::Write(StoreError::Unavailable { .. } | StoreError::Gap { .. }) => "unavailable",
            UserError::Missing(_) => "not_found",
            UserError::Stale(_) => "stale",
            UserError::Conflict(_) | UserError::Write(StoreError::Conflict { .. }) => "conflict",
            UserError::Write(StoreError::Unknown { .. }) => "unknown",
            UserError::Write(StoreError::Refused { .. } | StoreError::Unreadable { .. }) => "refused",
        }
    }
}

/// What a change came to.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The user as it is now.
    pub user: User,
    /// The revision of its record.
    pub revision: u64,
    /// False where it was so already.
    pub changed: bool,
    /// Milliseconds waited until no node could honour the old state any more; 0 where nothing was taken away.
    pub waited_ms: u64,
    /// How that became certain; none: nothing was taken away.
    pub fence: Option<RevocationOutcome>,
}

impl Outcome {
    pub(crate) fn at_once(user: User, revision: u64, changed: bool) -> Self {
        Self { user, revision, changed, waited_ms: 0, fence: None }
    }
}

/// What is to become of a user; none: that stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Whether it is admitted.
    pub state: Option<State>,
    /// Its role on the bus.
    pub role: Option<Role>,
    /// Even if no admin is left.
    pub last_admin: bool,
}

/// Changes users through one node.
#[derive(Debug, Clone)]
pub struct Users {
    gate: Arc<Gate>,
    store: Arc<dyn Store>,
    /// None: nobody else has the store, and nobody is served from it.
    fence: Option<RevocationFence>,
}

impl Users {
    /// Decides on `gate`'s view, while it has a lease, writes to `store`, and passes `fence` where something is taken away.
    pub fn new(gate: Arc<Gate>, store: Arc<dyn Store>, fence: RevocationFence) -> Self {
        Self { gate, store, fence: Some(fence) }
    }

    /// The same on a store that this process alone has, and from which nobody is served: nothing is to be proven or waited for.
    pub fn alone(gate: Arc<Gate>, store: Arc<dyn Store>) -> Self {
        Self { gate, store, fence: None }
    }

    /// Fails where nothing can be decided or written now.
    pub(crate) fn ready(&self) -> Result<(), UserError> {
        self.proven()
    }

    /// All users, tombstones included.
    pub fn list(&self) -> Result<Vec<User>, UserError> {
        self.proven()?;
        Ok(self.gate.view(|view| view.users().cloned().collect()))
    }

    /// One user.
    pub fn show(&self, handle: &Handle) -> Result<User, UserError> {
        self.proven()?;
        Ok(self.current(handle).ok_or_else(|| UserError::Missing(handle.clone()))?.value)
    }

    /// Makes a user. The key is claimed first, so that no two users can ever share one; a repetition completes a change
    /// that was interrupted in between.
    pub async fn add(&self, user: User) -> Result<Outcome, UserError> {
        self.proven()?;
        if let Some(existing) = self.current(&user.handle) {
            return already(existing, user);
        }
        self.claim(&user.sign_pub, &user.handle).await?;
        match put(&*self.store, &user_key(&user.handle), &user, 0).await {
            Ok(revision) => {
                self.caught_up(&user.handle, revision).await;
                Ok(Outcome::at_once(user, revision, true))
            }
            Err(conflict @ StoreError::Conflict { .. }) => {
                self.caught_up(&user.handle, 1).await;
                let existing = self.current(&user.handle).ok_or(conflict)?;
                already(existing, user)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Changes a user as wished; where `only` names revisions, it must be at one of them.
    pub async fn change(&self, handle: &Handle, wish: Wish, only: Option<&[u64]>) -> Result<Outcome, UserError> {
        let revoking = wish.state.is_some_and(|state| state != State::Active) || wish.role == Some(Role::User);
        // Whoever names a revision may have it from another node, which is ahead of us.
        if let Some(newest) = only.and_then(|only| only.iter().max()) {
            self.proven()?;
            if self.current(handle).is_some_and(|user| user.revision < *newest) {
                self.caught_up(handle, *newest).await;
            }
        }
        for _ in 0..CONTENTION {
            self.proven()?;
            let Versioned { value: user, revision } =
                self.current(handle).ok_or_else(|| UserError::Missing(handle.clone()))?;
            if only.is_some_and(|only| !only.contains(&revision)) {
                return Err(UserError::Stale(handle.clone()));
            }
            let state = wish.state.unwrap_or(user.state);
            let changed = User { state, role: wish.role.unwrap_or(user.role), ..user.clone() };
            let differs = changed != user;
            // What takes something away is written even where it was so already: a change that gave it back and of which nobody
            // heard may be on its way still, and must not find the revision that it was decided on.
            if !differs && !revoking {
                return Ok(Outcome::at_once(user, revision, false));
            }
            if differs && user.state == State::Removed {
                return Err(UserError::Conflict(format!("user '{handle}' was removed, and that is final")));
            }
            let acts = |user: &User| user.role == Role::Admin && user.state == State::Active;
            let only_admin = acts(&user) && !acts(&changed) && self.gate.view(|view| view.admins()) == 1;
            if only_admin && !wish.last_admin {
                let problem = format!("'{handle}' is the last admin; add another first, or say --last-admin");
                return Err(UserError::Conflict(problem));
            }
            match put(&*self.store, &user_key(handle), &changed, revision).await {
                Ok(revision) if revoking => return Ok(self.passed(changed, revision, differs).await),
                Ok(revision) => {
                    self.caught_up(handle, revision).await;
                    return Ok(Outcome::at_once(changed, revision, differs));
                }
                Err(StoreError::Conflict { .. }) => self.caught_up(handle, revision + 1).await,
                Err(error) => return Err(error.into()),
            }
        }
        let operation = Operation::at("update", Records::Users.bucket(), &key(&user_key(handle))?);
        Err(StoreError::Conflict { operation, current: Standing::NotSaid }.into())
    }

    /// Waits until nobody honours what `user` was before `revision`.
    async fn passed(&self, user: User, revision: u64, changed: bool) -> Outcome {
        let Some(fence) = &self.fence else { return Outcome::at_once(user, revision, changed) };
        let record = RecordKey::User(user.handle.clone());
        let revoked: Vec<_> =
            Revision::new(revision).map(|revision| Revoked { record, revision }).into_iter().collect();
        let begun = Instant::now();
        let fence = fence.wait_for_revocation(&revoked).await;
        let waited_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Outcome { user, revision, changed, waited_ms, fence: Some(fence) }
    }

    /// Claims `key` for `handle`, or fails where it is another's.
    async fn claim(&self, key: &SignPub, handle: &Handle) -> Result<(), UserError> {
        let owner = self.gate.view(|view| view.claimed_by(key).cloned());
        let owner = match owner {
            Some(owner) => owner,
            None => match put(&*self.store, &claim_key(key), handle, 0).await {
                Ok(_) => return Ok(()),
                Err(conflict @ StoreError::Conflict { .. }) => {
                    tokio::time::sleep(CATCH_UP).await;
                    self.gate.view(|view| view.claimed_by(key).cloned()).ok_or(conflict)?
                }
                Err(error) => return Err(error.into()),
            },
        };
        if owner == *handle {
            return Ok(());
        }
        Err(UserError::Conflict(format!("the key {key} belongs to '{owner}'; a key is never used twice")))
    }

    fn current(&self, handle: &Handle) -> Option<Versioned<User>> {
        self.gate.view(|view| view.versioned_user(handle).cloned())
    }

    fn proven(&self) -> Result<(), UserError> {
        if self.fence.is_some() { proven(&self.gate) } else { Ok(()) }
    }

    // Our own view lags a moment behind our own write; what follows should see it. Only a courtesy: correctness rests on
    // compare-and-set.
    async fn caught_up(&self, handle: &Handle, revision: u64) {
        let deadline = Instant::now() + CATCH_UP;
        while Instant::now() < deadline && self.current(handle).is_none_or(|user| user.revision < revision) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Fails where this node cannot prove that its view is current.
pub(crate) fn proven(gate: &Gate) -> Result<(), UserError> {
    if gate.lease_valid(Instant::now()) { Ok(()) } else { Err(UserError::NoLease) }
}

/// Writes an entry of the bucket of users that still is at `expected`; 0: that never was.
pub(crate) async fn put(
    store: &dyn Store,
    name: &str,
    value: &(impl Serialize + Sync),
    expected: u64,
) -> Result<u64, StoreError> {
    let key = key(name)?;
    let written = match Revision::new(expected) {
        None => store::create_json(store, Records::Users, &key, value).await,
        Some(expected) => store::update_json(store, Records::Users, &key, value, expected).await,
    };
    Ok(written?.get())
}

/// The key of this name in the bucket of users.
pub(crate) fn key(name: &str) -> Result<Key, StoreError> {
    let operation = || Operation::on("name an entry of", Records::Users.bucket());
    name.parse().map_err(|error| StoreError::Refused { operation: operation(), why: format!("{error}") })
}

fn already(existing: Versioned<User>, wanted: User) -> Result<Outcome, UserError> {
    let Versioned { value: existing, revision } = existing;
    if existing == wanted {
        return Ok(Outcome::at_once(existing, revision, false));
    }
    let handle = &existing.handle;
    Err(UserError::Conflict(match existing.state {
        State::Removed => format!("the handle '{handle}' belonged to a user who was removed; it is never given again"),
        State::Disabled if existing.sign_pub == wanted.sign_pub => {
            format!("user '{handle}' exists and is disabled; enable it instead")
        }
        _ => format!("user '{handle}' exists with another key or role"),
    }))
}
