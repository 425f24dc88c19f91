//! Appends checked frames to a shard, many in flight, in their order, each once.
//!
//! An append names the sequence that must stand before it, so a frame is never kept behind one that was heard after it, and of two
//! nodes that append at the same time one is stopped. It carries the id of the frame, so what was kept already is not kept again:
//! the engine looks at that first (nats-server `checkMsgHeadersPreClusteredProposal`).

use async_nats::HeaderMap;
use async_nats::client::Request;
use async_nats::header::{NATS_EXPECTED_LAST_SEQUENCE, NATS_MESSAGE_ID};
use futures::future::join_all;
use serde::Deserialize;

use super::heard::Heard;
use super::shard::Shard;
use unibus_core::bus;
use unibus_store::link::Link;

/// Header in which the keeper says whose message it is.
pub(crate) const SENDER: &str = "Unibus-Sender";
/// Header in which the keeper says where it was said.
pub(crate) const SUBJECT: &str = "Unibus-Subject";

/// What came of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Appended {
    /// It is kept, at this sequence; now, or it was before.
    Kept { sequence: u64, before: bool },
    /// It is not known to be kept: it is to be appended again.
    Again,
}

/// Appends `frames` behind the sequence `last` of the shard.
pub(crate) async fn append(link: &Link, shard: Shard, last: u64, frames: &[Heard]) -> Vec<Appended> {
    join_all(frames.iter().zip(last..).map(|(heard, before)| one(link, shard, before, heard))).await
}

async fn one(link: &Link, shard: Shard, before: u64, heard: &Heard) -> Appended {
    let request =
        Request::new().headers(headers(before, heard)).payload(heard.frame.clone()).timeout(Some(bus::ATTEMPT));
    match link.control.send_request(shard.subject(&heard.room), request).await {
        Ok(answer) => understood(&answer.payload),
        Err(_) => Appended::Again,
    }
}

/// What the keeper says of a frame that is to stand behind the sequence `before`.
fn headers(before: u64, heard: &Heard) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, heard.id.to_string());
    headers.insert(NATS_EXPECTED_LAST_SEQUENCE, before.to_string());
    headers.insert(SENDER, heard.sender.as_str());
    headers.insert(SUBJECT, heard.subject.as_str());
    headers
}

pub(crate) fn understood(answer: &[u8]) -> Appended {
    #[derive(Deserialize)]
    struct Acknowledgement {
        seq: Option<u64>,
        #[serde(default)]
        duplicate: bool,
        error: Option<serde_json::Value>,
    }
    match serde_json::from_slice(answer) {
        Ok(Acknowledgement { seq: Some(sequence), duplicate, error: None }) if sequence > 0 => {
            Appended::Kept { sequence, before: duplicate }
        }
        // Another sequence stands there, the same frame is under way (10158), or the store is full: whatever it is, the frame
        // is not known to be kept.
        Ok(Acknowledgement { error: Some(error), .. }) => {
            tracing::debug!("an append was refused: {error}");
            Appended::Again
        }
        _ => Appended::Again,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use unibus_core::domain::RoomId;
    use unibus_crypto::FrameId;

    use super::*;

    #[test]
    fn an_append_names_its_frame_and_what_stands_before_it() {
        let room: RoomId = "kitchen".parse().unwrap();
        let (subject, frame) = ("room.kitchen.bob".to_owned(), Bytes::from_static(b"frame"));
        let id = FrameId::of(&room, &subject, &frame);
        let heard = Heard { at: Instant::now(), room, subject, sender: "bob".parse().unwrap(), frame, id };
        let headers = headers(41, &heard);
        let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
        // nats-server `server/stream.go`: of equal ids one is taken, and none behind another sequence.
        assert_eq!(header("Nats-Msg-Id"), Some(id.to_string()));
        assert_eq!(header("Nats-Expected-Last-Sequence").as_deref(), Some("41"));
        assert_eq!(header("Unibus-Sender").as_deref(), Some("bob"));
        assert_eq!(header("Unibus-Subject").as_deref(), Some("room.kitchen.bob"));
    }

    #[test]
    fn only_a_sequence_without_an_error_is_kept() {
        let kept = |sequence, before| Appended::Kept { sequence, before };
        assert_eq!(understood(br#"{"stream":"S","seq":9}"#), kept(9, false));
        assert_eq!(understood(br#"{"stream":"S","seq":9,"duplicate":true}"#), kept(9, true));
        let refused =
            br#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 7"},"stream":"S","seq":0}"#;
        for other in [&refused[..], br#"{"stream":"S","seq":0}"#, b"{}", b"nonsense"] {
            assert_eq!(understood(other), Appended::Again);
        }
    }
}
