//! Rooms and members as they stand in the buckets, and what stock NATS clients can do by them, on a running daemon.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use common::{Daemon, Dir, own_address};
use membershipd::domain::{
    Author, Claims, MemberState, Membership, Policy, Record, Room, RoomRole, Space, Standing, Subject,
};
use membershipd::view::record_key;
use nkeys::{KeyPair, XKey};
use serde_json::{Value, json};

/// nats-py, driven line by line.
struct Client {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Client {
    /// Connects with the seed; how it went is the answer.
    fn connect(daemon: &Daemon, seed: &str, inbox: &str) -> (Self, Value) {
        let packages = std::env::var_os("UNIBUS_TEST_PYTHON").map(PathBuf::from);
        let packages = packages.expect("UNIBUS_TEST_PYTHON names no packages; remedy: cargo xtask test sets it");
        let mut process = Command::new("python3")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../xtask/tests/clients/nats_client.py"))
            .env("PYTHONPATH", packages)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (commands, answers) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        let mut client = Self { process, commands, answers };
        let url = format!("nats://{}:4250", daemon.address);
        let answer = client.say(json!({ "op": "connect", "url": url, "ca": null, "seed": seed, "inbox": inbox }));
        (client, answer)
    }

    fn say(&mut self, command: Value) -> Value {
        writeln!(self.commands, "{command}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("the client ended at {command}"))
    }

    fn publish(&mut self, subject: &str, data: &str) -> bool {
        self.say(json!({ "op": "publish", "subject": subject, "data": data }))["ok"] == true
    }

    fn subscribe(&mut self, subject: &str) -> bool {
        self.say(json!({ "op": "subscribe", "subject": subject }))["ok"] == true
    }

    /// The messages so far, at least `count` of them.
    fn received(&mut self, count: usize) -> Vec<(String, String)> {
        let answer = self.say(json!({ "op": "wait_received", "count": count, "timeout": 10 }));
        assert_eq!(answer["ok"], true, "not {count} messages: {answer}");
        serde_json::from_value(answer["received"].clone()).unwrap()
    }

    fn is_closed_within(&mut self, seconds: u64) -> bool {
        self.say(json!({ "op": "wait_closed", "timeout": seconds }))["ok"] == true
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A daemon whose keys are known, so that the test can write into the buckets as the daemon does.
struct Bus {
    daemon: Daemon,
    control: Client,
}

impl Bus {
    fn start() -> Self {
        let dir = Dir::new();
        let control = KeyPair::new_user().seed().unwrap();
        dir.write("secrets/issuer.nk", &KeyPair::new_account().seed().unwrap(), 0o600);
        dir.write("secrets/xkey.nk", &XKey::new().seed().unwrap(), 0o600);
        dir.write("secrets/control.nk", &control, 0o600);
        for name in ["callout", "system", "bus"] {
            dir.write(&format!("secrets/{name}.nk"), &KeyPair::new_user().seed().unwrap(), 0o600);
        }
        let daemon = Daemon::launch(dir, own_address(), &["--secrets-dir", "secrets"]);
        daemon.wait_for_lease();
        let (control, answer) = Client::connect(&daemon, &control, "_INBOX");
        assert_eq!(answer["ok"], true, "{answer}");
        Self { daemon, control }
    }

    fn add_user(&self, handle: &str) -> String {
        let key = self.daemon.identity(handle);
        assert!(self.daemon.ask(&["user", "add", "--handle", handle, "--sign-pub", &key]).status.success());
        let text = std::fs::read_to_string(self.daemon.dir.path().join(format!("{handle}.toml"))).unwrap();
        let seed = text.lines().find_map(|line| line.strip_prefix("sign = \"")).unwrap();
        seed.trim_end_matches('"').to_owned()
    }

    fn connect(&self, seed: &str, handle: &str) -> Client {
        let (client, answer) = Client::connect(&self.daemon, seed, &format!("_INBOX.{handle}"));
        assert_eq!(answer["ok"], true, "{handle}: {answer}\n{}", self.daemon.log());
        client
    }

    fn write(&mut self, record: Record) {
        let (bucket, key) = record_key(&record.key());
        let value = match record {
            Record::User(user) => json!(user),
            Record::Claims(claims) => json!(claims),
            Record::Room(room) => json!(room),
            Record::Membership(membership) => json!(membership),
        };
        let subject = format!("{}{key}", bucket.key_prefix());
        // Asked for, not only sent: the bucket says that it has it.
        let answer = self.control.say(json!({ "op": "request", "subject": subject, "data": value.to_string() }));
        assert_eq!(answer["ok"], true, "{subject}: {answer}");
        assert!(!answer["data"].as_str().unwrap().contains("error"), "{subject}: {answer}");
    }

    fn member(&mut self, handle: &str, role: RoomRole, state: MemberState) {
        let standing = Standing { role, state };
        let membership = Membership::new("hall".parse().unwrap(), handle.parse().unwrap(), standing, author());
        self.write(Record::Membership(membership));
    }
}

fn author() -> Author {
    "alice".parse().unwrap()
}

#[test]
fn members_use_their_room_until_their_record_is_gone() {
    let mut bus = Bus::start();
    let [alice, carol, dave] = ["alice", "carol", "dave"].map(|handle| bus.add_user(handle));
    let subject: Subject = "room.hall".parse().unwrap();
    let hall = Room::new("hall".parse().unwrap(), subject.clone(), Policy::CONVERSATION, author());
    bus.write(Record::Claims(Claims::none(Space::Room).claim(&subject, &hall.id).unwrap()));
    bus.write(Record::Room(hall));
    bus.member("alice", RoomRole::Member, MemberState::Joined);

    // Dave connects before he is in the room, and learns that to connect anew is worth it.
    let mut stranger = bus.connect(&dave, "dave");
    assert!(!stranger.subscribe("room.hall") && !stranger.subscribe("room.>") && !stranger.publish("room.hall", "x"));
    assert!(stranger.subscribe("unibus.user.dave.>") && !stranger.subscribe("unibus.event.hall"));
    bus.daemon.wait("right of alice", || {
        let mut probe = bus.connect(&alice, "alice");
        probe.subscribe("room.hall")
    });
    let mut member = bus.connect(&alice, "alice");
    assert!(member.subscribe("room.hall") && member.subscribe("room.hall.>") && member.subscribe("unibus.event.hall"));

    bus.member("carol", RoomRole::Reader, MemberState::Joined);
    let (subject, event) = member.received(1).remove(0);
    let event: Value = serde_json::from_str(&event).unwrap();
    let told = (&event["event"], &event["handle"], &event["role"], &event["state"]);
    let carol_joined = (&json!("membership_changed"), &json!("carol"), &json!("reader"), &json!("joined"));
    assert_eq!((subject.as_str(), told), ("unibus.event.hall", carol_joined), "{event}");

    let mut reader = bus.connect(&carol, "carol");
    assert!(reader.subscribe("room.hall") && !reader.publish("room.hall", "x") && !reader.publish("room.hall.x", "x"));
    assert!(!member.publish("unibus.event.hall", "forged") && !member.publish("unibus.user.dave.rights", "forged"));
    assert!(member.publish("room.hall", "hello") && member.publish("room.hall.door", "knock"));
    assert_eq!(reader.received(1), [("room.hall".to_owned(), "hello".to_owned())]);

    // Who gains is told and not cut; who loses is cut, and nobody else.
    bus.member("dave", RoomRole::Reader, MemberState::Joined);
    let (subject, event) = stranger.received(1).remove(0);
    let event: Value = serde_json::from_str(&event).unwrap();
    assert_eq!(
        (subject.as_str(), &event["event"], &event["room"]),
        ("unibus.user.dave.rights", &json!("rights_gained"), &json!("hall"))
    );
    let mut dave_again = bus.connect(&dave, "dave");
    assert!(dave_again.subscribe("room.hall"), "the event came when a new connection had the right");

    bus.member("alice", RoomRole::Member, MemberState::Removed);
    assert!(member.is_closed_within(5), "{}", bus.daemon.log());
    let mut member = bus.connect(&alice, "alice");
    assert!(!member.subscribe("room.hall") && !member.publish("room.hall", "x"), "not by a new connection either");
    assert_eq!(reader.received(1).len(), 1, "nothing came after it");
    for (client, who) in [(&mut reader, "carol"), (&mut stranger, "dave"), (&mut dave_again, "dave")] {
        assert!(client.say(json!({ "op": "state" }))["connected"] == true, "{who} lost nothing");
    }
    bus.member("carol", RoomRole::Reader, MemberState::Banned);
    assert!(reader.is_closed_within(5), "{}", bus.daemon.log());
    assert!(bus.daemon.status().unwrap()["lease"]["valid"] == true);

    // A record that cannot be read is no reason to guess.
    bus.control.publish("$KV.UNIBUS_members.member.hall.erin", "{\"schema\":2}");
    bus.daemon.wait("end of the lease", || bus.daemon.status().is_some_and(|s| s["lease"]["valid"] == false));
    assert!(bus.daemon.log().contains("member.hall.erin"), "{}", bus.daemon.log());
    assert!(stranger.is_closed_within(5), "no proof, no access");
}
