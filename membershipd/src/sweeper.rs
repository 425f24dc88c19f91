//! Keeps the bucket of attachments: makes it where it is missing, and has it swept now and then, by one node of all.

use std::convert::Infallible;
use std::time::Instant;

use time::OffsetDateTime;

use crate::blobs::{self, Blobs, Swept};
use crate::bus::{BLOB_SWEEP, Bucket, HEARTBEAT, HEARTBEAT_ROUND};
use crate::domain::{Records, RoomId, RoomState};
use crate::gate::Gate;
use crate::link::Link;
use crate::store::ensure_bucket;
use crate::tell::Teller;

/// Keeps it for as long as the session lasts. A node on its own has this one bucket in its engine, with one copy; what else it
/// does must not wait for it.
pub async fn keep(link: &Link, copies: usize, blobs: &Blobs, gate: &Gate, teller: &Teller) -> Infallible {
    ensure_bucket(link, Bucket::Blobs, copies).await;
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
