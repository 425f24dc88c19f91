//! Records of the audit log.

use serde::{Deserialize, Serialize};
use unibus_core::domain::{Author, Handle, Role, RoomId, RoomRole};

/// The rights by which something was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Decided {
    /// The role on the bus; none: root on a node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Role>))]
    pub bus: Option<Role>,
    /// The role in the room; none: no member, or nothing about a room.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::RoomRole>))]
    pub room: Option<RoomRole>,
}

/// A record that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Written {
    pub record: String,
    pub revision: u64,
}

/// A record of the audit log. What somebody did has two with the same `id`: `begun` before anything is changed, and then
/// what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditRecord {
    /// Number of the entry in which it is; those that were written at one time share one.
    pub number: u64,
    /// What somebody did: 32 hexadecimal digits.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::ChangeId))]
    pub id: String,
    /// When: milliseconds since 1970.
    pub at_ms: i64,
    /// Who: a handle, or `root@` and a node.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Author))]
    pub who: Author,
    /// What: one of the permissions, or `repair.` and what was repaired.
    pub action: String,
    /// The user who was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Handle>))]
    pub user: Option<Handle>,
    /// The room.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::RoomId>))]
    pub room: Option<RoomId>,
    /// Whose membership of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Handle>))]
    pub member: Option<Handle>,
    /// What was asked for beside that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with: Option<String>,
    /// `begun`, `done`, `refused`, `failed`, or `unknown`: it may have been done.
    pub stage: String,
    /// Of what has begun, by which rights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided: Option<Decided>,
    /// Of what is done, what it concerns, and at which revision that is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub written: Vec<Written>,
    /// Of what was not done, why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A page of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Audit {
    pub records: Vec<AuditRecord>,
    /// `after` of the next page; none: this is the last one. A page may have few records, or none, and a next one all the same: so much
    /// was looked through for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Cursor>))]
    pub next: Option<String>,
    /// Of the last records, `before` of those before them; none: there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Cursor>))]
    pub earlier: Option<String>,
}
