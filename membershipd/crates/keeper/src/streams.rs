//! The streams of the shards, as the engine has them.

use std::collections::BTreeMap;
use std::str;
use std::time::Duration;

use async_nats::Client;
use async_nats::client::Request;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use data_encoding::BASE64;
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::read::{ReadError, WAS};
use super::shard::Shard;
use unibus_core::bus::{self, Bucket};
use unibus_core::clock;
use unibus_core::domain::RoomId;
use unibus_store::link::Link;

/// Pause before what was not answered is asked again.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);
/// Codes of the engine's API (nats-server `server/errors.json`).
const STREAM_NOT_FOUND: u64 = 10059;
const NO_MESSAGE: u64 = 10037;

/// Why the engine did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Asked {
    /// There is no such stream, or no such message.
    #[error("there is none")]
    Missing,
    /// It said no.
    #[error("the engine refused: {0}")]
    Refused(String),
    /// It said nothing, or not now.
    #[error("{0}")]
    Silent(String),
}

impl Asked {
    pub(crate) fn about(self, room: &RoomId) -> ReadError {
        ReadError { room: room.clone(), why: self.to_string() }
    }
}

/// Asks the JetStream API of the daemons' account once.
pub(crate) async fn ask(
    control: &Client,
    subject: String,
    body: &impl Serialize,
    patience: Duration,
) -> Result<Value, Asked> {
    let body = serde_json::to_vec(body).map_err(|error| Asked::Refused(error.to_string()))?;
    let request = Request::new().payload(body.into()).timeout(Some(patience));
    let answer = control.send_request(format!("$JS.API.{subject}"), request).await;
    let answer = answer.map_err(|error| Asked::Silent(error.to_string()))?;
    match serde_json::from_slice(&answer.payload) {
        Ok(Response::Ok(value)) => Ok(value),
        Ok(Response::Err { error }) => Err(match (error.error_code().0, error.code()) {
            (STREAM_NOT_FOUND | NO_MESSAGE, _) => Asked::Missing,
            // No leader now, or not enough servers that answer.
            (_, 503) => Asked::Silent(error.to_string()),
            _ => Asked::Refused(error.to_string()),
        }),
        Err(error) => Err(Asked::Silent(format!("its answer is not understood: {error}"))),
    }
}

/// What the leader of a shard says of it.
async fn info(link: &Link, shard: Shard, body: &Value) -> Result<Value, Asked> {
    ask(&link.control, format!("STREAM.INFO.{}", shard.stream()), body, bus::ATTEMPT).await
}

fn last_of(info: &Value) -> Result<u64, Asked> {
    let last = info.pointer("/state/last_seq").and_then(Value::as_u64);
    last.ok_or_else(|| Asked::Silent("the description of a stream has no last sequence".to_owned()))
}

/// The last sequence of a shard, by the word of its leader; its stream is made where there is none.
pub(crate) async fn last(link: &Link, shard: Shard) -> Result<u64, Asked> {
    match info(link, shard, &json!({})).await {
        Err(Asked::Missing) => last_of(&make(link, shard, bus::SHARD_FIRST).await?),
        other => last_of(&other?),
    }
}

/// What a shard has, by the word of its leader.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) last: u64,
    /// How many messages were ever taken out, and places that are skipped at the beginning.
    pub(crate) taken_out: u64,
    /// How many messages there are of each room.
    pub(crate) rooms: BTreeMap<RoomId, u64>,
    /// Whether the leader has a majority.
    pub(crate) proven: bool,
}

/// The last sequence of the shard of `room`, and how many messages of the room it has; a stream that begins at `first` is made where
/// there is none.
pub(crate) async fn extent(link: &Link, room: &RoomId, first: u64) -> Result<(u64, u64), Asked> {
    match count(link, room).await {
        Err(Asked::Missing) => Ok((last_of(&make(link, Shard::of(room), first).await?)?, 0)),
        other => other,
    }
}

