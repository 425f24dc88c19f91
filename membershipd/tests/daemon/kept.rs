//! What members say in rooms that daemons keep: kept once and in order, whatever bytes a member sends beside it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Subscriber};
use bytes::Bytes;
use data_encoding::BASE64;
use futures::StreamExt;
use serde_json::{Value, json};
use unibus_client::identity::Identity;
use unibus_core::clock;
use unibus_core::domain::RoomId;
use unibus_crypto::{MessageId, Sealer};

use crate::common::requests::{ask, identity, user};
use crate::common::wire::Wire;
use crate::common::{Daemon, marked, said};

/// A node whose cluster keeps history by its daemons, with these users.
pub(crate) struct Place {
    pub(crate) daemon: Daemon,
    pub(crate) users: Arc<BTreeMap<String, Identity>>,
}

impl Place {
    pub(crate) fn new(handles: &[&str]) -> Self {
        let place = Self::captured(handles);
        place.raise();
        place
    }

    /// One on which streams capture what members say still.
    pub(crate) fn captured(handles: &[&str]) -> Self {
        Self::of(Daemon::start(&["--store", "kv"]), handles)
    }

    /// `daemon` with these users.
    pub(crate) fn of(daemon: Daemon, handles: &[&str]) -> Self {
        // With `seed-admin` it would begin at the highest level.
        let root = identity(&daemon, "root");
        let key = root.sign_pub.to_string();
        let added = daemon.ask(&["user", "add", "--handle", "root", "--role", "admin", "--sign-pub", &key]);
        assert!(added.status.success(), "{}", said(&added));
        let users = handles.iter().map(|handle| ((*handle).to_owned(), user(&daemon, &root, handle))).collect();
        Self { daemon, users: Arc::new(users) }
    }

    pub(crate) fn raise(&self) {
        let raised = self.daemon.ask(&["level", "raise"]);
        assert!(raised.status.success(), "{}", said(&raised));
    }

    pub(crate) fn ask(&self, who: &str, method: &str, target: &str, body: &Value) -> Value {
        ask(&self.daemon, &self.users[who], method, target, body)
    }

    /// A room whose messages are signed and not sealed, so that no keys have to be exchanged.
    pub(crate) fn room(&self, owner: &str, id: &str, members: &[&str]) {
        let policy = json!({ "encrypt": false, "persist": true, "sign": true });
        let body = json!({ "subject": format!("room.{id}"), "policy": policy });
        let made = self.ask(owner, "PUT", &format!("/v1/rooms/{id}"), &body);
        assert_eq!(made["changed"], true, "{made}");
        for member in members {
            let path = format!("/v1/rooms/{id}/members/{member}");
            self.ask(owner, "PUT", &path, &json!({ "role": "member" }));
            let joined = self.ask(member, "PUT", &format!("{path}/acceptance"), &Value::Null);
            assert_eq!(joined["member"]["state"], "joined", "{joined}");
        }
    }

    pub(crate) async fn connect(&self, who: &str) -> Talker {
        let client = ConnectOptions::with_nkey(self.users[who].nkey_seed().to_owned())
            .custom_inbox_prefix(format!("_INBOX.{who}"))
            .connect(format!("nats://{}:4250", self.daemon.address))
            .await
            .unwrap();
        let notices = client.subscribe(format!("unibus.user.{who}.kept.>")).await.unwrap();
        client.flush().await.unwrap();
        Talker { client, notices, who: who.to_owned() }
    }

    /// A signed frame of `who` for the room, made for `subject`.
    pub(crate) fn frame(&self, who: &str, room: &str, subject: &str, text: &str) -> Vec<u8> {
        let room: RoomId = room.parse().unwrap();
        let pair = self.users[who].key_pair().unwrap();
        let sealer = Sealer::new(room, who.parse().unwrap(), Some(pair), None).unwrap();
        let mut entropy = [0; 10];
        getrandom::fill(&mut entropy).unwrap();
        let id = MessageId::new(u64::try_from(clock::unix_ms()).unwrap(), entropy);
        sealer.seal(subject, id, &[text]).unwrap()
    }

