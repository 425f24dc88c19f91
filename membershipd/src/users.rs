//! Changes of users: what they come to on a view, and what is said of them.

use std::time::Duration;

use serde::Serialize;

use crate::commands::audit::{About, Decided, Stage};
use crate::commands::keys::Address;
use crate::commands::{
    Change, CommandError, Commands, Done, Earlier, NotProven, Plan, Principal, State as Known, Step,
};
use unibus_api_types::control::page;
use unibus_core::domain::{
    Action, Denial, Handle, InviteId, Record, RecordKey, Resource, RevocationOutcome, Role, State, User,
};
use unibus_core::lease::Closed;
use unibus_core::view::{Versioned, View, claim_key};
use unibus_store::{Operation, Records, Revision, Standing, StoreError};

/// Why a change of users was not made, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// This node cannot prove that its view is current.
    #[error("this node has no proof that its view is current: no quorum, or it has just started")]
    NoLease,
    /// The one who makes the change may not.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// There is no such user.
    #[error("there is no user '{0}'")]
    Missing(Handle),
    /// The change contradicts what is there.
    #[error("{0}")]
    Conflict(String),
    /// The user was changed since the revision for which the change was meant.
    #[error("user '{0}' was changed in the meantime; read it again, and decide anew")]
    Stale(Handle),
    /// Others were always faster, or held the record.
    #[error("others kept changing {0} until the time was up; nothing was changed")]
    Contended(Address),
    /// The store did not take it.
    #[error(transparent)]
    Write(#[from] StoreError),
    /// It may have been done, or may still be.
    #[error("{why}")]
    Unknown {
        /// What is the matter.
        why: String,
    },
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
            UserError::Denied(_) => "ask an admin",
            UserError::Contended(_) => "try again",
            UserError::Unknown { .. } => "run it again once 'membershipd status' shows a lease: repeating is safe",
            UserError::Write(error) | UserError::Audit(error) => error.remedy(),
        }
    }

    /// Whether the change may have been made, or may still be.
    pub fn is_unknown(&self) -> bool {
        matches!(self, UserError::Unknown { .. } | UserError::Write(StoreError::Unknown { .. }))
    }

    /// A word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            UserError::NoLease | UserError::Audit(_) | UserError::Contended(_) => "unavailable",
            UserError::Write(StoreError::Unavailable { .. } | StoreError::Gap { .. }) => "unavailable",
            UserError::Denied(_) => "denied",
            UserError::Missing(_) => "not_found",
            UserError::Stale(_) => "stale",
            UserError::Conflict(_) | UserError::Write(StoreError::Conflict { .. }) => "conflict",
            UserError::Unknown { .. } | UserError::Write(StoreError::Unknown { .. }) => "unknown",
            UserError::Write(StoreError::Refused { .. } | StoreError::Unreadable { .. }) => "refused",
        }
    }
}

impl From<NotProven> for UserError {
    fn from(_: NotProven) -> Self {
        UserError::NoLease
    }
}

impl From<Closed> for UserError {
    fn from(_: Closed) -> Self {
        UserError::NoLease
    }
}

