//! Copies of what daemons keep: out of shards and into them, from streams that captured a room before, and half of the way; and what is
//! removed with its room.

use std::fs;

use rusqlite::Connection;
use serde_json::{Value, json};
use unibus_core::domain::RoomId;
use unibus_keeper::Shard;
use unibus_store::Message;
use unibus_store::link::Link;

use crate::common::{self, Daemon, Dir, own_address};
use crate::damaged::{answer, copy, jetstream, with_key, with_keys};
use crate::kept::Place;

const KV: [&str; 2] = ["--store", "kv"];

/// All that the API shows of a room's messages but their places.
fn told(place: &Place, who: &str, room: &str) -> Vec<Value> {
    let (mut after, mut all) = (0, Vec::new());
    loop {
        let page = place.ask(who, "GET", &format!("/v1/rooms/{room}/history?after={after}&limit=7"), &Value::Null);
        let messages = page["messages"].as_array().unwrap_or_else(|| panic!("{page}\n{}", place.daemon.log())).clone();
        let Some(last) = messages.last() else { return all };
        after = last["seq"].as_u64().unwrap();
        all.extend(messages.into_iter().map(|mut message| {
            message.as_object_mut().unwrap().remove("seq");
            message
        }));
    }
}

/// A reader who had come to a place of `before` goes on right behind it in `now`.
fn assert_places_are_right(before: &[(u64, String)], now: &Place, who: &str, room: &str) {
    for (n, (cursor, _)) in before.iter().enumerate() {
        let rest = now.history(who, room, &format!("?after={cursor}&limit=1000"));
        let rest: Vec<String> = rest.into_iter().map(|(_, text)| text).collect();
        let expected: Vec<String> = before[n + 1..].iter().map(|(_, text)| text.clone()).collect();
        assert_eq!(rest, expected, "behind {cursor}, the place of number {n}");
    }
}

