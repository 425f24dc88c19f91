//! Invites over the API: made, listed and taken back by admins, and used by whoever has the token.

use std::sync::Arc;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::call::{Call, Reply};
use super::paging::{Changed, Paging, cursor};
use super::problem::Problem;
use super::problem::Refuse as _;
use super::shared::Shared;
use super::users;
use crate::clock;
use crate::domain::{Handle, InviteId, InviteState, Role, SignPub, Token};
use crate::invites::{InviteError, Kept, Managed, Offer};
use crate::store::PageSize;
use unibus_api_types::problem::Kind;

/// An invite: who may make himself a user, once.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Invite)]
pub(super) struct InviteBody {
    /// Its name: the SHA-256 of its token, 64 hexadecimal digits.
    #[schema(value_type = String)]
    id: InviteId,
    /// The handle that the user will have.
    #[schema(value_type = String)]
    handle: Handle,
    /// The role that the user will have: `admin` or `user`.
    #[schema(value_type = String)]
    role: Role,
    /// The admin who made it.
    #[schema(value_type = String)]
    by: Handle,
    /// When it was made: seconds since 1970.
    made_at: i64,
    /// From when on nobody can begin with it: seconds since 1970.
    expires_at: i64,
    /// `open`; `claimed`: somebody has begun to register with it, and nobody else can; `spent`: that is a user now; `revoked`;
    /// `expired`.
    state: &'static str,
    /// Of one that is claimed or spent: the public Ed25519 key of who did it, 64 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    key: Option<SignPub>,
}

impl InviteBody {
    fn of(Kept { id, invite, .. }: &Kept, now_unix: i64) -> Self {
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
        Self { id: *id, handle, role: invite.role, by, made_at, expires_at, state, key }
    }
}

/// A page of invites, in the order of their last changes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Invites)]
pub(super) struct InvitesBody {
    invites: Vec<InviteBody>,
    /// `after` of the next page; none: this is the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// What a change of an invite came to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChangedInvite {
    invite: InviteBody,
    /// False where it was so already.
    changed: bool,
}

/// An invite that is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewInvite {
    /// The handle that the user will have, which nobody has or had. Several invites may name the same one: the first to register
    /// has it.
    #[schema(value_type = String)]
    handle: Handle,
    /// `admin` or `user`, which is the default.
    #[schema(value_type = Option<String>)]
    role: Option<Role>,
}

/// What somebody registers with. His key is the one that signs the request.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Registration {
    /// The token of an invite: 32 bytes, 43 characters of base64url.
    #[schema(value_type = String)]
    pub(super) token: Token,
}

fn changed(call: &Call, Managed { kept, changed }: &Managed) -> Result<Reply, Problem> {
    let invite = InviteBody::of(kept, clock::unix());
    if *changed {
        tracing::info!(by = %call.caller.handle, invite = %invite.id, state = invite.state, "invite changed");
    }
    Reply::json(&ChangedInvite { invite, changed: *changed })
}

/// Makes an invite.
pub(super) async fn make(shared: Arc<Shared>, call: Call) -> Result<Reply, Problem> {
    let NewInvite { handle, role } = call.json()?;
    let (id, role) = (call.target.invite()?, role.unwrap_or(Role::User));
    let made = shared.invites.make(&call.caller, id, handle, role, clock::unix()).await?;
    let status = if made.changed { StatusCode::CREATED } else { StatusCode::OK };
    Ok(changed(&call, &made)?.status(status))
}

/// All invites, those included that nobody can use any more.
pub(super) async fn list(shared: Arc<Shared>, call: Call) -> Result<Reply, Problem> {
    let Paging { after, size }: Paging<Changed> = call.page()?;
    let page = shared.invites.page(after.unwrap_or_default().0, PageSize::of(size.get())).await?;
    let now = clock::unix();
    let invites = page.items.iter().map(|kept| InviteBody::of(kept, now)).collect();
    Reply::json(&InvitesBody { invites, next: page.next.map(|next| cursor(&Changed(next))) })
}

/// Takes an invite back.
pub(super) async fn revoke(shared: Arc<Shared>, call: Call) -> Result<Reply, Problem> {
    changed(&call, &shared.invites.revoke(&call.caller, call.target.invite()?).await?)
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
