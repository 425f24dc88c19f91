//! Invites.

use serde::{Deserialize, Serialize};
use unibus_core::domain::{Handle, InviteId, Role, SignPub, Token};

/// An invite: who may make himself a user, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Invite {
    /// Its name: the SHA-256 of its token, 64 hexadecimal digits.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::InviteId))]
    pub id: InviteId,
    /// The handle that the user will have.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Handle))]
    pub handle: Handle,
    /// The role that the user will have: `admin` or `user`.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Role))]
    pub role: Role,
    /// The admin who made it.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Handle))]
    pub by: Handle,
    /// When it was made: seconds since 1970.
    pub made_at: i64,
    /// From when on nobody can begin with it: seconds since 1970.
    pub expires_at: i64,
    /// `open`; `claimed`: somebody has begun to register with it, and nobody else can; `spent`: that is a user now; `revoked`;
    /// `expired`.
    pub state: String,
    /// Of one that is claimed or spent: the public Ed25519 key of who did it, 64 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::SignPub>))]
    pub key: Option<SignPub>,
}

/// A page of invites, in the order of their last changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Invites {
    pub invites: Vec<Invite>,
    /// `after` of the next page; none: this is the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Cursor>))]
    pub next: Option<String>,
}

/// What a change of an invite came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChangedInvite {
    pub invite: Invite,
    /// False where it was so already.
    pub changed: bool,
}

/// An invite that is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewInvite {
    /// The handle that the user will have, which nobody has or had. Several invites may name the same one: the first to register
    /// has it.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Handle))]
    pub handle: Handle,
    /// `admin` or `user`, which is the default.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Role>))]
    pub role: Option<Role>,
}

/// What somebody registers with. His key is the one that signs the request.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The token of an invite: 32 bytes, 43 characters of base64url.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Token))]
    pub token: Token,
}
