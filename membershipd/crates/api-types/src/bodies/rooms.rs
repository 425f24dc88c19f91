//! Rooms.

use serde::{Deserialize, Serialize};
use unibus_core::domain::{self, Author, MemberState, RoomId, RoomRole, RoomState, Subject};

use super::Passed;

/// What holds for the messages of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Messages are sealed with the room's key.
    pub encrypt: bool,
    /// Messages are kept, and served to members as history.
    pub persist: bool,
    /// Messages are signed by their sender.
    pub sign: bool,
}

/// How much of what is said in a room is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// Bytes of its messages, with what the store adds to each; where there are more the oldest of the member who said most make way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Days for which a message is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
}

/// How the caller stands to a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OwnMembership {
    /// `owner`, `moderator`, `member` or `reader`.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::RoomRole))]
    pub role: RoomRole,
    /// `invited`, `joined`, `removed` or `banned`.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::MemberState))]
    pub state: MemberState,
}

/// How to say what daemons keep, where they do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Keeper {
    /// The one subject on which the caller publishes in this room.
    pub publish: String,
    /// Where the caller is told what came of it: JSON with `id` and `seq`, or `id`, `refused` and `retry`.
    pub notices: String,
}

/// A room. Its revision is the ETag of the answer where there is one room in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Room {
    /// Name for ever: 1 to 64 of a-z, 0-9, '_' and '-'.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::RoomId))]
    pub id: RoomId,
    /// Members publish and subscribe it and everything below it; where there is a `keeper`, they publish as that says.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Subject))]
    pub subject: Subject,
    pub policy: Policy,
    /// `active` or `removed`.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::RoomState))]
    pub state: RoomState,
    /// Who made it: a handle, or `root@` and a node.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Author))]
    pub created_by: Author,
    /// Who made the last change.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Author))]
    pub changed_by: Author,
    /// What If-Match names, in quotes, for a change of this very record.
    pub revision: u64,
    /// How the caller stands to it; none: not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own: Option<OwnMembership>,
    /// Present where the caller may speak and daemons keep what is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeper: Option<Keeper>,
    /// What its owners chose to keep; what they leave out is as the server has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
    /// What is kept, of a room that persists, by the server's settings and the owners' choice; without days: without end. A cluster
    /// below feature level 2 tells none: each room has 10 MiB there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeps: Option<Keep>,
    /// What its owners should change, and why; none: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// A page of rooms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rooms {
    pub rooms: Vec<Room>,
    /// `after` of the next page; none: this is the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Cursor>))]
    pub next: Option<String>,
}

/// A room that is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewRoom {
    /// `proc`, `rpc`, `room` or `agent` and 1 to 7 more tokens of a-z, 0-9, '_' and '-', separated by dots.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Subject))]
    pub subject: String,
    /// Encrypted, kept and signed, where it is left out.
    pub policy: Option<Policy>,
}

/// What is to become of a room; what is left out stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RoomPatch {
    /// Another subject; whoever is connected hears nothing on the old one any more.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Subject>))]
    pub subject: Option<String>,
    /// Another policy, the whole of it.
    pub policy: Option<Policy>,
    /// Another choice of what is kept, the whole of it, within what the server allows; empty: as the server has it.
    pub keep: Option<Keep>,
}

/// What a change of a room came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChangedRoom {
    pub room: Room,
    #[serde(flatten)]
    pub passed: Passed,
}

impl From<domain::Policy> for Policy {
    fn from(domain::Policy { encrypt, persist, sign }: domain::Policy) -> Self {
        Self { encrypt, persist, sign }
    }
}

impl From<Policy> for domain::Policy {
    fn from(Policy { encrypt, persist, sign }: Policy) -> Self {
        Self { encrypt, persist, sign }
    }
}

impl From<domain::Keep> for Keep {
    fn from(domain::Keep { bytes, days }: domain::Keep) -> Self {
        Self { bytes, days }
    }
}

impl From<Keep> for domain::Keep {
    fn from(Keep { bytes, days }: Keep) -> Self {
        Self { bytes, days }
    }
}

impl From<domain::Keeping> for Keep {
    fn from(domain::Keeping { bytes, days }: domain::Keeping) -> Self {
        Self { bytes: Some(bytes), days }
    }
}
