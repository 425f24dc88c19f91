//! What is said while the node that leads a room's stream dies is kept once and in order, and every node tells the same.

use std::time::Duration;

use async_nats::{ConnectOptions, HeaderMap};
use data_encoding::BASE64;
use serde_json::{Value, json};
use unibus_client::api::Request;
use unibus_client::identity::Identity;

use crate::common::nats::ask_engine;
use crate::common::requests::{identity, seed_admin};
use crate::common::said as said_by;
use crate::nodes::{self, NODES, Node};

const MESSAGES: usize = 12;

/// The node that leads the stream of the room, as its engine says.
fn leader(node: &Node) -> Option<usize> {
    let answer = ask_engine(node, "JSZ", &json!({ "account": "BUS", "streams": true }));
    let leader = answer.pointer("/account_details/0/stream_detail/0/cluster/leader")?.as_str()?.to_owned();
    NODES.iter().position(|name| *name == leader)
}

/// What was said in the room, by the word of a node.
fn said(node: &Node, who: &Identity) -> Vec<String> {
    let answer = node.request(who, &Request::get("/v1/rooms/hall/history"));
    let messages = answer.ok().and_then(|answer| answer["messages"].as_array().cloned()).unwrap_or_default();
    let text = |message: &Value| BASE64.decode(message["frame"].as_str().unwrap().as_bytes()).unwrap();
    messages.iter().map(|message| String::from_utf8(text(message)).unwrap()).collect()
}

#[test]
fn nothing_is_missing_or_doubled_after_the_leader_died() {
    let mut nodes = nodes::start(&["--kv-replicas", "1", "--begin-at-lowest-level"]);
    let root = seed_admin(&nodes[0]);
    let alice = identity(&nodes[0], "alice");
    let ask = |who: &Identity, path: &str, body: Value| {
        nodes[0].request(who, &Request::put(path.to_owned(), Some(body))).unwrap()
    };
    ask(&root, "/v1/users/alice", json!({ "sign_pub": alice.sign_pub }));
    ask(&alice, "/v1/rooms/hall", json!({ "subject": "room.hall" }));
    // The streams of rooms are counted as one bucket, as they were when last looked at, and raised with the others.
    let copies = || {
        let status = nodes[0].status().unwrap();
        let entry = status["replicas"].as_array().unwrap().iter().find(|of| of["bucket"] == "UNIBUS_history").unwrap();
        ["want", "current", "rooms"].map(|word| entry[word].as_u64())
    };
    nodes[0].wait("a look at the streams of rooms", || copies() == [Some(1), Some(1), Some(1)]);
    let scaled = nodes[0].ask(&["scale", "3"]);
    assert!(scaled.status.success(), "{}", said_by(&scaled));
    assert_eq!(copies(), [Some(3), Some(3), Some(1)]);

    let leads = leader(&nodes[0]).expect("a leader");
    let stays = (leads + 1) % NODES.len();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (seed, url) = (nodes[0].seed("alice"), format!("tls://{}:4250", nodes[stays].address));
    let client = runtime.block_on(async {
        ConnectOptions::with_nkey(seed)
            .custom_inbox_prefix("_INBOX.alice")
            .add_root_certificates(nodes[stays].dir.path().join("ca.crt"))
            .connect(url)
            .await
            .unwrap()
    });
    let publish = |n: usize| {
        runtime.block_on(async {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", format!("id-{n}"));
            client.publish_with_headers("room.hall", headers, n.to_string().into()).await.unwrap();
            let _ = tokio::time::timeout(Duration::from_secs(1), client.flush()).await;
        });
    };
    for n in 0..MESSAGES {
        if n == MESSAGES / 2 {
            nodes[leads].kill();
        }
        // Said again until the history shows it, as whoever speaks does.
        let node = &nodes[stays];
        node.wait(&format!("message {n}"), || {
            publish(n);
            said(node, &alice).contains(&n.to_string())
        });
    }
    nodes[leads].start_again();
    nodes[leads].wait_for_lease();
    nodes[leads].wait_until_current();
    let all: Vec<String> = (0..MESSAGES).map(|n| n.to_string()).collect();
    for node in &nodes {
        assert_eq!(said(node, &alice), all);
    }
}
