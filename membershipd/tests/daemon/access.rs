//! Rooms and members as they stand in the buckets, and what stock NATS clients can do by them, on a running daemon.

use crate::common::Daemon;
use crate::common::nats::Client;
use serde_json::{Value, json};
use unibus_core::domain::{
    Author, Claims, MemberState, Membership, Policy, Record, Room, RoomRole, Space, Standing, Subject,
};
use unibus_core::view::record_key;

/// A daemon whose keys are known, so that the test can write into the buckets as the daemon does.
struct Bus {
    daemon: Daemon,
    control: Client,
}

impl Bus {
    fn start() -> Self {
        let daemon = Daemon::start_with_secrets(&["--store", "kv"]);
        let control = std::fs::read_to_string(daemon.dir.path().join("secrets/control.nk")).unwrap();
        let (control, answer) = Client::connect(&daemon, &control, "_INBOX");
        assert_eq!(answer["ok"], true, "{answer}");
        Self { daemon, control }
    }

    fn add_user(&self, handle: &str) -> String {
        let key = self.daemon.identity(handle);
        assert!(self.daemon.ask(&["user", "add", "--handle", handle, "--sign-pub", &key]).status.success());
        self.daemon.seed(handle)
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
            Record::Level(level) => json!(level),
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
        assert!(client.is_connected(), "{who} lost nothing");
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
