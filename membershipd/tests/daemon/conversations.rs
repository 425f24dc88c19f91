//! Conversations through the real daemon and its real engine: who reads what, what is refused, and what a server ever sees.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::common::{Daemon, Dir, membershipd, said};
use nkeys::KeyPair;
use rusqlite::Connection;
use serde_json::{Value, json};
use unibus_client::identity::Identity;
use unibus_core::clock;
use unibus_core::domain::{Handle, RoomId};
use unibus_crypto::{Content, Envelope, Epoch, FrameVersion, KeyId, MessageId, RoomKey, RosterHead, Sealer, Sealing};

/// A node on which people have a room.
pub(crate) struct Place {
    pub(crate) daemon: Daemon,
}

/// Somebody's `tail`, while it runs.
struct Tail {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Tail {
    /// What it shows next.
    fn next(&mut self) -> Value {
        let line = self.lines.recv_timeout(Duration::from_secs(30)).expect("tail said nothing for 30 s, or ended");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("tail ended: {line}"))
    }

    fn texts(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.next()["text"].as_str().unwrap().to_owned()).collect()
    }

    /// Why it ended.
    fn ended(&mut self) -> Value {
        let answer = self.next();
        assert!(!self.child.wait().unwrap().success());
        answer["error"].clone()
    }
}

impl Place {
    /// With these people, all of whom are in the room `kitchen`, the first one as its owner.
    pub(crate) fn new(people: &[&str]) -> Self {
        let daemon = Daemon::start(&[]);
        let raised = daemon.ask(&["level", "raise"]);
        assert!(raised.status.success(), "{}", said(&raised));
        Self::on(daemon, people)
    }

    /// The same at the first feature level, at which streams capture what is said.
    fn captured(people: &[&str]) -> Self {
        Self::on(Daemon::start(&["--begin-at-lowest-level"]), people)
    }

    fn on(daemon: Daemon, people: &[&str]) -> Self {
        let place = Self { daemon };
        for who in people {
            let key = place.daemon.identity(who);
            let added = place.daemon.ask(&["user", "add", "--handle", who, "--sign-pub", &key]);
            assert!(added.status.success(), "{}", said(&added));
        }
        place.good(people[0], &["room", "create", "kitchen", "--subject", "room.kitchen"]);
        people[1..].iter().for_each(|who| place.join(people[0], who));
        place
    }

    pub(crate) fn join(&self, owner: &str, who: &str) {
        self.good(owner, &["member", "invite", "kitchen", who, "--role", "member"]);
        self.good(who, &["member", "accept", "kitchen"]);
    }

    pub(crate) fn command(&self, who: &str, arguments: &[&str]) -> Command {
        let mut command = membershipd(self.daemon.dir.path());
        let url = format!("http://{}:8470", self.daemon.address);
        command.args(arguments).args(["--identity", &format!("{who}.toml"), "--url", &url]);
        command
    }

    pub(crate) fn run(&self, who: &str, arguments: &[&str]) -> Output {
        self.command(who, arguments).output().unwrap()
    }

    pub(crate) fn good(&self, who: &str, arguments: &[&str]) -> String {
        let output = self.run(who, arguments);
        assert!(output.status.success(), "{arguments:?}: {}\n{}", said(&output), self.daemon.log());
        String::from_utf8(output.stdout).unwrap()
    }

