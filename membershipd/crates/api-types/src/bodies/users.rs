//! Users, and where the bus is.

use serde::{Deserialize, Serialize};

use crate::bound::BoundMet;
use unibus_core::domain::{FeatureLevel, Handle, RevocationOutcome, Role, SignPub, State};

/// The record of a user. Its revision is the ETag of the answer where there is one record in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct User {
    /// Name: 1 to 32 of a-z, 0-9, '_' and '-'.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Handle))]
    pub handle: Handle,
    /// Public Ed25519 key, 64 hexadecimal digits.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::SignPub))]
    pub sign_pub: SignPub,
    /// `admin` or `user`.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Role))]
    pub role: Role,
    /// `active`, `disabled` or `removed`.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::UserState))]
    pub state: State,
    /// What If-Match names, in quotes, for a change of this very record.
    pub revision: u64,
}

/// A page of users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Users {
    pub users: Vec<User>,
    /// `after` of the next page; none: this is the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Cursor>))]
    pub next: Option<String>,
}

/// A user as all users see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DirectoryEntry {
    /// Name.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Handle))]
    pub handle: Handle,
    /// Public Ed25519 key, 64 hexadecimal digits.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::SignPub))]
    pub sign_pub: SignPub,
}

/// A page of the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Directory {
    pub users: Vec<DirectoryEntry>,
    /// `after` of the next page; none: this is the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Cursor>))]
    pub next: Option<String>,
}

/// Where the bus is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Bus {
    /// Port of every node's engine.
    pub port: u16,
    /// Whether it speaks TLS, with a certificate of the same CA as the API.
    pub tls: bool,
    /// Feature level of the cluster: what clients may write depends on it. A daemon of release 0.1.0 says none, and is at the first.
    #[serde(default = "first_level")]
    pub level: u32,
    /// The bound that the caller met at this node in the last seconds, if any: why a connection was refused or ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub met: Option<BoundMet>,
}

fn first_level() -> u32 {
    FeatureLevel::default().number()
}

/// A user that is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Public Ed25519 key, 64 hexadecimal digits, that no other user has or had.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::SignPub))]
    pub sign_pub: SignPub,
    /// `admin` or `user`, which is the default.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Role>))]
    pub role: Option<Role>,
}

/// What is to become of a user; what is left out stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UserPatch {
    /// `active` or `disabled`.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::UserSwitch>))]
    pub state: Option<Switch>,
    /// `admin` or `user`.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Role>))]
    pub role: Option<Role>,
}

/// The states between which a user can be switched: removal is final and has its own method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    Active,
    Disabled,
}

/// What a change came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChangedUser {
    pub user: User,
    /// False where it was so already.
    pub changed: bool,
    /// Milliseconds waited until no node honours what was taken away; 0 where nothing was.
    pub waited_ms: u64,
    /// `acknowledged` where every node said so, `waited_out` where some did not and their time is over; none where nothing was
    /// taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::RevocationOutcome>))]
    pub fence: Option<RevocationOutcome>,
}
