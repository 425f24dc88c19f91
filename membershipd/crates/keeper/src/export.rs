//! What is kept of rooms, for a copy: by the word of leaders that a majority of the copies follows, a page at a time.

use std::collections::BTreeMap;
use std::time::Instant;

use futures::future::try_join_all;

use super::copies;
use super::read::{self, Read, ReadError};
use super::shard::Shard;
use super::streams::{self, Asked, Counted};
use unibus_core::bus;
use unibus_core::domain::RoomId;
use unibus_store::link::Link;

/// Why nothing is known although a leader answered.
const UNPROVEN: &str = "its leader has no majority of the copies, or none that is current";
/// Messages of a page, at most.
const PAGE: usize = 1_000;

/// The rooms of which something is kept, each with a mark: as long as it stays as it is, nothing was added.
///
/// # Errors
/// A shard does not answer within [`bus::STORE_BUDGET`].
pub async fn rooms(link: &Link) -> Result<BTreeMap<RoomId, String>, String> {
    let deadline = Instant::now() + bus::STORE_BUDGET;
    loop {
        match rooms_once(link).await {
            Err(Asked::Silent(_)) if Instant::now() < deadline => tokio::time::sleep(streams::PAUSE).await,
            outcome => return outcome.map_err(|asked| format!("which rooms have messages is not known: {asked}")),
        }
    }
}

async fn rooms_once(link: &Link) -> Result<BTreeMap<RoomId, String>, Asked> {
    let shards = copies::there(link).await?;
    let of_shard = |shard: Shard| async move {
        match streams::rooms(link, shard).await? {
            counted if counted.proven => Ok(counted),
            _ => Err(Asked::Silent(UNPROVEN.to_owned())),
        }
    };
    let counted = try_join_all(shards.into_iter().map(of_shard)).await?;
    Ok(counted.into_iter().flat_map(marks).collect())
}

/// Where nothing was taken out of a shard, as many messages of a room are the same messages.
fn marks(Counted { taken_out, rooms, .. }: Counted) -> impl Iterator<Item = (RoomId, String)> {
    rooms.into_iter().map(move |(room, count)| (room, format!("{count} {taken_out}")))
}

/// How many messages of `room` are kept.
///
/// # Errors
/// The shard does not answer.
pub async fn count(link: &Link, room: &RoomId) -> Result<u64, ReadError> {
    match streams::count(link, room).await {
        Ok((_, count)) => Ok(count),
        Err(Asked::Missing) => Ok(0),
        Err(asked) => Err(asked.about(room)),
    }
}

/// Messages of `room` after the place `after`, for a copy: about `bytes` of them; none: there are no more.
///
/// # Errors
/// The shard does not answer within [`bus::STORE_BUDGET`], or its leader has no majority of the copies.
pub async fn export(link: &Link, room: &RoomId, after: u64, bytes: usize) -> Result<Read, ReadError> {
    let deadline = Instant::now() + bus::STORE_BUDGET;
    loop {
        let why = match streams::has_majority(link, Shard::of(room)).await {
            Ok(true) => return read::page(link, room, Some(after), PAGE, bytes, deadline).await,
            Ok(false) => UNPROVEN.to_owned(),
            Err(Asked::Missing) => return Ok(Read { messages: Vec::new(), first: 0, last: 0, more: 0 }),
            Err(asked @ Asked::Refused(_)) => return Err(asked.about(room)),
            Err(asked) => asked.to_string(),
        };
        if Instant::now() + bus::ATTEMPT >= deadline {
            return Err(ReadError { room: room.clone(), why });
        }
        tokio::time::sleep(streams::PAUSE).await;
    }
}
