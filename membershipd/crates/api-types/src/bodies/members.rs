//! Members of rooms.

use serde::{Deserialize, Serialize};
use unibus_core::domain::{Author, Handle, MemberState, RoomId, RoomRole};

use super::Passed;

/// How a user stands to a room. Its revision is the ETag of the answer where there is one membership in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Member {
    /// The room.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::RoomId))]
    pub room: RoomId,
    /// The user.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Handle))]
    pub handle: Handle,
    /// `owner`, `moderator`, `member` or `reader`; of who is not in the room, the role that he had.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::RoomRole))]
    pub role: RoomRole,
    /// `invited`, `joined`, `removed` or `banned`.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::MemberState))]
    pub state: MemberState,
    /// Who made the last change: a handle, or `root@` and a node.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Author))]
    pub changed_by: Author,
    /// What If-Match names, in quotes, for a change of this very record.
    pub revision: u64,
}

/// A page of members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Members {
    pub members: Vec<Member>,
    /// `after` of the next page; none: this is the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Cursor>))]
    pub next: Option<String>,
}

/// How the caller's own membership of a room ended, in the problem that says that the caller is not in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EndedMembership {
    /// The room.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub room: RoomId,
    /// `removed` or `banned`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub state: MemberState,
    /// Who ended it: a handle, or `root@` and a node; absent: the caller left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub by: Option<Author>,
    /// When that was written, milliseconds since 1970; absent: the node does not know. After a restore it is when that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<i64>,
}

/// A role in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct MemberRole {
    /// `owner`, `moderator`, `member` or `reader`.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::RoomRole))]
    pub role: RoomRole,
}

/// How an invitation is accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Acceptance {
    /// Whether the user's open connections to the bus go on with the rights that they have. Otherwise they are ended, and have the
    /// room when the clients connect again; at feature level 1 they always go on.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required = false))]
    pub keep_connections: bool,
}

/// What a change of a membership came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChangedMember {
    pub member: Member,
    #[serde(flatten)]
    pub passed: Passed,
}
