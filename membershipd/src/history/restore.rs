//! Messages of a copy, carried into the stream of their room: in their order, once, with the time at which they were said.
//!
//! Nobody acknowledges what a stream of a room takes. So each message names the sequence that must stand before it, and how far
//! the stream has come is looked at: what was lost on the way leaves no gap behind which others could land, and is sent again.

use std::time::Instant;

use async_nats::HeaderMap;
use async_nats::header::NATS_EXPECTED_LAST_SEQUENCE;

use super::streams::{self, Asked};
use super::{HistoryError, PAUSE};
use unibus_core::bus;
use unibus_core::domain::RoomId;
use unibus_store::Message;
use unibus_store::link::Link;

/// Header that says when a message was said, in milliseconds since 1970. It counts on the subject of restored messages alone.
pub(super) const AT: &str = "Unibus-At";
/// Header that says where it was said.
pub(super) const SUBJECT: &str = "Unibus-Subject";

/// Most bytes that one message takes in the engine's file beside subject, headers' values and frame: its record (nats-server
/// `server/filestore.go`), the names of our headers, and the largest numbers in them.
const OVERHEAD: usize = 256;

/// Bytes that `message` of `room` takes, once it is restored.
pub fn restored_bytes(room: &RoomId, message: &Message) -> u64 {
    let bytes = OVERHEAD + bus::history_restored(room.as_str()).len() + message.subject.len() + message.frame.len();
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Carries `messages` of `room` in, behind the first `there` of the copy, which are in the stream. All of the copy together
/// take `bytes` ([`restored_bytes`]); a stream is made that holds them, and keeps nothing else until the room is seen to
/// (`keep`). Repeating is safe: what is there is not carried in twice. Ends when all of them are there.
pub async fn restore(
    link: &Link,
    room: &RoomId,
    there: u64,
    bytes: u64,
    messages: &[Message],
) -> Result<(), HistoryError> {
    carry(link, room, &Place::of(room, 0), bytes, there, messages).await
}

/// A stream into which messages are carried.
#[derive(Debug)]
pub(super) struct Place {
    /// Its name.
    pub(super) stream: String,
    /// Its subject on which daemons alone speak.
    pub(super) subject: String,
    /// The sequence before its first.
    pub(super) base: u64,
}

impl Place {
    /// The stream of `room`, whose first message comes after `base`.
    pub(super) fn of(room: &RoomId, base: u64) -> Self {
        let room = room.as_str();
        Self { stream: bus::history_stream(room), subject: bus::history_restored(room), base }
    }

    /// Where the messages of `room` lie while its stream is replaced.
    pub(super) fn aside(room: &RoomId) -> Self {
        let room = room.as_str();
        Self { stream: bus::mending_stream(room), subject: bus::mending_restored(room), base: 0 }
    }
}

/// Carries `messages` into `place` behind the first `there`, as [`restore`] does.
pub(super) async fn carry(
    link: &Link,
    room: &RoomId,
    place: &Place,
    bytes: u64,
    there: u64,
    messages: &[Message],
) -> Result<(), HistoryError> {
    let about = |asked: Asked| asked.about(room);
    let mut deadline = Instant::now() + bus::STORE_BUDGET;
    let wanted = there + u64::try_from(messages.len()).unwrap_or(u64::MAX);
    let mut reached = None;
    loop {
        let refused = match look(link, room, place, bytes).await {
            Ok(have) if have >= wanted => return Ok(()),
            Ok(have) if have < there => {
                let why = format!("the stream has {have} messages, and {there} were in it");
                return Err(HistoryError::Refused { room: room.clone(), why });
            }
            Ok(have) => {
                if reached.replace(have) != Some(have) {
                    deadline = Instant::now() + bus::STORE_BUDGET;
                }
                send(link, room, place, have, there, messages).await.err()
            }
            Err(asked @ Asked::Refused(..)) => return Err(about(asked)),
            Err(asked) => Some(asked),
        };
        if Instant::now() >= deadline {
            let late = || Asked::Silent("what was carried in does not arrive".to_owned());
            return Err(about(refused.unwrap_or_else(late)));
        }
    }
}

/// How many messages the stream has taken, which is made where there is none.
async fn look(link: &Link, room: &RoomId, place: &Place, bytes: u64) -> Result<u64, Asked> {
    match streams::find_named(link, room, &place.stream).await? {
        Some(stream) => {
            streams::widen(link, &place.stream, &stream, bytes).await?;
            Ok(stream.last.saturating_sub(place.base))
        }
        None => {
            streams::make_at(link, room, place, bytes).await?;
            Ok(0)
        }
    }
}

/// Sends what is missing after the first `have`, and waits for some of it to arrive.
async fn send(
    link: &Link,
    room: &RoomId,
    place: &Place,
    have: u64,
    there: u64,
    messages: &[Message],
) -> Result<(), Asked> {
    let broken = |error: &dyn std::fmt::Display| Asked::Silent(error.to_string());
    let missing = usize::try_from(have - there).ok().and_then(|have| messages.get(have..)).unwrap_or_default();
    let last = have + place.base;
    for (message, before) in missing.iter().zip(last..) {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_LAST_SEQUENCE, before.to_string());
        headers.insert(AT, message.at_ms.to_string());
        headers.insert(SUBJECT, message.subject.as_str());
        let sent = link.bus.publish_with_headers(place.subject.clone(), headers, message.frame.clone()).await;
        sent.map_err(|error| broken(&error))?;
    }
    link.bus.flush().await.map_err(|error| broken(&error))?;
    let until = Instant::now() + bus::ATTEMPT;
    let all = last + u64::try_from(missing.len()).unwrap_or(u64::MAX);
    while Instant::now() < until {
        match streams::find_named(link, room, &place.stream).await? {
            Some(stream) if stream.last >= all => return Ok(()),
            Some(_) => tokio::time::sleep(PAUSE / 10).await,
            None => return Err(Asked::Missing),
        }
    }
    Ok(())
}
