//! Messages of a room, read without a gap from whichever copy answers, and believing nothing that a member wrote.
//!
//! Many are read with one request (nats-server ADR-31, batched direct get), which any copy answers. How far the history goes the
//! leader says first, so a copy that lags behind is found out and asked again. The engine puts what it says about a message
//! behind the headers that its sender chose, and sends both as they are: so of equal names the last one counts, and headers that
//! are none break the connection on which they are read. That is one of its own (`Link::history`), and what was missed on it is
//! read one by one from the leader in a form in which headers are mere bytes. So is what stands where an answer ends that should
//! not end: there headers run into what the engine says.
//!
//! A message that is kept and cannot be read is counted, and what comes after it is read all the same. Where a stream has lost its
//! leader for good (`damage`), what any copy still gives out is read, and no reader waits for more.

use std::str;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use bytes::Bytes;
use data_encoding::BASE64;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout_at;

use super::copies;
use super::damage;
use super::message::{PAGE_BYTES, Page, Readable};
use super::restore::{AT, Place, SUBJECT};
use super::streams::{self, Asked};
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
/// Code of the engine's API for a sequence of which it gives out nothing.
const NO_MESSAGE: u64 = 10037;
/// Time for what the copies of a damaged stream still give out.
const DAMAGED: Duration = Duration::from_secs(2);

