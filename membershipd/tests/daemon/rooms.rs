//! Rooms as members use them: made and changed over the API by requests that Python signs, used by stock NATS clients.

use crate::common::Daemon;
use crate::common::nats::Client;
use crate::common::requests::{answers, identity, job, python, seed_admin, slug};
use serde_json::{Value, json};
use unibus_client::identity::Identity;

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

fn connect_js(daemon: &Daemon, handle: &str) -> Client {
    let ca = daemon.dir.path().join("ca.crt");
    // Answers to requests in a room come to the inbox that names it.
    let (client, answer) = Client::connect_js(daemon, &ca, &daemon.seed(handle), &format!("_INBOX.{handle}.sums"));
    assert_eq!(answer["ok"], true, "{handle}: {answer}\n{}", daemon.log());
    client
}

#[test]
fn a_member_has_a_room_from_the_acceptance_to_the_removal() {
    let daemon = Daemon::start_tls();
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

    // Bob is there before accepting, is told on the same connection that he has more now, and has it on a new one. Carol does not say
    // that she wants to keep hers: it ends, and comes back with the room.
    let (mut waiting, mut outdated) = (connect(&daemon, "bob"), connect(&daemon, "carol"));
    let keep = json!({ "keep_connections": true });
    assert!(waiting.subscribe("unibus.user.bob.>") && !waiting.subscribe("room.hall"), "invited is not joined");
    let accept = |who: &Identity, room: &str| format!("/v1/rooms/{room}/members/{}/acceptance", who.handle);
    let [hall, sums] = ["hall", "sums"].map(|room| accept(&bob, room));
    let [carols_hall, carols_sums] = ["hall", "sums"].map(|room| accept(&carol, room));
    let accepted = ask(
        &daemon,
        &[
            (&bob, "PUT", hall.as_str(), keep.clone()),
            (&bob, "PUT", sums.as_str(), keep),
            (&carol, "PUT", carols_hall.as_str(), Value::Null),
            (&carol, "PUT", carols_sums.as_str(), Value::Null),
        ],
    );
    assert!(accepted.iter().all(|answer| answer["member"]["state"] == "joined"), "{accepted:#?}");
    let told: Value = serde_json::from_str(&waiting.received(1)[0].1).unwrap();
    assert_eq!((&told["event"], &told["room"]), (&json!("rights_gained"), &json!("hall")));
    assert!(waiting.is_connected() && outdated.is_closed_within(10), "{}", daemon.log());
    let mut writer = connect_js(&daemon, "bob");
    let mut listener = connect(&daemon, "carol");
    assert!(["room.hall", "room.hall.>", "rpc.sums"].iter().all(|subject| listener.subscribe(subject)));
    assert!(!listener.publish("room.hall", "x") && !listener.publish("rpc.sums", "x"), "a reader reads");
    // Where daemons keep what is said the engine proves who said it.
    assert!(!writer.publish("room.hall", "x") && !writer.publish("room.hall.alice", "x"), "only as bob");
    assert!(writer.publish("room.hall.bob", "hello"));
    assert_eq!(listener.received(1), [("room.hall.bob".to_owned(), "hello".to_owned())]);

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
    let mut writer = connect_js(&daemon, "bob");
    assert!(!writer.publish("room.hall.bob", "x") && !writer.subscribe("room.hall") && writer.publish("rpc.sums", "x"));
    let left = ask(&daemon, &[(&bob, "GET", "/v1/rooms/hall", Value::Null), (&bob, "GET", "/v1/rooms", Value::Null)]);
    assert_eq!((slug(&left[0]), left[1]["rooms"].as_array().unwrap().len()), ("not-member", 1));

    // All of it is in the audit: who, what, by which right, and what came of it; root's own doing and what was denied, too.
    let dave = daemon.identity("dave");
    assert!(daemon.ask(&["user", "add", "--handle", "dave", "--sign-pub", &dave]).status.success());
    let log = ask(
        &daemon,
        &[(&bob, "DELETE", "/v1/users/alice", Value::Null), (&root, "GET", "/v1/audit?limit=500", Value::Null)],
    );
    assert_eq!(slug(&log[0]), "not-admin");
    let records = log[1]["records"].as_array().unwrap();
    let stages = |who: &str, action: &str, about: &str, handle: &str| -> Vec<&str> {
        let is = |record: &&Value| record["who"] == who && record["action"] == action && record[about] == handle;
        records.iter().filter(is).map(|record| record["stage"].as_str().unwrap()).collect()
    };
    let node = daemon.status().unwrap()["node"].as_str().unwrap().to_owned();
    for who in [format!("root@{node}"), "root".to_owned()] {
        let handle = if who == "root" { "bob" } else { "dave" };
        assert_eq!(stages(&who, "user.add", "user", handle), ["begun", "done"], "{who}");
    }
    assert_eq!(stages(&format!("root@{node}"), "user.add", "user", "root"), ["begun", "done"], "the first admin");
    assert_eq!(stages("bob", "user.remove", "user", "alice"), ["refused"]);
    assert_eq!(stages("alice", "room.create", "room", "hall"), ["begun", "done"]);
    assert_eq!(stages("bob", "member.accept", "room", "sums"), ["begun", "done"]);
    assert_eq!(stages("alice", "member.remove", "member", "bob"), ["begun", "done"]);
    let begun = records.iter().find(|record| record["action"] == "member.remove").unwrap();
    assert_eq!(begun["decided"], json!({ "bus": "user", "room": "owner" }));
    let done = records.iter().find(|r| r["id"] == begun["id"] && r["stage"] == "done").unwrap();
    assert_eq!(done["written"][0]["record"], "member.hall.bob");
}
