//! The streams of rooms as the engine has them: found, made, changed, removed, each in one short attempt.

use std::time::Duration;

use async_nats::client::Request;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::HistoryError;
use super::restore::Place;
use super::wanted::{Found, subjects};
use unibus_core::bus::{self, Bucket};
use unibus_core::domain::{RoomId, Subject};
use unibus_store::link::Link;

/// Codes of the engine's API (nats-server `server/errors.json`).
const STREAM_NOT_FOUND: u64 = 10059;
const STREAM_NAME_IN_USE: u64 = 10058;

/// A stream that there is.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    /// What it keeps.
    pub(super) found: Found,
    /// Its configuration, as JSON, so that a setting which is not known here is written back as it was.
    config: Value,
    /// Sequence of the oldest message.
    pub(super) first: u64,
    /// Sequence of the newest message; 0: there never was one.
    pub(super) last: u64,
    /// How many messages it has.
    pub(super) messages: u64,
    /// Followers that its leader calls current.
    followers: usize,
    /// Copies that it is set to have.
    copies: usize,
}

impl Stream {
    /// Whether its leader counts a majority of the copies, itself included, so that it is not one that was deposed.
    pub(super) fn has_majority(&self) -> bool {
        2 * (self.followers + 1) > self.copies
    }

    /// The sequences of its oldest and its newest message.
    pub(super) fn extent(&self) -> (u64, u64) {
        (self.first, self.last)
    }

    /// The sequence that its first message got.
    pub(super) fn begins_at(&self) -> u64 {
        self.config.get("first_seq").and_then(Value::as_u64).unwrap_or(1)
    }

    /// What a daemon noted about it under this name.
    pub(super) fn note(&self, name: &str) -> Option<&str> {
        self.config.get("metadata")?.get(name)?.as_str()
    }

    /// Bytes that it may take.
    fn max_bytes(&self) -> u64 {
        self.config.get("max_bytes").and_then(Value::as_u64).unwrap_or(u64::MAX)
    }
}

/// Why the engine did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Asked {
    /// There is no such stream.
    #[error("it has no stream")]
    Missing,
    /// It said no, with a code of its API.
    #[error("{1}")]
    Refused(u64, String),
    /// It said nothing, or not now.
    #[error("{0}")]
    Silent(String),
}

impl Asked {
    pub(super) fn about(self, room: &RoomId) -> HistoryError {
        let room = room.clone();
        match self {
            Asked::Refused(_, why) => HistoryError::Refused { room, why },
            other => HistoryError::Unavailable { room, why: other.to_string() },
        }
    }
}

/// Asks the JetStream API in the account of `client` once.
pub(super) async fn ask(
    client: &async_nats::Client,
    subject: String,
    body: &impl Serialize,
    patience: Duration,
) -> Result<Value, Asked> {
    let body = serde_json::to_vec(body).map_err(|error| Asked::Refused(0, error.to_string()))?;
    let request = Request::new().payload(body.into()).timeout(Some(patience));
    let answer = client.send_request(format!("$JS.API.{subject}"), request).await;
    let answer = answer.map_err(|error| Asked::Silent(error.to_string()))?;
    match serde_json::from_slice(&answer.payload) {
        Ok(Response::Ok(value)) => Ok(value),
        Ok(Response::Err { error }) => Err(match (error.error_code().0, error.code()) {
            (STREAM_NOT_FOUND, _) => Asked::Missing,
            // No leader now, or not enough servers that answer.
            (_, 503) => Asked::Silent(error.to_string()),
            (code, _) => Asked::Refused(code, error.to_string()),
        }),
        Err(error) => Err(Asked::Silent(format!("its answer is not understood: {error}"))),
    }
}

/// The stream of `room`, by the word of its leader.
pub(super) async fn find(link: &Link, room: &RoomId) -> Result<Option<Stream>, Asked> {
    find_named(link, room, &bus::history_stream(room.as_str())).await
}

