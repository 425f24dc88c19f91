//! What is said in rooms that persist: kept once and in order, read by members alone, and by nobody whose room it is not.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::common::requests::{ask, ask_if, seed_admin, slug, user};
use crate::common::{self, Daemon};
use async_nats::{Client, ConnectOptions, HeaderMap};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use futures::StreamExt;
use nkeys::KeyPair;
use serde_json::{Value, json};
use unibus_client::identity::Identity;

/// In which streams capture what is said.
const KV: [&str; 3] = ["--store", "kv", "--begin-at-lowest-level"];

/// Makes a user and a room of his; the policy is the usual one.
pub(crate) fn room(daemon: &Daemon, who: &Identity, id: &str, subject: &str) -> Value {
    let made = ask(daemon, who, "PUT", &format!("/v1/rooms/{id}"), &json!({ "subject": subject }));
    assert_eq!(made["changed"], true, "{made}\n{}", daemon.log());
    made
}

/// Brings somebody into a room.
fn join(daemon: &Daemon, owner: &Identity, id: &str, who: &Identity, role: &str) {
    let member = format!("/v1/rooms/{id}/members/{}", who.handle);
    let invited = ask(daemon, owner, "PUT", &member, &json!({ "role": role }));
    let joined = ask(daemon, who, "PUT", &format!("{member}/acceptance"), &Value::Null);
    assert_eq!(joined["member"]["state"], "joined", "{invited} {joined}");
}

pub(crate) fn history(daemon: &Daemon, who: &Identity, id: &str, query: &str) -> Value {
    ask(daemon, who, "GET", &format!("/v1/rooms/{id}/history{query}"), &Value::Null)
}

/// The places and texts of an answer.
pub(crate) fn said(history: &Value) -> Vec<(u64, String)> {
    let messages = history["messages"].as_array().unwrap_or_else(|| panic!("{history}"));
    let text = |message: &Value| BASE64.decode(message["frame"].as_str().unwrap().as_bytes()).unwrap();
    let one = |message: &Value| (message["seq"].as_u64().unwrap(), String::from_utf8(text(message)).unwrap());
    messages.iter().map(one).collect()
}

pub(crate) fn texts(history: &Value) -> Vec<String> {
    said(history).into_iter().map(|(_, text)| text).collect()
}

/// Waits until a room's history ends at `last`.
pub(crate) fn kept(daemon: &Daemon, who: &Identity, id: &str, last: u64) {
    daemon.wait(&format!("{last} messages in {id}"), || history(daemon, who, id, "?limit=1")["last"] == last);
}

pub(crate) async fn connect(daemon: &Daemon, handle: &str) -> Client {
    connect_as(daemon, handle, &daemon.seed(handle)).await
}

pub(crate) async fn connect_as(daemon: &Daemon, handle: &str, seed: &str) -> Client {
    ConnectOptions::with_nkey(seed.to_owned())
        .custom_inbox_prefix(format!("_INBOX.{handle}"))
        .connect(format!("nats://{}:4250", daemon.address))
        .await
        .unwrap()
}