    /// The texts that a page of the room's history has, and their places.
    pub(crate) fn history(&self, who: &str, room: &str, query: &str) -> Vec<(u64, String)> {
        let answer = self.ask(who, "GET", &format!("/v1/rooms/{room}/history{query}"), &Value::Null);
        let messages = answer["messages"].as_array().unwrap_or_else(|| panic!("{answer}\n{}", self.daemon.log()));
        let text = |message: &Value| {
            let frame = BASE64.decode(message["frame"].as_str().unwrap().as_bytes()).unwrap();
            marked(&frame).unwrap_or_else(|| panic!("{frame:?} was not said here"))
        };
        messages.iter().map(|message| (message["seq"].as_u64().unwrap(), text(message))).collect()
    }

    /// All that is kept.
    pub(crate) fn texts(&self, who: &str, room: &str) -> Vec<String> {
        let (mut after, mut texts) = (0, Vec::new());
        loop {
            let page = self.history(who, room, &format!("?after={after}&limit=1000"));
            let Some((last, _)) = page.last() else { return texts };
            after = *last;
            texts.extend(page.into_iter().map(|(_, text)| text));
        }
    }
}

/// A member's connection, and what it is told about what it said.
pub(crate) struct Talker {
    client: Client,
    notices: Subscriber,
    who: String,
}

impl Talker {
    pub(crate) async fn publish(&self, subject: &str, frame: impl Into<Bytes>) {
        self.client.publish(subject.to_owned(), frame.into()).await.unwrap();
        self.client.flush().await.unwrap();
    }

    pub(crate) async fn notice(&mut self) -> Value {
        let notice = tokio::time::timeout(Duration::from_secs(15), self.notices.next()).await;
        let notice = notice.unwrap_or_else(|_| panic!("{} was told nothing", self.who)).unwrap();
        serde_json::from_slice(&notice.payload).unwrap()
    }

    /// Waits to be told that a frame was kept.
    pub(crate) async fn kept(&mut self) -> u64 {
        let notice = self.notice().await;
        notice["seq"].as_u64().unwrap_or_else(|| panic!("{notice}"))
    }

