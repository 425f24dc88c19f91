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
    /// How many there are after those of the page; none: a node of an older release, which does not tell.
    #[serde(default)]
    pub more: Option<u64>,
}

fn base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    BASE64.decode(text.as_bytes()).map_err(serde::de::Error::custom)
}

/// What lies ahead of a reader of a room's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// Number of the newest message; 0: there is none.
    pub last: u64,
    /// How many there are; none: the node is of an older release, which does not tell.
    pub count: Option<u64>,
}

impl Ahead {
    /// What `room` has kept after number `after`. Reads one message at most.
    pub async fn of(api: &Client, room: &RoomId, after: u64) -> Result<Self, TalkError> {
        let Page { messages, last, more } = page(api, room, Some(after), 1).await?;
        let read = u64::try_from(messages.len()).unwrap_or(u64::MAX);
        Ok(Self { last, count: more.map(|more| more.saturating_add(read)) })
    }
}

/// The `limit` frames after number `after`; without that, the last ones.
pub(super) async fn page(api: &Client, room: &RoomId, after: Option<u64>, limit: u32) -> Result<Page, TalkError> {
    let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
    let request = Request::get(format!("{}/history?limit={limit}{after}", room_path(room)));
    api.ask_for(&request).await.map_err(TalkError::api("read the history of the room"))
}
