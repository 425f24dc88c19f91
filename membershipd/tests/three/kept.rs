//! What is said while the node that appends to the room's shard dies or freezes is kept, once and in order, and every node tells the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions, Subscriber};
use data_encoding::BASE64;
use futures::StreamExt;
use rustix::process::Signal;
use serde_json::{Value, json};
use unibus_client::api::{NodeUrl, Request};
use unibus_client::identity::Identity;
use unibus_client::talk::{Pins, Sender, Sent};
use unibus_core::clock;
use unibus_core::domain::RoomId;
use unibus_crypto::{MessageId, Sealer};
use unibus_keeper::Shard;

use crate::common::requests::{API_PORT, identity, seed_admin};
use crate::common::wire::Wire;
use crate::common::{marked, said, signal};
use crate::damaged;
use crate::nodes::{self, NODES, Node};

/// After so long the same frame is sent again, as clients do.
const AGAIN: Duration = Duration::from_millis(500);
/// A message is kept within this time after a node was lost: its silence is noticed, and an election ends.
const BOUND: Duration = Duration::from_secs(20);

/// A member who says one thing after the other, each until it is known to be kept.
pub(crate) struct Speaker {
    client: Client,
    notices: Subscriber,
    sealer: Sealer,
    said: Vec<String>,
    /// How often a frame was sent, and how often its sender was told of one.
    sent: usize,
    told: usize,
}

impl Speaker {
    pub(crate) async fn connect(node: &Node, who: &Identity) -> Self {
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
        Self { client, notices, sealer, said: Vec::new(), sent: 0, told: 0 }
    }

    fn frame(&self) -> Vec<u8> {
        let mut entropy = [0; 10];
        getrandom::fill(&mut entropy).unwrap();
        let id = MessageId::new(u64::try_from(clock::unix_ms()).unwrap(), entropy);
        self.sealer.seal("room.hall.alice", id, &[format!("<<{}>>", self.said.len())]).unwrap()
    }

    async fn send(&mut self, frame: &[u8]) {
        self.client.publish("room.hall.alice", frame.to_vec().into()).await.unwrap();
        self.client.flush().await.unwrap();
        self.sent += 1;
    }

    /// What the sender is told; none: nothing within that time.
    async fn hears(&mut self, patience: Duration) -> Option<Value> {
        let told = tokio::time::timeout(patience, self.notices.next()).await.ok().flatten()?;
        self.told += 1;
        Some(serde_json::from_slice(&told.payload).unwrap())
    }

    pub(crate) async fn say(&mut self) -> Duration {
        let frame = self.frame();
        self.say_frame(&frame).await
    }

    /// Says so many things at once, each a single time, as a client does that knows nothing of notices.
    async fn say_once(&mut self, count: usize) -> Duration {
        let begun = Instant::now();
        for _ in 0..count {
            let frame = self.frame();
            self.send(&frame).await;
            self.said.push(format!("<<{}>>", self.said.len()));
        }
        for _ in 0..count {
            let notice = self.hears(BOUND).await.expect("a word about each");
            assert!(notice["seq"].is_u64(), "{notice}");
        }
        begun.elapsed()
    }

    async fn say_frame(&mut self, frame: &[u8]) -> Duration {
        let text = format!("<<{}>>", self.said.len());
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < BOUND, "{text} is not kept");
            self.send(frame).await;
            let Some(notice) = self.hears(AGAIN).await else { continue };
            if notice["seq"].is_u64() {
                self.said.push(text);
                // What was told of the same frame when it was sent again.
                while self.hears(Duration::from_millis(20)).await.is_some() {}
                return begun.elapsed();
            }
            assert_eq!(notice["retry"], true, "{notice}");
        }
    }
}

/// All that the hall has kept, as this node tells it.
pub(crate) fn texts(node: &Node, who: &Identity) -> Vec<String> {
    let (mut texts, mut after) = (Vec::new(), 0);
    loop {
        let page = node.request(who, &Request::get(format!("/v1/rooms/hall/history?after={after}&limit=1000")));
        let messages = page.ok().and_then(|answer| answer["messages"].as_array().cloned()).unwrap_or_default();
        let Some(last) = messages.last() else { return texts };
        after = last["seq"].as_u64().unwrap();
        texts.extend(messages.iter().map(|message| {
            let frame = BASE64.decode(message["frame"].as_str().unwrap().as_bytes()).unwrap();
            format!("<<{}>>", marked(&frame).unwrap())
        }));
    }
}