impl Histories {
    /// Messages after the sequence `after`, oldest first; without it the last ones. At most `limit` of them, and about
    /// [`PAGE_BYTES`]: where there are fewer than there might be, the next page begins after the last one. All that the leader
    /// of the stream had when it was asked is there. Takes [`bus::STORE_BUDGET`] at most, and a moment where the history of the room
    /// is known to be damaged.
    pub async fn read(&self, room: &RoomId, after: Option<u64>, limit: usize) -> Result<Page, HistoryError> {
        let link = self.link(room)?;
        let damaged = self.seen.rooms().is_damaged(room);
        let deadline = Instant::now() + if damaged { DAMAGED } else { bus::STORE_BUDGET };
        let kept = self.gate.view(|view| view.level() >= FeatureLevel::Kept);
        if kept && !damaged && self.carried.has(room) {
            return self.read_kept(&link, room, after, limit, deadline).await;
        }
        let extent = loop {
            match streams::find(&link, room).await {
                Ok(Some(stream)) => break stream.extent(),
                // Where its mending is not finished not all of it is in its place.
                Ok(None) if kept && !(damaged && is_aside(&link, room).await) => {
                    self.carried.note(room);
                    return self.read_kept(&link, room, after, limit, deadline).await;
                }
                Ok(None) if damaged => return Err(Asked::Missing.about(room)),
                Err(Asked::Silent(why)) if damaged => match copies::most(&link, room).await {
                    Some((last, _)) => break (1, last),
                    None => return Err(HistoryError::Damaged { room: room.clone(), why }),
                },
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
        let from = Place::of(room, 0);
        match page(&link, room, &from, extent, after, limit, deadline).await {
            Ok(page) => Ok(page),
            // It was removed in this moment, as all of it was carried over.
            Err(Asked::Missing) if kept => self.read_kept(&link, room, after, limit, deadline).await,
            Err(Asked::Silent(why)) if damaged => Err(HistoryError::Damaged { room: room.clone(), why }),
            Err(asked) => Err(asked.about(room)),
        }
    }
}

/// Whether messages of `room` lie aside.
async fn is_aside(link: &Link, room: &RoomId) -> bool {
    let aside = streams::find_named(link, room, &Place::aside(room).stream).await;
    !matches!(aside, Ok(None))
}

/// Messages that the stream of `room` has after `after`: by the word of a leader that a majority of the copies follows; none: there is
/// no such stream. Where an engine says that it is damaged, what any copy still gives out.
pub(super) async fn captured(link: &Link, room: &RoomId, after: u64) -> Result<Option<Readable>, HistoryError> {
    let deadline = Instant::now() + bus::STORE_BUDGET;
    loop {
        match captured_once(link, room, after, deadline).await {
            Err(Asked::Silent(why)) => {
                if let Some(why) = damage::of(link, room).await {
                    return Ok(Some(left_over(link, room, after, why).await));
                }
                if Instant::now() + bus::ATTEMPT >= deadline {
                    return Err(Asked::Silent(why).about(room));
                }
                tokio::time::sleep(PAUSE).await;
            }
            // It was removed in this moment, as all of it is elsewhere.
            Err(Asked::Missing) => return Ok(None),
            Ok(page) => return Ok(page.map(|page| readable(page, None))),
            Err(other) => return Err(other.about(room)),
        }
    }
}

fn readable(page: Page, damaged: Option<String>) -> Readable {
    Readable { messages: page.messages, unreadable: page.unreadable, reached: page.reached, damaged }
}

/// What the copies of a damaged stream still give out after `after`.
pub(super) async fn left_over(link: &Link, room: &RoomId, after: u64, why: String) -> Readable {
    let none = Readable { reached: after, damaged: Some(why.clone()), ..Readable::default() };
    // Any copy describes it, with what that copy has; if none does, an engine knows what its copy has.
    let extent = match streams::find(link, room).await {
        Ok(Some(stream)) => stream.extent(),
        _ => match copies::most(link, room).await {
            Some((last, _)) => (1, last),
            None => return none,
        },
    };
    let from = Place::of(room, 0);
    let page = page(link, room, &from, extent, Some(after), usize::MAX, Instant::now() + DAMAGED).await;
    page.map_or(none, |page| readable(page, Some(why)))
}

async fn captured_once(link: &Link, room: &RoomId, after: u64, deadline: Instant) -> Result<Option<Page>, Asked> {
    let Some(stream) = streams::find(link, room).await? else { return Ok(None) };
    if !stream.has_majority() {
        return Err(Asked::Silent("its leader has no majority of the copies, or none that is current".to_owned()));
    }
    page(link, room, &Place::of(room, 0), stream.extent(), Some(after), usize::MAX, deadline).await.map(Some)
}

/// All that lies in `from` after `after`, which a majority of its copies has.
pub(super) async fn lying_in(link: &Link, room: &RoomId, from: &Place, after: u64) -> Result<Page, Asked> {
    let stream = streams::find_named(link, room, &from.stream).await?.ok_or(Asked::Missing)?;
    let deadline = Instant::now() + bus::STORE_BUDGET;
    page(link, room, from, stream.extent(), Some(after), usize::MAX, deadline).await
}

async fn page(
    link: &Link,
    room: &RoomId,
    from: &Place,
    (first, last): (u64, u64),
    after: Option<u64>,
    limit: usize,
    deadline: Instant,
) -> Result<Page, Asked> {
    let span = u64::try_from(limit).unwrap_or(u64::MAX);
    let after = after.unwrap_or_else(|| last.saturating_sub(span)).max(first.saturating_sub(1));
    let mut end = last.min(after.saturating_add(span));
    let mut reading =
        Reading { room, from, messages: Vec::new(), unreadable: Vec::new(), bytes: 0, reached: after, end };
    let mut one_by_one = false;
    loop {
        // A page without a message is the end, for a client that reads page by page: there is none in the middle.
        if reading.is_done() && reading.messages.is_empty() && end < last {
            end = last.min(end.saturating_add(span));
            reading.end = end;
        }
        if reading.is_done() {
            break;
        }
        match reading.some(link, &mut one_by_one).await {
            Err(Asked::Silent(_)) if Instant::now() + bus::ATTEMPT < deadline => tokio::time::sleep(PAUSE).await,
            // What was read so far is without a gap.
            Err(Asked::Silent(_)) if !reading.messages.is_empty() => break,
            outcome => outcome?,
        }
        if Instant::now() >= deadline && !reading.is_done() {
            if reading.messages.is_empty() {
                return Err(Asked::Silent("no copy has all that its leader has".to_owned()));
            }
            break;
        }
    }
    let Reading { messages, unreadable, reached, .. } = reading;
    Ok(Page { messages, first, last, unreadable, reached, more: last.saturating_sub(reached) })
}

/// Messages of a room from one sequence on to another.
struct Reading<'a> {
    room: &'a RoomId,
    from: &'a Place,
    messages: Vec<Message>,
    /// Sequences of those that cannot be read.
    unreadable: Vec<u64>,
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

    /// As many as one request brings; where it brings none, the next one from the leader.
    async fn some(&mut self, link: &Link, one_by_one: &mut bool) -> Result<(), Asked> {
        let before = self.reached;
        if !*one_by_one {
            // Each break ends what others read on the same connection.
            *one_by_one = self.many(link).await.is_err();
        }
        // A copy that lags behind, or a message of which the engine says nothing that is understood.
        if self.reached == before && !self.is_done() { self.one(link).await } else { Ok(()) }
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
        let subject = format!("$JS.API.DIRECT.GET.{}", self.from.stream);
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
                answer.headers.as_ref().and_then(|headers| message(&self.from.subject, headers, &answer.payload))
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
        let next = self.reached.saturating_add(1);
        let raw = match self.ask_leader(link, &json!({ "seq": next, "next_by_subj": ">" })).await {
            // Nothing is ever taken out of the middle. So either the oldest have made way, or what comes next cannot be read.
            Err(Asked::Refused(NO_MESSAGE, _)) => return self.past(link, next).await,
            raw => Raw::deserialize(raw?).map_err(|_| not_understood())?,
        };
        let sequence = raw.seq;
        if sequence > self.end {
            self.reached = self.end;
            return Ok(());
        }
        match raw.message(&self.from.subject) {
            Some(message) => self.take(message),
            None => self.give_up(sequence),
        }
        Ok(())
    }

    /// Goes past what the leader does not give out at `next`.
    async fn past(&mut self, link: &Link, next: u64) -> Result<(), Asked> {
        let stream = streams::find_named(link, self.room, &self.from.stream).await?.ok_or(Asked::Missing)?;
        if stream.last < next {
            return Err(Asked::Silent("its leader has not all that it had".to_owned()));
        }
        if stream.first > next {
            self.reached = self.end.min(stream.first.saturating_sub(1));
        } else {
            self.give_up(next);
        }
        Ok(())
    }

    /// Notes that the message with this sequence cannot be read.
    fn give_up(&mut self, sequence: u64) {
        self.reached = sequence;
        self.unreadable.push(sequence);
    }

    /// A message, as the leader gives it out.
    async fn ask_leader(&self, link: &Link, request: &Value) -> Result<Value, Asked> {
        let subject = format!("STREAM.MSG.GET.{}", self.from.stream);
        let mut answer = streams::ask(&link.bus, subject, request, bus::ATTEMPT).await?;
        answer.get_mut("message").map(Value::take).ok_or_else(not_understood)
    }
}

fn not_understood() -> Asked {
    Asked::Silent("what the leader says about a message is not understood".to_owned())
}

/// A message in a form in which headers are mere bytes.
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

impl Raw {
    /// None: it is not one that a member or a daemon can have put there.
    fn message(self, restored: &str) -> Option<Message> {
        let decode = |text: &str| BASE64.decode(text.as_bytes()).ok();
        let (headers, data) = (decode(&self.hdrs)?, decode(&self.data)?);
        let kept_at = clock::unix_ms_of(&self.time)?;
        said(restored, self.seq, kept_at, &self.subject, |name| field(&headers, name), data.into())
    }
}

/// The message that an answer carries; none: it is no message.
fn message(restored: &str, headers: &HeaderMap, payload: &Bytes) -> Option<Message> {
    let last = |name: &str| headers.get_last(name).map(|value| value.as_str().to_owned());
    last(STREAM)?;
    let sequence = last(SEQUENCE)?.parse().ok()?;
    let kept_at = clock::unix_ms_of(&last(KEPT_AT)?)?;
    said(restored, sequence, kept_at, &last(KEPT_ON)?, last, payload.clone())
}

/// The message with this sequence: what a daemon carried in, on `restored`, says itself where it was said, and when.
fn said(
    restored: &str,
    sequence: u64,
    kept_at: i64,
    kept_on: &str,
    header: impl Fn(&str) -> Option<String>,
    frame: Bytes,
) -> Option<Message> {
    let (at_ms, subject) =
        if kept_on == restored { (header(AT)?.parse().ok()?, header(SUBJECT)?) } else { (kept_at, kept_on.to_owned()) };
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
        let read = message(&restored, &headers(&fields), &Bytes::from_static(b"x")).unwrap();
        let expected = Message {
            sequence: 7,
            at_ms: 1_767_323_045_678,
            subject: "room.kitchen".to_owned(),
            frame: Bytes::from_static(b"x"),
        };
        assert_eq!(read, expected);
        assert_eq!(message(&restored, &headers(&forged), &Bytes::new()), None, "the engine said nothing about it");
        assert_eq!(message(&restored, &headers(&[("Nats-Num-Pending", "0")]), &Bytes::new()), None, "the end");
    }

    #[test]
    fn what_was_carried_in_says_itself_when_and_where() {
        let restored = bus::history_restored("kitchen");
        let own = [(AT, "12"), (SUBJECT, "room.attic.stairs"), (STREAM, "s"), (KEPT_ON, restored.as_str())];
        let fields: Vec<_> = own.iter().chain(&ENGINE[2..]).copied().collect();
        let read = message(&restored, &headers(&fields), &Bytes::new()).unwrap();
        assert_eq!((read.at_ms, read.subject.as_str(), read.sequence), (12, "room.attic.stairs", 7));
        let raw = format!("NATS/1.0\r\n{AT}: 12\r\n{SUBJECT}: room.attic\r\n\r\n");
        assert_eq!(field(raw.as_bytes(), SUBJECT).as_deref(), Some("room.attic"));
        assert_eq!(field(b"\xff", SUBJECT), None);
    }
}
