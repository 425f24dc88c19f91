//! Which rooms' histories are damaged, by the word of the engines. It is told, and decides nothing.
//!
//! An engine that could not apply what a stream took stops that copy for good, and names it in its own check of health. A stream
//! that no engine leads for long, while every bucket is well, will not be led again by itself either.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::timeout_at;

use unibus_core::bus;
use unibus_core::domain::RoomId;
use unibus_store::link::Link;

/// Time for all engines to say what they think of their streams.
const CHECK: Duration = bus::ATTEMPT;
/// Time for one more engine, once one has answered about a single stream.
const ONE: Duration = Duration::from_millis(300);
/// What an engine's check says of a stream that it does not write to any more (nats-server `server/monitor.go`).
const WRITE_ERROR: &str = "write error";

/// What is the matter while something lies aside.
pub(super) const UNFINISHED: &str = "its mending is not finished";

/// A room whose history is damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damaged {
    /// The room.
    pub room: RoomId,
    /// What is the matter with it.
    pub why: String,
}

/// The rooms of whose streams some engine says that it cannot write to them any more, and why.
pub(super) async fn named(link: &Link) -> BTreeMap<RoomId, String> {
    let body = json!({ "details": true });
    let mut found = BTreeMap::new();
    ask_all(link, &body, CHECK, |answer| {
        found.extend(in_answer(answer));
        false
    })
    .await;
    found
}

/// Why the stream of `room` is damaged, by the word of any engine; none: no engine says so.
pub(super) async fn of(link: &Link, room: &RoomId) -> Option<String> {
    let body = json!({ "account": bus::ACCOUNT_BUS, "stream": bus::history_stream(room.as_str()), "details": true });
    let mut why = None;
    ask_all(link, &body, ONE, |answer| {
        why = in_answer(answer).remove(room);
        why.is_some()
    })
    .await;
    why
}

/// Asks every engine for its check of health, until `enough` says so or the time is over.
async fn ask_all(link: &Link, body: &Value, patience: Duration, mut enough: impl FnMut(&Value) -> bool) {
    let inbox = link.system.new_inbox();
    let Ok(mut answers) = link.system.subscribe(inbox.clone()).await else { return };
    let asked = link.system.publish_with_reply("$SYS.REQ.SERVER.PING.HEALTHZ", inbox, body.to_string().into()).await;
    if asked.is_err() {
        return;
    }
    let until = tokio::time::Instant::now() + patience;
    while let Ok(Some(answer)) = timeout_at(until, answers.next()).await {
        let Ok(answer) = serde_json::from_slice::<Value>(&answer.payload) else { continue };
        if enough(&answer) {
            return;
        }
    }
}

/// The rooms that an engine's answer names.
fn in_answer(answer: &Value) -> BTreeMap<RoomId, String> {
    let errors = answer.pointer("/data/errors").and_then(Value::as_array).into_iter().flatten();
    let one = |error: &Value| {
        let stream = error.get("stream")?.as_str()?;
        let room = stream.strip_prefix(&bus::history_streams())?.parse().ok()?;
        let said = error.get("error")?.as_str()?;
        let of_bus = error.get("account").and_then(Value::as_str) == Some(bus::ACCOUNT_BUS);
        // The engine quotes what a member wrote; nothing of that is passed on.
        (of_bus && said.contains(WRITE_ERROR)).then(|| (room, "its engine cannot write to it any more".to_owned()))
    };
    errors.filter_map(one).collect()
}

/// The damage that a look shows: `named` by an engine, left in the middle of a mending, or led by no engine twice while the buckets
/// are `well`. Pure.
pub(super) fn judge(
    named: BTreeMap<RoomId, String>,
    mending: BTreeSet<RoomId>,
    unled: &BTreeSet<RoomId>,
    unled_before: &BTreeSet<RoomId>,
    well: bool,
) -> Vec<Damaged> {
    let mut found = named;
    let because = |rooms: Vec<RoomId>, why: &str| rooms.into_iter().map(move |room| (room, why.to_owned())).collect();
    let more: BTreeMap<RoomId, String> = because(mending.into_iter().collect(), UNFINISHED);
    found.extend(more);
    if well {
        let still: BTreeMap<RoomId, String> =
            because(unled.intersection(unled_before).cloned().collect(), "no engine leads its stream");
        for (room, why) in still {
            found.entry(room).or_insert(why);
        }
    }
    found.into_iter().map(|(room, why)| Damaged { room, why }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms(names: &[&str]) -> BTreeSet<RoomId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn an_engine_s_word_about_a_stream_counts_and_a_member_s_words_in_it_are_not_repeated() {
        let error = |account: &str, stream: &str, error: &str| json!({ "type": "STREAM", "account": account, "stream": stream, "error": error });
        let answer = json!({ "data": { "status": "error", "errors": [
            error("BUS", "UNIBUS_history_hall", "is not current: stream write error: last msgid mismatch: \"z\" vs \"\""),
            error("BUS", "UNIBUS_history_attic", "is not current: catching up"),
            error("CTL", "KV_UNIBUS_users", "is not current: stream write error"),
        ] } });
        let found = in_answer(&answer);
        assert_eq!(found.keys().cloned().collect::<BTreeSet<_>>(), rooms(&["hall"]));
        assert!(!found.values().any(|why| why.contains("\"z\"")), "{found:?}");
        assert!(in_answer(&json!({ "data": { "status": "ok" } })).is_empty());
    }

    #[test]
    fn a_stream_that_no_engine_leads_is_damaged_only_when_that_lasts_and_all_else_is_well() {
        let (once, twice) = (rooms(&["hall"]), rooms(&["hall", "attic"]));
        let judged = |before: &BTreeSet<RoomId>, well| {
            let found = judge(BTreeMap::new(), BTreeSet::new(), &twice, before, well);
            found.into_iter().map(|damaged| damaged.room).collect::<BTreeSet<_>>()
        };
        assert_eq!(judged(&BTreeSet::new(), true), BTreeSet::new(), "an election");
        assert_eq!(judged(&once, true), once);
        assert_eq!(judged(&once, false), BTreeSet::new(), "a node is down");
        let said = judge(BTreeMap::new(), once.clone(), &BTreeSet::new(), &BTreeSet::new(), true);
        assert_eq!(said[0].why, "its mending is not finished");
    }
}
