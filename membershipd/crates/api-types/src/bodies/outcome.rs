//! What a change came to.

use serde::{Deserialize, Serialize};
use unibus_core::domain::RevocationOutcome;

/// What a change came to, beside the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Passed {
    /// False where it was so already.
    pub changed: bool,
    /// Number of the change in the audit log.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::ChangeId))]
    pub audit: String,
    /// How it is known that no node honours what was taken away: `acknowledged`, every node said so; `waited_out`, so much
    /// time has passed that none can. Left out where nothing was taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::RevocationOutcome>))]
    pub fence: Option<RevocationOutcome>,
    /// Milliseconds waited for that; 0 where nothing was taken away.
    pub waited_ms: u64,
    /// What is left for a repair, and decides nothing: `index`, `claim` or `record`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfinished: Vec<String>,
}
