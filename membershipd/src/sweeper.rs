//! Keeps the bucket of attachments: makes it where it is missing, and has it swept now and then, by one node of all.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::blobs::{self, Blobs, Swept};
use crate::gate::Gate;
use crate::tell::Teller;
use crate::transfer::adopt;
use unibus_core::bus::{BLOB_SWEEP, Bucket, HEARTBEAT, HEARTBEAT_ROUND};
use unibus_core::domain::{Records, RoomId, RoomState};
use unibus_store::link::Link;
use unibus_store::{SqliteStore, ensure_bucket};

/// Pause before the attachments of a file are carried again.
const ADOPT_AGAIN: Duration = Duration::from_secs(10);

/// Keeps it for as long as the session lasts. A node on its own has this one bucket in its engine, with one copy; what else it
/// does must not wait for it. If its `file` is a copy, the attachments of that are brought into the bucket first.
pub async fn keep(
    link: &Link,
    copies: usize,
    blobs: &Blobs,
    gate: &Gate,
    teller: &Teller,
    file: Option<&Arc<SqliteStore>>,
) -> Infallible {
    ensure_bucket(link, Bucket::Blobs, copies).await;
    while let Some(file) = file {
        match adopt(file, blobs).await {
            Ok(0) => break,
            Ok(attachments) => {
                tracing::info!(attachments, "the attachments of the file are in the engine now");
                break;
            }
            Err(error) => {
                tracing::warn!("the attachments of the file are not in the engine yet: {error}; {}", error.remedy());
                tokio::time::sleep(ADOPT_AGAIN).await;
            }
        }
    }
    // By then whoever else is there has been heard of.
    tokio::time::sleep(HEARTBEAT_ROUND + HEARTBEAT).await;
    loop {
        let now = Instant::now();
        if !gate.lease_valid(now) {
            tokio::time::sleep(HEARTBEAT).await;
            continue;
        }
        if teller.speaks(now) {
            match blobs::sweep(blobs, |room| is_removed(gate, room), OffsetDateTime::now_utc()).await {
                Ok(Swept { attachments: 0, uploads: 0 }) => {}
                Ok(Swept { attachments, uploads }) => {
                    tracing::info!(
                        attachments,
                        uploads,
                        "removed attachments of rooms that are gone, and unfinished uploads"
                    );
                }
                Err(error) => tracing::warn!("the attachments were not swept; that is tried again in an hour: {error}"),
            }
        }
        tokio::time::sleep(BLOB_SWEEP).await;
    }
}

/// Whether there is a tombstone of the room. One that is not known at all may be on its way, as in a restore.
fn is_removed(gate: &Gate, room: &RoomId) -> bool {
    gate.view(|view| view.room(room).is_some_and(|room| room.state == RoomState::Removed))
}
