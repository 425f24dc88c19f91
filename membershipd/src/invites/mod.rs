//! Invites: made, listed and taken back by admins, and used by whoever has the token, once.
//!
//! An invite and the user that comes of it stand in two buckets, so nothing changes both at once. What holds all the same:
//!
//! - *Of all keys one registers.* The invite is claimed for a key by compare-and-set before anything else is done. From then
//!   on no other key can use it, and this one can repeat every step, after a crash or an answer that was lost, until it is
//!   done.
//! - *Only a registration spends it.* The user comes first, then the mark. Where the mark is lost the user is there all the
//!   same, and nobody else can use the invite.
//! - *What was revoked is over.* Revoking and claiming replace the same revision, so one of the two sees the other. Of an
//!   invite that is claimed already the user's record decides: whoever revokes makes it, as a tombstone, or finds that the
//!   user was faster, and says so. The handle of such an invite is gone for good; whoever wants to keep it lets the invite
//!   expire.
//! - *It is as good as who made it.* He has to be an admin when the user is made, and stands in the audit as who made him.
//!
//! A handle is not held by an invite: several may name the same one, and the first to register has it. So an invite that was
//! lost stands in nobody's way.
//!
//! From the bottom up: `entries` is where they stand, `error` what goes wrong; `managing` is for admins, `registering` for the
//! one who is invited.

mod entries;
mod error;
mod managing;
mod registering;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::commands::Commands;

pub use entries::Kept;
pub use error::InviteError;
pub use managing::Managed;
pub use registering::Offer;

/// Attempts at an invite that others change too.
const CONTENTION: u32 = 5;

/// Invites through one node.
#[derive(Debug, Clone)]
pub struct Invites {
    commands: Arc<Commands>,
}

impl Invites {
    /// Changed by `commands`, in their store.
    pub fn new(commands: Arc<Commands>) -> Self {
        Self { commands }
    }
}
