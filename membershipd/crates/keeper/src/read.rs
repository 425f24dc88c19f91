//! Pages of what a room said, read without a gap from whichever copy answers.
//!
//! Many are read with one request (nats-server ADR-31, batched direct get), which any copy answers. How far the history goes the
//! leader says first, so a copy that lags behind is found out and asked again. The headers are the keeper's own: a member's never come
//! here.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use bytes::Bytes;
use futures::StreamExt;
use serde_json::json;
use tokio::time::timeout_at;

use super::append::SUBJECT;
use super::shard::Shard;
use super::streams::{self, Asked};
use unibus_core::bus;
use unibus_core::clock;
use unibus_core::domain::RoomId;
use unibus_store::Message;
use unibus_store::link::Link;

/// What the engine says about a message (nats-server `server/stream.go`).
const SEQUENCE: &str = "Nats-Sequence";
const KEPT_AT: &str = "Nats-Time-Stamp";
const PENDING: &str = "Nats-Num-Pending";
/// Header of what was carried in from a copy or from an older stream: when it was said, in milliseconds since 1970.
pub(crate) const AT: &str = "Unibus-At";
/// Header of the same: the sequence that it had there, for readers who had come so far.
pub(crate) const WAS: &str = "Unibus-Was";
/// Pause before a copy that lags behind is asked again.
const LAGS: Duration = Duration::from_millis(10);
/// Steps towards the place where the last messages begin, at most: each halves what is left.
const STEPS: usize = 64;

/// Why a page cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("no node answers for the messages of room '{room}': {why}")]
pub struct ReadError {
    /// The room.
    pub room: RoomId,
    /// What is the matter.
    pub why: String,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// Sequence of the oldest message that there was when it was asked; 0: none.
    pub first: u64,
    /// Sequence of the newest; 0: none.
    pub last: u64,
    /// How many there are after those that were read.
    pub more: u64,
}

/// Messages of `room` after the sequence `after`, oldest first; without it the last ones. At most `limit`, and about `bytes`: where
/// there are fewer than there might be, the next page begins after the last one.
///
/// # Errors
/// No copy answered with all that the leader has, until `deadline`.
pub async fn page(
    link: &Link,
    room: &RoomId,
    after: Option<u64>,
    limit: usize,
    bytes: usize,
    deadline: Instant,
) -> Result<Read, ReadError> {
    loop {
        match once(link, room, after, limit, bytes, deadline).await {
            Err(Asked::Silent(_)) if Instant::now() + bus::ATTEMPT < deadline => {
                tokio::time::sleep(streams::PAUSE).await
            }
            outcome => return outcome.map_err(|asked| asked.about(room)),
        }
    }
}

async fn once(
    link: &Link,
    room: &RoomId,
    after: Option<u64>,
    limit: usize,
    bytes: usize,
    deadline: Instant,
) -> Result<Read, Asked> {
    let all = async {
        // How many there are is only asked where the last ones are wanted.
        if after.is_some() { Ok(None) } else { count_from(link, room, 0).await }
    };
    let (first, last, all) = futures::try_join!(streams::next(link, room, 0), streams::newest(link, room), all)?;
    let (Some(first), Some(last)) = (first, last) else {
        return Ok(Read { messages: Vec::new(), first: 0, last: 0, more: 0 });
    };
    let (first, last) = (first.sequence, last.sequence);
    let from = match (after, all) {
        (Some(after), _) => after.saturating_add(1).max(first),
        (None, Some((_, all))) => begin_of_last(link, room, first, last, all, limit).await?,
        (None, None) => first,
    };
    let mut messages: Vec<Message> = Vec::new();
    let (mut from, mut taken) = (from, 0);
    while from <= last && messages.len() < limit && (taken < bytes) {
        if Instant::now() >= deadline {
            return Err(Asked::Silent("no copy has all that its leader has".to_owned()));
        }
        let many = Many { from, most: limit - messages.len(), bytes: bytes - taken };
        let read = many.ask(link, room).await?;
        if read.is_empty() {
            // Either a copy lags behind, or the newest were taken out meanwhile.
            match streams::newest(link, room).await? {
                Some(newest) if newest.sequence >= from => tokio::time::sleep(LAGS).await,
                _ => break,
            }
        }
        for (message, was) in read.into_iter().filter(|(message, _)| message.sequence <= last) {
            from = message.sequence + 1;
            // A place in the stream that captured the room before, or in the shard of which a copy was carried in here.
            let earlier = |after: u64| bus::incarnation(after) < bus::incarnation(message.sequence);
            if after.is_some_and(|after| earlier(after) && was.is_some_and(|was| was <= after)) {
                continue;
            }
            taken += message.bytes();
            messages.push(message);
        }
    }
    let more = if from > last { 0 } else { count_from(link, room, from).await?.map_or(0, |(_, count)| count) };
    Ok(Read { messages, first, last, more })
}

