//! The copies of the streams of all rooms, as one: counted for the posture, and raised. A bucket of many streams is as good as the
//! worst of them; those that are damaged are told apart. Nothing of it decides anything: it is what members say that lies there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::time::timeout_at;

use super::PAUSE;
use super::damage::{self, Damaged};
use super::streams;
use unibus_core::bus;
use unibus_core::domain::RoomId;
use unibus_store::link::Link;
use unibus_store::{Raised, Replicas};

/// Streams that are changed at once.
const AT_ONCE: usize = 8;
/// Times that a copy is looked at before it counts as not current, as with the buckets (`store/buckets`).
const LOOKS: usize = 3;

/// What a look at the streams of all rooms showed.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// The copies of all that are not damaged, as one; none: no engine said which streams there are.
    pub replicas: Option<Replicas>,
    /// The rooms whose history is damaged.
    pub damaged: Vec<Damaged>,
    /// Rooms whose streams no engine led.
    unled: BTreeSet<RoomId>,
}

impl Look {
    /// Whether the history of `room` is known to be damaged.
    pub fn is_damaged(&self, room: &RoomId) -> bool {
        self.damaged.iter().any(|damaged| damaged.room == *room)
    }
}

/// Looks at the streams of all rooms, after a look `before`; `buckets` are well when all of their copies are current, and say how
/// many copies a stream of a room should have.
pub async fn look(link: &Link, before: &Look, buckets: &[Replicas]) -> Look {
    let (seen, named, mending) = futures::join!(histories(link), damage::named(link), streams::mending(link));
    let Some(seen) = seen else { return Look { replicas: None, ..before.clone() } };
    let unled = seen.iter().filter(|(_, of)| of.current.is_none()).map(|(room, _)| room.clone()).collect();
    let well = !buckets.is_empty() && buckets.iter().all(|bucket| bucket.current.is_some_and(|now| now >= bucket.want));
    let damaged = damage::judge(named, mending.unwrap_or_default().into_iter().collect(), &unled, &before.unled, well);
    // Where no room persists nothing is missing, and a new stream gets what the buckets have.
    let least = buckets.iter().map(|bucket| bucket.want).min().unwrap_or(1);
    let sound = |room: &RoomId| !damaged.iter().any(|damaged| damaged.room == *room);
    let copies: Vec<Copies> = seen.iter().filter(|(room, _)| sound(room)).map(|(_, of)| *of).collect();
    let mut replicas = summary(&copies, least);
    replicas.rooms = Some(seen.len());
    Look { replicas: Some(replicas), damaged, unled }
}

/// Copies of one stream, by the word of its leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Copies {
    want: usize,
    /// None: nobody leads it.
    current: Option<usize>,
}

impl Copies {
    fn missing(self) -> usize {
        self.want.saturating_sub(self.current.unwrap_or_default())
    }
}

/// All streams as one entry.
fn summary(streams: &[Copies], least: usize) -> Replicas {
    let want = streams.iter().filter(|of| of.current.is_some()).map(|of| of.want).min().unwrap_or(least);
    let worst = streams.iter().copied().max_by_key(|of| (of.current.is_none(), of.missing()));
    let current = worst
        .map_or(Some(want), |worst| Some(want.saturating_sub(worst.missing())).filter(|_| worst.current.is_some()));
    Replicas { bucket: bus::HISTORY.to_owned(), want, current, leader: None, rooms: Some(streams.len()), space: None }
}

/// The copies of each room's stream; none: no engine says which streams there are.
async fn histories(link: &Link) -> Option<BTreeMap<RoomId, Copies>> {
    let rooms = streams::rooms(link).await.ok()?;
    let names: BTreeMap<String, RoomId> =
        rooms.into_iter().map(|room| (bus::history_stream(room.as_str()), room)).collect();
    let mut seen = BTreeMap::new();
    for _ in 0..LOOKS {
        let pending: BTreeSet<&str> =
            names.keys().map(String::as_str).filter(|name| !is_well(seen.get(*name))).collect();
        if pending.is_empty() {
            break;
        }
        if !seen.is_empty() {
            tokio::time::sleep(PAUSE * 4).await;
        }
        look_once(link, &pending, &mut seen).await;
    }
    let of = |name: &String| seen.get(name).copied().unwrap_or_default();
    Some(names.iter().map(|(name, room)| (room.clone(), of(name))).collect())
}

fn is_well(copies: Option<&Copies>) -> bool {
    copies.is_some_and(|copies| copies.missing() == 0)
}

/// The last sequence that any copy of the stream of `room` has, and the most messages; none: no engine has a copy.
pub(super) async fn most(link: &Link, room: &RoomId) -> Option<(u64, u64)> {
    let name = bus::history_stream(room.as_str());
    let mut found = None;
    ask_all(link, |answer| {
        let stream = details(answer).find(|stream| stream.get("name").and_then(Value::as_str) == Some(&name));
        let number = |what: &str| stream?.pointer(what)?.as_u64();
        if let (Some(last), Some(messages)) = (number("/state/last_seq"), number("/state/messages")) {
            let (most_last, most) = found.unwrap_or_default();
            found = Some((last.max(most_last), messages.max(most)));
        }
        false
    })
    .await;
    found
}

