//! Messages that are kept.

use serde::{Deserialize, Serialize};

/// Something that was said in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Message {
    /// Its place: larger than that of whatever was said before. After a restore places are given anew.
    pub seq: u64,
    /// When it was kept, milliseconds since 1970.
    pub at_ms: i64,
    /// Where it was said: the room's subject then, or below it.
    pub subject: String,
    /// What was said, as it was published, base64.
    pub frame: String,
}

/// What was said in a room, oldest first. Where the last message is not the one at `last`, there is more: ask again after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct History {
    pub messages: Vec<Message>,
    /// Place of the oldest message that is kept; those before it have made way.
    pub first: u64,
    /// Place of the newest message; 0: there never was one.
    pub last: u64,
    /// How many messages there are after those of the page. Nodes of an older release do not tell.
    #[serde(default)]
    pub more: u64,
    /// Places of messages that are kept and cannot be read; they lie between those of the page, or before its first or after its
    /// last. Absent: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<u64>,
}
