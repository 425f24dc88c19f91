//! Messages of a room, read without a gap from whichever copy answers, and believing nothing that a member wrote.
//!
//! Many are read with one request (nats-server ADR-31, batched direct get), which any copy answers. How far the history goes the
//! leader says first, so a copy that lags behind is found out and asked again. The engine puts what it says about a message
//! behind the headers that its sender chose, and sends both as they are: so of equal names the last one counts, and headers that
//! are none break the connection on which they are read. That is one of its own (`Link::history`), and what was missed on it is
//! read one by one from the leader in a form in which headers are mere bytes.

use std::str;
use std::time::Instant;

use async_nats::HeaderMap;
use bytes::Bytes;
use data_encoding::BASE64;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout_at;

use super::message::{PAGE_BYTES, Page};
use super::restore::{AT, SUBJECT};
use super::streams::{self, Asked, Stream};
use super::{Histories, HistoryError, PAUSE};
use unibus_core::bus;
use unibus_core::clock;
use unibus_core::domain::{FeatureLevel, RoomId};
use unibus_store::Message;
use unibus_store::link::Link;

/// What the engine says about a message (nats-server `server/stream.go`).
const STREAM: &str = "Nats-Stream";
const SEQUENCE: &str = "Nats-Sequence";
const KEPT_ON: &str = "Nats-Subject";
const KEPT_AT: &str = "Nats-Time-Stamp";
/// Code of the engine's API for a sequence that there is not, or not any more.
const NO_MESSAGE: u64 = 10037;

impl Histories {
    /// Messages after the sequence `after`, oldest first; without it the last ones. At most `limit` of them, and about
    /// [`PAGE_BYTES`]: where there are fewer than there might be, the next page begins after the last one. All that the leader
    /// of the stream had when it was asked is there. Takes [`bus::STORE_BUDGET`] at most.
    pub async fn read(&self, room: &RoomId, after: Option<u64>, limit: usize) -> Result<Page, HistoryError> {
        let link = self.link(room)?;
        let deadline = Instant::now() + bus::STORE_BUDGET;
        let kept = self.gate.view(|view| view.level() >= FeatureLevel::Kept);
        if kept && !self.is_captured(&link, room, deadline).await? {
            return self.read_kept(&link, room, after, limit, deadline).await;
        }
        let stream = loop {
            match streams::find(&link, room).await {
                Ok(Some(stream)) => break stream,
                // A room that has just been made, or that was made while nobody could.
                Ok(None) => self.settle(room).await?,
                Err(Asked::Silent(_)) if Instant::now() + bus::ATTEMPT * 2 < deadline => {}
                Err(other) => return Err(other.about(room)),
            }
            if Instant::now() + bus::ATTEMPT > deadline {
                return Err(Asked::Missing.about(room));
            }
            tokio::time::sleep(PAUSE).await;
        };
        page(&link, room, &stream, after, limit, deadline).await.map_err(|asked| asked.about(room))
    }
}

/// The rooms that have messages, or could have.
pub async fn rooms(link: &Link) -> Result<Vec<RoomId>, String> {
    streams::rooms(link).await.map_err(|asked| asked.to_string())
}

/// Messages of `room` after `after`, for a copy: by the word of a leader that a majority of the copies follows. Without a stream
/// there are none.
pub async fn export(link: &Link, room: &RoomId, after: u64) -> Result<Page, HistoryError> {
    let deadline = Instant::now() + bus::STORE_BUDGET;
    loop {
        match export_once(link, room, after, deadline).await {
            Err(Asked::Silent(_)) if Instant::now() + bus::ATTEMPT < deadline => tokio::time::sleep(PAUSE).await,
            outcome => return outcome.map_err(|asked| asked.about(room)),
        }
    }
}

async fn export_once(link: &Link, room: &RoomId, after: u64, deadline: Instant) -> Result<Page, Asked> {
    let Some(stream) = streams::find(link, room).await? else {
        return Ok(Page { messages: Vec::new(), first: 0, last: 0 });
    };
    if !stream.has_majority() {
        return Err(Asked::Silent("its leader has no majority of the copies, or none that is current".to_owned()));
    }
    page(link, room, &stream, Some(after), usize::MAX, deadline).await
}

