//! What is said while the node that appends to the room's shard dies or freezes is kept, once and in order, and every node tells the same.

use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions, Subscriber};
use data_encoding::BASE64;
use futures::StreamExt;
use rustix::process::Signal;
use serde_json::{Value, json};
use unibus_client::api::Request;
use unibus_client::identity::Identity;
use unibus_core::clock;
use unibus_core::domain::{FeatureLevel, RoomId};
use unibus_crypto::{MessageId, Sealer};
use unibus_keeper::Shard;

use crate::common::requests::{identity, seed_admin};
use crate::common::{marked, said, signal};
use crate::nodes::{self, NODES, Node};

/// After so long the same frame is sent again, as clients do.
const AGAIN: Duration = Duration::from_millis(500);
/// A message is kept within this time after a node was lost: its silence is noticed, and an election ends.
const BOUND: Duration = Duration::from_secs(20);

/// A member who says one thing after the other, each until it is known to be kept.
struct Speaker {
    client: Client,
    notices: Subscriber,
    sealer: Sealer,
    said: Vec<String>,
}

impl Speaker {
    async fn connect(node: &Node, who: &Identity) -> Self {
        let client = ConnectOptions::with_nkey(who.nkey_seed().to_owned())
            .custom_inbox_prefix("_INBOX.alice")
            .add_root_certificates(node.dir.path().join("ca.crt"))
            .connect(format!("tls://{}:4250", node.address))
            .await
            .unwrap();
        let notices = client.subscribe("unibus.user.alice.kept.hall").await.unwrap();
        client.flush().await.unwrap();
        let room: RoomId = "hall".parse().unwrap();
        let sealer = Sealer::new(room, "alice".parse().unwrap(), Some(who.key_pair().unwrap()), None).unwrap();
        Self { client, notices, sealer, said: Vec::new() }
    }

    async fn say(&mut self) -> Duration {
        let text = format!("<<{}>>", self.said.len());
        let mut entropy = [0; 10];
        getrandom::fill(&mut entropy).unwrap();
        let id = MessageId::new(u64::try_from(clock::unix_ms()).unwrap(), entropy);
        let frame = self.sealer.seal("room.hall.alice", id, &[&text]).unwrap();
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < BOUND, "{text} is not kept");
            self.client.publish("room.hall.alice", frame.clone().into()).await.unwrap();
            let told = tokio::time::timeout(AGAIN, self.notices.next()).await;
            let Ok(Some(told)) = told else { continue };
            let notice: Value = serde_json::from_slice(&told.payload).unwrap();
            if notice["seq"].is_u64() {
                self.said.push(text);
                // What was told of the same frame when it was sent again.
                while tokio::time::timeout(Duration::from_millis(20), self.notices.next()).await.is_ok() {}
                return begun.elapsed();
            }
            assert_eq!(notice["retry"], true, "{notice}");
        }
    }
}

fn texts(node: &Node, who: &Identity) -> Vec<String> {
    let answer = node.request(who, &Request::get("/v1/rooms/hall/history?after=0&limit=1000"));
    let messages = answer.ok().and_then(|answer| answer["messages"].as_array().cloned()).unwrap_or_default();
    let text = |message: &Value| {
        let frame = BASE64.decode(message["frame"].as_str().unwrap().as_bytes()).unwrap();
        format!("<<{}>>", marked(&frame).unwrap())
    };
    messages.iter().map(text).collect()
}

#[test]
fn what_is_said_is_kept_whatever_becomes_of_the_node_that_appends() {
    if FeatureLevel::HIGHEST < FeatureLevel::Kept {
        println!("not run: level 2 is not complete in this release");
        return;
    }
    let mut nodes = nodes::start(&[]);
    let root = seed_admin(&nodes[0]);
    let raised = nodes[0].ask(&["level", "raise"]);
    assert!(raised.status.success(), "{}", said(&raised));
    let alice = identity(&nodes[0], "alice");
    let policy = json!({ "encrypt": false, "persist": true, "sign": true });
    for (who, path, body) in [
        (&root, "/v1/users/alice", json!({ "sign_pub": alice.sign_pub })),
        (&alice, "/v1/rooms/hall", json!({ "subject": "room.hall", "policy": policy })),
    ] {
        nodes[0].request(who, &Request::put(path, Some(body))).unwrap();
    }
    let appends = Shard::of(&"hall".parse().unwrap()).appender(NODES).unwrap();
    let appends = NODES.iter().position(|name| *name == appends).unwrap();
    let other = (appends + 1) % NODES.len();
    nodes[other].wait("the room", || nodes[other].request(&alice, &Request::get("/v1/rooms/hall")).is_ok());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut speaker = runtime.block_on(Speaker::connect(&nodes[other], &alice));
    let mut say =
        |count: usize| -> Duration { (0..count).map(|_| runtime.block_on(speaker.say())).max().unwrap_or_default() };
    println!("at rest: kept within {:.1?}", say(10));

    // Its daemon freezes, and its engine goes on.
    signal(nodes[appends].child.id(), Signal::STOP);
    println!("frozen: kept within {:.1?}", say(5));
    signal(nodes[appends].child.id(), Signal::CONT);
    println!("thawed: kept within {:.1?}", say(5));

    nodes[appends].kill();
    println!("killed: kept within {:.1?}", say(5));
    nodes[appends].start_if_ended();
    nodes[appends].wait_for_lease();
    println!("back: kept within {:.1?}", say(5));
    nodes[appends].wait_until_current();
    let all: Vec<String> = (0..30).map(|n| format!("<<{n}>>")).collect();
    for node in &nodes {
        node.wait("all that was said", || texts(node, &alice).len() >= all.len());
        assert_eq!(texts(node, &alice), all);
    }
}