/// Three nodes at level 2, with these users; the first one is the owner of the room `hall`, in which all of them are.
fn place(handles: &[&str]) -> ([Node; 3], Vec<Identity>) {
    let nodes = nodes::start(&[]);
    let root = seed_admin(&nodes[0]);
    let raised = nodes[0].ask(&["level", "raise"]);
    assert!(raised.status.success(), "{}", said(&raised));
    let users: Vec<Identity> = handles.iter().map(|handle| identity(&nodes[0], handle)).collect();
    let ask = |who: &Identity, path: &str, body: Option<Value>| {
        // Each change is asked of the node that made the one before.
        nodes[0].request(who, &Request::put(path, body)).unwrap_or_else(|error| panic!("{path}: {error}"));
    };
    for user in &users {
        ask(&root, &format!("/v1/users/{}", user.handle), Some(json!({ "sign_pub": user.sign_pub })));
    }
    for (room, persist) in [("hall", true), ("corner", false)] {
        let policy = json!({ "encrypt": false, "persist": persist, "sign": true });
        let body = json!({ "subject": format!("room.{room}"), "policy": policy });
        ask(&users[0], &format!("/v1/rooms/{room}"), Some(body));
        for member in &users[1..] {
            let path = format!("/v1/rooms/{room}/members/{}", member.handle);
            ask(&users[0], &path, Some(json!({ "role": "member" })));
            ask(member, &format!("{path}/acceptance"), None);
        }
    }
    for node in &nodes {
        node.wait("the rooms", || {
            users.iter().all(|user| node.request(user, &Request::get("/v1/rooms/corner")).is_ok())
        });
    }
    (nodes, users)
}

#[test]
fn what_is_said_is_kept_whatever_becomes_of_the_node_that_appends() {
    let (mut nodes, users) = place(&["alice"]);
    let alice = &users[0];
    let appends = Shard::of(&"hall".parse().unwrap()).appender(NODES).unwrap();
    let appends = NODES.iter().position(|name| *name == appends).unwrap();
    let other = (appends + 1) % NODES.len();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut speaker = runtime.block_on(Speaker::connect(&nodes[other], alice));
    let at_rest = (0..10).map(|_| runtime.block_on(speaker.say())).max().unwrap_or_default();
    println!("at rest: kept within {at_rest:.1?}");
    assert!(speaker.told <= speaker.sent, "of one frame one node tells: {} of {}", speaker.told, speaker.sent);
    // Its daemon freezes, and its engine goes on. The others hold what is said once only.
    signal(nodes[appends].child.id(), Signal::STOP);
    println!("frozen, said once: kept within {:.1?}", runtime.block_on(speaker.say_once(5)));
    let mut say =
        |count: usize| -> Duration { (0..count).map(|_| runtime.block_on(speaker.say())).max().unwrap_or_default() };

    println!("frozen: kept within {:.1?}", say(5));
    signal(nodes[appends].child.id(), Signal::CONT);
    println!("thawed: kept within {:.1?}", say(5));

    nodes[appends].kill();
    println!("killed: kept within {:.1?}", say(5));
    nodes[appends].start_if_ended();
    nodes[appends].wait_for_lease();
    println!("back: kept within {:.1?}", say(5));
    nodes[appends].wait_until_current();
    let all: Vec<String> = (0..35).map(|n| format!("<<{n}>>")).collect();
    for node in &nodes {
        node.wait("all that was said", || texts(node, alice).len() >= all.len());
        assert_eq!(texts(node, alice), all);
    }
}