/// The last sequence of the shard of `room`, and how many messages of the room it has.
pub(crate) async fn count(link: &Link, room: &RoomId) -> Result<(u64, u64), Asked> {
    let shard = Shard::of(room);
    let Counted { last, rooms, .. } = counted(link, shard, &shard.subject(room)).await?;
    Ok((last, rooms.get(room).copied().unwrap_or_default()))
}

/// What a shard has of all rooms.
pub(crate) async fn rooms(link: &Link, shard: Shard) -> Result<Counted, Asked> {
    counted(link, shard, &shard.subjects()).await
}

/// The answer has as many subjects as there are rooms in the shard: some hundreds. The engine's has a hundred thousand at most.
async fn counted(link: &Link, shard: Shard, filter: &str) -> Result<Counted, Asked> {
    let info = info(link, shard, &json!({ "subjects_filter": filter })).await?;
    let subjects = info.pointer("/state/subjects").and_then(Value::as_object).into_iter().flatten();
    let rooms = subjects.filter_map(|(subject, count)| Some((shard.room(subject)?, count.as_u64()?))).collect();
    let last = last_of(&info)?;
    let messages = info.pointer("/state/messages").and_then(Value::as_u64).unwrap_or_default();
    Ok(Counted { last, taken_out: last.saturating_sub(messages), rooms, proven: is_proven(&info) })
}

/// Whether the leader of a shard counts a majority of the copies, itself included, so that it is not one that was deposed.
pub(crate) async fn has_majority(link: &Link, shard: Shard) -> Result<bool, Asked> {
    Ok(is_proven(&info(link, shard, &json!({})).await?))
}

fn is_proven(info: &Value) -> bool {
    let copies = info.pointer("/config/num_replicas").and_then(Value::as_u64).unwrap_or(u64::MAX);
    let is = |replica: &Value, word: &str| replica.get(word).and_then(Value::as_bool) == Some(true);
    let replicas = info.pointer("/cluster/replicas").and_then(Value::as_array).into_iter().flatten();
    let current = replicas.filter(|replica| is(replica, "current") && !is(replica, "offline")).count();
    u64::try_from(current).is_ok_and(|current| current + 1 > copies / 2)
}

/// Bytes of all shards together, on a node.
pub(crate) async fn bytes(link: &Link) -> Result<u64, Asked> {
    let of = |shard: Shard| async move {
        match ask(&link.control, format!("STREAM.INFO.{}", shard.stream()), &json!({}), bus::ATTEMPT).await {
            Ok(info) => Ok(info.pointer("/state/bytes").and_then(Value::as_u64).unwrap_or_default()),
            Err(Asked::Missing) => Ok(0),
            Err(other) => Err(other),
        }
    };
    Ok(try_join_all(Shard::all().map(of)).await?.into_iter().sum())
}

/// Makes the stream of a shard, whose first message gets the sequence `first`, with as many copies as the bucket of rooms has now; where rooms are in a file, with one.
async fn make(link: &Link, shard: Shard, first: u64) -> Result<Value, Asked> {
    let rooms = format!("STREAM.INFO.{}", Bucket::Rooms.stream());
    let copies = match ask(&link.control, rooms, &json!({}), bus::ATTEMPT).await {
        Ok(info) => info.pointer("/config/num_replicas").and_then(Value::as_u64),
        Err(Asked::Missing) => Some(1),
        Err(other) => return Err(other),
    };
    let copies = copies.and_then(|copies| usize::try_from(copies).ok());
    let copies = copies.ok_or_else(|| Asked::Silent("the engine did not say how many copies rooms have".to_owned()))?;
    let config = config(shard, copies, first);
    // The leader of a new stream has to be elected first. That another node was ahead is no failure: all make the same; where a copy is
    // being carried in, the engine refuses one that begins elsewhere, and the next attempt finds what there is.
    ask(&link.control, format!("STREAM.CREATE.{}", config.name), &config, bus::ASK).await
}

