//! Why an entry, or a whole log, is not taken.

use super::limits::{GRANTS, MEMBERS};
use unibus_core::domain::{Denial, Handle, RoomId};

/// Why an entry or a log is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RosterRefusal {
    /// It is no entry, or is written in another way than the one that there is.
    #[error("it is not an entry of a roster: {0}")]
    Malformed(&'static str),
    /// It is larger than an entry may be.
    #[error("the entry has {0} bytes, more than an entry may have")]
    TooLarge(usize),
    /// It belongs to another room.
    #[error("the entry is of room '{found}', and the log is that of '{expected}'")]
    ForeignRoom {
        /// The room of the log.
        expected: RoomId,
        /// The room of the entry.
        found: RoomId,
    },
    /// Entries before it are missing.
    #[error("entry {expected} of the log is missing; entry {found} was found in its place")]
    Gap {
        /// The number that comes next.
        expected: u32,
        /// The number that came.
        found: u32,
    },
    /// The log has it already.
    #[error("entry {0} is in the log already")]
    Applied(u32),
    /// There are two different entries with this number: members were shown different logs.
    #[error("the log has two different entries {0}: the server has shown this room in two ways")]
    Fork(u32),
    /// The log ends before a head that was seen.
    #[error("the log ends at entry {found}, and this client has seen entry {seen}: the server shows an old one")]
    StepBack {
        /// Number of the newest head that was seen.
        seen: u32,
        /// Number of the head that came.
        found: u32,
    },
    /// Another person has begun it.
    #[error("the log was begun by the owner of another key than the one that is expected")]
    OtherCreator,
    /// The link that was followed names another invitation than the log has at that place.
    #[error("the log does not have the invitation of the link at the place that the link names")]
    OtherLink,
    /// The signature is not that of the actor's key.
    #[error("the signature is not that of '{0}'")]
    Signature(Handle),
    /// The second signature is not that of the invite key.
    #[error("'{0}' does not have the link with which they come in")]
    InviteSignature(Handle),
    /// The actor has another key.
    #[error("the entry is signed with a key that the log does not have for '{0}'")]
    OtherKey(Handle),
    /// The actor's key was replaced.
    #[error("the entry is signed with a key of '{0}' that was replaced")]
    ReplacedKey(Handle),
    /// The actor may not do that.
    #[error("the actor may not do that: {0}")]
    Denied(#[from] Denial),
    /// It changes nothing.
    #[error("it changes nothing")]
    Unchanged,
    /// The user is in the room or invited.
    #[error("'{0}' is in the room or invited to it already")]
    Present(Handle),
    /// The user is neither in the room nor invited.
    #[error("'{0}' is neither in the room nor invited to it")]
    NotPresent(Handle),
    /// The user is banned.
    #[error("'{0}' is banned from the room")]
    Banned(Handle),
    /// The user is not banned.
    #[error("'{0}' is not banned from the room")]
    NotBanned(Handle),
    /// The room would have no owner.
    #[error("'{0}' is the last owner of the room")]
    LastOwner(Handle),
    /// The room is full.
    #[error("the room has {MEMBERS} members, invited users and open links, which is the most")]
    TooManyMembers,
    /// The log is full.
    #[error(
        "the log has {GRANTS} entries; from now on it takes only entries that remove, and the room has to be continued"
    )]
    Full,
    /// The key is not new.
    #[error("the log has that key already, for '{0}'")]
    KeyInUse(Handle),
    /// The log has other keys for the handle.
    #[error("the log has other keys for '{0}'; an owner takes new ones in with replace-key")]
    KeyChanged(Handle),
    /// The HPKE key is one that nothing can be sealed to.
    #[error("the HPKE key of '{0}' is weak")]
    WeakKey(Handle),
    /// The user was invited with another HPKE key than they have.
    #[error("'{0}' was invited with another HPKE key than the one that they accept with")]
    OtherHpkeKey(Handle),
    /// There is no such link.
    #[error("the log has no such link")]
    NoSuchLink,
    /// The link was used.
    #[error("the link was used before; it can be used once")]
    LinkUsed,
    /// The link was taken back.
    #[error("the link was taken back")]
    LinkRevoked,
    /// The link's maker could not make it any more.
    #[error("'{0}', who made the link, may not invite any more, or has another key since")]
    LinkMakerGone(Handle),
}

impl RosterRefusal {
    /// A word for programs: the one in docs/roster.md.
    pub fn code(&self) -> &'static str {
        match self {
            RosterRefusal::Malformed(_) => "malformed",
            RosterRefusal::TooLarge(_) => "too-large",
            RosterRefusal::ForeignRoom { .. } => "foreign-room",
            RosterRefusal::Gap { .. } => "gap",
            RosterRefusal::Applied(_) => "applied",
            RosterRefusal::Fork(_) => "fork",
            RosterRefusal::StepBack { .. } => "step-back",
            RosterRefusal::OtherCreator => "other-creator",
            RosterRefusal::OtherLink => "other-link",
            RosterRefusal::Signature(_) => "signature",
            RosterRefusal::InviteSignature(_) => "invite-signature",
            RosterRefusal::OtherKey(_) => "other-key",
            RosterRefusal::ReplacedKey(_) => "replaced-key",
            RosterRefusal::Denied(_) => "denied",
            RosterRefusal::Unchanged => "unchanged",
            RosterRefusal::Present(_) => "present",
            RosterRefusal::NotPresent(_) => "not-present",
            RosterRefusal::Banned(_) => "banned",
            RosterRefusal::NotBanned(_) => "not-banned",
            RosterRefusal::LastOwner(_) => "last-owner",
            RosterRefusal::TooManyMembers => "too-many-members",
            RosterRefusal::Full => "full",
            RosterRefusal::KeyInUse(_) => "key-in-use",
            RosterRefusal::KeyChanged(_) => "key-changed",
            RosterRefusal::WeakKey(_) => "weak-key",
            RosterRefusal::OtherHpkeKey(_) => "other-hpke-key",
            RosterRefusal::NoSuchLink => "no-such-link",
            RosterRefusal::LinkUsed => "link-used",
            RosterRefusal::LinkRevoked => "link-revoked",
            RosterRefusal::LinkMakerGone(_) => "link-maker-gone",
        }
    }
}

/// A refusal, and at which place of the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {number}: {why}")]
pub struct RefusedAt {
    /// Place in the log, from 1; behind its last entry: what is missing there.
    pub number: u32,
    /// Why.
    #[source]
    pub why: RosterRefusal,
}
