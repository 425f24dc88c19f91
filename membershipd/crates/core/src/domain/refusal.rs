//! Why a command changes nothing, and what to do about it.

use super::claims::ClaimError;
use super::keep::Keeping;
use super::limits::{MEMBERS_PER_ROOM, PERSISTED_ROOMS, ROOMS, ROOMS_PER_USER};
use super::quota::Exhausted;
use super::room::RoomId;
use super::rules::Denial;
use super::user::Handle;

/// Why a command changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not permitted.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// The subject cannot be claimed.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The id is another room's.
    #[error("room '{0}' exists already, made by another user or with another subject or policy")]
    RoomExists(RoomId),
    /// The id was a room's.
    #[error("room '{0}' was removed; its id is never given again")]
    RoomRemoved(RoomId),
    /// Only encrypted rooms here.
    #[error("this bus can be reached from outside and takes encrypted rooms only")]
    MustEncrypt,
    /// Rooms that keep messages have them signed.
    #[error(
        "a room that keeps its messages has them signed: without a signature nobody could tell later who said what"
    )]
    PersistUnsigned,
    /// The cluster is at a level whose releases cannot read such a choice.
    #[error("what owners choose to keep of a room counts from feature level 2 on, and the cluster is at level 1")]
    KeepNotYet,
    /// The server allows less, or it is too little for a message.
    #[error("owners may choose to keep {0}")]
    KeepOutOfBounds(Keeping),
    /// There is no such user.
    #[error("there is no user '{0}'")]
    NoSuchUser(Handle),
    /// The user is not admitted to the bus.
    #[error("user '{0}' is disabled or was removed")]
    UserInactive(Handle),
    /// The user is banned from the room.
    #[error("user '{0}' is banned from the room")]
    Banned(Handle),
    /// The user is not banned.
    #[error("user '{0}' is not banned from the room")]
    NotBanned(Handle),
    /// The user is neither in the room nor invited.
    #[error("user '{0}' is neither a member of the room nor invited to it")]
    NotPresent(Handle),
    /// The user is in the room with another role.
    #[error("user '{0}' is a member of the room already, with another role")]
    AlreadyJoined(Handle),
    /// The room would be left without an owner who can act.
    #[error("user '{0}' is the last owner of the room who can act")]
    LastOwner(Handle),
    /// The user is in as many rooms as are allowed.
    #[error("user '{0}' is in {ROOMS_PER_USER} rooms, which is the most")]
    TooManyRooms(Handle),
    /// The user has made as many rooms as one may.
    #[error("user '{0}' has made {1}, which is the quota of a user on this bus")]
    Quota(Handle, Exhausted),
    /// There are as many rooms as are allowed.
    #[error("there are {ROOMS} rooms, which is the most on this bus")]
    NoMoreRooms,
    /// The room has as many members as are allowed.
    #[error("room '{0}' has {MEMBERS_PER_ROOM} members and invited ones, which is the most")]
    TooManyMembers(RoomId),
    /// As many rooms keep messages as there is disk for.
    #[error("{PERSISTED_ROOMS} rooms keep their messages or have kept some, which is the most that there is disk for")]
    TooManyPersisted,
}

impl Refusal {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Refusal::Denied(_) => "ask an owner or moderator of the room, or an admin",
            Refusal::Claim(ClaimError::Overlap { .. }) => "choose another subject",
            Refusal::Claim(ClaimError::Frozen) => {
                "try again in a moment; if it lasts, an operator runs 'cargo xtask roll --finish' again"
            }
            Refusal::Claim(_) => "choose a subject in another space",
            Refusal::RoomExists(_) | Refusal::RoomRemoved(_) => "choose another id",
            Refusal::MustEncrypt => {
                "make it with 'encrypt', or ask the operator to allow rooms in clear (--clear-rooms)"
            }
            Refusal::PersistUnsigned => "choose 'sign' as well, or leave out 'persist'",
            Refusal::KeepNotYet => "an operator runs 'cargo xtask roll --finish' when all nodes have this release",
            Refusal::KeepOutOfBounds(_) => {
                "choose within that, or ask the operator for more (--history-bytes, --history-days) on every node"
            }
            Refusal::NoSuchUser(_) => "see the directory; an admin makes users",
            Refusal::UserInactive(_) => "an admin can enable a disabled user",
            Refusal::Banned(_) => "lift the ban first",
            Refusal::NotBanned(_) => "there is no ban to lift; see the members of the room",
            Refusal::NotPresent(_) => "invite the user first",
            Refusal::AlreadyJoined(_) => "set the role instead",
            Refusal::LastOwner(_) => "make somebody else an owner first, or remove the room",
            Refusal::TooManyRooms(_) => "leave a room first",
            Refusal::Quota(_, Exhausted::Removed(_)) => {
                "use a room that there is, have an admin make the room, or ask the operator for a higher quota on every node"
            }
            Refusal::Quota(..) => {
                "remove a room of these, have an admin make the room, or ask the operator for a higher quota on every node"
            }
            Refusal::NoMoreRooms => "remove a room first",
            Refusal::TooManyMembers(_) => "remove members or take invitations back first",
            Refusal::TooManyPersisted => {
                "make it without 'persist', or remove a room that persists or ever did: its messages go with it"
            }
        }
    }
}
