//! What a room has kept, page by page.

use data_encoding::BASE64;
use serde::{Deserialize, Deserializer};

use super::error::TalkError;
use crate::api::{Client, Request, room_path};
use unibus_api_types::limits;
use unibus_core::domain::RoomId;

/// Messages of a page that is asked for: as many as there may be.
pub(super) const PAGE: u32 = limits::HISTORY_MOST;

/// A frame that was kept.
#[derive(Debug, Clone, Deserialize)]
pub struct Kept {
    /// Its number in the room's history.
    pub seq: u64,
    /// When it was kept, in milliseconds since 1970.
    pub at_ms: u64,
    /// On which subject it came.
    pub subject: String,
    /// The frame.
    #[serde(deserialize_with = "base64")]
    pub frame: Vec<u8>,
}

/// A page of a room's history.
#[derive(Debug, Clone, Deserialize)]
pub struct Page {
    /// The frames, oldest first.
    pub messages: Vec<Kept>,
    /// Number of the newest that is kept.
    pub last: u64,
}

fn base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    BASE64.decode(text.as_bytes()).map_err(serde::de::Error::custom)
}

/// The `limit` frames after number `after`; without that, the last ones.
pub(super) async fn page(api: &Client, room: &RoomId, after: Option<u64>, limit: u32) -> Result<Page, TalkError> {
    let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
    let request = Request::get(format!("{}/history?limit={limit}{after}", room_path(room)));
    api.ask_for(&request).await.map_err(TalkError::api("read the history of the room"))
}
