//! Messages that a member or a broken disk made unreadable: what comes after them is read, copied and kept, and a verb mends the rest.

use std::io::Write;
use std::time::{Duration, Instant};

use async_nats::{Client, HeaderMap};
use nkeys::{KeyPair, XKey};
use serde_json::{Value, json};

use crate::common::requests::{seed_admin, slug, user};
use crate::common::{self, Daemon, Dir, own_address};
use crate::history::{connect, connect_as, history, kept, raw, room, said, say, texts};

/// In which streams capture what is said.
const KV: [&str; 3] = ["--store", "kv", "--begin-at-lowest-level"];

/// The daemon's own connection among the members: what speaks where no member may.
async fn of_the_daemon(daemon: &Daemon) -> Client {
    with_key(daemon, "bus").await
}

/// A connection with one of the daemon's own keys.
pub(crate) async fn with_key(daemon: &Daemon, name: &str) -> Client {
    let seed = std::fs::read_to_string(daemon.dir.path().join(format!("secrets/{name}.nk"))).unwrap();
    connect_as(daemon, "x", seed.trim()).await
}

/// A daemon whose keys lie where this test finds them.
pub(crate) fn with_keys() -> Daemon {
    let dir = Dir::new();
    dir.write("secrets/issuer.nk", &KeyPair::new_account().seed().unwrap(), 0o600);
    dir.write("secrets/xkey.nk", &XKey::new().seed().unwrap(), 0o600);
    for name in ["callout", "control", "system", "bus"] {
        dir.write(&format!("secrets/{name}.nk"), &KeyPair::new_user().seed().unwrap(), 0o600);
    }
    let daemon = Daemon::launch(dir, own_address(), &[&KV[..], &["--secrets-dir", "secrets"]].concat());
    daemon.wait_for_lease();
    daemon
}

