//! The decision: who may do what. Pure; the API and the callout both ask here.

use super::user::{State, User};

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Open a connection to the bus.
    Connect,
}

/// Why somebody may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// No user has this key.
    #[error("unknown key")]
    UnknownKey,
    /// The user is switched off.
    #[error("user is disabled")]
    Disabled,
    /// The user is gone for good.
    #[error("user was removed")]
    Removed,
}

/// The verdict on an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It may be done.
    Allow,
    /// It may not.
    Deny(Denial),
}

/// Decides whether `subject` (none: nobody has the key that was shown) may do `action`.
pub fn decide(subject: Option<&User>, action: Action) -> Decision {
    let Some(user) = subject else { return Decision::Deny(Denial::UnknownKey) };
    match (user.state, action) {
        (State::Active, Action::Connect) => Decision::Allow,
        (State::Disabled, _) => Decision::Deny(Denial::Disabled),
        (State::Removed, _) => Decision::Deny(Denial::Removed),
    }
}
