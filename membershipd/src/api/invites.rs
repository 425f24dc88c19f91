//! Invites over the API: made, listed and taken back by admins, and used by whoever has the token.

use std::sync::Arc;

use axum::http::StatusCode;

use super::call::{Call, Reply};
use super::paging::{Changed, Paging, cursor};
use super::problem::Problem;
use super::shared::Shared;
use super::target::{Bus, OneInvite};
use super::users;
use crate::api::problem::Refuse as _;
use crate::invites::{InviteError, Kept, Managed, Offer};
use unibus_api_types::bodies;
use unibus_api_types::problem::Kind;
use unibus_core::clock;
use unibus_core::domain::{InviteState, Role, User};
use unibus_store::PageSize;

fn body_of(Kept { id, invite, .. }: &Kept, now_unix: i64) -> bodies::Invite {
    let (state, key) = match invite.state {
        InviteState::Spent { key } => ("spent", Some(key)),
        InviteState::Revoked => ("revoked", None),
        InviteState::Claimed { key } if invite.is_expired(now_unix) => ("expired", Some(key)),
        InviteState::Open if invite.is_expired(now_unix) => ("expired", None),
        InviteState::Claimed { key } => ("claimed", Some(key)),
        InviteState::Open => ("open", None),
    };
    let (handle, by) = (invite.handle.clone(), invite.by.clone());
    let (made_at, expires_at) = (invite.made_at, invite.expires_at);
    let state = state.to_owned();
    bodies::Invite { id: *id, handle, role: invite.role, by, made_at, expires_at, state, key }
}

fn changed(caller: &User, Managed { kept, changed }: &Managed) -> Result<Reply, Problem> {
    let invite = body_of(kept, clock::unix());
    if *changed {
        tracing::info!(by = %caller.handle, invite = %invite.id, state = invite.state, "invite changed");
    }
    Reply::json(&bodies::ChangedInvite { invite, changed: *changed })
}

/// Makes an invite.
pub(super) async fn make(shared: Arc<Shared>, call: Call<OneInvite>) -> Result<Reply, Problem> {
    let bodies::NewInvite { handle, role } = call.json()?;
    let (id, role) = (call.target.0, role.unwrap_or(Role::User));
    let made = shared.invites.make(&call.caller, id, handle, role, clock::unix()).await?;
    let status = if made.changed { StatusCode::CREATED } else { StatusCode::OK };
    Ok(changed(&call.caller, &made)?.status(status))
}

/// All invites, those included that nobody can use any more.
pub(super) async fn list(shared: Arc<Shared>, call: Call<Bus>) -> Result<Reply, Problem> {
    let Paging { after, size }: Paging<Changed> = call.page()?;
    let page = shared.invites.page(after.unwrap_or_default().0, PageSize::of(size.get())).await?;
    let now = clock::unix();
    let invites = page.items.iter().map(|kept| body_of(kept, now)).collect();
    Reply::json(&bodies::Invites { invites, next: page.next.map(|next| cursor(&Changed(next))) })
}

/// Takes an invite back.
pub(super) async fn revoke(shared: Arc<Shared>, call: Call<OneInvite>) -> Result<Reply, Problem> {
    changed(&call.caller, &shared.invites.revoke(&call.caller, call.target.0).await?)
}

/// Makes a user of somebody who is nobody yet.
pub(super) async fn register(shared: Arc<Shared>, offer: Offer) -> Result<Reply, Problem> {
    let outcome = shared.invites.register(offer, clock::unix()).await?;
    if outcome.changed {
        tracing::info!(user = %outcome.user.handle, role = ?outcome.user.role, "user registered");
    }
    let status = if outcome.changed { StatusCode::CREATED } else { StatusCode::OK };
    Ok(users::answer(outcome)?.status(status))
}

impl From<InviteError> for Problem {
    fn from(error: InviteError) -> Self {
        let said = error.to_string();
        match error {
            // Which of the reasons it is would tell whoever guesses that he is near.
            InviteError::Unusable(_) => {
                let problem = Kind::INVITE_REFUSED.because("ask whoever sent the invite for another one");
                Self { cause: Some(said.into()), ..problem }
            }
            InviteError::Missing(_) => Kind::NOT_FOUND.because(said),
            InviteError::Exists(_) => Kind::INVITE_EXISTS.because(format!("{said}; make another token")),
            InviteError::HandleTaken(_) => Kind::HANDLE_TAKEN.because(format!("{said}; choose another")),
            InviteError::KeyTaken(_) => Kind::KEY_TAKEN.because(format!("{said}; make a new identity")),
            InviteError::Used(_) => Kind::INVITE_USED.because(said),
            InviteError::User(error) => error.into(),
            InviteError::Store(error) => error.into(),
            InviteError::Audit(error) => crate::users::UserError::Audit(error).into(),
            InviteError::Contended(_) => Kind::CONTENDED.because(said).soon(),
        }
    }
}
