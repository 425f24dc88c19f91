//! From the stream of a room, which captured what members said, into the shard in which daemons keep it.
//!
//! The node that appends to the shard does it, before it appends anything that is said in the room: the stream lets go, all that it
//! has is carried over in its order, and only then it is removed. Interrupted, it goes on after the last message that arrived. That two
//! do it at the same time does no harm: what is there already the shard takes once, and none goes on before all is there.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::damage::UNFINISHED;
use super::message::{PAGE_BYTES, Page};
use super::restore::Place;
use super::streams::{self, Asked};
use super::wanted::Wanted;
use super::{Histories, HistoryError, read};
use unibus_core::bus;
use unibus_core::domain::RoomId;
use unibus_keeper::{self as keeper, ReadError};
use unibus_store::Message;
use unibus_store::link::Link;

/// Rooms of which this node has seen that no stream captures them any more. Once daemons keep what is said no such stream is made
/// again, so the engine need not be asked at every page.
#[derive(Debug, Default)]
pub(super) struct Carried(Mutex<HashSet<RoomId>>);

impl Carried {
    pub(super) fn has(&self, room: &RoomId) -> bool {
        self.rooms().contains(room)
    }

    pub(super) fn note(&self, room: &RoomId) {
        self.rooms().insert(room.clone());
    }

    fn rooms(&self) -> MutexGuard<'_, HashSet<RoomId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Histories {
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
        let (first, last, more) = (read.first, read.last, read.more);
        Ok(Page { messages: read.messages, first, last, unreadable: Vec::new(), reached, more })
    }

    /// Carries what the stream of `room` has, where there is one, into the shard of the room, and removes it; of a room that was
    /// removed nothing is carried. The caller appends to the shard, and to the room only when this has ended well.
    pub async fn migrate(&self, link: &Link, room: &RoomId) -> Result<(), HistoryError> {
        if self.gate.view(|view| Wanted::of(room, view)) == Some(Wanted::Gone) {
            return remove_captured(link, room).await;
        }
        carry_over(link, room).await
    }
}

/// Carries what the stream of `room` has, where there is one, into the shard of the room, and removes it.
pub async fn carry_over(link: &Link, room: &RoomId) -> Result<(), HistoryError> {
    let deadline = Instant::now() + bus::STORE_BUDGET;
    let about = |asked: Asked| asked.about(room);
    let aside = Place::aside(room);
    if streams::find_named(link, room, &aside.stream).await.map_err(about)?.is_some() {
        // Its stream may lack what lies there.
        return Err(HistoryError::Damaged { room: room.clone(), why: UNFINISHED.to_owned() });
    }
    let Some(stream) = streams::find(link, room).await.map_err(about)? else { return Ok(()) };
    streams::set(link, room, &stream, None).await.map_err(about)?;
    let mut after = keeper::carried(link, room).await?.unwrap_or_default();
    loop {
        // Without a stream another node has come to the end meanwhile.
        let Some(read) = read::captured(link, room, after).await? else { return Ok(()) };
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
        carry(link, room, read.messages).await?;
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

/// Carries messages into the shard of `room`, and names those that are too large for that.
pub(super) async fn carry(link: &Link, room: &RoomId, messages: Vec<Message>) -> Result<(), HistoryError> {
    let (fit, large): (Vec<Message>, Vec<Message>) = messages.into_iter().partition(keeper::can_be_carried);
    if !large.is_empty() {
        // As with those that cannot be read, and with what is said from now on: no frame is kept that is so large.
        let sequences: Vec<u64> = large.iter().map(|message| message.sequence).collect();
        tracing::warn!(%room, ?sequences, "messages that are too large for the engine are not carried over");
    }
    Ok(keeper::carry(link, room, &fit).await?)
}

/// Removes what an older release captured of `room`.
async fn remove_captured(link: &Link, room: &RoomId) -> Result<(), HistoryError> {
    for name in [bus::history_stream(room.as_str()), Place::aside(room).stream] {
        streams::delete_named(link, &name).await.map_err(|asked| asked.about(room))?;
    }
    Ok(())
}

impl From<ReadError> for HistoryError {
    fn from(ReadError { room, why }: ReadError) -> Self {
        HistoryError::Unavailable { room, why }
    }
}
