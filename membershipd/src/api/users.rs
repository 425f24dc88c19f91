//! Users over the API: oneself, the directory, and what admins see and do.

use std::sync::Arc;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::call::{Call, Reply};
use super::paging::{Paging, cursor};
use super::precondition::IfMatch;
use super::problem::Problem;
use super::problem::Refuse as _;
use super::shared::Shared;
use crate::domain::{Handle, RevocationOutcome, Role, SignPub, State, User};
use crate::users::{self, Outcome, UserChange};
use crate::view::{Versioned, View};
use unibus_api_types::problem::Kind;

/// The record of a user. Its revision is the ETag of the answer where there is one record in it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = User)]
pub(super) struct UserBody {
    /// Name: 1 to 32 of a-z, 0-9, '_' and '-'.
    #[schema(value_type = String)]
    handle: Handle,
    /// Public Ed25519 key, 64 hexadecimal digits.
    #[schema(value_type = String)]
    sign_pub: SignPub,
    /// `admin` or `user`.
    #[schema(value_type = String)]
    role: Role,
    /// `active`, `disabled` or `removed`.
    #[schema(value_type = String)]
    state: State,
    /// What If-Match names, in quotes, for a change of this very record.
    revision: u64,
}

impl UserBody {
    fn of(user: User, revision: u64) -> Self {
        let User { handle, sign_pub, role, state } = user;
        Self { handle, sign_pub, role, state, revision }
    }
}

/// A page of users.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Users)]
pub(super) struct UsersBody {
    users: Vec<UserBody>,
    /// `after` of the next page; none: this is the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A user as all users see it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DirectoryEntry)]
pub(super) struct EntryBody {
    /// Name.
    #[schema(value_type = String)]
    handle: Handle,
    /// Public Ed25519 key, 64 hexadecimal digits.
    #[schema(value_type = String)]
    sign_pub: SignPub,
}

/// A page of the directory.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Directory)]
pub(super) struct DirectoryBody {
    users: Vec<EntryBody>,
    /// `after` of the next page; none: this is the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Where the bus is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Bus)]
pub(super) struct BusBody {
    /// Port of every node's engine.
    port: u16,
    /// Whether it speaks TLS, with a certificate of the same CA as the API.
    tls: bool,
}

/// A user that is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    /// Public Ed25519 key, 64 hexadecimal digits, that no other user has or had.
    #[schema(value_type = String)]
    sign_pub: SignPub,
    /// `admin` or `user`, which is the default.
    #[schema(value_type = Option<String>)]
    role: Option<Role>,
}

/// What is to become of a user; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserPatch {
    /// `active` or `disabled`.
    #[schema(value_type = Option<String>)]
    state: Option<Switch>,
    /// `admin` or `user`.
    #[schema(value_type = Option<String>)]
    role: Option<Role>,
}

/// The states between which a user can be switched: removal is final and has its own method.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Switch {
    Active,
    Disabled,
}

/// What a change came to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChangedUser {
    user: UserBody,
    /// False where it was so already.
    changed: bool,
    /// Milliseconds waited until no node honours what was taken away; 0 where nothing was.
    waited_ms: u64,
    /// `acknowledged` where every node said so, `waited_out` where some did not and their time is over; none where nothing was
    /// taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    fence: Option<RevocationOutcome>,
}

fn changed(call: &Call, outcome: Outcome) -> Result<Reply, Problem> {
    if outcome.changed {
        let User { handle, state, role, .. } = &outcome.user;
        tracing::info!(by = %call.caller.handle, user = %handle, ?state, ?role, "user changed");
    }
    answer(outcome)
}

/// The record of a user, and what a change of it came to.
pub(super) fn answer(outcome: Outcome) -> Result<Reply, Problem> {
    let Outcome { user, revision, changed, waited_ms, fence } = outcome;
    let body = ChangedUser { user: UserBody::of(user, revision), changed, waited_ms, fence };
    Ok(Reply::json(&body)?.at(revision))
}