pub(crate) async fn jetstream(client: &Client, subject: &str, body: &Value) -> Value {
    let answer = client.request(format!("$JS.API.{subject}"), body.to_string().into()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

pub(crate) fn answer(output: &std::process::Output, code: i32) -> Value {
    assert_eq!(output.status.code(), Some(code), "{}", common::said(output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", common::said(output)))
}

pub(crate) fn copy(daemon: &Daemon, name: &str, code: i32) -> (String, Value) {
    let file = daemon.dir.path().join(name).display().to_string();
    let said = answer(&daemon.ask(&["export", "--json", "--db", &file]), code);
    (file, said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_without_an_end_are_read_like_any_message_and_hold_no_reader_up() {
    let daemon = Daemon::start(&KV);
    let root = seed_admin(&daemon);
    let [alice, bob] = ["alice", "bob"].map(|handle| user(&daemon, &root, handle));
    room(&daemon, &alice, "hall", "room.hall");
    room(&daemon, &bob, "attic", "room.attic");
    let [a, b] = [connect(&daemon, "alice").await, connect(&daemon, "bob").await];
    say(&b, "room.attic", "b", "in the attic").await;
    say(&a, "room.hall", "1", "before").await;
    kept(&daemon, &alice, "hall", 1);
    let mut stream = raw(&daemon, "alice");
    for n in 2..5 {
        let headers = b"NATS/1.0\r\nX: y";
        write!(stream, "HPUB room.hall {} {}\r\n", headers.len(), headers.len() + 3).unwrap();
        stream.write_all(headers).unwrap();
        write!(stream, "odd\r\n").unwrap();
        kept(&daemon, &alice, "hall", n);
    }
    say(&a, "room.hall", "5", "after").await;
    kept(&daemon, &alice, "hall", 5);

    let begun = Instant::now();
    let page = history(&daemon, &alice, "hall", "");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let expected: Vec<_> = (1..).zip(["before", "odd", "odd", "odd", "after"].map(str::to_owned)).collect();
    assert_eq!(said(&page), expected);
    assert!(page.get("unreadable").is_none(), "{page}");
    assert_eq!(page["messages"][1]["subject"], "room.hall");
    assert_eq!(said(&history(&daemon, &alice, "hall", "?after=2&limit=1")), [(3, "odd".to_owned())]);

    // However many read it, another room is read as fast as ever.
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..24).map(|_| scope.spawn(|| history(&daemon, &alice, "hall", ""))).collect();
        let begun = Instant::now();
        assert_eq!(texts(&history(&daemon, &bob, "attic", "")), ["in the attic"]);
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        for reader in readers {
            assert_eq!(said(&reader.join().unwrap()), expected);
        }
    });
    let (_, copied) = copy(&daemon, "copy.db", 0);
    assert_eq!((&copied["ok"], &copied["entries"]["UNIBUS_history"]), (&json!(true), &json!(6)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_named_and_left_out_and_a_verb_mends_it() {
    let daemon = with_keys();
    let root = seed_admin(&daemon);
    let alice = user(&daemon, &root, "alice");
    room(&daemon, &alice, "hall", "room.hall");
    let seed = daemon.seed("alice");
    let (client, bus) = (connect(&daemon, "alice").await, of_the_daemon(&daemon).await);
    say(&client, "room.hall", "1", "one").await;
    kept(&daemon, &alice, "hall", 1);
    // A daemon's word that is none.
    bus.publish("$KV.UNIBUS_history.hall", "?".into()).await.unwrap();
    bus.flush().await.unwrap();
    kept(&daemon, &alice, "hall", 2);
    say(&client, "room.hall", "3", "three").await;
    kept(&daemon, &alice, "hall", 3);

    let begun = Instant::now();
    let page = history(&daemon, &alice, "hall", "");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!((texts(&page), &page["unreadable"]), (vec!["one".to_owned(), "three".to_owned()], &json!([2])));
    // A page is not empty before the end, or a client that reads page by page would stop.
    assert_eq!(texts(&history(&daemon, &alice, "hall", "?after=1&limit=1")), ["three"]);

    // The copy has all else, and can be carried in.
    let (file, copied) = copy(&daemon, "copy.db", 1);
    assert_eq!(copied["missing"], json!({ "hall": { "unreadable": [2] } }), "{copied}");
    assert_eq!((&copied["ok"], &copied["entries"]["UNIBUS_history"]), (&json!(false), &json!(2)));
    let told = daemon.ask(&["export", "--db", daemon.dir.path().join("again.db").to_str().unwrap()]);
    assert!(common::said(&told).contains("room hall: without 2, which cannot be read"), "{}", common::said(&told));
    let other = Daemon::start(&KV);
    let carried = answer(&other.ask(&["migrate-to-kv", "--json", "--db", &file]), 0);
    assert_eq!(carried["content_sha256"], copied["content_sha256"]);
    other.wait("the room", || history(&other, &alice, "hall", "")["messages"].is_array());
    assert_eq!(texts(&history(&other, &alice, "hall", "")), ["one", "three"]);

    // What an interrupted mending laid aside, and did not note as whole, counts for nothing.
    let aside = |notes: Value| {
        json!({ "name": "UNIBUS_mending_hall", "subjects": ["$KV.UNIBUS_mending.hall"], "storage": "file",
                "num_replicas": 1, "allow_direct": true, "metadata": notes })
    };
    jetstream(&bus, "STREAM.CREATE.UNIBUS_mending_hall", &aside(json!({}))).await;
    let mend = || answer(&daemon.ask(&["repair", "--room", "hall", "--json"]), 0)["mended"].clone();
    let mended = mend();
    let expected = json!({ "room": "hall", "was_damaged": true, "kept": 2, "lost": 1, "lost_places": [2] });
    assert_eq!(mended, expected);
    let after = history(&daemon, &alice, "hall", "");
    assert_eq!(texts(&after), ["one", "three"]);
    let times = |page: &Value| ["0", "1"].map(|n| page.pointer(&format!("/messages/{n}/at_ms")).cloned());
    assert_eq!(times(&after), times(&page), "the times at which it was said");
    assert!(said(&after)[0].0 > 3, "a client that has read up to a place misses nothing: {after}");
    assert!(after.get("unreadable").is_none(), "{after}");
    say(&client, "room.hall", "4", "four").await;
    daemon.wait("what is said then", || texts(&history(&daemon, &alice, "hall", "")) == ["one", "three", "four"]);
    assert_eq!(mend()["was_damaged"], false, "again");
    assert_eq!(texts(&history(&daemon, &alice, "hall", "")), ["one", "three", "four"]);
    copy(&daemon, "last.db", 0);

    // One that was interrupted after the damaged stream went: nothing is kept that would come in between, and it goes on.
    let note = json!({ "base": 100, "kept": 2, "lost": 0, "lost_places": [] }).to_string();
    jetstream(&bus, "STREAM.CREATE.UNIBUS_mending_hall", &aside(json!({ "unibus_mending": note }))).await;
    for text in ["five", "six"] {
        let mut headers = HeaderMap::new();
        headers.insert("Unibus-At", "7");
        headers.insert("Unibus-Subject", "room.hall");
        bus.publish_with_headers("$KV.UNIBUS_mending.hall", headers, text.into()).await.unwrap();
    }
    bus.flush().await.unwrap();
    jetstream(&bus, "STREAM.DELETE.UNIBUS_history_hall", &json!({})).await;
    assert_eq!(slug(&history(&daemon, &alice, "hall", "")), "unavailable");
    let there = jetstream(&bus, "STREAM.INFO.UNIBUS_history_hall", &json!({})).await;
    assert_eq!(there["error"]["err_code"], 10059, "it is not made before the mending ends: {there}");
    assert_eq!(mend()["kept"], 2);
    let client = connect_as(&daemon, "alice", &seed).await;
    say(&client, "room.hall", "7", "seven").await;
    daemon.wait("what is said then", || texts(&history(&daemon, &alice, "hall", "")) == ["five", "six", "seven"]);
    assert_eq!(said(&history(&daemon, &alice, "hall", ""))[0].0, 101);
    let unknown = daemon.ask(&["repair", "--room", "nowhere"]);
    assert!(common::said(&unknown).contains("there is no such room"), "{}", common::said(&unknown));
}