    fn refused(&self, who: &str, arguments: &[&str]) -> String {
        let output = self.run(who, &[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", said(&output));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        answer["error"]["code"].as_str().unwrap().to_owned()
    }

    pub(crate) fn say(&self, who: &str, text: &str) {
        self.good(who, &["say", "kitchen", text]);
    }

    /// Somebody who listens, from when this returns.
    fn tail(&self, who: &str, arguments: &[&str]) -> Tail {
        let mut command = self.command(who, &[&["tail", "kitchen", "--json"], arguments].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (told, lines) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| told.send(line)));
        Tail { child, lines }
    }

    pub(crate) fn texts(&self, who: &str) -> Vec<String> {
        let read = self.good(who, &["tail", "kitchen", "--no-follow", "--json"]);
        let lines = read.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter_map(|line| Some(line["text"].as_str()?.to_owned())).collect()
    }

    fn person(&self, who: &str) -> Identity {
        Identity::load(&self.daemon.dir.path().join(format!("{who}.toml"))).unwrap()
    }

    /// The key of an epoch, as one member gets it.
    fn room_key(&self, who: &str, epoch: Epoch) -> RoomKey {
        let db = Connection::open(self.database()).unwrap();
        let key = format!("epoch.kitchen.{epoch}");
        let value: Vec<u8> =
            db.query_row("SELECT value FROM entries WHERE key = ?1", [&key], |row| row.get(0)).unwrap();
        let record: Value = serde_json::from_slice(&value).unwrap();
        let (by, key): (Handle, KeyId) =
            (record["by"].as_str().unwrap().parse().unwrap(), record["key_id"].as_str().unwrap().parse().unwrap());
        let envelope: Envelope = serde_json::from_value(record["envelopes"][who].clone()).unwrap();
        let (room, own) = ("kitchen".parse().unwrap(), self.person(who));
        let sealing = Sealing { room: &room, epoch, by: &by, key };
        let signer = self.person(by.as_str()).sign_pub;
        sealing.open(&envelope, &own.recipient().unwrap(), &own.hpke_secret().unwrap(), signer).unwrap()
    }

    fn database(&self) -> PathBuf {
        self.daemon.dir.path().join("local_files/unibus.db")
    }

    /// The node with `change` made to its store behind its back: a server that lies.
    fn lying(self, change: impl FnOnce(&Connection)) -> Self {
        let address = self.daemon.address;
        let dir: Dir = self.daemon.stop();
        let db = Connection::open(dir.path().join("local_files/unibus.db")).unwrap();
        // What keeps entries from being changed is put back afterwards.
        let mut found = db.prepare("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").unwrap();
        let triggers: Vec<(String, String)> =
            found.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
        drop(found);
        triggers.iter().for_each(|(name, _)| db.execute_batch(&format!("DROP TRIGGER {name}")).unwrap());
        change(&db);
        triggers.iter().for_each(|(_, sql)| db.execute_batch(sql).unwrap());
        drop(db);
        let daemon = Daemon::launch(dir, address, &[]);
        daemon.wait_for_lease();
        Self { daemon }
    }
}

fn replace(db: &Connection, key: &str, change: impl Fn(&mut Value)) {
    let value: Vec<u8> = db.query_row("SELECT value FROM entries WHERE key = ?1", [key], |row| row.get(0)).unwrap();
    let mut value = serde_json::from_slice(&value).unwrap();
    change(&mut value);
    let changed = db.execute("UPDATE entries SET value = ?2 WHERE key = ?1", (key, value.to_string().into_bytes()));
    assert_eq!(changed.unwrap(), 1);
}

#[test]
fn people_talk_until_they_are_removed_and_from_when_they_come() {
    let place = Place::new(&["alice", "bob"]);
    let mut tail = place.tail("bob", &[]);
    place.say("alice", "hello bob");
    let first = tail.next();
    assert_eq!(
        (&first["text"], &first["sender"], &first["signed"]),
        (&json!("hello bob"), &json!("alice"), &json!(true))
    );
    place.say("bob", "hello alice");
    assert_eq!(tail.texts(1), ["hello alice"]);
    assert_eq!(place.texts("alice"), ["hello bob", "hello alice"]);

    // Who comes later reads from his first epoch on.
    let key = place.daemon.identity("carol");
    assert!(place.daemon.ask(&["user", "add", "--handle", "carol", "--sign-pub", &key]).status.success());
    place.join("alice", "carol");
    place.say("carol", "here I am");
    assert_eq!((place.texts("carol"), tail.texts(1)), (vec!["here I am".to_owned()], vec!["here I am".to_owned()]));

    // Who is removed hears no more, cannot come back, and is given no key of what comes after.
    place.good("alice", &["member", "remove", "kitchen", "bob"]);
    assert_eq!(tail.ended()["code"], "not-member");
    place.say("alice", "bob is gone");
    assert_eq!(place.refused("bob", &["say", "kitchen", "x"]), "not-member");
    assert_eq!(place.refused("bob", &["tail", "kitchen"]), "not-member");
    assert_eq!(place.refused("bob", &["key", "show", "kitchen"]), "not-member");
    assert_eq!(place.texts("carol"), ["here I am", "bob is gone"]);
    let newest: Value = serde_json::from_str(&place.good("alice", &["key", "show", "kitchen", "--json"])).unwrap();
    assert_eq!(newest, json!({ "epoch": 3, "stale": false, "own": true }));
}

#[tokio::test]
async fn what_is_not_true_is_refused_and_said() {
    // Where daemons keep what is said, a member publishes on its own subject alone: tests of `kept`.
    let place = Place::captured(&["alice", "mallory"]);
    place.say("alice", "hello");
    let mallory = place.person("mallory");
    let key = place.room_key("mallory", Epoch::FIRST);
    let bus = async_nats::ConnectOptions::with_nkey(mallory.nkey_seed().to_owned())
        .custom_inbox_prefix("_INBOX.mallory")
        .connect(format!("nats://{}:4250", place.daemon.address))
        .await
        .unwrap();
    let mut captured = bus.subscribe("room.kitchen").await.unwrap();
    bus.flush().await.unwrap();
    let mut tail = place.tail("alice", &["--last", "1"]);
    assert_eq!(tail.texts(1), ["hello"]);
    place.say("alice", "from alice");
    assert_eq!(tail.texts(1), ["from alice"]);
    let replayed = futures::StreamExt::next(&mut captured).await.unwrap().payload;

    let (kitchen, cellar): (RoomId, RoomId) = ("kitchen".parse().unwrap(), "cellar".parse().unwrap());
    let now = || u64::try_from(clock::unix_ms()).unwrap();
    let frame =
        |room: &RoomId, sender: &str, pair: Option<KeyPair>, key: Option<(Epoch, &RoomKey)>, ms, subject: &str| {
            let sealer = Sealer::new(room.clone(), sender.parse().unwrap(), pair, key).unwrap();
            let id = MessageId::new(ms, rand());
            bytes::Bytes::from(sealer.seal(subject, id, &["believe me"]).unwrap())
        };
    let own = || Some(mallory.key_pair().unwrap());
    let here = Some((Epoch::FIRST, &key));
    let other = RoomKey::random().unwrap();
    let wrong_seal = "it cannot be opened";
    let lies = [
        (
            "forged sender",
            frame(&kitchen, "alice", own(), here, now(), "room.kitchen"),
            "names alice as its sender, but its signature",
        ),
        ("nobody", frame(&kitchen, "nobody", own(), here, now(), "room.kitchen"), "there is no such user"),
        ("replayed", replayed, "has come before"),
        ("another room", frame(&cellar, "mallory", own(), here, now(), "room.kitchen"), "its signature"),
        ("another subject", frame(&kitchen, "mallory", own(), here, now(), "room.kitchen.corner"), "its signature"),
        (
            "another epoch",
            frame(&kitchen, "mallory", own(), Some((Epoch::new(2).unwrap(), &key)), now(), "room.kitchen"),
            "epoch 2",
        ),
        (
            "another key",
            frame(&kitchen, "mallory", own(), Some((Epoch::FIRST, &other)), now(), "room.kitchen"),
            wrong_seal,
        ),
        ("in clear", frame(&kitchen, "mallory", own(), None, now(), "room.kitchen"), "in clear"),
        ("unsigned", frame(&kitchen, "mallory", None, here, now(), "room.kitchen"), "unsigned"),
        ("old", frame(&kitchen, "mallory", own(), here, now() - 600_000, "room.kitchen"), "600 s before"),
        ("nonsense", bytes::Bytes::from_static(b"hello"), "no message of unibus"),
    ];
    for (name, lie, why) in lies {
        bus.publish("room.kitchen", lie).await.unwrap();
        bus.flush().await.unwrap();
        let refused = tail.next();
        assert!(refused["refused"].as_str().is_some_and(|said| said.contains(why)), "{name}: {refused}");
    }
    bus.publish("room.kitchen", frame(&kitchen, "mallory", own(), here, now(), "room.kitchen")).await.unwrap();
    bus.flush().await.unwrap();
    assert_eq!(tail.texts(1), ["believe me"], "what he says himself is shown");

    // The second version is held to the same, and what is in it that this program does not know is shown as that.
    let second = |sender: &str, id: MessageId, contents: &[Content]| {
        let (pair, version) = (mallory.key_pair().unwrap(), FrameVersion::V2 { roster: RosterHead::NONE });
        let sealer = Sealer::new(kitchen.clone(), sender.parse().unwrap(), Some(pair), here).unwrap();
        bytes::Bytes::from(sealer.writing(version).seal_contents("room.kitchen", id, contents).unwrap())
    };
    let new = || MessageId::new(now(), rand());
    let strange = [Content::Unknown { kind: 7, body: b"later".to_vec() }, Content::text("go on")];
    bus.publish("room.kitchen", second("alice", new(), &strange)).await.unwrap();
    bus.publish("room.kitchen", second("mallory", new(), &strange)).await.unwrap();
    bus.flush().await.unwrap();
    let refused = tail.next();
    let why = "names alice as its sender, but its signature";
    assert!(refused["refused"].as_str().is_some_and(|said| said.contains(why)), "{refused}");
    let shown = tail.next();
    assert_eq!(
        (&shown["type"], &shown["base64"], &shown["sender"]),
        (&json!(7), &json!("bGF0ZXI="), &json!("mallory"))
    );
    assert_eq!(tail.texts(1), ["go on"]);

    // A member who takes the id of another's message before it arrives keeps it from no reader.
    let taken = new();
    bus.publish("room.kitchen", second("mallory", taken, &[Content::text("mine")])).await.unwrap();
    let alice = place.person("alice").key_pair().unwrap();
    let sealer = Sealer::new(kitchen.clone(), "alice".parse().unwrap(), Some(alice), here).unwrap();
    bus.publish("room.kitchen", sealer.seal("room.kitchen", taken, &["hers"]).unwrap().into()).await.unwrap();
    bus.flush().await.unwrap();
    assert_eq!(tail.texts(2), ["mine", "hers"]);
}

#[tokio::test]
async fn a_frame_that_its_sender_sends_again_is_told_once() {
    let place = Place::new(&["alice", "bob"]);
    place.say("alice", "hello");
    let (alice, key) = (place.person("alice"), place.room_key("alice", Epoch::FIRST));
    let bus = async_nats::ConnectOptions::with_nkey(alice.nkey_seed().to_owned())
        .custom_inbox_prefix("_INBOX.alice")
        .connect(format!("nats://{}:4250", place.daemon.address))
        .await
        .unwrap();
    let mut tail = place.tail("bob", &["--last", "1"]);
    assert_eq!(tail.texts(1), ["hello"]);
    place.say("alice", "bob hears what comes");
    assert_eq!(tail.texts(1), ["bob hears what comes"]);
    let own = "room.kitchen.alice";
    let here = Some((Epoch::FIRST, &key));
    let pair = Some(alice.key_pair().unwrap());
    let sealer = Sealer::new("kitchen".parse().unwrap(), "alice".parse().unwrap(), pair, here).unwrap();
    let id = MessageId::new(u64::try_from(clock::unix_ms()).unwrap(), rand());
    let frame = bytes::Bytes::from(sealer.seal(own, id, &["twice"]).unwrap());
    for _ in 0..2 {
        bus.publish(own, frame.clone()).await.unwrap();
        bus.flush().await.unwrap();
    }
    place.say("alice", "after");
    assert_eq!(tail.texts(2), ["twice", "after"]);
    assert_eq!(place.texts("bob"), ["hello", "bob hears what comes", "twice", "after"]);
}

#[test]
fn an_attachment_is_announced_where_the_second_version_is_written() {
    for level in [Place::captured, Place::new] {
        an_attachment_is_announced(&level(&["alice", "bob"]));
    }
}

fn an_attachment_is_announced(place: &Place) {
    let marker = "plans of the bank.txt";
    place.daemon.dir.write(marker, "an attachment", 0o600);
    let mut tail = place.tail("bob", &[]);
    let quiet: Value =
        serde_json::from_str(&place.good("alice", &["blob", "put", "kitchen", marker, "--json", "--frames", "1"]))
            .unwrap();
    assert_eq!(quiet.get("announced"), None);
    let put = place.good("alice", &["blob", "put", "kitchen", marker, "--json", "--frames", "2"]);
    let put: Value = serde_json::from_str(&put).unwrap();
    let shown = tail.next();
    let sha256 = put["blob"]["sha256"].as_str().unwrap();
    assert_eq!(shown["attachment"], json!({ "sha256": sha256, "size": 13, "name": marker }));
    assert_eq!((&shown["id"], shown.get("text")), (&put["announced"]["id"], None));
    assert_ne!(quiet["blob"]["sha256"], put["blob"]["sha256"]);

    // A person sees it on one line, with the command that fetches it.
    let read = place.good("bob", &["tail", "kitchen", "--no-follow"]);
    let fetch = format!("blob get kitchen {sha256} --out");
    assert_eq!(read.lines().count(), 1, "{read}");
    assert!(read.contains(&format!("[attachment] {marker} (13 bytes)")) && read.contains(&fetch), "{read}");
    place.good("bob", &["blob", "get", "kitchen", sha256, "--out", "got.txt"]);
    assert_eq!(std::fs::read(place.daemon.dir.path().join("got.txt")).unwrap(), b"an attachment");

    // No server knows that it is one, let alone what its name is.
    for pid in [place.daemon.child.id(), place.daemon.engine_pid().unwrap()] {
        assert!(!has(&memory(pid), marker.as_bytes()), "the name is in the memory of {pid}");
    }
}

fn rand() -> [u8; 10] {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_server_that_lies_about_keys_is_not_believed() {
    let place = Place::new(&["alice", "bob"]);
    place.say("alice", "hello");
    place.say("bob", "hello");
    let mallory = Identity::from_entropy("bob".parse().unwrap(), [5; 64]).unwrap();
    let (fake, pair) = (mallory.recipient().unwrap(), mallory.key_pair().unwrap());

    // Another HPKE key for bob, not signed by him; and an epoch that has to be sealed for him.
    let (hpke, signature) = (fake.hpke_pub, fake.vouch(&pair).unwrap());
    let place = place.lying(|db| {
        replace(db, "hpke.bob", |record| {
            record["hpke_pub"] = json!(hpke);
            record["signature"] = json!(signature);
        });
        replace(db, "epoch.kitchen.1", |record| {
            record["envelopes"].as_object_mut().unwrap().remove("bob");
        });
    });
    assert_eq!(place.refused("alice", &["say", "kitchen", "x"]), "not-vouched");

    // With bob's signing key swapped too, all that the server says fits together; but alice has met bob.
    let (key, nkey) = (mallory.sign_pub.to_string(), place.person("bob").sign_pub.to_string());
    let place = place.lying(|db| {
        replace(db, "user.bob", |record| record["sign_pub"] = json!(key));
        let claim = "UPDATE entries SET key = ?2 WHERE key = ?1";
        assert_eq!(db.execute(claim, (format!("key.{nkey}"), format!("key.{key}"))).unwrap(), 1);
    });
    assert_eq!(place.refused("alice", &["say", "kitchen", "x"]), "swapped-key");
    // Only when alice says that she has asked him, she believes it.
    place.good("alice", &["key", "forget", "bob"]);
    place.say("alice", "x");
}

#[test]
fn a_room_that_went_back_or_an_envelope_that_was_changed_is_not_used() {
    let place = Place::new(&["alice", "bob"]);
    place.say("alice", "one");
    place.good("alice", &["key", "rotate", "kitchen"]);
    place.say("bob", "two");
    let place = place.lying(|db| {
        replace(db, "epoch.kitchen.2", |record| {
            let alices = record["envelopes"]["alice"].clone();
            record["envelopes"]["bob"] = alices;
        });
    });
    assert_eq!(place.refused("bob", &["say", "kitchen", "x"]), "bad-key");
    // A server that says that the room is in clear would be told the next message.
    let policy = |encrypt: bool| move |record: &mut Value| record["policy"]["encrypt"] = json!(encrypt);
    let place = place.lying(|db| replace(db, "room.kitchen", policy(false)));
    assert_eq!(place.refused("alice", &["say", "kitchen", "x"]), "unsealed");
    assert_eq!(place.refused("alice", &["tail", "kitchen"]), "unsealed");
    let place = place.lying(|db| {
        replace(db, "room.kitchen", policy(true));
        assert_eq!(
            db.execute("DELETE FROM entries WHERE key IN ('epoch.kitchen.2', 'newest.kitchen')", ()).unwrap(),
            2
        );
    });
    assert_eq!(place.refused("alice", &["say", "kitchen", "x"]), "epoch-went-back");
}

#[test]
fn what_was_said_is_read_on_a_cluster_that_was_restored() {
    let place = Place::new(&["alice", "bob"]);
    place.say("alice", "before");
    place.good("alice", &["key", "rotate", "kitchen"]);
    place.say("bob", "after");
    place.daemon.dir.write("note.txt", "an attachment", 0o600);
    let put = place.good("alice", &["blob", "put", "kitchen", "note.txt", "--json"]);
    let sha256 = serde_json::from_str::<Value>(&put).unwrap()["blob"]["sha256"].as_str().unwrap().to_owned();
    let exported = place.daemon.ask(&["export", "--db", "copy.db"]);
    assert!(exported.status.success(), "{}", said(&exported));

    let copy = place.daemon.dir.path().join("copy.db");
    let fresh = Daemon::start(&["--store", "kv"]);
    let carried = fresh.ask(&["migrate-to-kv", "--db", copy.to_str().unwrap()]);
    assert!(carried.status.success(), "{}", said(&carried));
    for who in ["alice", "bob"] {
        // They bring their identities, and what they have seen of each other.
        for file in [format!("{who}.toml"), format!("{who}.toml.pins")] {
            std::fs::copy(place.daemon.dir.path().join(&file), fresh.dir.path().join(&file)).unwrap();
        }
    }
    let restored = Place { daemon: fresh };
    let there = || restored.run("alice", &["room", "show", "kitchen"]).status.success();
    restored.daemon.wait("the room", there);
    assert_eq!(restored.texts("alice"), ["before", "after"]);
    assert_eq!(restored.texts("bob"), ["before", "after"]);
    restored.good("bob", &["blob", "get", "kitchen", &sha256, "--out", "got.txt"]);
    assert_eq!(std::fs::read(restored.daemon.dir.path().join("got.txt")).unwrap(), b"an attachment");
    restored.say("bob", "and on");
    assert_eq!(restored.texts("alice"), ["before", "after", "and on"]);
}

#[test]
fn no_server_ever_has_what_is_said_or_a_key() {
    let place = Place::new(&["alice", "bob"]);
    let marker = "violets-are-purple-7731";
    place.say("alice", marker);
    assert_eq!(place.texts("bob"), [marker]);
    place.good("alice", &["key", "rotate", "kitchen"]);
    let mut needles: Vec<(String, Vec<u8>)> = vec![("what was said".to_owned(), marker.into())];
    for epoch in [Epoch::FIRST, Epoch::new(2).unwrap()] {
        let key = place.room_key("bob", epoch).reveal();
        needles.push((format!("the key of epoch {epoch}"), key.to_vec()));
        needles.push((format!("that in hexadecimal digits, {epoch}"), data_encoding::HEXLOWER.encode(&key).into()));
        needles.push((format!("that in base64, {epoch}"), data_encoding::BASE64.encode(&key).into()));
    }
    let dir = place.daemon.dir.path();
    // What must be found shows that this looks in the right places: the name of the room, and alice's public key.
    let known = b"kitchen";
    let mut files = Vec::new();
    walk(&dir.join("local_files"), &mut files);
    walk(&dir.join("run"), &mut files);
    files.push(dir.join("log"));
    let mut found_known = 0;
    for file in &files {
        let content = std::fs::read(file).unwrap_or_default();
        found_known += usize::from(has(&content, known));
        for (what, needle) in &needles {
            assert!(!has(&content, needle), "{what} is in {}", file.display());
        }
    }
    assert!(found_known > 0, "{files:?}");
    for pid in [place.daemon.child.id(), place.daemon.engine_pid().unwrap()] {
        let memory = memory(pid);
        assert!(has(&memory, known), "the memory of {pid} was read");
        for (what, needle) in &needles {
            assert!(!has(&memory, needle), "{what} is in the memory of {pid}");
        }
    }
}

fn has(hay: &[u8], needle: &[u8]) -> bool {
    // Few places begin with the first byte of a key.
    let first = needle[0];
    hay.iter().enumerate().any(|(at, byte)| *byte == first && hay[at..].starts_with(needle))
}

fn walk(dir: &std::path::Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.is_file() {
            files.push(path);
        }
    }
}

/// All that a process can read of its own memory and has written there.
fn memory(pid: u32) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mem = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut all = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        if !rights.starts_with("rw") || line.ends_with("[vvar]") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        // What was never touched cannot be read, or is zero: page by page, so that the rest is.
        let mut page = [0; 4096];
        for at in (from..to).step_by(page.len()) {
            if mem.read_exact_at(&mut page, at).is_ok() && page.iter().any(|byte| *byte != 0) {
                all.extend_from_slice(&page);
            }
        }
    }
    all
}
