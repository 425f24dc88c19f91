//! From the stream of a room, which captured what members said, into the shard in which daemons keep it.
//!
//! The node that appends to the shard does it, before it appends anything that is said in the room: the stream lets go, all that it
//! has is carried over in its order, and only then it is removed. Interrupted, it goes on after the last message that arrived.

use std::time::Instant;

use super::message::{PAGE_BYTES, Page};
use super::streams::{self, Asked};
use super::{Histories, HistoryError, PAUSE, read};
use unibus_core::bus;
use unibus_core::domain::RoomId;
use unibus_keeper::{self as keeper, ReadError};
use unibus_store::Message;
use unibus_store::link::Link;

impl Histories {
    /// Whether what was said in `room` is still in a stream of its own.
    pub(super) async fn is_captured(
        &self,
        link: &Link,
        room: &RoomId,
        deadline: Instant,
    ) -> Result<bool, HistoryError> {
        loop {
            match streams::find(link, room).await {
                Ok(stream) => return Ok(stream.is_some()),
                Err(Asked::Silent(_)) if Instant::now() + bus::ATTEMPT < deadline => tokio::time::sleep(PAUSE).await,
                Err(other) => return Err(other.about(room)),
            }
        }
    }

    /// A page of what daemons keep.
    pub(super) async fn read_kept(
        &self,
        link: &Link,
        room: &RoomId,
        after: Option<u64>,
        limit: usize,
        deadline: Instant,
    ) -> Result<Page, HistoryError> {
        let read = keeper::page(link, room, after, limit, PAGE_BYTES, deadline).await?;
        let full =
            read.messages.len() >= limit || read.messages.iter().map(Message::bytes).sum::<usize>() >= PAGE_BYTES;
        let reached = read.messages.last().filter(|_| full).map_or(read.last, |last| last.sequence);
        Ok(Page { messages: read.messages, first: read.first, last: read.last, unreadable: Vec::new(), reached })
    }

    /// Carries what the stream of `room` has, where there is one, into the shard of the room, and removes it. The caller appends to
    /// the shard, and to the room only when this has ended well.
    pub async fn migrate(&self, link: &Link, room: &RoomId) -> Result<(), HistoryError> {
        let deadline = Instant::now() + bus::STORE_BUDGET;
        let about = |asked: Asked| asked.about(room);
        let Some(stream) = streams::find(link, room).await.map_err(about)? else { return Ok(()) };
        streams::set(link, room, &stream, None).await.map_err(about)?;
        let mut after = keeper::carried(link, room).await?.unwrap_or_default();
        loop {
            let read = read::export(link, room, after).await?;
            if read.is_end() {
                break;
            }
            if let Some(why) = read.damaged {
                return Err(HistoryError::Damaged { room: room.clone(), why });
            }
            if !read.unreadable.is_empty() {
                // No client was ever shown them, and one message of a member must not keep the room from going on.
                tracing::warn!(%room, sequences = ?read.unreadable, "messages that cannot be read are not carried over");
            }
            keeper::carry(link, room, &read.messages).await?;
            after = read.reached;
            if Instant::now() >= deadline {
                let why = format!("its messages are being carried over, and it has come to number {after}");
                return Err(HistoryError::Unavailable { room: room.clone(), why });
            }
        }
        streams::delete(link, room).await.map_err(about)?;
        tracing::info!(%room, "what the room said is kept by the daemons from now on");
        Ok(())
    }
}

impl From<ReadError> for HistoryError {
    fn from(ReadError { room, why }: ReadError) -> Self {
        HistoryError::Unavailable { room, why }
    }
}