#[test]
fn what_a_shard_does_not_take_for_long_its_sender_is_told_and_can_say_again() {
    /// Longer than a frame is held, and than an engine takes to say that it is silent.
    const HELD: Duration = Duration::from_secs(45);
    let (mut nodes, users) = place(&["alice"]);
    let alice = &users[0];
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async { Speaker::connect(&nodes[0], alice).await.say().await });
    // The shard has one copy from now on, and no engine leads it when that node is away; everything else goes on.
    let stream = Shard::of(&"hall".parse().unwrap()).stream();
    let seed = std::fs::read_to_string(nodes[0].dir.path().join("secrets/control.nk")).unwrap();
    let control = runtime.block_on(damaged::connect(&nodes[0], seed.trim()));
    let ask = |about: &str, body: Value| -> Value {
        let answer = control.request(format!("$JS.API.STREAM.{about}.{stream}"), body.to_string().into());
        serde_json::from_slice(&runtime.block_on(answer).unwrap().payload).unwrap()
    };
    let mut config = ask("INFO", json!({}))["config"].clone();
    config["num_replicas"] = json!(1);
    let lowered = ask("UPDATE", config);
    assert_eq!(lowered["config"]["num_replicas"], 1, "{lowered}");
    let alone = || {
        let info = ask("INFO", json!({}));
        let none = info["cluster"]["replicas"].as_array().is_none_or(Vec::is_empty);
        let leader = info["cluster"]["leader"].as_str().filter(|_| none)?.to_owned();
        NODES.iter().position(|name| *name == leader)
    };
    nodes[0].wait("the only copy", || alone().is_some());
    let has_it = alone().unwrap();
    nodes[has_it].kill();
    let mut speaker = runtime.block_on(Speaker::connect(&nodes[(has_it + 1) % NODES.len()], alice));
    let frame = speaker.frame();
    runtime.block_on(speaker.send(&frame));
    let notice = runtime.block_on(speaker.hears(HELD)).expect("a word about what waited in vain");
    assert_eq!((&notice["refused"], &notice["retry"]), (&json!("unavailable"), &json!(true)), "{notice}");
    nodes[has_it].start_again();
    nodes[has_it].wait_for_lease();
    // The very same frame.
    runtime.block_on(speaker.say_frame(&frame));
    for node in &nodes {
        node.wait("both of them", || texts(node, alice) == ["<<0>>", "<<0>>"]);
    }
}

/// A header block of a member: what the engine takes from one, in any mixture, whole or not.
fn block(bytes: &mut impl Iterator<Item = u8>) -> Vec<u8> {
    const NAMES: [&str; 14] = [
        "Nats-Expected-Last-Msg-Id",
        "Nats-Expected-Last-Sequence",
        "Nats-Expected-Last-Subject-Sequence",
        "Nats-Expected-Stream",
        "Nats-Msg-Id",
        "Nats-Rollup",
        "Nats-TTL",
        "Nats-Incr",
        "Nats-Batch-Id",
        "Nats-Schedule",
        "Nats-Marker-Reason",
        "Unibus-Was",
        "Unibus-Sender",
        "X",
    ];
    const VALUES: [&str; 8] = ["z", "0", "99999", "all", "sub", "1s", "alice", ""];
    let mut next = |most: usize| usize::from(bytes.next().unwrap()) % most;
    let mut block = b"NATS/1.0\r\n".to_vec();
    for _ in 0..next(5) {
        block.extend(format!("{}: {}\r\n", NAMES[next(NAMES.len())], VALUES[next(VALUES.len())]).bytes());
    }
    block.extend(b"\r\n");
    match next(4) {
        // Cut off, or with a byte of another kind somewhere.
        0 => block.truncate(1 + next(block.len() - 1)),
        1 => {
            let at = next(block.len());
            block[at] = u8::try_from(next(256)).unwrap();
        }
        _ => {}
    }
    block
}

#[test]
fn no_header_of_a_member_harms_what_three_nodes_keep() {
    const BLOCKS: usize = 200;
    let (nodes, users) = place(&["alice", "mallory"]);
    let [alice, mallory] = [&users[0], &users[1]];
    let mut random = [0; 64 * BLOCKS];
    getrandom::fill(&mut random).unwrap();
    let ca = nodes[0].dir.path().join("ca.crt");
    let mut wires = nodes.each_ref().map(|node| Wire::connect(node, mallory, Some(&ca)));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut speaker = runtime.block_on(Speaker::connect(&nodes[1], alice));
    for (n, random) in random.chunks(64).enumerate() {
        let block = block(&mut random.iter().copied());
        let wire = &mut wires[n % 3];
        let subject = if n % 4 == 3 { "room.corner" } else { "room.hall.mallory" };
        println!("{subject} {:?}", String::from_utf8_lossy(&block));
        wire.publish(subject, &block, b"no frame");
        wire.settle();
        if n % 10 == 0 {
            let took = runtime.block_on(speaker.say());
            assert!(took < BOUND / 4, "alice waited {took:?} for her acknowledgement");
        }
    }
    let all: Vec<String> = (0..BLOCKS / 10).map(|n| format!("<<{n}>>")).collect();
    for node in &nodes {
        node.wait_until_current();
        let status = node.status().unwrap();
        assert_eq!(status["lease"]["valid"], true, "{status}");
        assert_eq!(texts(node, alice), all, "{}", node.log());
        let exported = node.ask(&["export", "--db", "copy.db"]);
        assert!(exported.status.success(), "{}", said(&exported));
    }
}