/// The stream with this name, which is of `room`.
pub(super) async fn find_named(link: &Link, room: &RoomId, name: &str) -> Result<Option<Stream>, Asked> {
    match ask(&link.bus, format!("STREAM.INFO.{name}"), &json!({}), bus::ATTEMPT).await {
        Ok(info) => described(room, info).map(Some),
        Err(Asked::Missing) => Ok(None),
        Err(other) => Err(other),
    }
}

fn described(room: &RoomId, info: Value) -> Result<Stream, Asked> {
    #[derive(Deserialize)]
    struct Info {
        config: Value,
        state: State,
        cluster: Option<Cluster>,
    }
    #[derive(Deserialize)]
    struct State {
        first_seq: u64,
        last_seq: u64,
        messages: u64,
    }
    #[derive(Deserialize)]
    struct Cluster {
        #[serde(default)]
        replicas: Vec<Replica>,
    }
    #[derive(Deserialize)]
    struct Replica {
        current: bool,
        #[serde(default)]
        offline: bool,
    }
    #[derive(Deserialize)]
    struct Known {
        #[serde(default)]
        subjects: Vec<String>,
        num_replicas: usize,
    }
    let strange = |error: serde_json::Error| Asked::Silent(format!("its description is not understood: {error}"));
    let Info { config, state, cluster } = serde_json::from_value(info).map_err(strange)?;
    let known = Known::deserialize(&config).map_err(strange)?;
    let replicas = cluster.map(|cluster| cluster.replicas).unwrap_or_default();
    Ok(Stream {
        found: Found::by(room, &known.subjects),
        config,
        first: state.first_seq,
        last: state.last_seq,
        messages: state.messages,
        followers: replicas.iter().filter(|replica| replica.current && !replica.offline).count(),
        copies: known.num_replicas,
    })
}

/// Makes the stream of `room`, which keeps what is said on `subject`. With as many copies as the bucket of rooms has now; where
/// rooms are in a file, with one. Fails where there is another one already: what that keeps is to be looked at.
pub(super) async fn make(link: &Link, room: &RoomId, subject: &Subject) -> Result<(), Asked> {
    make_as(link, |copies| config(room, Some(subject), copies, 0)).await
}

/// Makes a stream at `place` that takes what daemons carry in, and nothing else.
pub(super) async fn make_at(link: &Link, room: &RoomId, place: &Place, bytes: u64) -> Result<(), Asked> {
    let at_place = |copies| Config {
        name: place.stream.clone(),
        subjects: vec![place.subject.clone()],
        first_sequence: (place.base > 0).then_some(place.base + 1),
        ..config(room, None, copies, bytes)
    };
    make_as(link, at_place).await
}

async fn make_as(link: &Link, config: impl Fn(usize) -> Config) -> Result<(), Asked> {
    let about = format!("STREAM.INFO.{}", Bucket::Rooms.stream());
    let copies = match ask(&link.control, about, &json!({}), bus::ATTEMPT).await {
        Ok(info) => info.pointer("/config/num_replicas").and_then(Value::as_u64),
        Err(Asked::Missing) => Some(1),
        Err(other) => return Err(other),
    };
    let copies = copies.and_then(|copies| usize::try_from(copies).ok());
    let copies = copies.ok_or_else(|| Asked::Silent("the engine did not say how many copies rooms have".to_owned()))?;
    let config = config(copies);
    // The leader of a new stream has to be elected first.
    match ask(&link.bus, format!("STREAM.CREATE.{}", config.name), &config, bus::ASK).await {
        Ok(_) => Ok(()),
        // A copy that is being carried in, or another node, was ahead of us.
        Err(Asked::Refused(STREAM_NAME_IN_USE, _)) => {
            Err(Asked::Silent("another stream was made meanwhile, perhaps with other subjects".to_owned()))
        }
        Err(other) => Err(other),
    }
}

