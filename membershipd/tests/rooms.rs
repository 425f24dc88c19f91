//! Rooms as members use them: made and changed over the API by requests that Python signs, used by stock NATS clients.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod common;

use common::nats::Client;
use common::requests::{answers, identity, job, python, seed_admin, slug};
use common::{Authority, Daemon, Dir, own_address};
use membershipd::identity::Identity;
use serde_json::{Value, json};

const TLS: [&str; 6] = ["--tls-cert", "server.crt", "--tls-key", "server.key", "--tls-ca", "ca.crt"];

/// Requests as one user after the other makes them: who, method, path and body.
fn ask(daemon: &Daemon, requests: &[(&Identity, &str, &str, Value)]) -> Vec<Value> {
    let jobs: Vec<_> =
        requests.iter().map(|(who, method, target, body)| job(daemon, who, method, target, body)).collect();
    python(&jobs).iter().flat_map(answers).collect()
}

fn connect(daemon: &Daemon, handle: &str) -> Client {
    let ca = daemon.dir.path().join("ca.crt");
    let inbox = format!("_INBOX.{handle}");
    let (client, answer) = Client::connect_trusting(daemon, Some(&ca), &daemon.seed(handle), &inbox);
    assert_eq!(answer["ok"], true, "{handle}: {answer}\n{}", daemon.log());
    client
}

#[test]
fn a_member_has_a_room_from_the_acceptance_to_the_removal() {
    let (dir, address) = (Dir::new(), own_address());
    Authority::new(&dir).leaf(&dir, address, 365);
    let daemon = Daemon::launch(dir, address, &TLS);
    daemon.wait_for_lease();
    let root = seed_admin(&daemon);
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|handle| identity(&daemon, handle));
    let add = |who: &Identity| json!({ "sign_pub": who.sign_pub });
    let (member, reader) = (json!({ "role": "member" }), json!({ "role": "reader" }));
    let clear = json!({ "encrypt": false, "persist": false, "sign": false });

    // Rooms, and whom alice wants in them. Of claims that clash none is made.
    let subject = |text: &str| json!({ "subject": text });
    let made = ask(
        &daemon,
        &[
            (&root, "PUT", "/v1/users/alice", add(&alice)),
            (&root, "PUT", "/v1/users/bob", add(&bob)),
            (&root, "PUT", "/v1/users/carol", add(&carol)),
            (&alice, "PUT", "/v1/rooms/hall", subject("room.hall")),
            (&alice, "PUT", "/v1/rooms/hall", subject("room.hall")),
            (&alice, "PUT", "/v1/rooms/sums", json!({ "subject": "rpc.sums", "policy": clear })),
            (&alice, "PUT", "/v1/rooms/hall/members/bob", member.clone()),
            (&alice, "PUT", "/v1/rooms/hall/members/carol", reader.clone()),
            (&alice, "PUT", "/v1/rooms/sums/members/bob", member),
            (&alice, "PUT", "/v1/rooms/sums/members/carol", reader),
            (&bob, "PUT", "/v1/rooms/taken", subject("room.hall")),
            (&bob, "PUT", "/v1/rooms/below", subject("room.hall.corner")),
            (&bob, "PUT", "/v1/rooms/wild", subject("room.*")),
            (&bob, "PUT", "/v1/rooms/system", subject("$SYS.REQ")),
            (&bob, "GET", "/v1/rooms/hall/members", Value::Null),
            (&bob, "GET", "/v1/rooms", Value::Null),
        ],
    );
    let changed: Vec<_> = made[..10].iter().map(|answer| answer["changed"].as_bool()).collect();
    let mut wanted = vec![Some(true); 10];
    wanted[4] = Some(false);
    assert_eq!(changed, wanted, "{made:#?}");
    let refused: Vec<_> = made[10..15].iter().map(slug).collect();
    assert_eq!(refused, ["subject-taken", "subject-nested", "subject-wildcard", "subject-reserved", "not-joined"]);
    let rooms: Vec<_> = made[15]["rooms"].as_array().unwrap().iter().map(|room| &room["id"]).collect();
    assert_eq!(rooms, ["hall", "sums"]);

    // Bob is there before he accepts, is told on the same connection that he has more now, and has it on a new one.
    let mut waiting = connect(&daemon, "bob");
    assert!(waiting.subscribe("unibus.user.bob.>") && !waiting.subscribe("room.hall"), "invited is not joined");
    let accept = |who: &Identity, room: &str| format!("/v1/rooms/{room}/members/{}/acceptance", who.handle);
    let [hall, sums] = ["hall", "sums"].map(|room| accept(&bob, room));
    let [carols_hall, carols_sums] = ["hall", "sums"].map(|room| accept(&carol, room));
    let accepted = ask(
        &daemon,
        &[
            (&bob, "PUT", hall.as_str(), Value::Null),
            (&bob, "PUT", sums.as_str(), Value::Null),
            (&carol, "PUT", carols_hall.as_str(), Value::Null),
            (&carol, "PUT", carols_sums.as_str(), Value::Null),
        ],
    );
    assert!(accepted.iter().all(|answer| answer["member"]["state"] == "joined"), "{accepted:#?}");
    let told: Value = serde_json::from_str(&waiting.received(1)[0].1).unwrap();
    assert_eq!((&told["event"], &told["room"]), (&json!("rights_gained"), &json!("hall")));
    let mut writer = connect(&daemon, "bob");
    let mut listener = connect(&daemon, "carol");
    assert!(listener.subscribe("room.hall") && listener.subscribe("rpc.sums"));
    assert!(!listener.publish("room.hall", "x") && !listener.publish("rpc.sums", "x"), "a reader reads");
    assert!(writer.publish("room.hall", "hello"));
    assert_eq!(listener.received(1), [("room.hall".to_owned(), "hello".to_owned())]);

    // In a room for requests members ask and answer.
    let mut answering = connect(&daemon, "alice");
    assert_eq!(answering.say(json!({ "op": "respond", "subject": "rpc.sums", "data": "=4" }))["ok"], true);
    let request = json!({ "op": "request", "subject": "rpc.sums", "data": "2+2" });
    assert_eq!(writer.say(request.clone())["data"], "2+2=4");
    assert_eq!(listener.say(request)["ok"], false, "a reader does not ask");

    // The answer to the removal comes when the connection is closed that had the right; no other one is.
    let removed = ask(&daemon, &[(&alice, "DELETE", "/v1/rooms/hall/members/bob", Value::Null)]).remove(0);
    assert!(!writer.is_connected() && waiting.is_connected(), "{removed}\n{}", daemon.log());
    assert_eq!((&removed["member"]["state"], &removed["changed"]), (&json!("removed"), &json!(true)), "{removed}");
    assert!(["acknowledged", "waited_out"].iter().any(|how| removed["fence"] == *how), "{removed}");
    assert!(removed["waited_ms"].is_u64());
    assert!(listener.is_connected() && answering.is_connected());
    let mut writer = connect(&daemon, "bob");
    assert!(!writer.publish("room.hall", "x") && !writer.subscribe("room.hall") && writer.publish("rpc.sums", "x"));
    let left = ask(&daemon, &[(&bob, "GET", "/v1/rooms/hall", Value::Null), (&bob, "GET", "/v1/rooms", Value::Null)]);
    assert_eq!((slug(&left[0]), left[1]["rooms"].as_array().unwrap().len()), ("not-member", 1));
}