impl From<CommandError> for UserError {
    fn from(error: CommandError) -> Self {
        // Others kept changing it.
        let conflict = |address: Result<Address, StoreError>| {
            address.map_or_else(UserError::Write, |Address { bucket, key }| {
                let operation = Operation::at("update", bucket.bucket(), &key);
                StoreError::Conflict { operation, current: Standing::NotSaid }.into()
            })
        };
        match error {
            CommandError::NotProven(_) => UserError::NoLease,
            CommandError::Audit(error) => UserError::Audit(error),
            CommandError::Unavailable(error) | CommandError::Store(error) => UserError::Write(error),
            CommandError::Unknown { why } => UserError::Unknown { why },
            CommandError::Contended(address) => UserError::Contended(address),
            CommandError::Overtaken(record) => conflict(Address::of(&record)),
            CommandError::Refused(_) | CommandError::Precondition { .. } => UserError::Conflict(error.to_string()),
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
pub struct UserPatch {
    /// Whether it is admitted.
    pub state: Option<State>,
    /// Its role on the bus.
    pub role: Option<Role>,
    /// Even if no admin is left.
    pub last_admin: bool,
}

/// A change of a user, as it is given.
#[derive(Debug, Clone)]
pub struct UserCommand {
    /// Who gives it.
    pub by: Principal,
    /// What is to be done.
    pub what: UserChange,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub enum UserChange {
    /// Makes a user; of an invite, where one is named. The key is claimed first, so that no two users can ever share one; a
    /// repetition completes a change that was interrupted in between.
    Add(User, Option<InviteId>),
    /// Makes a user who is removed from the first moment, so that neither handle nor key can ever be had: of an invite that is
    /// revoked while its token may be in use.
    Tombstone(User, InviteId),
    /// Changes a user; where revisions are named, it must be at one of them.
    Set(Handle, UserPatch, Option<Vec<u64>>),
}

/// A page of the users that `state` knows, tombstones included, and after which the next one begins.
pub fn list(
    state: &dyn Known,
    after: Option<&Handle>,
    limit: Option<usize>,
) -> Result<(Vec<User>, Option<Handle>), UserError> {
    Ok(state.read(|view| {
        let (users, next) = page(view.users(), |user| &user.handle, after, limit);
        (users.into_iter().cloned().collect(), next)
    })?)
}

/// One user that `state` knows.
pub fn show(state: &dyn Known, handle: &Handle) -> Result<User, UserError> {
    let found = state.read(|view| view.versioned_user(handle).map(|user| user.value.clone()))?;
    found.ok_or_else(|| UserError::Missing(handle.clone()))
}

impl Commands {
    /// Carries a change of a user out.
    pub async fn change_user(&self, by: Principal, what: UserChange) -> Result<Outcome, UserError> {
        let Done { found: user, revision, changed, fenced: fence, waited, .. } =
            self.carry_out(&UserCommand { by, what }).await?;
        let revision = revision.map(Revision::get).unwrap_or_default();
        let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        Ok(Outcome { user, revision, changed, waited_ms, fence })
    }
}

impl Change for UserCommand {
    /// The user as it is when this is done.
    type Found = User;
    type Error = UserError;

    /// Longer than it takes to watch anew after a node was lost.
    const CATCH_UP: Option<Duration> = Some(Duration::from_secs(6));

    fn awaits(&self, view: &View) -> Option<(Records, Revision)> {
        let UserChange::Set(handle, _, Some(only)) = &self.what else { return None };
        let newest = only.iter().max().filter(|newest| view.user_revision(handle).is_some_and(|now| now < **newest))?;
        Some((Records::Users, Revision::new(*newest)?))
    }

    async fn plan(&self, on: &Commands, earlier: &mut Earlier) -> Result<Plan<User>, UserError> {
        on.state().read(|view| match &self.what {
            UserChange::Add(user, _) => self.add(user, Action::AddUser, view, earlier),
            UserChange::Tombstone(user, _) => self.add(user, Action::RevokeInvite, view, earlier),
            UserChange::Set(handle, patch, only) => self.set(handle, *patch, only.as_deref(), view, earlier),
        })?
    }

    fn announced(&self) -> Option<Decided> {
        Some(self.decided())
    }

    fn about(&self, _: &Earlier) -> Option<About> {
        let (action, user, with) = match &self.what {
            UserChange::Add(user, invite) => {
                let invite = invite.map(|invite| format!(" invite={invite}")).unwrap_or_default();
                let with = format!("role={} key={}{invite}", word(user.role), user.sign_pub);
                (Action::AddUser, &user.handle, Some(with))
            }
            UserChange::Tombstone(user, invite) => {
                (Action::RemoveUser, &user.handle, Some(format!("key={} invite={invite}", user.sign_pub)))
            }
            UserChange::Set(handle, patch, _) => (patch.action(), handle, patch.with()),
        };
        Some(About { user: Some(user.clone()), with, ..About::new(self.by.author.clone(), action.name()) })
    }

    fn stage(&self, error: &UserError) -> Stage {
        match error {
            UserError::Denied(_) | UserError::Missing(_) | UserError::Conflict(_) => Stage::Refused(error.to_string()),
            error if error.is_unknown() => Stage::Unknown(error.to_string()),
            error => Stage::Failed(error.to_string()),
        }
    }

    fn failed(&self, error: CommandError) -> UserError {
        error.into()
    }
}

impl UserCommand {
    fn decided(&self) -> Decided {
        Decided { bus: self.by.role, room: None }
    }

    fn add(&self, user: &User, action: Action, view: &View, earlier: &mut Earlier) -> Result<Plan<User>, UserError> {
        self.by.authorize(action, Resource::Bus, view)?;
        let (decided, about) = (self.decided(), address(&user.handle)?);
        if let Some(existing) = view.versioned_user(&user.handle) {
            already(&existing.value, user)?;
            return Ok(Plan::stands_already(decided, about, Revision::new(existing.revision), user.clone()));
        }
        let mut steps = Vec::new();
        match view.claimed_by(&user.sign_pub) {
            None => steps.push(Step::claim(Address::new(Records::Users, &claim_key(&user.sign_pub))?, &user.handle)?),
            Some(owner) if *owner == user.handle => {}
            Some(owner) => {
                let key = user.sign_pub;
                return Err(UserError::Conflict(format!(
                    "the key {key} belongs to '{owner}'; a key is never used twice"
                )));
            }
        }
        steps.push(earlier.step(view, Record::User(user.clone()))?);
        Ok(Plan::new(decided, about, steps, user.clone()))
    }

    fn set(
        &self,
        handle: &Handle,
        patch: UserPatch,
        only: Option<&[u64]>,
        view: &View,
        earlier: &mut Earlier,
    ) -> Result<Plan<User>, UserError> {
        self.by.authorize(patch.action(), Resource::User(handle), view)?;
        let (decided, about) = (self.decided(), address(handle)?);
        let now = view.versioned_user(handle).ok_or_else(|| UserError::Missing(handle.clone()))?;
        let Versioned { value: user, revision } = now;
        if only.is_some_and(|only| !only.contains(revision)) {
            return Err(UserError::Stale(handle.clone()));
        }
        let (state, role) = (patch.state.unwrap_or(user.state), patch.role.unwrap_or(user.role));
        let changed = User { state, role, ..user.clone() };
        let differs = changed != *user;
        // What takes something away is written even where it was so already: a change that gave it back and of which no
        // answer came may be on its way still, and must not find the revision that it was decided on.
        if !differs && !patch.revokes() {
            return Ok(Plan::stands_already(decided, about, Revision::new(*revision), user.clone()));
        }
        if differs && user.state == State::Removed {
            return Err(UserError::Conflict(format!("user '{handle}' was removed, and that is final")));
        }
        let acts = |user: &User| user.role == Role::Admin && user.state == State::Active;
        if acts(user) && !acts(&changed) && view.admins() == 1 && !patch.last_admin {
            let problem =
                format!("'{handle}' is the last admin; make another one first, or as root on a node say --last-admin");
            return Err(UserError::Conflict(problem));
        }
        let step = earlier.step(view, Record::User(changed.clone()))?;
        Ok(Plan::new(decided, about, vec![step], changed).revoking(patch.revokes()))
    }
}

impl UserPatch {
    /// Whether it takes something away, or states again that it is taken.
    fn revokes(&self) -> bool {
        self.state.is_some_and(|state| state != State::Active) || self.role == Some(Role::User)
    }

    fn action(&self) -> Action {
        if self.state == Some(State::Removed) { Action::RemoveUser } else { Action::ChangeUser }
    }

    fn with(&self) -> Option<String> {
        let state = self.state.filter(|state| *state != State::Removed).map(|state| match state {
            State::Active => "state=active".to_owned(),
            State::Disabled | State::Removed => "state=disabled".to_owned(),
        });
        let role = self.role.map(|role| format!("role={}", word(role)));
        let last = self.last_admin.then(|| "last-admin".to_owned());
        let with: Vec<_> = [state, role, last].into_iter().flatten().collect();
        (!with.is_empty()).then(|| with.join(" "))
    }
}

/// How the audit calls a role on the bus.
pub(crate) fn word(role: Role) -> &'static str {
    match role {
        Role::Admin => "admin",
        Role::User => "user",
    }
}

fn address(handle: &Handle) -> Result<Address, StoreError> {
    Address::of(&RecordKey::User(handle.clone()))
}

fn already(existing: &User, wanted: &User) -> Result<(), UserError> {
    if existing == wanted {
        return Ok(());
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
