//! What admins do with invites: make them and take them back.

use super::entries::Kept;
use super::error::InviteError;
use super::{CONTENTION, Invites};
use crate::commands::audit::{AuditRecord, Decided, Stage};
use crate::domain::{Action, Author, Handle, Invite, InviteId, InviteState, Role, SignPub, State, User};
use crate::recorded::By;
use crate::store::StoreError;
use crate::users::UserError;

/// What a change of an invite came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Managed {
    /// The invite as it is now.
    pub kept: Kept,
    /// False where it was so already.
    pub changed: bool,
}

impl Invites {
    /// Makes an invite at `now_unix` (seconds since 1970), as `by`. Done again by the same admin for the same handle and role it
    /// changes nothing, and shows what has become of it.
    pub async fn make(
        &self,
        by: &User,
        id: InviteId,
        handle: Handle,
        role: Role,
        now_unix: i64,
    ) -> Result<Managed, InviteError> {
        let word = match role {
            Role::Admin => "admin",
            Role::User => "user",
        };
        let with = format!("role={word} invite={id}");
        let invite = Invite::new(handle.clone(), role, by.handle.clone(), now_unix);
        self.audited(by, Action::InviteUser, Some(handle), with, self.keep(id, invite)).await
    }

    async fn keep(&self, id: InviteId, invite: Invite) -> Result<Managed, InviteError> {
        let same = |kept: &Kept| {
            let Invite { handle, role, by, .. } = &kept.invite;
            (handle, role, by) == (&invite.handle, &invite.role, &invite.by)
                && kept.invite.state != InviteState::Revoked
        };
        if let Some(kept) = self.read(id).await? {
            return if same(&kept) { Ok(Managed { kept, changed: false }) } else { Err(InviteError::Exists(id)) };
        }
        if self.gate.view(|view| view.versioned_user(&invite.handle).is_some()) {
            return Err(InviteError::HandleTaken(invite.handle));
        }
        match self.create(id, invite.clone()).await {
            Ok(kept) => Ok(Managed { kept, changed: true }),
            Err(StoreError::Conflict { .. }) => match self.read(id).await? {
                Some(kept) if same(&kept) => Ok(Managed { kept, changed: false }),
                _ => Err(InviteError::Exists(id)),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Takes an invite back, as `by`: nobody who has not registered yet ever can. Fails as `Used` where somebody has.
    pub async fn revoke(&self, by: &User, id: InviteId) -> Result<Managed, InviteError> {
        self.users.ready()?;
        let kept = self.read(id).await?.ok_or(InviteError::Missing(id))?;
        let (handle, with) = (kept.invite.handle.clone(), format!("invite={id}"));
        self.audited(by, Action::RevokeInvite, Some(handle), with, self.take_back(by, kept)).await
    }

    async fn take_back(&self, by: &User, mut kept: Kept) -> Result<Managed, InviteError> {
        for _ in 0..CONTENTION {
            match kept.invite.state {
                InviteState::Revoked => return Ok(Managed { kept, changed: false }),
                InviteState::Spent { .. } => return Err(InviteError::Used(kept.invite.handle)),
                InviteState::Open => {}
                InviteState::Claimed { key } => self.forestall(by, &kept, key).await?,
            }
            match self.replace(&kept, kept.invite.revoked()).await {
                Ok(kept) => return Ok(Managed { kept, changed: true }),
                Err(StoreError::Conflict { .. }) => {
                    kept = self.read(kept.id).await?.ok_or(InviteError::Missing(kept.id))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(InviteError::Contended(kept.id))
    }

    /// Sees to it that the owner of `key`, who has claimed the invite, can never become the user that it is for.
    async fn forestall(&self, by: &User, kept: &Kept, key: SignPub) -> Result<(), InviteError> {
        let handle = &kept.invite.handle;
        for _ in 0..CONTENTION {
            let (user, owner) = self.gate.view(|view| {
                (view.versioned_user(handle).map(|user| user.value.clone()), view.claimed_by(&key).cloned())
            });
            match user {
                Some(user) if user.sign_pub == key && user.state != State::Removed => {
                    return Err(InviteError::Used(user.handle));
                }
                // The handle is another's, or nobody's for good.
                Some(_) => return Ok(()),
                None if owner.is_some_and(|owner| owner != *handle) => return Ok(()),
                None => {}
            }
            match self.users.shut_out(&By::from(by), kept.invite.user(key), &kept.id).await {
                Ok(_) => return Ok(()),
                // Somebody was faster. Our view shows by now who.
                Err(UserError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(InviteError::Contended(kept.id))
    }

    async fn audited(
        &self,
        by: &User,
        action: Action,
        user: Option<Handle>,
        with: String,
        doing: impl Future<Output = Result<Managed, InviteError>>,
    ) -> Result<Managed, InviteError> {
        self.users.ready()?;
        let record = |id, stage| {
            let record = self.journal.record(id, Author::User(by.handle.clone()), action.name(), stage);
            AuditRecord { user: user.clone(), with: Some(with.clone()), ..record }
        };
        let ended = |outcome: &Result<Managed, InviteError>| match outcome {
            Ok(Managed { kept, .. }) => Stage::Done(vec![(format!("invite.{}", kept.id), kept.revision)]),
            Err(error) if error.is_refusal() => Stage::Refused(error.to_string()),
            Err(error) if error.is_unknown() => Stage::Unknown(error.to_string()),
            Err(error) => Stage::Failed(error.to_string()),
        };
        let decided = Decided { bus: Some(by.role), room: None };
        self.journal.around(record, decided, doing, ended).await.map_err(InviteError::Audit)?
    }
}