/// One user.
pub(super) async fn show(shared: Arc<Shared>, call: Call) -> Result<Reply, Problem> {
    let handle = call.target.user()?;
    let found = shared.gate.view(|view| view.versioned_user(handle).cloned());
    let missing = || Kind::NOT_FOUND.because(format!("there is no user '{handle}'"));
    let Versioned { value, revision } = found.ok_or_else(missing)?;
    Ok(Reply::json(&UserBody::of(value, revision))?.at(revision))
}

/// Where the bus is.
pub(super) async fn bus(shared: Arc<Shared>) -> Result<Reply, Problem> {
    let config = &shared.observer.config;
    Reply::json(&BusBody { port: config.ports.client, tls: config.tls.is_some() })
}

/// All users that pass `which`, one page of them, and where the next one begins.
fn page<T>(
    view: &View,
    paging: &Paging<Handle>,
    which: impl Fn(&User) -> bool,
    body: impl Fn(&Versioned<User>) -> T,
) -> (Vec<T>, Option<String>) {
    let after = |user: &&User| paging.after.as_ref().is_none_or(|after| user.handle > *after);
    let mut rest =
        view.users().filter(after).filter(|user| which(user)).filter_map(|user| view.versioned_user(&user.handle));
    let shown: Vec<&Versioned<User>> = rest.by_ref().take(paging.size.get()).collect();
    let more = rest.next().is_some();
    let next = shown.last().filter(|_| more).map(|last| cursor(&last.value.handle));
    (shown.into_iter().map(body).collect(), next)
}

/// What all users may know of each other.
pub(super) async fn directory(shared: Arc<Shared>, call: Call) -> Result<Reply, Problem> {
    let paging = call.page()?;
    let entry = |user: &Versioned<User>| EntryBody { handle: user.value.handle.clone(), sign_pub: user.value.sign_pub };
    let admitted = |user: &User| user.state == State::Active;
    let (users, next) = shared.gate.view(|view| page(view, &paging, admitted, entry));
    Reply::json(&DirectoryBody { users, next })
}

/// All users.
pub(super) async fn list(shared: Arc<Shared>, call: Call) -> Result<Reply, Problem> {
    let paging = call.page()?;
    let body = |user: &Versioned<User>| UserBody::of(user.value.clone(), user.revision);
    let (users, next) = shared.gate.view(|view| page(view, &paging, |_| true, body));
    Reply::json(&UsersBody { users, next })
}

/// Makes a user.
pub(super) async fn add(shared: Arc<Shared>, call: Call) -> Result<Reply, Problem> {
    let NewUser { sign_pub, role } = call.json()?;
    let handle = call.target.user()?.clone();
    let user = User { handle, sign_pub, role: role.unwrap_or(Role::User), state: State::Active };
    let outcome = shared.commands.change_user((&call.caller).into(), UserChange::Add(user, None)).await?;
    let status = if outcome.changed { StatusCode::CREATED } else { StatusCode::OK };
    Ok(changed(&call, outcome)?.status(status))
}

/// Switches a user on or off, or gives it another role.
pub(super) async fn change(shared: Arc<Shared>, call: Call) -> Result<Reply, Problem> {
    let UserPatch { state, role } = call.json()?;
    if state.is_none() && role.is_none() {
        return Err(Kind::BAD_JSON.because("name a state, a role, or both"));
    }
    let state = state.map(|switch| match switch {
        Switch::Active => State::Active,
        Switch::Disabled => State::Disabled,
    });
    set(&shared, &call, users::UserPatch { state, role, last_admin: false }).await
}

/// Removes a user.
pub(super) async fn remove(shared: Arc<Shared>, call: Call) -> Result<Reply, Problem> {
    set(&shared, &call, users::UserPatch { state: Some(State::Removed), role: None, last_admin: false }).await
}

async fn set(shared: &Shared, call: &Call, patch: users::UserPatch) -> Result<Reply, Problem> {
    let only = call.if_match.as_ref().and_then(IfMatch::revisions).map(<[u64]>::to_vec);
    let change = UserChange::Set(call.target.user()?.clone(), patch, only);
    changed(call, shared.commands.change_user((&call.caller).into(), change).await?)
}
