//! What was said in rooms, for a copy: from the stream of a room for as long as there is one, and from its shard then. While the one is
//! carried over into the other, the stream has all of it.

use std::collections::{BTreeMap, BTreeSet};

use super::damage::UNFINISHED;
use super::message::{PAGE_BYTES, Readable};
use super::restore::Place;
use super::streams::{self, Asked};
use super::{HistoryError, insist, read};
use unibus_core::bus;
use unibus_core::domain::RoomId;
use unibus_keeper as keeper;
use unibus_store::link::Link;

/// The rooms whose messages are in a stream of their own, also where that is being replaced.
pub async fn captured_rooms(link: &Link) -> Result<Vec<RoomId>, String> {
    let found = futures::try_join!(streams::rooms(link), streams::mending(link));
    let (rooms, mending) = found.map_err(|asked: Asked| asked.to_string())?;
    let rooms: BTreeSet<RoomId> = rooms.into_iter().chain(mending).collect();
    Ok(rooms.into_iter().collect())
}

/// The rooms that have messages, or could have, each with a mark: as long as it stays as it is nothing was said there; none: it has to be
/// read to know.
pub async fn rooms(link: &Link) -> Result<BTreeMap<RoomId, Option<String>>, String> {
    // In this order: what leaves its stream meanwhile is in its shard then.
    let captured = captured_rooms(link).await?;
    let kept = keeper::rooms(link).await?.into_iter().map(|(room, mark)| (room, Some(mark)));
    // Where a room is in both its stream is read.
    Ok(kept.chain(captured.into_iter().map(|room| (room, None))).collect())
}

/// Messages of `room` after `after`, a place of its stream or of its shard: a reader who came so far in the one goes on in the other.
pub async fn export(link: &Link, room: &RoomId, after: u64) -> Result<Readable, HistoryError> {
    // Where a place is one of a shard, the room has left its stream.
    if bus::incarnation(after) == 0 {
        if let Some(read) = read::captured(link, room, after).await? {
            return Ok(read);
        }
        let aside = Place::aside(room);
        if insist(room, || streams::find_named(link, room, &aside.stream)).await?.is_some() {
            let damaged = Some(UNFINISHED.to_owned());
            return Ok(Readable { reached: after, damaged, ..Readable::default() });
        }
    }
    let messages = keeper::export(link, room, after, PAGE_BYTES).await?.messages;
    let reached = messages.last().map_or(after, |last| last.sequence);
    Ok(Readable { messages, reached, ..Readable::default() })
}