pub(crate) async fn say(client: &Client, subject: &str, id: &str, text: &str) {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", id);
    client.publish_with_headers(subject.to_owned(), headers, text.to_owned().into()).await.unwrap();
    client.flush().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_members_say_is_kept_once_and_in_order_and_read_in_pages() {
    let daemon = Daemon::start(&KV);
    let root = seed_admin(&daemon);
    let [alice, bob, eve] = ["alice", "bob", "eve"].map(|handle| user(&daemon, &root, handle));
    room(&daemon, &alice, "hall", "room.hall");
    join(&daemon, &alice, "hall", &bob, "member");
    let [a, b] = [connect(&daemon, "alice").await, connect(&daemon, "bob").await];
    // Where an acknowledgement might be told, if there were any.
    let mut listening = [a.subscribe("_INBOX.alice.>").await.unwrap(), a.subscribe("unibus.event.hall").await.unwrap()];
    a.flush().await.unwrap();
    for n in 0..6 {
        let (client, id) = (if n % 2 == 0 { &a } else { &b }, format!("id-{n}"));
        say(client, if n == 3 { "room.hall.corner" } else { "room.hall" }, &id, &format!("text {n}")).await;
        kept(&daemon, &bob, "hall", n + 1);
    }
    // Again, as whoever heard nothing does, asking for an acknowledgement where he may not speak.
    say(&b, "room.hall", "id-5", "text 5").await;
    for reply in ["_INBOX.alice.ack", "unibus.event.hall", "_INBOX.bob.ack"] {
        b.publish_with_reply("room.hall", reply, format!("to {reply}").into()).await.unwrap();
    }
    b.flush().await.unwrap();
    kept(&daemon, &alice, "hall", 9);
    for subscription in &mut listening {
        assert!(
            tokio::time::timeout(Duration::from_millis(300), subscription.next()).await.is_err(),
            "an acknowledgement"
        );
    }

    let all = history(&daemon, &alice, "hall", "");
    assert_eq!((&all["first"], &all["last"]), (&json!(1), &json!(9)));
    assert_eq!(said(&all)[..6], (0..6).map(|n| (n + 1, format!("text {n}"))).collect::<Vec<_>>());
    assert_eq!((texts(&all).len(), &all["messages"][3]["subject"]), (9, &json!("room.hall.corner")));
    assert_eq!(texts(&history(&daemon, &bob, "hall", "?limit=2"))[0], "to unibus.event.hall", "the last ones");
    assert_eq!(texts(&history(&daemon, &bob, "hall", "?after=2&limit=2")), ["text 2", "text 3"]);
    assert!(texts(&history(&daemon, &bob, "hall", "?after=9")).is_empty());
    for (who, query, problem) in [
        (&eve, "", "not-member"),
        (&root, "", "not-member"),
        (&bob, "?limit=1001", "bad-query"),
        (&bob, "?after=x", "bad-query"),
        (&bob, "?before=1", "bad-query"),
    ] {
        let refused = history(&daemon, who, "hall", query);
        assert_eq!(slug(&refused), problem, "{query}");
    }
    let removed = ask(&daemon, &alice, "DELETE", "/v1/rooms/hall/members/bob", &Value::Null);
    assert_eq!(removed["changed"], true);
    assert_eq!(slug(&history(&daemon, &bob, "hall", "")), "not-member");

    // A page has a bound in bytes, and the next one goes on where it ended.
    let big = "x".repeat(400_000);
    for n in 0..5 {
        say(&a, "room.hall", &format!("big-{n}"), &format!("{n}{big}")).await;
    }
    kept(&daemon, &alice, "hall", 14);
    let (mut after, mut pages, mut seen) = (9, 0, Vec::new());
    while after < 14 {
        let page = said(&history(&daemon, &alice, "hall", &format!("?after={after}")));
        assert!((1..=3).contains(&page.len()), "{}", page.len());
        after = page.last().unwrap().0;
        seen.extend(page.into_iter().map(|(_, text)| text[..1].to_owned()));
        pages += 1;
    }
    assert_eq!((pages, seen.join("")), (2, "01234".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_follows_the_room_and_a_subject_takes_nothing_along() {
    // The same on a node of its own.
    let daemon = Daemon::start(&["--begin-at-lowest-level"]);
    let root = seed_admin(&daemon);
    let [alice, bob] = ["alice", "bob"].map(|handle| user(&daemon, &root, handle));
    let revision = |room: &Value| room["room"]["revision"].as_u64().unwrap();
    let made = room(&daemon, &alice, "hall", "room.hall");
    let client = connect(&daemon, "alice").await;
    say(&client, "room.hall", "1", "kept").await;
    kept(&daemon, &alice, "hall", 1);

    // Off: nothing more is kept, and nothing is lost. On again: it goes on.
    let policy = |persist: bool| json!({ "policy": { "encrypt": true, "persist": persist, "sign": true } });
    let off = ask_if(&daemon, &alice, "PATCH", "/v1/rooms/hall", &policy(false), Some(revision(&made)));
    assert_eq!(slug(&history(&daemon, &alice, "hall", "")), "not-persisted", "{off}");
    let client = connect(&daemon, "alice").await;
    say(&client, "room.hall", "2", "not kept").await;
    let on = ask_if(&daemon, &alice, "PATCH", "/v1/rooms/hall", &policy(true), Some(revision(&off)));
    let client = connect(&daemon, "alice").await;
    say(&client, "room.hall", "3", "kept again").await;
    kept(&daemon, &alice, "hall", 2);
    assert_eq!(texts(&history(&daemon, &alice, "hall", "")), ["kept", "kept again"]);

    // Another subject, in place; and the old one for another room, which hears and shows nothing of what was.
    let moved = json!({ "subject": "room.attic" });
    let moved = ask_if(&daemon, &alice, "PATCH", "/v1/rooms/hall", &moved, Some(revision(&on)));
    assert_eq!(moved["room"]["subject"], "room.attic", "{moved}");
    room(&daemon, &bob, "new", "room.hall");
    let [a, b] = [connect(&daemon, "alice").await, connect(&daemon, "bob").await];
    say(&b, "room.hall", "4", "bob's").await;
    say(&a, "room.attic", "5", "from the attic").await;
    kept(&daemon, &bob, "new", 1);
    kept(&daemon, &alice, "hall", 3);
    assert_eq!(texts(&history(&daemon, &bob, "new", "")), ["bob's"]);
    assert_eq!(texts(&history(&daemon, &alice, "hall", "")), ["kept", "kept again", "from the attic"]);

    // A removed room takes its messages along, and its subject is free.
    let removed = ask(&daemon, &bob, "DELETE", "/v1/rooms/new", &Value::Null);
    assert_eq!(removed["room"]["state"], "removed", "{removed}");
    assert!(removed.get("unfinished").is_none(), "{removed}\n{}", daemon.log());
    room(&daemon, &alice, "third", "room.hall");
    assert_eq!(history(&daemon, &alice, "third", "")["last"], 0);
    let directory = daemon.dir.path().join("local_files/jetstream/jetstream/BUS/streams");
    let mut streams: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    streams.sort();
    assert_eq!(streams, ["UNIBUS_history_hall", "UNIBUS_history_third"]);
}

/// A connection that says what no client library would.
pub(crate) fn raw(daemon: &Daemon, handle: &str) -> TcpStream {
    let pair = KeyPair::from_seed(&daemon.seed(handle)).unwrap();
    let mut stream = TcpStream::connect((daemon.address, 4250)).unwrap();
    let mut info = String::new();
    BufReader::new(stream.try_clone().unwrap()).read_line(&mut info).unwrap();
    let info: Value = serde_json::from_str(info.trim().strip_prefix("INFO ").unwrap()).unwrap();
    let signature = BASE64URL_NOPAD.encode(&pair.sign(info["nonce"].as_str().unwrap().as_bytes()).unwrap());
    let connect = json!({ "verbose": false, "headers": true, "nkey": pair.public_key(), "sig": signature });
    write!(stream, "CONNECT {connect}\r\n").unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_a_member_invents_hide_and_change_nothing() {
    let daemon = Daemon::start(&KV);
    let root = seed_admin(&daemon);
    let alice = user(&daemon, &root, "alice");
    room(&daemon, &alice, "hall", "room.hall");
    let client = connect(&daemon, "alice").await;
    say(&client, "room.hall", "1", "before").await;
    kept(&daemon, &alice, "hall", 1);
    let mut stream = raw(&daemon, "alice");
    let mut publish = |headers: &[u8], text: &str| {
        write!(stream, "HPUB room.hall {} {}\r\n", headers.len(), headers.len() + text.len()).unwrap();
        stream.write_all(headers).unwrap();
        write!(stream, "{text}\r\n").unwrap();
    };
    let forged = "NATS/1.0 404 No Message\r\nNats-Sequence: 77\r\nNats-Subject: $KV.UNIBUS_history.hall\r\n\
                  Nats-Time-Stamp: 1970-01-01T00:00:00Z\r\nUnibus-At: 1\r\nUnibus-Subject: room.other\r\n\r\n";
    publish(forged.as_bytes(), "forged");
    kept(&daemon, &alice, "hall", 2);
    let page = history(&daemon, &alice, "hall", "");
    assert_eq!(said(&page), [(1, "before".to_owned()), (2, "forged".to_owned())]);
    assert_eq!(page["messages"][1]["subject"], "room.hall");
    assert!(page["messages"][1]["at_ms"].as_u64() > Some(1_700_000_000_000), "{page}");
    // What is no header at all: whoever reads it breaks the connection, and the rest is read all the same.
    publish(b"NATS/1.0\r\nno header\xff\r\n\r\n", "broken");
    kept(&daemon, &alice, "hall", 3);
    say(&client, "room.hall", "4", "after").await;
    kept(&daemon, &alice, "hall", 4);
    assert_eq!(texts(&history(&daemon, &alice, "hall", "")), ["before", "forged", "broken", "after"]);
    assert!(!daemon.log().contains("session with the engine ended"), "{}", daemon.log());
    // Nobody speaks as a daemon does.
    client.publish("$KV.UNIBUS_history.hall", "x".into()).await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(history(&daemon, &alice, "hall", "")["last"], 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_brings_what_was_said_along() {
    let first = Daemon::start(&KV);
    let root = seed_admin(&first);
    let alice = user(&first, &root, "alice");
    room(&first, &alice, "hall", "room.hall");
    let seed = first.seed("alice");
    let client = connect_as(&first, "alice", &seed).await;
    for n in 0..3 {
        say(&client, if n == 1 { "room.hall.corner" } else { "room.hall" }, &n.to_string(), &format!("text {n}")).await;
        kept(&first, &alice, "hall", n + 1);
    }
    let answer = |output: std::process::Output| -> Value {
        assert!(output.status.success(), "{}", common::said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let file = first.dir.path().join("copy.db");
    let exported = answer(first.ask(&["export", "--json", "--db", file.to_str().unwrap()]));
    assert_eq!(exported["entries"]["UNIBUS_history"], 3);

    // Into an empty store: as it was, and it goes on behind.
    let second = Daemon::start(&KV);
    let carried = answer(second.ask(&["migrate-to-kv", "--json", "--db", file.to_str().unwrap()]));
    assert_eq!(carried["content_sha256"], exported["content_sha256"]);
    let was = history(&first, &alice, "hall", "");
    second.wait("the room", || history(&second, &alice, "hall", "")["messages"].is_array());
    assert_eq!(history(&second, &alice, "hall", ""), was, "times and subjects included");
    let streams = || second.log().contains("was brought into line");
    second.wait("the stream of the room", streams);
    let client = connect_as(&second, "alice", &seed).await;
    say(&client, "room.hall", "later", "later").await;
    kept(&second, &alice, "hall", 4);
    let again = second.ask(&["migrate-to-kv", "--json", "--db", file.to_str().unwrap()]);
    assert!(common::said(&again).contains("\"code\":\"not_empty\""), "{}", common::said(&again));

    // And back to a node on its own, which has it in the file that it starts with.
    let dir = common::Dir::new();
    std::fs::create_dir(dir.path().join("local_files")).unwrap();
    let file = dir.path().join("local_files/unibus.db");
    let exported = answer(second.ask(&["export", "--json", "--db", file.to_str().unwrap()]));
    let third = Daemon::launch(dir, common::own_address(), &[]);
    third.wait_for_lease();
    let was = history(&second, &alice, "hall", "");
    assert_eq!(history(&third, &alice, "hall", ""), was);
    let last = third.dir.path().join("last.db");
    let copied = answer(third.ask(&["export", "--json", "--db", last.to_str().unwrap()]));
    assert_eq!(copied["entries"]["UNIBUS_history"], 4);
    assert_eq!(copied["content_sha256"], exported["content_sha256"]);
    third.wait("the stream of the room", || third.log().contains("was brought into line"));
    let client = connect_as(&third, "alice", &seed).await;
    say(&client, "room.hall", "last", "last").await;
    kept(&third, &alice, "hall", 5);
    assert_eq!(texts(&history(&third, &alice, "hall", "")), ["text 0", "text 1", "text 2", "later", "last"]);
}