async fn page(
    link: &Link,
    room: &RoomId,
    stream: &Stream,
    after: Option<u64>,
    limit: usize,
    deadline: Instant,
) -> Result<Page, Asked> {
    let (first, last) = (stream.first, stream.last);
    let span = u64::try_from(limit).unwrap_or(u64::MAX);
    let after = after.unwrap_or_else(|| last.saturating_sub(span)).max(first.saturating_sub(1));
    let end = last.min(after.saturating_add(span));
    let mut reading = Reading { room, messages: Vec::new(), bytes: 0, reached: after, end };
    let mut one_by_one = false;
    while !reading.is_done() {
        if Instant::now() >= deadline {
            return Err(Asked::Silent("no copy has all that its leader has".to_owned()));
        }
        let before = reading.reached;
        if one_by_one {
            match reading.one(link).await {
                Err(Asked::Silent(_)) if Instant::now() + bus::ATTEMPT < deadline => tokio::time::sleep(PAUSE).await,
                outcome => outcome?,
            }
        } else {
            one_by_one = reading.many(link).await.is_err();
        }
        if reading.reached == before && !one_by_one {
            // A copy that lags behind; whoever is next may be the leader.
            tokio::time::sleep(PAUSE / 10).await;
        }
    }
    Ok(Page { messages: reading.messages, first, last })
}

/// Messages of a room from one sequence on to another.
struct Reading<'a> {
    room: &'a RoomId,
    messages: Vec<Message>,
    bytes: usize,
    /// All up to this sequence are there, or are gone from the stream.
    reached: u64,
    end: u64,
}

/// The connection broke, or nothing came.
struct Broken;

impl Reading<'_> {
    fn is_done(&self) -> bool {
        self.reached >= self.end || self.bytes >= PAGE_BYTES
    }

    fn take(&mut self, message: Message) {
        self.reached = message.sequence;
        self.bytes += message.bytes();
        self.messages.push(message);
    }

    /// As many as one request brings.
    async fn many(&mut self, link: &Link) -> Result<(), Broken> {
        let client = &link.history.client;
        let mut breaks = link.history.breaks.clone();
        breaks.mark_unchanged();
        let until = tokio::time::Instant::now() + bus::ATTEMPT;
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.map_err(|_| Broken)?;
        let request = json!({
            "seq": self.reached.saturating_add(1),
            // Whatever is next: the oldest may go at any time.
            "next_by_subj": ">",
            "batch": self.end - self.reached,
            "max_bytes": PAGE_BYTES.saturating_sub(self.bytes),
        });
        let subject = format!("$JS.API.DIRECT.GET.{}", bus::history_stream(self.room.as_str()));
        let asked = client.publish_with_reply(subject, inbox, request.to_string().into()).await;
        asked.map_err(|_| Broken)?;
        loop {
            let answer = tokio::select! {
                answer = timeout_at(until, answers.next()) => answer.map_err(|_| Broken)?.ok_or(Broken)?,
                _ = breaks.changed() => return Err(Broken),
            };
            // The end of the answer, or that there is nothing: what the engine says about a message is missing. A status
            // says nothing, as a sender may write one, too.
            let Some(message) =
                answer.headers.as_ref().and_then(|headers| message(self.room, headers, &answer.payload))
            else {
                return Ok(());
            };
            if message.sequence > self.end {
                // What was in between has made way.
                self.reached = self.end;
            } else if message.sequence > self.reached {
                self.take(message);
            }
        }
    }

    /// The next one, from the leader.
    async fn one(&mut self, link: &Link) -> Result<(), Asked> {
        #[derive(Deserialize)]
        struct Raw {
            subject: String,
            seq: u64,
            #[serde(default)]
            hdrs: String,
            #[serde(default)]
            data: String,
            time: String,
        }
        let subject = format!("STREAM.MSG.GET.{}", bus::history_stream(self.room.as_str()));
        let request = json!({ "seq": self.reached.saturating_add(1), "next_by_subj": ">" });
        let answer = match streams::ask(&link.bus, subject, &request, bus::ATTEMPT).await {
            Ok(answer) => answer,
            // The rest of what there was is gone.
            Err(Asked::Refused(NO_MESSAGE, _)) => {
                self.reached = self.end;
                return Ok(());
            }
            Err(other) => return Err(other),
        };
        let strange = || Asked::Silent("a message is not understood".to_owned());
        let raw: Raw = answer.get("message").and_then(|raw| Raw::deserialize(raw).ok()).ok_or_else(strange)?;
        let decode = |text: &str| BASE64.decode(text.as_bytes()).map_err(|_| strange());
        let (headers, data) = (decode(&raw.hdrs)?, decode(&raw.data)?);
        let kept_at = clock::unix_ms_of(&raw.time).ok_or_else(strange)?;
        let own = |name: &str| field(&headers, name);
        let message = said(self.room, raw.seq, kept_at, &raw.subject, own, data.into()).ok_or_else(strange)?;
        if message.sequence > self.end {
            self.reached = self.end;
        } else {
            self.take(message);
        }
        Ok(())
    }
}

