//! What makes way in a room in which nothing is said: messages that are older than its owner keeps them, and those above a limit that
//! the owner lowers later, also where something else than the keeper appended them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use unibus_core::clock;
use unibus_core::domain::LEAST_BYTES;
use unibus_store::Message;

use crate::common::requests::ask_if;
use crate::damaged::with_keys;
use crate::kept::Place;
use crate::kept_copies::{link, say_kept};

/// The account is compared with the engine's within 30 s, and rooms are looked at every ten.
const WITHIN: Duration = Duration::from_secs(75);
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn choose(place: &Place, room: &str, keep: &Value) {
    let path = format!("/v1/rooms/{room}");
    let revision = place.ask("alice", "GET", &path, &Value::Null)["revision"].as_u64();
    let changed = ask_if(&place.daemon, &place.users["alice"], "PATCH", &path, &json!({ "keep": keep }), revision);
    assert_eq!(changed["room"]["keep"], *keep, "{changed}");
}

fn wait_for(place: &Place, room: &str, expected: &[&str]) {
    let begun = Instant::now();
    loop {
        let texts = place.texts("alice", room);
        if texts == expected {
            return;
        }
        assert!(begun.elapsed() < WITHIN, "the room {room} keeps {texts:?}\n{}", place.daemon.log());
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_old_and_what_is_above_a_limit_lowered_later_makes_way_where_nothing_is_said() {
    let place = Place::of(with_keys(), &["alice", "bob"]);
    place.raise();
    for room in ["hall", "attic", "cellar"] {
        place.room("alice", room, &["bob"]);
    }
    // Time cannot be made to pass: these were said long ago and elsewhere, and are carried in with the times at which they were.
    let link = link(&place.daemon).await;
    let carried: Vec<Message> = [40, 30, 8, 6, 2]
        .into_iter()
        .zip(1..)
        .map(|(days, sequence)| Message {
            sequence,
            at_ms: clock::unix_ms() - days * DAY_MS,
            subject: "room.hall.bob".to_owned(),
            frame: place.frame("bob", "hall", "room.hall.bob", &format!("<<{days} days>>")).into(),
        })
        .collect();
    unibus_keeper::carry(&link, &"hall".parse().unwrap(), &carried).await.unwrap();
    say_kept(&place, "alice", "hall", &["now"]).await;
    let all = ["40 days", "30 days", "8 days", "6 days", "2 days", "now"];
    assert_eq!(place.texts("alice", "hall"), all);

    let filling = "x".repeat(900_000);
    let large: Vec<String> = (0..8).map(|n| format!("large {n}>>{filling}<<")).collect();
    say_kept(&place, "alice", "attic", &["small"]).await;
    say_kept(&place, "bob", "attic", &large.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(place.texts("alice", "attic").len(), 9);

    // What is carried in later the keeper has not appended: it learns of it when it compares its account with the engine's counts.
    choose(&place, "cellar", &json!({ "bytes": LEAST_BYTES }));
    say_kept(&place, "alice", "cellar", &["small"]).await;
    let carried: Vec<Message> = large
        .iter()
        .zip(1..)
        .map(|(text, sequence)| Message {
            sequence,
            at_ms: clock::unix_ms(),
            subject: "room.cellar.bob".to_owned(),
            frame: place.frame("bob", "cellar", "room.cellar.bob", &format!("<<{text}>>")).into(),
        })
        .collect();
    unibus_keeper::carry(&link, &"cellar".parse().unwrap(), &carried).await.unwrap();

    choose(&place, "hall", &json!({ "days": 7 }));
    choose(&place, "attic", &json!({ "bytes": LEAST_BYTES }));
    wait_for(&place, "hall", &all[3..]);
    for room in ["attic", "cellar"] {
        wait_for(&place, room, &["small", "large 4", "large 5", "large 6", "large 7"]);
    }
    // Less than a day is not asked for, and a limit that is raised again brings nothing back.
    choose(&place, "hall", &json!({ "days": 1 }));
    choose(&place, "attic", &json!({ "bytes": 2 * LEAST_BYTES }));
    wait_for(&place, "hall", &["now"]);
    assert_eq!(place.texts("alice", "attic").len(), 5);
}
