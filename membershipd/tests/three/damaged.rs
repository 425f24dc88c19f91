//! What one member can do to the history of a room with one message, and that it decides nothing for other rooms.

use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions, HeaderMap};
use data_encoding::BASE64;
use serde_json::{Value, json};
use unibus_client::api::Request;
use unibus_client::identity::Identity;

use crate::common::requests::{identity, seed_admin};
use crate::common::{Daemon, said};
use crate::nodes::{self, Node};

pub(crate) async fn connect(node: &Node, seed: &str) -> Client {
    ConnectOptions::with_nkey(seed.to_owned())
        .custom_inbox_prefix("_INBOX.alice")
        .add_root_certificates(node.dir.path().join("ca.crt"))
        .connect(format!("tls://{}:4250", node.address))
        .await
        .unwrap()
}

/// Times and texts of a room, by the word of a node.
fn history(node: &Node, who: &Identity, room: &str) -> Vec<(u64, String)> {
    let answer = node.request(who, &Request::get(format!("/v1/rooms/{room}/history")));
    let messages = answer.ok().and_then(|answer| answer["messages"].as_array().cloned()).unwrap_or_default();
    let text = |message: &Value| BASE64.decode(message["frame"].as_str().unwrap().as_bytes()).unwrap();
    let one = |message: &Value| (message["at_ms"].as_u64().unwrap(), String::from_utf8(text(message)).unwrap());
    messages.iter().map(one).collect()
}

fn answer(output: &std::process::Output, code: i32) -> Value {
    assert_eq!(output.status.code(), Some(code), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(output)))
}

#[test]
fn one_message_of_a_member_decides_nothing_for_the_others() {
    let nodes = nodes::start(&["--kv-replicas", "3", "--begin-at-lowest-level"]);
    let root = seed_admin(&nodes[0]);
    let alice = identity(&nodes[0], "alice");
    let ask = |who: &Identity, path: &str, body: Value| {
        nodes[0].request(who, &Request::put(path.to_owned(), Some(body))).unwrap()
    };
    ask(&root, "/v1/users/alice", json!({ "sign_pub": alice.sign_pub }));
    for room in ["hall", "attic"] {
        ask(&alice, &format!("/v1/rooms/{room}"), json!({ "subject": format!("room.{room}") }));
    }
    nodes[0].wait_until_current();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let seed = nodes[0].seed("alice");
    let client = runtime.block_on(connect(&nodes[0], &seed));
    let say = |room: &str, text: &str, expected: Option<&str>| {
        runtime.block_on(async {
            let mut headers = HeaderMap::new();
            if let Some(id) = expected {
                headers.insert("Nats-Expected-Last-Msg-Id", id);
            }
            client.publish_with_headers(format!("room.{room}"), headers, text.to_owned().into()).await.unwrap();
            client.flush().await.unwrap();
        });
    };
    let texts = |room: &str| history(&nodes[1], &alice, room).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
    for text in ["one", "two"] {
        say("hall", text, None);
        nodes[1].wait(text, || texts("hall").last().is_some_and(|last| last == text));
        say("attic", text, None);
        nodes[1].wait(text, || texts("attic").last().is_some_and(|last| last == text));
    }
    let was = history(&nodes[1], &alice, "hall");

    say("hall", "poison", Some("z"));
    let broken = || nodes.iter().filter(|node| node.log().contains("critical write error")).count() == 3;
    nodes[0].wait("the attack to be one", broken);
    // It is named, and nothing waits for it.
    for node in &nodes {
        let named = || node.status().is_some_and(|status| status["damaged"][0]["room"] == "hall");
        node.wait("the damage in the posture", named);
        let quick = (0..3).map(|_| {
            let begun = Instant::now();
            assert!(node.status().is_some());
            begun.elapsed()
        });
        let quick = quick.min().unwrap();
        assert!(quick < Duration::from_secs(1), "{quick:?}");
        let waited = node.ask(&["wait", "--for", "current", "--within", "10"]);
        assert!(waited.status.success(), "{}", said(&waited));
        let status = node.ask(&["status"]);
        assert!(said(&status).contains("membershipd repair --room hall"), "{}", said(&status));
    }
    let repair = nodes[2].ask(&["repair"]);
    assert!(said(&repair).contains("its history is damaged") && repair.status.success(), "{}", said(&repair));
    // Others go on, and what can be read of it is read at once.
    say("attic", "three", None);
    nodes[1].wait("the next in another room", || texts("attic") == ["one", "two", "three"]);
    let begun = Instant::now();
    let left = history(&nodes[1], &alice, "hall");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(left, was);

    // A copy has everything else, and is carried in like any other.
    let file = nodes[0].dir.path().join("copy.db").display().to_string();
    let copied = answer(&nodes[0].ask(&["export", "--json", "--db", &file]), 1);
    assert_eq!((&copied["ok"], &copied["missing"]["hall"]["nothing_after"]), (&json!(false), &json!(2)), "{copied}");
    assert_eq!(copied["entries"]["UNIBUS_history"], 5, "{copied}");
    let other = Daemon::start(&["--store", "kv"]);
    let carried = answer(&other.ask(&["migrate-to-kv", "--json", "--db", &file]), 0);
    assert_eq!(carried["content_sha256"], copied["content_sha256"]);

    // More copies are no matter of one room either.
    let scaled = nodes[0].ask(&["scale", "3", "--within", "30"]);
    assert!(scaled.status.success(), "{}", said(&scaled));

    let mended = answer(&nodes[2].ask(&["repair", "--room", "hall", "--json"]), 0);
    assert_eq!((&mended["mended"]["kept"], &mended["mended"]["lost"]), (&json!(2), &json!(0)), "{mended}");
    assert_eq!(history(&nodes[1], &alice, "hall"), was, "in order, with the times at which it was said");
    say("hall", "three", None);
    nodes[1].wait("what is said then", || texts("hall") == ["one", "two", "three"]);
    for node in &nodes {
        node.wait("the end of the damage", || node.status().is_some_and(|status| status.get("damaged").is_none()));
    }
    let again = answer(&nodes[0].ask(&["repair", "--room", "hall", "--json"]), 0);
    assert_eq!(again["mended"]["was_damaged"], false, "{again}");
    let file = nodes[0].dir.path().join("whole.db").display().to_string();
    let copied = answer(&nodes[0].ask(&["export", "--json", "--db", &file]), 0);
    assert_eq!(copied["entries"]["UNIBUS_history"], 6, "{copied}");
}