/// Asks every engine about the streams that it leads, until each of `pending` has been spoken for.
async fn look_once(link: &Link, pending: &BTreeSet<&str>, seen: &mut BTreeMap<String, Copies>) {
    let mut silent = pending.clone();
    ask_all(link, |answer| {
        for (name, copies) in led(answer) {
            silent.remove(name);
            seen.insert(name.to_owned(), copies);
        }
        silent.is_empty()
    })
    .await;
}

/// Asks every engine about the streams of rooms, until `enough` says so or the time is over.
async fn ask_all(link: &Link, mut enough: impl FnMut(&Value) -> bool) {
    let inbox = link.system.new_inbox();
    let Ok(mut answers) = link.system.subscribe(inbox.clone()).await else { return };
    let body = json!({ "account": bus::ACCOUNT_BUS, "streams": true, "config": true }).to_string();
    let asked = link.system.publish_with_reply("$SYS.REQ.SERVER.PING.JSZ", inbox, body.into()).await;
    if asked.is_err() {
        return;
    }
    let until = tokio::time::Instant::now() + bus::ATTEMPT;
    while let Ok(Some(answer)) = timeout_at(until, answers.next()).await {
        let Ok(answer) = serde_json::from_slice::<Value>(&answer.payload) else { continue };
        if enough(&answer) {
            return;
        }
    }
}

/// The streams that an engine says it leads.
fn led(answer: &Value) -> Vec<(&str, Copies)> {
    let name = answer.pointer("/server/name").and_then(Value::as_str);
    let is = |replica: &Value, word: &str| replica.get(word).and_then(Value::as_bool) == Some(true);
    let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
    let one = |stream: &'_ Value| {
        let want = stream.pointer("/config/num_replicas").and_then(number)?;
        let leads = |leader: &Value| leader.as_str() == name && name.is_some();
        let current = match stream.pointer("/cluster/leader") {
            // Not of a cluster.
            None if stream.get("cluster").is_none() => Some(1),
            Some(leader) if leads(leader) => {
                let replicas = stream.pointer("/cluster/replicas").and_then(Value::as_array);
                Some(1 + replicas.into_iter().flatten().filter(|r| is(r, "current") && !is(r, "offline")).count())
            }
            _ => None,
        };
        current.map(|current| Copies { want, current: Some(current) })
    };
    details(answer).filter_map(|stream| Some((stream.get("name")?.as_str()?, one(stream)?))).collect()
}

/// What an engine says of each stream.
fn details(answer: &Value) -> impl Iterator<Item = &Value> {
    let accounts = answer.pointer("/data/account_details").and_then(Value::as_array).into_iter().flatten();
    accounts.filter_map(|account| account.get("stream_detail")?.as_array()).flatten()
}

/// Gives the streams of all rooms `copies`, where they have fewer, in short attempts until `deadline`. Those that `seen` calls
/// damaged are left as they are.
pub async fn raise(link: &Link, copies: usize, deadline: Instant, seen: &Look) -> Raised {
    let mut outcome = Raised { bucket: bus::HISTORY.to_owned(), before: None, error: None };
    let rooms = loop {
        match streams::rooms(link).await {
            Ok(rooms) => break rooms,
            Err(_) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            Err(error) => return Raised { error: Some(error.to_string()), ..outcome },
        }
    };
    let rooms = rooms.into_iter().filter(|room| !seen.is_damaged(room));
    let mut raised = stream::iter(rooms).map(|room| raise_one(link, room, copies, deadline)).buffer_unordered(AT_ONCE);
    while let Some(one) = raised.next().await {
        match one {
            Ok(before) => outcome.before = outcome.before.into_iter().chain(before).min(),
            Err(error) => outcome.error = Some(error),
        }
    }
    outcome
}

async fn raise_one(link: &Link, room: RoomId, copies: usize, deadline: Instant) -> Result<Option<usize>, String> {
    loop {
        match streams::raise(link, &room, copies).await {
            Ok(before) => return Ok(before),
            Err(_) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            Err(error) => return Err(format!("room '{room}': {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(want: usize, current: Option<usize>) -> Copies {
        Copies { want, current }
    }

    #[test]
    fn many_streams_are_as_good_as_the_worst() {
        let said = |streams: &[Copies]| {
            let summary = summary(streams, 3);
            (summary.want, summary.current, summary.rooms)
        };
        assert_eq!(said(&[]), (3, Some(3), Some(0)), "nothing is missing where no room persists");
        assert_eq!(said(&[of(3, Some(3)), of(3, Some(2)), of(3, Some(3))]), (3, Some(2), Some(3)));
        assert_eq!(said(&[of(3, Some(3)), of(1, Some(1))]), (1, Some(1), Some(2)), "one that was not raised yet");
        assert_eq!(said(&[of(3, Some(3)), of(0, None)]), (3, None, Some(2)), "nobody leads it");
    }

    #[test]
    fn only_a_leader_s_word_counts() {
        let replica = |current: bool| json!({ "name": "x", "current": current });
        let stream = |leader: &str| {
            json!({ "name": leader, "config": { "num_replicas": 3 },
                    "cluster": { "leader": leader, "replicas": [replica(true), replica(false)] } })
        };
        let alone = json!({ "name": "alone", "config": { "num_replicas": 1 } });
        let details = json!([{ "stream_detail": [stream("homer"), stream("magnus"), alone] }]);
        let answer = json!({ "server": { "name": "homer" }, "data": { "account_details": details } });
        assert_eq!(led(&answer), [("homer", of(3, Some(2))), ("alone", of(1, Some(1)))]);
        assert!(led(&json!({ "error": {} })).is_empty());
    }
}
