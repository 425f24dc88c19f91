//! What changes are answered with, whatever was changed.

use serde::Deserialize;
use unibus_core::domain::RevocationOutcome;

/// What a change came to.
#[derive(Debug, Clone, Deserialize)]
pub struct Changed<T> {
    /// The record as it is now.
    #[serde(alias = "room", alias = "member", alias = "invite", alias = "user")]
    pub record: T,
    /// False where it was so already.
    pub changed: bool,
    /// How it is known that no node honours what was taken away; none: nothing was.
    pub fence: Option<RevocationOutcome>,
    /// Milliseconds that were waited for that.
    #[serde(default)]
    pub waited_ms: u64,
}
