//! Attachments from the outside. What goes up is sealed, and what comes down is still: that is done by whoever calls.

use std::time::Duration;

use bytes::Bytes;
use http::Method;

use super::{ANSWER, ANSWER_BYTES, AddedBlob, Client, ClientError, Request, Wire};
use unibus_api_types::BlobId;
use unibus_api_types::limits::{BLOB_BYTES, BLOB_FLOOR};
use unibus_core::domain::RoomId;

/// Time for an attachment, either way: as long as a node waits for it.
const PATIENCE: Duration = ANSWER.saturating_add(Duration::from_secs(BLOB_BYTES / BLOB_FLOOR as u64));

/// Where the attachments of a room are.
pub(crate) fn path(room: &RoomId) -> String {
    format!("{}/blobs", super::room_path(room))
}

impl Client {
    /// Adds `sealed`, 1 to [`BLOB_BYTES`] bytes, to the attachments of `room`, and says what it is called there. Repeating is safe.
    pub async fn put_blob(&self, room: &RoomId, sealed: Bytes) -> Result<AddedBlob, ClientError> {
        let target = format!("{}/{}", path(room), BlobId::of(&sealed));
        let request = Wire {
            method: Method::PUT,
            target: &target,
            content_type: Some("application/octet-stream"),
            body: sealed,
            if_match: None,
            most: ANSWER_BYTES,
            patience: PATIENCE,
        };
        let read = |body: Bytes| serde_json::from_slice(&body).map_err(|error| format!("an odd answer: {error}"));
        self.ask_by(&request, read).await
    }

    /// The attachment of `room` that is called `id`, as it was added. From a node that has something else in its place the next
    /// one is asked.
    pub async fn get_blob(&self, room: &RoomId, id: BlobId) -> Result<Bytes, ClientError> {
        let request = Request::get(format!("{}/{id}", path(room)));
        let most = usize::try_from(BLOB_BYTES).unwrap_or(usize::MAX);
        let request = Wire { most, patience: PATIENCE, ..Wire::of(&request) };
        let whole = |body: Bytes| {
            if BlobId::of(&body) == id { Ok(body) } else { Err("what it sent is not what was asked for".to_owned()) }
        };
        self.ask_by(&request, whole).await
    }
}
