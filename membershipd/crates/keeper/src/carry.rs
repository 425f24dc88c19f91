//! Carries messages that were kept elsewhere into the shard of their room: in their order, each once, with the time at which they were
//! said. For a room to which nothing is appended meanwhile.

use std::time::Instant;

use async_nats::HeaderMap;
use async_nats::client::Request;
use async_nats::header::{NATS_EXPECTED_LAST_SEQUENCE, NATS_MESSAGE_ID};
use futures::future::join_all;

use super::append::{Appended, SENDER, SUBJECT, understood};
use super::read::{AT, ReadError, WAS};
use super::shard::Shard;
use super::streams;
use unibus_core::bus;
use unibus_core::domain::RoomId;
use unibus_crypto::Frame;
use unibus_crypto::FrameId;
use unibus_store::Message;
use unibus_store::link::Link;

/// Messages that are under way at once, and their bytes, about.
const AT_ONCE: usize = 128;
const AT_ONCE_BYTES: usize = 4 << 20;

/// How far the messages that were carried into the shard of `room` go: the sequence that the last one had where it came from; none:
/// nothing of the room is kept.
///
/// # Errors
/// The shard does not answer.
pub async fn carried(link: &Link, room: &RoomId) -> Result<Option<u64>, ReadError> {
    let newest = streams::newest(link, room).await.map_err(|asked| asked.about(room))?;
    Ok(newest.map(|place| place.was.unwrap_or(u64::MAX)))
}

/// Appends `messages` to the shard of `room`; they are kept when this returns. Where it fails some may be: `carried` says how far.
///
/// # Errors
/// The shard took nothing for [`bus::STORE_BUDGET`].
pub async fn carry(link: &Link, room: &RoomId, messages: &[Message]) -> Result<(), ReadError> {
    let shard = Shard::of(room);
    let mut left = messages;
    let mut deadline = Instant::now() + bus::STORE_BUDGET;
    while !left.is_empty() {
        let now = fit(left);
        let failed = match streams::last(link, shard).await {
            Ok(last) => {
                let sent =
                    now.iter().zip(last..).map(|(message, before)| one(link, room, before, message, id(room, message)));
                let kept = join_all(sent).await.into_iter().take_while(|appended| *appended != Appended::Again).count();
                left = left.get(kept..).unwrap_or_default();
                if kept > 0 {
                    deadline = Instant::now() + bus::STORE_BUDGET;
                }
                (kept < now.len()).then(|| "the shard did not take all".to_owned())
            }
            Err(asked) => Some(asked.to_string()),
        };
        match failed {
            Some(why) if Instant::now() >= deadline => return Err(ReadError { room: room.clone(), why }),
            Some(_) => tokio::time::sleep(streams::PAUSE).await,
            None => {}
        }
    }
    Ok(())
}

/// Those of the first `messages` that go together.
pub(crate) fn fit(messages: &[Message]) -> &[Message] {
    let mut bytes = 0;
    let fit = messages.iter().take(AT_ONCE).take_while(|message| {
        let first = bytes == 0;
        bytes += message.bytes();
        first || bytes <= AT_ONCE_BYTES
    });
    messages.get(..fit.count()).unwrap_or_default()
}

/// By which the shard knows a message, however often it is sent.
pub(crate) fn id(room: &RoomId, message: &Message) -> String {
    FrameId::of(room, &message.subject, &message.frame).to_string()
}

/// Whether a message can be carried at all. The engine takes so much and no more, the headers that go along included, and ends the
/// connection on which more is sent; an older stream may have captured one without any.
pub fn can_be_carried(message: &Message) -> bool {
    message.bytes() <= bus::VALUE_BYTES
}

/// Appends one message behind the sequence `before`.
pub(crate) async fn one(link: &Link, room: &RoomId, before: u64, message: &Message, id: String) -> Appended {
    let Message { sequence, at_ms, subject, frame } = message;
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, id);
    headers.insert(NATS_EXPECTED_LAST_SEQUENCE, before.to_string());
    // Who said it was not proved where it was captured; it is whose share of the room it takes.
    let sender = Frame::parse(frame).map(|frame| frame.header.sender.to_string());
    headers.insert(SENDER, sender.as_deref().unwrap_or_default());
    headers.insert(SUBJECT, subject.as_str());
    headers.insert(AT, at_ms.to_string());
    headers.insert(WAS, sequence.to_string());
    let request = Request::new().headers(headers).payload(frame.clone()).timeout(Some(bus::ATTEMPT));
    match link.control.send_request(Shard::of(room).subject(room), request).await {
        Ok(answer) => understood(&answer.payload),
        Err(_) => Appended::Again,
    }
}