/// Messages from a sequence on, that one included: the sequence of the first of them, and how many there are.
async fn count_from(link: &Link, room: &RoomId, from: u64) -> Result<Option<(u64, u64)>, Asked> {
    Many { from, most: 1, bytes: usize::MAX }.first_and_count(link, room).await
}

/// Where the last `limit` of `all` messages begin.
async fn begin_of_last(
    link: &Link,
    room: &RoomId,
    first: u64,
    last: u64,
    all: u64,
    limit: usize,
) -> Result<u64, Asked> {
    let most = u64::try_from(limit).unwrap_or(u64::MAX);
    let (mut low, mut high) = (first, last);
    if all <= most {
        return Ok(first);
    }
    // Invariant: more than `most` from `low` on, at most so many from `high` on. Rooms speak more or less evenly, so the first guess
    // is by proportion.
    let mut guess = last - ((last - first) / all).saturating_mul(most);
    for _ in 0..STEPS {
        if high - low <= 1 {
            break;
        }
        let middle = if guess > low && guess < high { guess } else { low + (high - low) / 2 };
        guess = 0;
        match count_from(link, room, middle).await? {
            Some((found, count)) if count > most => low = found.max(middle),
            Some((_, count)) if count == most => return Ok(middle),
            _ => high = middle,
        }
    }
    Ok(high)
}

/// One question to whichever copy answers.
struct Many {
    from: u64,
    most: usize,
    bytes: usize,
}

impl Many {
    /// The messages, each with the sequence that it had where it was carried from.
    async fn ask(&self, link: &Link, room: &RoomId) -> Result<Vec<(Message, Option<u64>)>, Asked> {
        let answers = self.answers(link, room).await?;
        Ok(answers.into_iter().filter_map(|(headers, payload)| message(&headers, payload)).collect())
    }

    /// The sequence of the first message, and how many there are from it on.
    async fn first_and_count(&self, link: &Link, room: &RoomId) -> Result<Option<(u64, u64)>, Asked> {
        let answers = self.answers(link, room).await?;
        let number = |headers: &HeaderMap, name: &str| headers.get_last(name)?.as_str().parse::<u64>().ok();
        let found = answers.first().map(|(headers, _)| (number(headers, SEQUENCE), number(headers, PENDING)));
        match found {
            Some((Some(sequence), Some(pending))) => Ok(Some((sequence, pending + 1))),
            Some(_) => Err(Asked::Silent("a message without its place".to_owned())),
            None => Ok(None),
        }
    }

    async fn answers(&self, link: &Link, room: &RoomId) -> Result<Vec<(HeaderMap, Bytes)>, Asked> {
        let silent = |what: &str| Asked::Silent(what.to_owned());
        let shard = Shard::of(room);
        let until = tokio::time::Instant::now() + bus::ATTEMPT;
        let client = &link.control;
        let inbox = client.new_inbox();
        let subscribed = client.subscribe(inbox.clone()).await;
        let mut answers = subscribed.map_err(|_| silent("the session with the engine ended"))?;
        let mut request = json!({ "seq": self.from.max(1), "next_by_subj": shard.subject(room), "batch": self.most });
        if let (Some(map), true) = (request.as_object_mut(), self.bytes < usize::MAX) {
            map.insert("max_bytes".to_owned(), self.bytes.into());
        }
        let subject = format!("$JS.API.DIRECT.GET.{}", shard.stream());
        let asked = client.publish_with_reply(subject, inbox, request.to_string().into()).await;
        asked.map_err(|_| silent("the session with the engine ended"))?;
        let mut found = Vec::new();
        loop {
            let answer = timeout_at(until, answers.next()).await.map_err(|_| silent("the engine does not answer"))?;
            let answer = answer.ok_or_else(|| silent("the session with the engine ended"))?;
            match answer.headers {
                Some(headers) if headers.get_last(SEQUENCE).is_some() && answer.status.is_none() => {
                    found.push((headers, answer.payload));
                }
                // The end of the answer; or there is no such message, or no such stream.
                _ => return Ok(found),
            }
        }
    }
}

/// The message that an answer carries.
fn message(headers: &HeaderMap, frame: Bytes) -> Option<(Message, Option<u64>)> {
    let last = |name: &str| headers.get_last(name).map(|value| value.as_str());
    let sequence = last(SEQUENCE)?.parse().ok()?;
    let at_ms = match last(AT) {
        Some(at) => at.parse().ok()?,
        None => clock::unix_ms_of(last(KEPT_AT)?)?,
    };
    let was = last(WAS).and_then(|was| was.parse().ok());
    Some((Message { sequence, at_ms, subject: last(SUBJECT)?.to_owned(), frame }, was))
}