fn config(shard: Shard, num_replicas: usize, first: u64) -> Config {
    Config {
        name: shard.stream(),
        subjects: vec![shard.subjects()],
        storage: StorageType::File,
        num_replicas,
        // Nothing makes way by itself, or a room could push out what others said: the keeper takes out what is too much of a room.
        discard: DiscardPolicy::New,
        first_sequence: Some(first),
        duplicate_window: bus::KEPT_DUPLICATES,
        // Many messages are read with one request. That a copy may lag behind the leader is looked after where they are read.
        allow_direct: true,
        allow_rollup: false,
        ..Config::default()
    }
}

/// A message of a room as the leader of its shard has it, without its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) sequence: u64,
    /// The sequence that it had where it was carried from.
    pub(crate) was: Option<u64>,
}

/// The newest message of `room`; none: nothing of it is kept.
pub(crate) async fn newest(link: &Link, room: &RoomId) -> Result<Option<Place>, Asked> {
    let shard = Shard::of(room);
    place(link, shard, &json!({ "last_by_subj": shard.subject(room) })).await
}

/// The first message of `room` from a sequence on.
pub(crate) async fn next(link: &Link, room: &RoomId, from: u64) -> Result<Option<Place>, Asked> {
    let shard = Shard::of(room);
    place(link, shard, &json!({ "seq": from.max(1), "next_by_subj": shard.subject(room) })).await
}

async fn place(link: &Link, shard: Shard, which: &Value) -> Result<Option<Place>, Asked> {
    #[derive(Deserialize)]
    struct Answer {
        message: Raw,
    }
    #[derive(Deserialize)]
    struct Raw {
        seq: u64,
        #[serde(default)]
        hdrs: String,
    }
    match ask(&link.control, format!("STREAM.MSG.GET.{}", shard.stream()), which, bus::ATTEMPT).await {
        Ok(answer) => {
            let answer = Answer::deserialize(answer);
            let Answer { message } = answer.map_err(|error| Asked::Silent(format!("a strange message: {error}")))?;
            let headers = BASE64.decode(message.hdrs.as_bytes()).unwrap_or_default();
            let was = field(&headers, WAS).and_then(|was| was.parse().ok());
            Ok(Some(Place { sequence: message.seq, was }))
        }
        Err(Asked::Missing) => Ok(None),
        Err(other) => Err(other),
    }
}

/// A field of headers as they stand in the store.
fn field(headers: &[u8], name: &str) -> Option<String> {
    let lines = str::from_utf8(headers).ok()?.lines();
    let mut values = lines.filter_map(|line| line.split_once(':')).filter(|(found, _)| *found == name);
    values.next_back().map(|(_, value)| value.trim().to_owned())
}

/// The clock of the node that leads a shard, in seconds since 1970.
pub(crate) async fn now(link: &Link, shard: Shard) -> Result<i64, Asked> {
    let info = ask(&link.control, format!("STREAM.INFO.{}", shard.stream()), &json!({}), bus::ATTEMPT).await?;
    let told = info.get("ts").and_then(Value::as_str).and_then(clock::unix_ms_of);
    told.map(|ms| ms / 1000).ok_or_else(|| Asked::Silent("the description of a stream has no time".to_owned()))
}

/// Takes the messages of `room` out of its shard, those before `end` or all.
pub(crate) async fn purge(link: &Link, room: &RoomId, end: Option<u64>) -> Result<(), Asked> {
    let shard = Shard::of(room);
    let filter = match end {
        Some(end) => json!({ "filter": shard.subject(room), "seq": end }),
        None => json!({ "filter": shard.subject(room) }),
    };
    match ask(&link.control, format!("STREAM.PURGE.{}", shard.stream()), &filter, bus::ASK).await {
        Ok(_) | Err(Asked::Missing) => Ok(()),
        Err(other) => Err(other),
    }
}

/// Takes one message out of a shard.
pub(crate) async fn delete(link: &Link, shard: Shard, sequence: u64) -> Result<(), Asked> {
    // Its bytes are not overwritten: that costs as much as writing them again.
    let which = json!({ "seq": sequence, "no_erase": true });
    match ask(&link.control, format!("STREAM.MSG.DELETE.{}", shard.stream()), &which, bus::ASK).await {
        Ok(_) | Err(Asked::Missing) => Ok(()),
        Err(other) => Err(other),
    }
}
