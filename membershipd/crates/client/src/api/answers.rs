//! What the API answers, as far as clients look at it.

use serde::Deserialize;

use unibus_api_types::BlobId;
use unibus_core::domain::RevocationOutcome;
use unibus_core::domain::{Author, Handle, InviteId, MemberState, Policy, Role, RoomId, RoomRole, RoomState, Subject};

/// How the caller stands to a room.
#[derive(Debug, Clone, Deserialize)]
pub struct Own {
    /// With which role.
    pub role: RoomRole,
    /// In it, invited, or not any more.
    pub state: MemberState,
}

/// A room.
#[derive(Debug, Clone, Deserialize)]
pub struct Room {
    /// Its id.
    pub id: RoomId,
    /// Its subject.
    pub subject: Subject,
    /// What holds for its messages.
    pub policy: Policy,
    /// Whether it still is one.
    pub state: RoomState,
    /// What a change of it names.
    pub revision: u64,
    /// How the caller stands to it; none: not at all.
    pub own: Option<Own>,
}

/// How a user stands to a room.
#[derive(Debug, Clone, Deserialize)]
pub struct Member {
    /// The user.
    pub handle: Handle,
    /// With which role.
    pub role: RoomRole,
    /// In it, invited, or not any more.
    pub state: MemberState,
    /// Who made the last change.
    pub changed_by: Author,
    /// What a change of it names.
    pub revision: u64,
}

/// An invite.
#[derive(Debug, Clone, Deserialize)]
pub struct Invite {
    /// Its name.
    pub id: InviteId,
    /// The handle that the user will have.
    pub handle: Handle,
    /// The role that the user will have.
    pub role: Role,
    /// The admin who made it.
    pub by: Handle,
    /// From when on nobody can begin with it: seconds since 1970.
    pub expires_at: i64,
    /// Whether somebody can use it, has used it, or why nobody can.
    pub state: String,
}

/// What a change came to.
#[derive(Debug, Clone, Deserialize)]
pub struct Changed<T> {
    /// The record as it is now.
    #[serde(alias = "room", alias = "member", alias = "invite")]
    pub record: T,
    /// False where it was so already.
    pub changed: bool,
    /// How it is known that no node honours what was taken away; none: nothing was.
    pub fence: Option<RevocationOutcome>,
    /// Milliseconds that were waited for that.
    #[serde(default)]
    pub waited_ms: u64,
}

/// An attachment of a room.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Blob {
    /// What it is called.
    pub sha256: BlobId,
    /// How long it is, sealed, in bytes.
    pub bytes: u64,
    /// Who added it.
    pub by: Handle,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

/// What adding an attachment came to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Added {
    /// The attachment.
    pub blob: Blob,
    /// False where it was there already.
    pub changed: bool,
}

/// A record of the audit log.
#[derive(Debug, Clone, Deserialize)]
pub struct Audited {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// Who.
    pub who: Author,
    /// What.
    pub action: String,
    /// The user who was changed.
    pub user: Option<Handle>,
    /// The room.
    pub room: Option<RoomId>,
    /// Whose membership of it.
    pub member: Option<Handle>,
    /// What was asked for beside that.
    pub with: Option<String>,
    /// How far it has come.
    pub stage: String,
    /// Of what was not done, why.
    pub why: Option<String>,
}