#[test]
fn what_is_said_right_after_its_room_was_made_is_kept_whichever_nodes_are_asked() {
    const ROOMS: usize = 200;
    let (nodes, mut users) = place(&["alice", "bob"]);
    let (bob, runtime) = (Arc::new(users.remove(1)), tokio::runtime::Runtime::new().unwrap());
    let ca = nodes[0].dir.path().join("ca.crt");
    let pins = nodes[0].dir.path().join("bob.toml");
    let policy = json!({ "encrypt": false, "persist": true, "sign": true });
    let mut lost = Vec::new();
    for n in 0..ROOMS {
        let (made, said) = (&nodes[n % 3], &nodes[(n + n / 3) % 3]);
        let room: RoomId = format!("new{n}").parse().unwrap();
        let body = json!({ "subject": format!("room.{room}"), "policy": policy });
        made.request(&bob, &Request::put(format!("/v1/rooms/{room}"), Some(body))).unwrap();
        let url: NodeUrl = format!("https://{}:{API_PORT}", said.address).parse().unwrap();
        let begun = Instant::now();
        let kept = runtime.block_on(async {
            let mut sender = loop {
                let pins = Pins::beside(&pins);
                match Sender::new(bob.clone(), pins, vec![url.clone()], Some(ca.clone()), room.clone()).await {
                    Ok(sender) => break sender,
                    // A node may hear of the room a moment later.
                    Err(error) => assert!(begun.elapsed() < BOUND, "{room}: {error}"),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            sender.say(&[format!("first of {room}")]).await
        });
        if !matches!(kept, Ok(Sent { seq: Some(_), .. })) {
            lost.push((n, kept));
        }
    }
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn a_flood_of_one_member_pushes_out_nothing_and_delays_no_acknowledgement_for_long() {
    const FLOODS: usize = 90;
    let (nodes, users) = place(&["alice", "mallory"]);
    let [alice, mallory] = [&users[0], &users[1]];
    let ca = nodes[0].dir.path().join("ca.crt");
    let mut wires = nodes.each_ref().map(|node| Wire::connect(node, mallory, Some(&ca)));
    let pair = Some(mallory.key_pair().unwrap());
    let sealer = Sealer::new("hall".parse().unwrap(), "mallory".parse().unwrap(), pair, None).unwrap();
    let filling = format!("<<flood>>{}", "x".repeat(900_000));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut speaker = runtime.block_on(Speaker::connect(&nodes[1], alice));
    let mut longest = Duration::ZERO;
    for n in 0..FLOODS {
        let mut entropy = [0; 10];
        getrandom::fill(&mut entropy).unwrap();
        let id = MessageId::new(u64::try_from(clock::unix_ms()).unwrap(), entropy);
        let frame = sealer.seal("room.hall.mallory", id, &[&filling]).unwrap();
        wires[n % 3].publish("room.hall.mallory", b"NATS/1.0\r\n\r\n", &frame);
        if n % 5 == 0 {
            longest = longest.max(runtime.block_on(speaker.say()));
        }
    }
    println!("81 MB by one member; what another said was kept within {longest:.1?}");
    let all: Vec<String> = (0..FLOODS / 5).map(|n| format!("<<{n}>>")).collect();
    for node in &nodes {
        node.wait_until_current();
        let texts: Vec<String> = texts(node, alice).into_iter().filter(|text| text != "<<flood>>").collect();
        assert_eq!(texts, all, "{}", node.log());
    }
}
