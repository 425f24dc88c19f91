//! Attachments.

use serde::{Deserialize, Serialize};
use unibus_core::domain::Handle;

use crate::BlobId;

/// An attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Blob {
    /// What it is called: the sha256 of its bytes, 64 hexadecimal digits.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Sha256))]
    pub sha256: BlobId,
    /// How long it is.
    pub bytes: u64,
    /// Who added it: a handle.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Handle))]
    pub by: Handle,
    /// When: milliseconds since 1970.
    pub at_ms: i64,
}

/// A page of attachments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Blobs {
    pub blobs: Vec<Blob>,
    /// `after` of the next page; none: this is the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Cursor>))]
    pub next: Option<String>,
}

/// What adding an attachment came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AddedBlob {
    pub blob: Blob,
    /// False where it was there already; then `by` and `at_ms` say who added it, and when.
    pub changed: bool,
}

/// What removing an attachment came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RemovedBlob {
    /// False where there was none.
    pub changed: bool,
}
