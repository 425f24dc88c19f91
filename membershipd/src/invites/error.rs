//! Why something with an invite was not done, or is not known to be.

use crate::commands::NotProven;
use crate::users::UserError;
use unibus_core::domain::{Handle, InviteId, SignPub, Unusable};
use unibus_store::StoreError;

/// Why something with an invite was not done, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub enum InviteError {
    /// Nobody may register with it, or not this one. Which of the reasons it is, is for the log.
    #[error("nobody can register with that: {0}")]
    Unusable(Unusable),
    /// There is no such invite.
    #[error("there is no invite {0}")]
    Missing(InviteId),
    /// The token was used for another invite.
    #[error("invite {0} exists already, made by somebody else, or for another handle or role, or revoked")]
    Exists(InviteId),
    /// A handle is given once.
    #[error("there is or was a user '{0}'; a handle is never given again")]
    HandleTaken(Handle),
    /// A key is used once.
    #[error("the key {0} belongs or belonged to somebody; a key is never used twice")]
    KeyTaken(SignPub),
    /// Somebody has registered with it.
    #[error("user '{0}' has registered with the invite; to shut him out, remove the user")]
    Used(Handle),
    /// The user could not be made, or is not known to be.
    #[error(transparent)]
    User(#[from] UserError),
    /// The store did not take it, or did not say.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log did not take the record that comes before a change.
    #[error("nothing was changed, as the audit log did not take its record: {0}")]
    Audit(StoreError),
    /// Others kept changing it.
    #[error("others kept changing invite {0}; nothing was changed")]
    Contended(InviteId),
}

impl From<NotProven> for InviteError {
    fn from(error: NotProven) -> Self {
        InviteError::User(error.into())
    }
}

impl InviteError {
    /// Whether it may have been done, or may still be.
    pub fn is_unknown(&self) -> bool {
        match self {
            InviteError::User(error) => error.is_unknown(),
            InviteError::Store(error) => matches!(error, StoreError::Unknown { .. }),
            _ => false,
        }
    }

    /// Whether the rules, or what is there, say no.
    pub fn is_refusal(&self) -> bool {
        match self {
            InviteError::User(error) => {
                matches!(error, UserError::Denied(_) | UserError::Missing(_) | UserError::Conflict(_))
            }
            InviteError::Unusable(_)
            | InviteError::Missing(_)
            | InviteError::Exists(_)
            | InviteError::HandleTaken(_)
            | InviteError::KeyTaken(_)
            | InviteError::Used(_) => true,
            InviteError::Store(_) | InviteError::Audit(_) | InviteError::Contended(_) => false,
        }
    }
}
