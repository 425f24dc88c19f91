//! What admins do with invites: make them and revoke them.

use super::Invites;
use super::entries::{Kept, address};
use super::error::InviteError;
use crate::commands::audit::{About, Decided, Stage};
use crate::commands::{Change, CommandError, Commands, Done, Earlier, Plan, Principal, Step};
use crate::users::{UserChange, UserError, word};
use unibus_core::domain::{Action, Handle, Invite, InviteId, InviteState, Resource, Role, SignPub, State, User};

/// Attempts to forestall a registration that is under way.
const ATTEMPTS: u32 = 5;

/// What a change of an invite came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Managed {
    /// The invite as it is now.
    pub kept: Kept,
    /// False where it was so already.
    pub changed: bool,
}

/// A change of an invite, as it is given.
struct InviteCommand<'a> {
    invites: &'a Invites,
    by: &'a User,
    id: InviteId,
    what: What,
}

enum What {
    Make(Invite),
    /// The invite is for a user with this handle.
    Revoke(Handle),
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
        let what = What::Make(Invite::new(handle, role, by.handle.clone(), now_unix));
        self.change(&InviteCommand { invites: self, by, id, what }).await
    }

    /// Revokes an invite, as `by`: a client that has not registered yet never can. Fails as `Used` where one has.
    pub async fn revoke(&self, by: &User, id: InviteId) -> Result<Managed, InviteError> {
        self.commands.state().read(|_| ())?;
        let kept = self.read(id).await?.ok_or(InviteError::Missing(id))?;
        self.change(&InviteCommand { invites: self, by, id, what: What::Revoke(kept.invite.handle) }).await
    }

    async fn change(&self, command: &InviteCommand<'_>) -> Result<Managed, InviteError> {
        let Done { found: invite, revision, changed, .. } = self.commands.carry_out(command).await?;
        let revision = revision.ok_or(InviteError::Missing(command.id))?;
        Ok(Managed { kept: Kept { id: command.id, invite, revision }, changed })
    }

    /// Sees to it that the owner of `key`, who has claimed the invite, can never become the user that it is for.
    async fn forestall(&self, by: &User, kept: &Kept, key: SignPub) -> Result<(), InviteError> {
        let handle = &kept.invite.handle;
        for _ in 0..ATTEMPTS {
            let (user, owner) = self.commands.state().read(|view| {
                (view.versioned_user(handle).map(|user| user.value.clone()), view.claimed_by(&key).cloned())
            })?;
            match user {
                Some(user) if user.sign_pub == key && user.state != State::Removed => {
                    return Err(InviteError::Used(user.handle));
                }
                // The handle is another user's, or was.
                Some(_) => return Ok(()),
                None if owner.is_some_and(|owner| owner != *handle) => return Ok(()),
                None => {}
            }
            let user = User { state: State::Removed, ..kept.invite.user(key) };
            match self.commands.change_user(by.into(), UserChange::Tombstone(user, kept.id)).await {
                Ok(_) => return Ok(()),
                // Another change was faster. Our view shows by now which.
                Err(UserError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(InviteError::Contended(kept.id))
    }
}

impl Change for InviteCommand<'_> {
    type Found = Invite;
    type Error = InviteError;

    async fn plan(&self, on: &Commands, _: &mut Earlier) -> Result<Plan<Invite>, InviteError> {
        let decided = Decided { bus: Some(self.by.role), room: None };
        let kept = self.invites.read(self.id).await?;
        let about = address(&self.id)?;
        let found = |kept: Kept| Plan::stands_already(decided, about.clone(), Some(kept.revision), kept.invite);
        let (write, expected) = match (&self.what, kept) {
            (What::Make(invite), Some(kept)) if is_same(&kept.invite, invite) => return Ok(found(kept)),
            (What::Make(_), Some(_)) => return Err(InviteError::Exists(self.id)),
            (What::Make(invite), None) => (invite.clone(), None),
            (What::Revoke(_), None) => return Err(InviteError::Missing(self.id)),
            (What::Revoke(_), Some(kept)) => {
                match kept.invite.state {
                    InviteState::Revoked => return Ok(found(kept)),
                    InviteState::Spent { .. } => return Err(InviteError::Used(kept.invite.handle)),
                    InviteState::Open => {}
                    InviteState::Claimed { key } => self.invites.forestall(self.by, &kept, key).await?,
                }
                (kept.invite.revoked(), Some(kept.revision))
            }
        };
        on.state().read(|view| {
            let allowed = Principal::from(self.by).authorize(self.action(), Resource::Bus, view);
            allowed.map_err(|denial| InviteError::User(denial.into()))?;
            // An invite for a user who is there, or was, is of no use.
            if expected.is_none() && view.versioned_user(&write.handle).is_some() {
                return Err(InviteError::HandleTaken(write.handle.clone()));
            }
            Ok(())
        })??;
        let step = Step::entry(about.clone(), &write, expected)?;
        Ok(Plan::new(decided, about, vec![step], write))
    }

    fn announced(&self) -> Option<Decided> {
        Some(Decided { bus: Some(self.by.role), room: None })
    }

    fn about(&self, _: &Earlier) -> Option<About> {
        let (user, with) = match &self.what {
            What::Make(invite) => (invite.handle.clone(), format!("role={} invite={}", word(invite.role), self.id)),
            What::Revoke(handle) => (handle.clone(), format!("invite={}", self.id)),
        };
        let about = About::new(Principal::from(self.by).author, self.action().name());
        Some(About { user: Some(user), with: Some(with), ..about })
    }

    fn stage(&self, error: &InviteError) -> Stage {
        match error {
            error if error.is_refusal() => Stage::Refused(error.to_string()),
            error if error.is_unknown() => Stage::Unknown(error.to_string()),
            error => Stage::Failed(error.to_string()),
        }
    }

    fn failed(&self, error: CommandError) -> InviteError {
        match error {
            CommandError::Unavailable(error) | CommandError::Store(error) => InviteError::Store(error),
            CommandError::Audit(error) => InviteError::Audit(error),
            CommandError::Contended(_) => InviteError::Contended(self.id),
            other => InviteError::User(other.into()),
        }
    }
}

impl InviteCommand<'_> {
    fn action(&self) -> Action {
        match self.what {
            What::Make(_) => Action::InviteUser,
            What::Revoke(_) => Action::RevokeInvite,
        }
    }
}

/// Whether `kept` is what making `wanted` came to before.
fn is_same(kept: &Invite, wanted: &Invite) -> bool {
    (&kept.handle, kept.role, &kept.by) == (&wanted.handle, wanted.role, &wanted.by)
        && kept.state != InviteState::Revoked
}