/// The message that an answer carries; none: it is no message.
fn message(room: &RoomId, headers: &HeaderMap, payload: &Bytes) -> Option<Message> {
    let last = |name: &str| headers.get_last(name).map(|value| value.as_str().to_owned());
    last(STREAM)?;
    let sequence = last(SEQUENCE)?.parse().ok()?;
    let kept_at = clock::unix_ms_of(&last(KEPT_AT)?)?;
    said(room, sequence, kept_at, &last(KEPT_ON)?, last, payload.clone())
}

/// The message with this sequence: what a daemon carried in says itself where it was said, and when.
fn said(
    room: &RoomId,
    sequence: u64,
    kept_at: i64,
    kept_on: &str,
    header: impl Fn(&str) -> Option<String>,
    frame: Bytes,
) -> Option<Message> {
    let (at_ms, subject) = if kept_on == bus::history_restored(room.as_str()) {
        (header(AT)?.parse().ok()?, header(SUBJECT)?)
    } else {
        (kept_at, kept_on.to_owned())
    };
    Some(Message { sequence, at_ms, subject, frame })
}

/// A field of headers that a daemon wrote.
fn field(headers: &[u8], name: &str) -> Option<String> {
    let lines = str::from_utf8(headers).ok()?.lines();
    let mut values = lines.filter_map(|line| line.split_once(':')).filter(|(found, _)| *found == name);
    values.next_back().map(|(_, value)| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        fields.iter().for_each(|(name, value)| headers.append(*name, *value));
        headers
    }

    const ENGINE: [(&str, &str); 4] = [
        (STREAM, "UNIBUS_history_kitchen"),
        (KEPT_ON, "room.kitchen"),
        (SEQUENCE, "7"),
        (KEPT_AT, "2026-01-02T03:04:05.678901234Z"),
    ];

    #[test]
    fn what_a_sender_says_about_his_message_does_not_count() {
        let kitchen: RoomId = "kitchen".parse().unwrap();
        let (at, on) = (AT, SUBJECT);
        let restored = bus::history_restored("kitchen");
        let forged = [
            (SEQUENCE, "1"),
            (KEPT_ON, restored.as_str()),
            (KEPT_AT, "1970-01-01T00:00:00Z"),
            (at, "0"),
            (on, "room.x"),
        ];
        let fields: Vec<_> = forged.iter().chain(&ENGINE).copied().collect();
        let read = message(&kitchen, &headers(&fields), &Bytes::from_static(b"x")).unwrap();
        let expected = Message {
            sequence: 7,
            at_ms: 1_767_323_045_678,
            subject: "room.kitchen".to_owned(),
            frame: Bytes::from_static(b"x"),
        };
        assert_eq!(read, expected);
        assert_eq!(message(&kitchen, &headers(&forged), &Bytes::new()), None, "the engine said nothing about it");
        assert_eq!(message(&kitchen, &headers(&[("Nats-Num-Pending", "0")]), &Bytes::new()), None, "the end");
    }

    #[test]
    fn what_was_carried_in_says_itself_when_and_where() {
        let kitchen: RoomId = "kitchen".parse().unwrap();
        let restored = bus::history_restored("kitchen");
        let own = [(AT, "12"), (SUBJECT, "room.attic.stairs"), (STREAM, "s"), (KEPT_ON, restored.as_str())];
        let fields: Vec<_> = own.iter().chain(&ENGINE[2..]).copied().collect();
        let read = message(&kitchen, &headers(&fields), &Bytes::new()).unwrap();
        assert_eq!((read.at_ms, read.subject.as_str(), read.sequence), (12, "room.attic.stairs", 7));
        let raw = format!("NATS/1.0\r\n{AT}: 12\r\n{SUBJECT}: room.attic\r\n\r\n");
        assert_eq!(field(raw.as_bytes(), SUBJECT).as_deref(), Some("room.attic"));
        assert_eq!(field(b"\xff", SUBJECT), None);
    }
}