/// The streams that JetStream has in the account of the members.
fn streams_of_members(daemon: &Daemon) -> Vec<String> {
    let directory = daemon.dir.path().join("local_files/jetstream/jetstream/BUS/streams");
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Waits until the view of a node has what was carried in.
fn wait_for_room(place: &Place) {
    place.daemon.wait("the room", || {
        place.ask("bob", "GET", "/v1/rooms/hall/history?limit=1", &Value::Null)["messages"].is_array()
    });
}

fn import(daemon: &Daemon, file: &str) -> Value {
    answer(&daemon.ask(&["migrate-to-kv", "--json", "--db", file]), 0)
}

/// Says `count` things in the room as rooms were spoken in before daemons kept anything.
async fn say_captured(place: &Place, who: &str, room: &str, count: usize) -> Vec<String> {
    let (talker, subject) = (place.connect(who).await, format!("room.{room}"));
    let texts: Vec<String> = (0..count).map(|n| format!("{room} {n}")).collect();
    for text in &texts {
        talker.publish(&subject, place.frame(who, room, &subject, &format!("<<{text}>>"))).await;
    }
    place.daemon.wait("what was captured", || place.texts(who, room) == texts);
    texts
}

pub(crate) async fn say_kept(place: &Place, who: &str, room: &str, texts: &[&str]) {
    let (mut talker, subject) = (place.connect(who).await, format!("room.{room}.{who}"));
    for text in texts {
        talker.publish(&subject, place.frame(who, room, &subject, &format!("<<{text}>>"))).await;
        talker.kept().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_has_what_daemons_keep_and_brings_it_back_with_times_and_places() {
    let first = Place::captured(&["alice", "bob"]);
    for room in ["hall", "attic", "gone"] {
        first.room("alice", room, &["bob"]);
    }
    let mut hall = say_captured(&first, "bob", "hall", 20).await;
    say_captured(&first, "bob", "gone", 2).await;
    first.raise();
    say_kept(&first, "bob", "hall", &["one", "two"]).await;
    say_kept(&first, "alice", "attic", &["alone"]).await;
    hall.extend(["one", "two"].map(str::to_owned));
    let removed = first.ask("alice", "DELETE", "/v1/rooms/gone", &Value::Null);
    assert_eq!(removed["room"]["state"], "removed", "{removed}");
    let (file, exported) = copy(&first.daemon, "copy.db", 0);
    assert_eq!(exported["entries"]["UNIBUS_history"], 23, "{exported}");
    let before = first.history("bob", "hall", "?after=0&limit=1000");

    // A member may send the same frame again when it is long forgotten: then a copy has it twice.
    let twice =
        "INSERT INTO history SELECT room, seq + 1000, subject, at_ms + 1, frame FROM history WHERE room = 'attic'";
    assert_eq!(Connection::open(&file).unwrap().execute(twice, []).unwrap(), 1);
    let second = Place { daemon: Daemon::start(&KV), users: first.users.clone() };
    let carried = import(&second.daemon, &file);
    wait_for_room(&second);
    assert_eq!(second.texts("bob", "hall"), hall);
    assert_eq!(told(&second, "bob", "hall"), told(&first, "bob", "hall"), "times and subjects included");
    assert_eq!(second.texts("alice", "attic"), ["alone", "alone"]);
    assert_places_are_right(&before, &second, "bob", "hall");
    assert_eq!(import(&second.daemon, &file)["written"], 0, "all is there");
    let (again, exported) = copy(&second.daemon, "again.db", 0);
    assert_eq!(exported["content_sha256"], carried["content_sha256"]);
    say_kept(&second, "bob", "hall", &["later"]).await;
    hall.push("later".to_owned());
    assert_eq!(second.texts("alice", "hall"), hall);

    // Once more, into another cluster: places of both are behind that one's.
    let between = second.history("bob", "hall", "?after=0&limit=22");
    let third = Place { daemon: Daemon::start(&KV), users: first.users.clone() };
    import(&third.daemon, &again);
    wait_for_room(&third);
    assert_places_are_right(&between, &third, "bob", "hall");

    // And back to a node on its own, which has it in the file that it starts with.
    let dir = Dir::new();
    fs::create_dir(dir.path().join("local_files")).unwrap();
    let file = dir.path().join("local_files/unibus.db");
    let exported = answer(&second.daemon.ask(&["export", "--json", "--db", file.to_str().unwrap()]), 0);
    let alone = Daemon::launch(dir, own_address(), &[]);
    alone.wait_for_lease();
    let alone = Place { daemon: alone, users: first.users.clone() };
    assert_eq!(alone.texts("bob", "hall"), hall);
    assert_eq!(copy(&alone.daemon, "last.db", 0).1["content_sha256"], exported["content_sha256"]);
    say_kept(&alone, "bob", "hall", &["on its own"]).await;
    assert_eq!(alone.texts("alice", "hall").last().unwrap(), "on its own");
    for place in [&second, &third, &alone] {
        place.daemon.wait("no stream among the members", || streams_of_members(&place.daemon).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_from_before_daemons_kept_anything_is_carried_over_like_any_cluster() {
    let first = Place::captured(&["alice", "bob"]);
    first.room("alice", "hall", &["bob"]);
    let mut hall = say_captured(&first, "bob", "hall", 30).await;
    let before = first.history("bob", "hall", "?after=0&limit=1000");
    let (file, exported) = copy(&first.daemon, "copy.db", 0);

    let second = Place { daemon: Daemon::start(&KV), users: first.users.clone() };
    assert_eq!(import(&second.daemon, &file)["content_sha256"], exported["content_sha256"]);
    wait_for_room(&second);
    second.raise();
    say_kept(&second, "bob", "hall", &["after"]).await;
    assert_eq!(told(&second, "bob", "hall")[..30], told(&first, "bob", "hall"), "times and subjects included");
    hall.push("after".to_owned());
    assert_eq!(second.texts("alice", "hall"), hall);
    let rest = second.history("bob", "hall", &format!("?after={}", before[11].0));
    assert_eq!(rest.into_iter().map(|(_, text)| text).collect::<Vec<_>>(), hall[12..]);

    // A cluster that is at the level already has other documents: that is said, and nothing is written.
    let third = Daemon::start(&KV);
    let raised = third.ask(&["level", "raise"]);
    assert!(raised.status.success(), "{}", common::said(&raised));
    let refused = third.ask(&["migrate-to-kv", "--db", &file]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(common::said(&refused).contains("level of UNIBUS_rooms"), "{}", common::said(&refused));
}

/// A connection as a tool has it that copies.
pub(crate) async fn link(daemon: &Daemon) -> Link {
    let key = |name: &str| {
        let seed = fs::read_to_string(daemon.dir.path().join(format!("secrets/{name}.nk"))).unwrap();
        nkeys::KeyPair::from_seed(seed.trim()).unwrap()
    };
    let [control, bus] = [key("control"), key("bus")];
    Link::to_buckets(&daemon.address.to_string(), 4250, None, [&control, &bus]).await.unwrap()
}

/// How many messages of the room its shard has.
async fn in_shard(daemon: &Daemon, room: &str) -> u64 {
    let room: RoomId = room.parse().unwrap();
    let shard = Shard::of(&room);
    let about = format!("STREAM.INFO.{}", shard.stream());
    let info = jetstream(&with_key(daemon, "control").await, &about, &json!({ "subjects_filter": ">" })).await;
    info["state"]["subjects"][shard.subject(&room)].as_u64().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_is_half_carried_over_is_copied_whole_and_removed_whole() {
    let place = Place::of(with_keys(), &["alice", "bob"]);
    for room in ["hall", "attic"] {
        place.room("alice", room, &["bob"]);
    }
    let hall = say_captured(&place, "bob", "hall", 30).await;
    say_captured(&place, "bob", "attic", 30).await;
    // As a node leaves it that ended in the middle of it.
    let link = link(&place.daemon).await;
    for room in ["hall", "attic"] {
        let page = place.ask("bob", "GET", &format!("/v1/rooms/{room}/history?after=0&limit=13"), &Value::Null);
        let message = |message: &Value| Message {
            sequence: message["seq"].as_u64().unwrap(),
            at_ms: message["at_ms"].as_i64().unwrap(),
            subject: message["subject"].as_str().unwrap().to_owned(),
            frame: data_encoding::BASE64.decode(message["frame"].as_str().unwrap().as_bytes()).unwrap().into(),
        };
        let messages: Vec<Message> = page["messages"].as_array().unwrap().iter().map(message).collect();
        unibus_keeper::carry(&link, &room.parse().unwrap(), &messages).await.unwrap();
        assert_eq!(in_shard(&place.daemon, room).await, 13);
    }
    let all = told(&place, "bob", "hall");
    let (_, exported) = copy(&place.daemon, "half.db", 0);
    assert_eq!(exported["entries"]["UNIBUS_history"], 60, "each once: {exported}");

    // One is removed at once when the daemons begin to keep what is said, the other one is carried over to its end.
    let before = place.history("bob", "hall", "?after=0&limit=1000");
    place.raise();
    let removed = place.ask("alice", "DELETE", "/v1/rooms/attic", &Value::Null);
    assert_eq!(removed["room"]["state"], "removed", "{removed}");
    place.daemon.wait("the rest", || streams_of_members(&place.daemon).is_empty());
    assert_eq!(place.texts("alice", "hall"), hall);
    assert_eq!(told(&place, "bob", "hall"), all);
    assert_places_are_right(&before, &place, "bob", "hall");
    let (_, exported) = copy(&place.daemon, "whole.db", 0);
    assert_eq!(exported["entries"]["UNIBUS_history"], 30, "{exported}");
    let begun = std::time::Instant::now();
    while in_shard(&place.daemon, "attic").await > 0 {
        assert!(begun.elapsed().as_secs() < 45, "what a removed room said is still kept\n{}", place.daemon.log());
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }

    // Nothing is to be mended where daemons keep what is said, and that is said.
    let mended = place.daemon.ask(&["repair", "--room", "hall"]);
    assert!(
        common::said(&mended).contains("nothing is damaged; its history has 30 messages"),
        "{}",
        common::said(&mended)
    );
    let status = place.daemon.status().unwrap();
    let shards = status["replicas"].as_array().unwrap().iter().find(|of| of["bucket"] == "UNIBUS_kept").unwrap();
    assert_eq!([&shards["want"], &shards["current"]], [&json!(1), &json!(1)]);
    // And a room whose messages are in a shard from its first one on.
    place.room("alice", "cellar", &[]);
    say_kept(&place, "alice", "cellar", &["one", "two"]).await;
    let removed = place.ask("alice", "DELETE", "/v1/rooms/cellar", &Value::Null);
    assert_eq!(removed["room"]["state"], "removed", "{removed}");
    let begun = std::time::Instant::now();
    while in_shard(&place.daemon, "cellar").await > 0 {
        assert!(begun.elapsed().as_secs() < 10, "what a removed room said is still kept\n{}", place.daemon.log());
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}
