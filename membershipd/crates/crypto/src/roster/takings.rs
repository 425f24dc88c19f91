//! What a server may say about a room without a signature: that a user is out.

use std::collections::BTreeSet;

use crate::recipient::Recipient;
use unibus_core::domain::{Handle, SignPub};

/// Users whom the server counts out: disabled, removed by an admin, or with a key that was replaced. It is the server's word alone, so it
/// only ever takes away: no user gets a key or a role by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Takings(BTreeSet<(Handle, SignPub)>);

impl Takings {
    /// Whether this person, with this key, is counted out.
    pub fn has(&self, person: &Recipient) -> bool {
        self.0.contains(&(person.handle.clone(), person.sign_pub))
    }
}

impl FromIterator<(Handle, SignPub)> for Takings {
    fn from_iter<T: IntoIterator<Item = (Handle, SignPub)>>(taken: T) -> Self {
        Self(taken.into_iter().collect())
    }
}