fn config(room: &RoomId, subject: Option<&Subject>, num_replicas: usize, bytes: u64) -> Config {
    Config {
        name: bus::history_stream(room.as_str()),
        subjects: subjects(room, subject),
        storage: StorageType::File,
        num_replicas,
        max_bytes: i64::try_from(bytes.max(bus::HISTORY_ROOM_BYTES)).unwrap_or(i64::MAX),
        // The oldest messages make way, and whoever publishes is never held up.
        discard: DiscardPolicy::Old,
        // An acknowledgement goes to whatever subject the publisher names for it, past all permissions: it could be told to
        // anybody's inbox, or as an event.
        no_ack: true,
        duplicate_window: bus::HISTORY_DUPLICATES,
        // Many messages are read with one request. That a copy may lag behind the leader is looked after where they are read.
        allow_direct: true,
        // Nothing that a member sends, and nothing but the removal of the room, takes anything out of it.
        allow_rollup: false,
        deny_delete: true,
        deny_purge: true,
        ..Config::default()
    }
}

/// Has the stream of `room` keep what is said on `subject` from now on; none: nothing more.
pub(super) async fn set(link: &Link, room: &RoomId, stream: &Stream, subject: Option<&Subject>) -> Result<(), Asked> {
    update(link, &bus::history_stream(room.as_str()), stream, "subjects", json!(subjects(room, subject))).await
}

/// Lets the stream of `room` take `bytes` at least; it is never made smaller.
pub(super) async fn widen(link: &Link, name: &str, stream: &Stream, bytes: u64) -> Result<(), Asked> {
    if stream.max_bytes() >= bytes { Ok(()) } else { update(link, name, stream, "max_bytes", json!(bytes)).await }
}

/// Notes something about a stream, which stays with it.
pub(super) async fn note(link: &Link, name: &str, stream: &Stream, notes: Value) -> Result<(), Asked> {
    update(link, name, stream, "metadata", notes).await
}

/// Gives the stream of `room` so many copies, where it has fewer; says how many it had.
pub(super) async fn raise(link: &Link, room: &RoomId, copies: usize) -> Result<Option<usize>, Asked> {
    let Some(stream) = find(link, room).await? else { return Ok(None) };
    if stream.copies < copies {
        update(link, &bus::history_stream(room.as_str()), &stream, "num_replicas", json!(copies)).await?;
    }
    Ok(Some(stream.copies))
}

async fn update(link: &Link, name: &str, stream: &Stream, what: &str, value: Value) -> Result<(), Asked> {
    let mut config = stream.config.clone();
    if let Value::Object(map) = &mut config {
        map.insert(what.to_owned(), value);
    }
    ask(&link.bus, format!("STREAM.UPDATE.{name}"), &config, bus::ASK).await.map(drop)
}

/// Removes the stream of `room`, where there is one.
pub(super) async fn delete(link: &Link, room: &RoomId) -> Result<(), Asked> {
    delete_named(link, &bus::history_stream(room.as_str())).await
}

/// Removes the stream with this name, where there is one.
pub(super) async fn delete_named(link: &Link, name: &str) -> Result<(), Asked> {
    match ask(&link.bus, format!("STREAM.DELETE.{name}"), &json!({}), bus::ASK).await {
        Ok(_) | Err(Asked::Missing) => Ok(()),
        Err(other) => Err(other),
    }
}

/// The rooms that have a stream.
pub(super) async fn rooms(link: &Link) -> Result<Vec<RoomId>, Asked> {
    names(link, &bus::history_streams()).await
}

/// The rooms whose messages lie aside while their stream is replaced.
pub(super) async fn mending(link: &Link) -> Result<Vec<RoomId>, Asked> {
    names(link, &bus::mending_streams()).await
}

/// The rooms that have a stream whose name begins so.
async fn names(link: &Link, prefix: &str) -> Result<Vec<RoomId>, Asked> {
    #[derive(Deserialize)]
    struct Names {
        total: usize,
        streams: Option<Vec<String>>,
    }
    let (mut rooms, mut offset) = (Vec::new(), 0);
    loop {
        let page = ask(&link.bus, "STREAM.NAMES".to_owned(), &json!({ "offset": offset }), bus::ATTEMPT).await?;
        let page: Names = serde_json::from_value(page).map_err(|error| Asked::Silent(error.to_string()))?;
        let names = page.streams.unwrap_or_default();
        offset += names.len();
        rooms.extend(names.iter().filter_map(|name| name.strip_prefix(prefix)?.parse().ok()));
        if names.is_empty() || offset >= page.total {
            return Ok(rooms);
        }
    }
}