    async fn no_notice(&mut self) {
        let notice = tokio::time::timeout(Duration::from_millis(700), self.notices.next()).await;
        assert!(notice.is_err(), "{notice:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_members_say_is_kept_once_in_order_and_acknowledged() {
    let place = Place::new(&["alice", "bob"]);
    place.room("alice", "hall", &["bob"]);
    let [mut alice, mut bob] = [place.connect("alice").await, place.connect("bob").await];
    let mut places = Vec::new();
    for n in 0..6 {
        let (who, talker) = if n % 2 == 0 { ("alice", &mut alice) } else { ("bob", &mut bob) };
        let subject = format!("room.hall.{who}");
        let frame = place.frame(who, "hall", &subject, &format!("<<{n}>>"));
        // Twice, as a client does that heard nothing.
        talker.publish(&subject, frame.clone()).await;
        let notice = talker.notice().await;
        talker.publish(&subject, frame).await;
        assert_eq!(talker.notice().await, notice, "the same frame has one place");
        places.push((notice["seq"].as_u64().unwrap(), n.to_string()));
    }
    assert_eq!(place.history("bob", "hall", ""), places);
    assert_eq!(place.history("bob", "hall", "?limit=2"), places[4..]);
    let after = format!("?after={}&limit=2", places[1].0);
    assert_eq!(place.history("bob", "hall", &after), places[2..4]);
    assert_eq!(place.history("bob", "hall", "?after=0&limit=3"), places[..3]);
    let last = format!("?after={}", places[5].0);
    assert!(place.history("alice", "hall", &last).is_empty());

    // A burst keeps its order.
    let burst: Vec<String> = (0..300).map(|n| format!("burst {n}")).collect();
    for text in &burst {
        let frame = place.frame("bob", "hall", "room.hall.bob", &format!("<<{text}>>"));
        bob.client.publish("room.hall.bob", frame.into()).await.unwrap();
    }
    bob.client.flush().await.unwrap();
    for _ in &burst {
        bob.kept().await;
    }
    let kept = place.history("alice", "hall", "?limit=300").into_iter().map(|(_, text)| text);
    assert_eq!(kept.collect::<Vec<_>>(), burst);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_what_its_sender_made_is_refused_and_told() {
    let place = Place::new(&["alice", "bob"]);
    place.room("alice", "hall", &["bob"]);
    place.room("alice", "attic", &["bob"]);
    let [mut alice, mut bob] = [place.connect("alice").await, place.connect("bob").await];
    let hers = place.frame("alice", "hall", "room.hall.alice", "<<hers>>");
    alice.publish("room.hall.alice", hers.clone()).await;
    alice.kept().await;
    let elsewhere = place.frame("bob", "attic", "room.attic.bob", "<<elsewhere>>");
    for (frame, reason) in [
        (hers.clone(), "other-sender"),
        (elsewhere, "signature"),
        (b"<<nothing like a frame>>".to_vec(), "malformed"),
        (Vec::new(), "malformed"),
    ] {
        bob.publish("room.hall.bob", frame).await;
        let notice = bob.notice().await;
        assert_eq!((&notice["refused"], &notice["retry"]), (&json!(reason), &json!(false)), "{notice}");
    }
    // Where another member speaks, or none, the engine lets nothing pass.
    for subject in ["room.hall.alice", "room.hall", "room.hall.bob.more", "room.hall.eve"] {
        bob.publish(subject, hers.clone()).await;
    }
    bob.no_notice().await;
    alice.no_notice().await;
    assert_eq!(place.texts("alice", "hall"), ["hers"]);
    // What is said right after a room was made is kept.
    for n in 0..20 {
        let room = format!("new{n}");
        place.room("bob", &room, &[]);
        let mut fresh = place.connect("bob").await;
        let subject = format!("room.{room}.bob");
        fresh.publish(&subject, place.frame("bob", &room, &subject, "<<first>>")).await;
        fresh.kept().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_header_that_a_member_sends_reaches_what_is_kept() {
    let place = Place::new(&["alice", "mallory"]);
    place.room("alice", "hall", &["mallory"]);
    let mut alice = place.connect("alice").await;
    let mut wire = Wire::connect(&place.daemon, &place.users["mallory"], None);
    // What reviewers did to the release before, and all else that the engine takes from a header.
    let lines = [
        "Nats-Expected-Last-Msg-Id: z",
        "Nats-Expected-Last-Sequence: 99999",
        "Nats-Expected-Last-Subject-Sequence: 0",
        "Nats-Expected-Stream: x",
        "Nats-Msg-Id: 1",
        "Nats-Rollup: all",
        "Nats-TTL: 1s",
        "Nats-Batch-Id: b\r\nNats-Batch-Sequence: 1\r\nNats-Batch-Commit: 1",
        "Nats-Incr: 5",
        "Unibus-Sender: alice",
        "Unibus-Was: 1",
        "Unibus-At: 0",
    ];
    let whole = lines.iter().map(|line| format!("NATS/1.0\r\n{line}\r\n\r\n").into_bytes());
    let broken = ["NATS/1.0\r\nX: y", "NATS/1.0 503\r\n\r\n", "NATS/1.0\r\n:\r\n\r\n", "x", "\r\n\r\n"];
    let headers: Vec<Vec<u8>> = whole.chain(broken.map(|block| block.as_bytes().to_vec())).collect();
    let mut said = Vec::new();
    for (n, headers) in headers.iter().enumerate() {
        let frame = place.frame("mallory", "hall", "room.hall.mallory", &format!("<<mallory {n}>>"));
        wire.publish("room.hall.mallory", headers, &frame);
        wire.settle();
        let own = format!("alice {n}");
        let frame = place.frame("alice", "hall", "room.hall.alice", &format!("<<{own}>>"));
        alice.publish("room.hall.alice", frame).await;
        alice.kept().await;
        said.push(own);
    }
    let texts = place.texts("alice", "hall");
    assert_eq!(texts.iter().filter(|text| text.contains("alice")).cloned().collect::<Vec<_>>(), said);
    // What was sent with a header is kept like anything else: the header is gone.
    let is_missing = |n: &usize| !texts.contains(&format!("mallory {n}"));
    let missing: Vec<_> = (0..lines.len()).filter(is_missing).map(|n| lines[n]).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let current = || place.daemon.ask(&["wait", "--for", "current", "--within", "1"]).status.success();
    place.daemon.wait("a node that is current", current);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_pushes_out_nothing_that_others_said() {
    let place = Place::new(&["alice", "mallory"]);
    place.room("alice", "hall", &["mallory"]);
    let [mut alice, mallory] = [place.connect("alice").await, place.connect("mallory").await];
    let mut expected = Vec::new();
    for n in 0..20 {
        expected.push(format!("before {n}"));
        let frame = place.frame("alice", "hall", "room.hall.alice", &format!("<<before {n}>>"));
        alice.publish("room.hall.alice", frame).await;
        alice.kept().await;
    }
    // Three times what the room may keep.
    let filling = "x".repeat(900_000);
    for n in 0..34 {
        let frame = place.frame("mallory", "hall", "room.hall.mallory", &format!("<<flood>>{filling}"));
        mallory.publish("room.hall.mallory", frame).await;
        expected.push(format!("beside {n}"));
        let frame = place.frame("alice", "hall", "room.hall.alice", &format!("<<beside {n}>>"));
        alice.publish("room.hall.alice", frame).await;
        alice.kept().await;
    }
    let floods = |texts: &[String]| texts.iter().filter(|text| *text == "flood").count();
    place.daemon.wait("the room within its limit", || floods(&place.texts("alice", "hall")) <= 12);
    let texts = place.texts("alice", "hall");
    assert_eq!(texts.iter().filter(|text| *text != "flood").cloned().collect::<Vec<_>>(), expected);
    assert!(floods(&texts) >= 8, "a flood may have what no other member uses: {}", floods(&texts));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_captured_before_is_carried_over_in_its_order_and_places_stay_right() {
    let place = Place::captured(&["alice", "bob"]);
    place.room("alice", "hall", &["bob"]);
    place.room("alice", "quiet", &["bob"]);
    let bob = place.connect("bob").await;
    for n in 0..40 {
        let room = if n % 4 == 0 { "quiet" } else { "hall" };
        let subject = format!("room.{room}");
        bob.publish(&subject, place.frame("bob", room, &subject, &format!("<<{n}>>"))).await;
    }
    let numbers = |of: fn(&u32) -> bool| (0..40).filter(of).map(|n| n.to_string()).collect::<Vec<_>>();
    let (quiet, hall) = (numbers(|n| n % 4 == 0), numbers(|n| n % 4 != 0));
    place.daemon.wait("the old way", || place.texts("bob", "hall") == hall && place.texts("bob", "quiet") == quiet);
    let before = place.history("bob", "hall", "?after=0&limit=12");
    let (cursor, _) = before[11];

    place.raise();
    // A user who was connected before has other rights now, and so another connection.
    let mut bob = place.connect("bob").await;
    bob.publish("room.hall.bob", place.frame("bob", "hall", "room.hall.bob", "<<after>>")).await;
    bob.kept().await;
    let all: Vec<String> = hall.iter().cloned().chain(["after".to_owned()]).collect();
    assert_eq!(place.texts("bob", "hall"), all);
    // A reader that had come to a place of before goes on behind it.
    let rest = place.history("bob", "hall", &format!("?after={cursor}&limit=1000"));
    assert_eq!(rest.into_iter().map(|(_, text)| text).collect::<Vec<_>>(), all[12..]);
    // A room in which nothing is said is carried over as well.
    place.daemon.wait("the streams of rooms gone", || {
        place.daemon.log().matches("what the room said is kept by the daemons from now on").count() == 2
    });
    assert_eq!(place.texts("bob", "quiet"), quiet);
}
