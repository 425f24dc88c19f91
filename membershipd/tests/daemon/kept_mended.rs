//! What was damaged in the stream of a room before daemons began to keep what is said: the rest is carried over, by itself or by a verb.

use async_nats::HeaderMap;
use serde_json::{Value, json};

use crate::common;
use crate::damaged::{answer, copy, jetstream, with_key, with_keys};
use crate::kept::Place;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_be_read_of_a_damaged_room_is_carried_over_and_its_mending_ends_in_the_shard() {
    let place = Place::of(with_keys(), &["alice", "bob"]);
    for room in ["hall", "attic", "cellar"] {
        place.room("alice", room, &["bob"]);
    }
    let (bob, bus) = (place.connect("bob").await, with_key(&place.daemon, "bus").await);
    let frame = |room: &str, text: &str| place.frame("bob", room, &format!("room.{room}"), text);
    let count = |room: &str| {
        place.ask("bob", "GET", &format!("/v1/rooms/{room}/history?limit=1"), &Value::Null)["last"].clone()
    };
    // A word of a daemon that is none; and a message that is as large as the engine takes, without any header.
    bob.publish("room.hall", frame("hall", "<<one>>")).await;
    place.daemon.wait("the first", || count("hall") == 1);
    bus.publish("$KV.UNIBUS_history.hall", "?".into()).await.unwrap();
    bus.flush().await.unwrap();
    place.daemon.wait("the second", || count("hall") == 2);
    bob.publish("room.hall", frame("hall", "<<three>>")).await;
    place.daemon.wait("the third", || count("hall") == 3);
    bob.publish("room.cellar", vec![b'x'; 1 << 20]).await;
    bob.publish("room.cellar", frame("cellar", "<<after>>")).await;
    place.daemon.wait("the large one", || count("cellar") == 2);
    // A mending that was interrupted after the damaged stream went.
    let note = json!({ "base": 100, "kept": 2, "lost": 0, "lost_places": [] }).to_string();
    let aside = json!({ "name": "UNIBUS_mending_attic", "subjects": ["$KV.UNIBUS_mending.attic"], "storage": "file",
                        "num_replicas": 1, "allow_direct": true, "metadata": { "unibus_mending": note } });
    jetstream(&bus, "STREAM.CREATE.UNIBUS_mending_attic", &aside).await;
    for text in ["<<five>>", "<<six>>"] {
        let mut headers = HeaderMap::new();
        headers.insert("Unibus-At", "7");
        headers.insert("Unibus-Subject", "room.attic");
        bus.publish_with_headers("$KV.UNIBUS_mending.attic", headers, text.into()).await.unwrap();
    }
    bus.flush().await.unwrap();
    jetstream(&bus, "STREAM.DELETE.UNIBUS_history_attic", &json!({})).await;

    // A copy that is carried in leaves out what no engine takes, and so does a room that is carried over.
    let (file, _) = copy(&place.daemon, "copy.db", 1);
    let other = Place { daemon: common::Daemon::start(&["--store", "kv"]), users: place.users.clone() };
    answer(&other.daemon.ask(&["migrate-to-kv", "--json", "--db", &file]), 0);
    other
        .daemon
        .wait("the room", || other.ask("bob", "GET", "/v1/rooms/cellar/history", &Value::Null)["messages"].is_array());
    assert_eq!(other.texts("bob", "cellar"), ["after"]);
    place.raise();
    let gone = |room: &str| place.daemon.log().contains(&format!("is kept by the daemons from now on room={room}"));
    place.daemon.wait("both carried over", || gone("hall") && gone("cellar"));
    assert_eq!(place.texts("bob", "hall"), ["one", "three"]);
    assert_eq!(place.texts("bob", "cellar"), ["after"]);

    // The other one waits for its mending, and is named.
    let (_, copied) = copy(&place.daemon, "waits.db", 1);
    assert_eq!(copied["missing"]["attic"]["why"], "its mending is not finished", "{copied}");
    let said = place.frame("alice", "attic", "room.attic.alice", "<<seven>>");
    let mut alice = place.connect("alice").await;
    alice.publish("room.attic.alice", said.clone()).await;
    let mended = answer(&place.daemon.ask(&["repair", "--room", "attic", "--json"]), 0);
    let expected = json!({ "room": "attic", "was_damaged": true, "kept": 2, "lost": 0, "lost_places": [] });
    assert_eq!(mended["mended"], expected);
    // What was said meanwhile was held, and comes behind.
    alice.kept().await;
    assert_eq!(place.texts("bob", "attic"), ["five", "six", "seven"]);
    let again = answer(&place.daemon.ask(&["repair", "--room", "attic", "--json"]), 0);
    assert_eq!((&again["mended"]["was_damaged"], &again["mended"]["kept"]), (&json!(false), &json!(3)));
    let (_, copied) = copy(&place.daemon, "all.db", 0);
    assert_eq!(copied["entries"]["UNIBUS_history"], 6, "{copied}");
}
