//! The shards have copies like the buckets: raised with them, and missing when a node is; and a copy of what they keep goes from one
//! cluster to another.

use async_nats::HeaderMap;
use serde_json::{Value, json};
use unibus_client::api::Request;
use unibus_client::identity::Identity;

use crate::common::requests::{identity, seed_admin};
use crate::common::said;
use crate::damaged::connect;
use crate::kept::{Speaker, texts};
use crate::nodes::{self, Node};

/// What a node says of the copies of the shards.
fn copies(node: &Node) -> Option<[Option<u64>; 2]> {
    let status = node.status()?;
    let entry = status["replicas"].as_array()?.iter().find(|of| of["bucket"] == "UNIBUS_kept")?.clone();
    Some(["want", "current"].map(|word| entry[word].as_u64()))
}

fn answer(output: &std::process::Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn say(node: &Node, who: &Identity, count: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut speaker = Speaker::connect(node, who).await;
        for _ in 0..count {
            speaker.say().await;
        }
    });
}

#[test]
fn shards_have_copies_like_buckets_and_what_they_keep_goes_from_one_cluster_to_another() {
    let mut first = nodes::start(&["--kv-replicas", "1", "--begin-at-lowest-level"]);
    let root = seed_admin(&first[0]);
    assert_eq!(copies(&first[0]), None, "there are no shards before the level is raised");
    let raised = first[0].ask(&["level", "raise"]);
    assert!(raised.status.success(), "{}", said(&raised));
    let alice = identity(&first[0], "alice");
    let policy = json!({ "encrypt": false, "persist": true, "sign": true });
    for (who, path, body) in [
        (&root, "/v1/users/alice", json!({ "sign_pub": alice.sign_pub })),
        (&alice, "/v1/rooms/hall", json!({ "subject": "room.hall", "policy": policy })),
    ] {
        first[0].request(who, &Request::put(path, Some(body))).unwrap();
    }
    assert_eq!(copies(&first[0]), Some([Some(1), Some(1)]), "nothing is missing where nothing was said");
    say(&first[0], &alice, 5);
    let scaled = first[0].ask(&["scale", "3"]);
    assert!(scaled.status.success(), "{}", said(&scaled));
    assert_eq!(copies(&first[0]), Some([Some(3), Some(3)]));
    assert!(first[1].ask(&["scale", "3", "--check"]).status.success());
    // They are the system's own: a copy of them that is away is missed.
    first[2].kill();
    let missed = || copies(&first[0]).is_some_and(|[want, current]| want == Some(3) && current < Some(3));
    first[0].wait("the copy that is away", missed);
    assert!(!first[0].ask(&["wait", "--for", "current", "--within", "0"]).status.success());
    first[2].start_again();
    first[2].wait_for_lease();
    first[2].wait_until_current();
    let all = texts(&first[2], &alice);
    assert_eq!(all, (0..5).map(|n| format!("<<{n}>>")).collect::<Vec<_>>());
    let file = first[0].dir.path().join("copy.db");
    let exported = answer(&first[1].ask(&["export", "--json", "--db", file.to_str().unwrap()]));
    assert_eq!(exported["entries"]["UNIBUS_history"], 5, "{exported}");

    let second = nodes::start(&[]);
    let carried = answer(&second[0].ask(&["migrate-to-kv", "--json", "--db", file.to_str().unwrap()]));
    assert_eq!(carried["content_sha256"], exported["content_sha256"]);
    for node in &second {
        node.wait("what was carried in", || texts(node, &alice) == all);
    }
    second[1].wait("copies", || copies(&second[1]) == Some([Some(3), Some(3)]));
}

#[test]
fn a_room_that_one_message_damaged_before_goes_on_once_it_is_mended() {
    let nodes = nodes::start(&["--begin-at-lowest-level"]);
    let root = seed_admin(&nodes[0]);
    let alice = identity(&nodes[0], "alice");
    let policy = json!({ "encrypt": false, "persist": true, "sign": true });
    for (who, path, body) in [
        (&root, "/v1/users/alice", json!({ "sign_pub": alice.sign_pub })),
        (&alice, "/v1/rooms/hall", json!({ "subject": "room.hall", "policy": policy })),
    ] {
        nodes[0].request(who, &Request::put(path, Some(body))).unwrap();
    }
    nodes[0].wait_until_current();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let client = runtime.block_on(connect(&nodes[0], &nodes[0].seed("alice")));
    let publish = |text: &str, expected: Option<&str>| {
        runtime.block_on(async {
            let mut headers = HeaderMap::new();
            expected.into_iter().for_each(|id| headers.insert("Nats-Expected-Last-Msg-Id", id));
            client.publish_with_headers("room.hall", headers, text.to_owned().into()).await.unwrap();
            client.flush().await.unwrap();
        });
    };
    for text in ["<<one>>", "<<two>>"] {
        publish(text, None);
        nodes[1].wait(text, || texts(&nodes[1], &alice).last().is_some_and(|last| last == text));
    }
    publish("<<poison>>", Some("z"));
    let broken = || nodes.iter().filter(|node| node.log().contains("critical write error")).count() == 3;
    nodes[0].wait("the attack to be one", broken);
    let raised = nodes[0].ask(&["level", "raise"]);
    assert!(raised.status.success(), "{}", said(&raised));
    for node in &nodes {
        let named = || node.status().is_some_and(|status| status["damaged"][0]["room"] == "hall");
        node.wait("the damage in the posture", named);
        node.wait_until_current();
    }
    assert_eq!(texts(&nodes[1], &alice), ["<<one>>", "<<two>>"], "what can be read is read meanwhile");
    let mended = answer(&nodes[2].ask(&["repair", "--room", "hall", "--json"]));
    let mended = ["was_damaged", "kept", "lost"].map(|word| mended["mended"][word].clone());
    assert_eq!(mended, [json!(true), json!(2), json!(0)]);
    say(&nodes[1], &alice, 1);
    for node in &nodes {
        node.wait("all that was said", || texts(node, &alice) == ["<<one>>", "<<two>>", "<<0>>"]);
        node.wait("the end of the damage", || node.status().is_some_and(|status| status.get("damaged").is_none()));
    }
}
