//! Users over the API: oneself, the directory, and what admins see and do.

use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;

use super::call::{Call, Reply};
use super::paging::{Paging, cursor};
use super::precondition::IfMatch;
use super::problem::Problem;
use super::shared::Shared;
use super::target::{Bus, FutureUser, OneUser};
use crate::api::problem::Refuse as _;
use crate::users::{self, Outcome, UserChange};
use unibus_api_types::bodies;
use unibus_api_types::bound::BoundMet;
use unibus_api_types::problem::Kind;
use unibus_core::domain::{Handle, Role, State, User};
use unibus_core::view::{Versioned, View};

fn body_of(user: User, revision: u64) -> bodies::User {
    let User { handle, sign_pub, role, state } = user;
    bodies::User { handle, sign_pub, role, state, revision }
}

fn changed(caller: &User, outcome: Outcome) -> Result<Reply, Problem> {
    if outcome.changed {
        let User { handle, state, role, .. } = &outcome.user;
        tracing::info!(by = %caller.handle, user = %handle, ?state, ?role, "user changed");
    }
    answer(outcome)
}

/// The record of a user, and what a change of it came to.
pub(super) fn answer(outcome: Outcome) -> Result<Reply, Problem> {
    let Outcome { user, revision, changed, waited_ms, fence } = outcome;
    let body = bodies::ChangedUser { user: body_of(user, revision), changed, waited_ms, fence };
    Ok(Reply::json(&body)?.at(revision))
}

/// One user.
pub(super) async fn show(shared: Arc<Shared>, call: Call<OneUser>) -> Result<Reply, Problem> {
    let OneUser(handle) = &call.target;
    let found = shared.gate.view(|view| view.versioned_user(handle).cloned());
    let missing = || Kind::NOT_FOUND.because(format!("there is no user '{handle}'"));
    let Versioned { value, revision } = found.ok_or_else(missing)?;
    Ok(Reply::json(&body_of(value, revision))?.at(revision))
}

/// Where the bus is.
pub(super) async fn bus(shared: Arc<Shared>, call: Call<Bus>) -> Result<Reply, Problem> {
    let config = &shared.observer.config;
    let met = shared.gate.met(&call.caller.handle, Instant::now()).map(|bound| {
        let most = shared.gate.bounds().most(bound);
        BoundMet { node: config.node.clone(), bound, most }
    });
    let level = shared.gate.view(|view| view.level()).number();
    Reply::json(&bodies::Bus { port: config.ports.client, tls: config.tls.is_some(), level, met })
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
pub(super) async fn directory(shared: Arc<Shared>, call: Call<Bus>) -> Result<Reply, Problem> {
    let paging = call.page()?;
    let entry = |user: &Versioned<User>| bodies::DirectoryEntry {
        handle: user.value.handle.clone(),
        sign_pub: user.value.sign_pub,
    };
    let admitted = |user: &User| user.state == State::Active;
    let (users, next) = shared.gate.view(|view| page(view, &paging, admitted, entry));
    Reply::json(&bodies::Directory { users, next })
}

/// All users.
pub(super) async fn list(shared: Arc<Shared>, call: Call<Bus>) -> Result<Reply, Problem> {
    let paging = call.page()?;
    let body = |user: &Versioned<User>| body_of(user.value.clone(), user.revision);
    let (users, next) = shared.gate.view(|view| page(view, &paging, |_| true, body));
    Reply::json(&bodies::Users { users, next })
}

/// Makes a user.
pub(super) async fn add(shared: Arc<Shared>, call: Call<FutureUser>) -> Result<Reply, Problem> {
    let bodies::NewUser { sign_pub, role } = call.json()?;
    let Call { caller, target: FutureUser(handle), .. } = call;
    let user = User { handle, sign_pub, role: role.unwrap_or(Role::User), state: State::Active };
    let outcome = shared.commands.change_user((&caller).into(), UserChange::Add(user, None)).await?;
    let status = if outcome.changed { StatusCode::CREATED } else { StatusCode::OK };
    Ok(changed(&caller, outcome)?.status(status))
}

/// Switches a user on or off, or gives it another role.
pub(super) async fn change(shared: Arc<Shared>, call: Call<OneUser>) -> Result<Reply, Problem> {
    let bodies::UserPatch { state, role } = call.json()?;
    if state.is_none() && role.is_none() {
        return Err(Kind::BAD_JSON.because("name a state, a role, or both"));
    }
    let state = state.map(|switch| match switch {
        bodies::Switch::Active => State::Active,
        bodies::Switch::Disabled => State::Disabled,
    });
    set(&shared, &call, users::UserPatch { state, role, last_admin: false }).await
}

/// Removes a user.
pub(super) async fn remove(shared: Arc<Shared>, call: Call<OneUser>) -> Result<Reply, Problem> {
    set(&shared, &call, users::UserPatch { state: Some(State::Removed), role: None, last_admin: false }).await
}

async fn set(shared: &Shared, call: &Call<OneUser>, patch: users::UserPatch) -> Result<Reply, Problem> {
    let only = call.if_match.as_ref().and_then(IfMatch::revisions).map(<[u64]>::to_vec);
    let change = UserChange::Set(call.target.0.clone(), patch, only);
    changed(&call.caller, shared.commands.change_user((&call.caller).into(), change).await?)
}
