//! Tests of the view.

use serde::Serialize;

use super::fixtures::{Entry, member, only_claim, room, user};
use super::*;
use crate::domain::{MemberState, Policy, RoomRole, Space};

fn alice() -> User {
    user("alice", Role::Admin, State::Active)
}

fn put(view: &mut View, key: &str, value: &impl Serialize, revision: u64) -> Result<Change, Unreadable> {
    view.apply(Bucket::Users, key, &serde_json::to_vec(value).unwrap(), revision)
}

fn ids(rooms: &[&str]) -> BTreeSet<RoomId> {
    rooms.iter().map(|room| room.parse().unwrap()).collect()
}

#[test]
fn a_key_admits_only_where_claim_and_record_agree() {
    let alice = alice();
    let mallory = User { handle: "mallory".parse().unwrap(), ..alice.clone() };
    let mut view = View::default();
    put(&mut view, &user_key(&alice.handle), &alice, 1).unwrap();
    assert!(view.user_of_key(&alice.sign_pub).is_none(), "no claim yet");
    put(&mut view, &claim_key(&alice.sign_pub), &alice.handle, 2).unwrap();
    assert_eq!(view.user_of_key(&alice.sign_pub), Some(&alice));
    put(&mut view, &user_key(&mallory.handle), &mallory, 3).unwrap();
    assert_eq!(view.user_of_key(&alice.sign_pub), Some(&alice), "a second record with the key changes nothing");
}

#[test]
fn nonsense_is_an_error_and_not_skipped() {
    let kitchen = room("kitchen", "room.kitchen", Policy::CONVERSATION);
    let entries = [
        Entry::of(&Record::User(alice())),
        Entry::of(&Record::Room(kitchen.clone())),
        Entry::of(&Record::Claims(only_claim(&kitchen))),
        Entry::of(&Record::Membership(member("kitchen", "alice", RoomRole::Owner, MemberState::Joined))),
    ];
    let elsewhere = ["user.bob", "room.cellar", "claims.rpc", "member.kitchen.bob"];
    for (entry, elsewhere) in entries.into_iter().zip(elsewhere) {
        let mut view = View::default();
        let mut refused = |bucket, key: &str, value: &[u8]| {
            assert!(view.apply(bucket, key, value, 1).is_err(), "{key} in {}", bucket.name());
        };
        refused(entry.bucket, &entry.key, b"{}");
        refused(entry.bucket, &entry.key, b"");
        refused(entry.bucket, elsewhere, &entry.value);
        refused(entry.bucket, "unknown.kind", &entry.value);
        for other in Bucket::DECIDING.into_iter().filter(|bucket| *bucket != entry.bucket) {
            refused(other, &entry.key, &entry.value);
        }
        assert_eq!((view.users().count(), view.rooms().count()), (0, 0), "what is refused leaves no trace");
        assert!(view.apply(entry.bucket, &entry.key, &entry.value, 1).is_ok());
    }
    let swapped = Entry::of(&Record::Membership(member("cellar", "kitchen", RoomRole::Owner, MemberState::Joined)));
    assert!(View::default().apply(Bucket::Members, "member.kitchen.cellar", &swapped.value, 1).is_err());
}

#[test]
fn registers_of_load_and_heartbeats_decide_nothing() {
    let mut view = View::default();
    assert_eq!(view.apply(Bucket::Users, "probe.3", b"anything", 1).unwrap(), Change::None);
    for bucket in Bucket::DECIDING {
        let change = view.apply(bucket, "heartbeat.magnus", br#"{"boot":"b","round":3}"#, 1).unwrap();
        assert_eq!(
            change,
            Change::Heartbeat("magnus".into(), Heartbeat { boot: "b".into(), round: 3, alone: false, level: 1 })
        );
        assert!(view.concerned(&change).is_empty());
    }
    assert_eq!((view.users().count(), view.nodes().count()), (0, 1));
}

#[test]
fn every_record_is_found_with_its_last_revision() {
    let mut view = View::default();
    let kitchen = room("kitchen", "room.kitchen", Policy::CONVERSATION);
    let membership = member("kitchen", "alice", RoomRole::Reader, MemberState::Invited);
    let records = [
        Record::User(alice()),
        Record::Room(kitchen.clone()),
        Record::Claims(only_claim(&kitchen)),
        Record::Membership(membership.clone()),
    ];
    for record in &records {
        assert_eq!(view.revision(&record.key()), None);
    }
    for (revision, record) in (1..).zip(&records) {
        Entry::of(record).load(&mut view, revision);
        assert_eq!(view.revision(&record.key()), Some(revision), "{record:?}");
    }
    let joined = Membership { state: MemberState::Joined, ..membership };
    Entry::of(&Record::Membership(joined.clone())).load(&mut view, 9);
    assert_eq!(view.revision(&Record::Membership(joined.clone()).key()), Some(9));
    let (kitchen_id, handle) = (kitchen.id.clone(), joined.handle.clone());
    assert_eq!(view.membership(&kitchen_id, &handle), Some(&joined), "the old one is gone everywhere");
    assert_eq!(view.members(&kitchen_id).collect::<Vec<_>>(), [&joined]);
    assert_eq!(view.memberships(&handle).collect::<Vec<_>>(), [&joined]);
    assert_eq!((view.room(&kitchen_id), view.rooms().count()), (Some(&kitchen), 1));
    assert_eq!(view.claims(&Space::Room.into()), Some(&only_claim(&kitchen)));
    assert_eq!((view.user_revision(&handle), view.user(&handle)), (Some(1), Some(&alice())));
}

#[test]
fn memberships_stand_in_order_whatever_the_order_of_their_entries() {
    let mut view = View::default();
    for (revision, (room, handle)) in
        (1..).zip([("b", "y"), ("a", "z"), ("c", "x"), ("b", "x"), ("a", "x"), ("c", "z"), ("b", "z"), ("b", "y")])
    {
        let membership = member(room, handle, RoomRole::Member, MemberState::Joined);
        let change = Entry::of(&Record::Membership(membership)).load(&mut view, revision);
        assert_eq!(view.concerned(&change), HashSet::from([&handle.parse().unwrap()]));
    }
    let rooms = |handle: &str| {
        let handle = handle.parse().unwrap();
        view.memberships(&handle).map(|m| m.room.to_string()).collect::<Vec<_>>().concat()
    };
    let handles = |room: &str| {
        let room = room.parse().unwrap();
        view.members(&room).map(|m| m.handle.to_string()).collect::<Vec<_>>().concat()
    };
    assert_eq!([rooms("x"), rooms("y"), rooms("z"), rooms("w")], ["abc", "b", "abc", ""]);
    assert_eq!([handles("a"), handles("b"), handles("c"), handles("d")], ["xz", "xyz", "xz", ""]);
    assert!(view.membership(&"a".parse().unwrap(), &"y".parse().unwrap()).is_none());
    let changed = Change::Room("b".parse().unwrap());
    assert_eq!(view.concerned(&changed).len(), 3);
}

#[test]
fn claims_concern_the_rooms_that_win_or_lose_them() {
    let mut view = View::default();
    let none = Claims::none(Space::Room);
    let a = none.claim(&"room.a".parse().unwrap(), &"a".parse().unwrap()).unwrap();
    let a_and_b = a.claim(&"room.b".parse().unwrap(), &"b".parse().unwrap()).unwrap();
    let b_alone = a_and_b.release(&"room.a".parse().unwrap(), &"a".parse().unwrap());
    let a_to_c = b_alone.claim(&"room.a".parse().unwrap(), &"c".parse().unwrap()).unwrap();
    let steps: [(&Claims, &[&str]); 7] = [
        (&none, &[]),
        (&a, &["a"]),
        (&a_and_b, &["b"]),
        (&a_and_b, &[]),
        (&a_to_c, &["a", "c"]),
        (&b_alone, &["c"]),
        (&none, &["b"]),
    ];
    for (revision, (claims, rooms)) in (1..).zip(steps) {
        let change = Entry::of(&Record::Claims(claims.clone())).load(&mut view, revision);
        assert_eq!(change, Change::Claims(ids(rooms)), "{revision}");
    }
}

#[test]
fn a_level_that_this_release_cannot_do_is_refused_and_leaves_no_trace() {
    let mut view = View::default();
    assert_eq!(view.level(), FeatureLevel::Captured, "no entry");
    FeatureLevel::Captured.assume_highest();
    let mut refused = |value: &str| {
        let error = view.apply(Bucket::Rooms, LEVEL_KEY, value.as_bytes(), 1).unwrap_err().to_string();
        assert!(error.contains("install the release of the other nodes"), "{error}");
        assert_eq!((view.level(), view.applied(Bucket::Rooms)), (FeatureLevel::Captured, 0));
    };
    refused(r#"{"schema":1,"level":2}"#);
    refused(r#"{"schema":1,"level":3}"#);
    FeatureLevel::Kept.assume_highest();
    Entry::of(&Record::User(alice())).load(&mut view, 1);
    let raised = Entry::of(&Record::Level(LevelRecord::new(FeatureLevel::Kept))).load(&mut view, 2);
    assert_eq!((view.level(), view.revision(&RecordKey::Level)), (FeatureLevel::Kept, Some(2)));
    assert_eq!(view.concerned(&raised), HashSet::from([&alice().handle]), "rights may differ by level");
}

#[test]
fn a_heartbeat_says_what_its_process_can_do_and_older_ones_can_do_the_lowest_level() {
    let level = |value: &str| serde_json::from_str::<Heartbeat>(value).unwrap().level;
    assert_eq!(level(r#"{"boot":"b","round":3,"alone":true}"#), 1, "as release 0.1.0 writes it");
    assert_eq!(level(r#"{"boot":"b","round":3,"alone":true,"level":7,"of_the_future":1}"#), 7, "a later release");
}

#[test]
fn at_each_level_one_shape_of_claims_decides() {
    FeatureLevel::Kept.assume_highest();
    let (mut view, subject) = (View::default(), "room.kitchen".parse().unwrap());
    let old = Claims::none(Space::Room).claim(&subject, &"old".parse().unwrap()).unwrap();
    let small = Claims::none(ClaimsKey::small(&subject)).claim(&subject, &"new".parse().unwrap()).unwrap();
    Entry::of(&Record::Claims(old.clone())).load(&mut view, 1);
    Entry::of(&Record::Claims(small.clone())).load(&mut view, 2);
    assert_eq!(view.holder(&subject).map(RoomId::as_str), Some("old"));
    assert_eq!(view.all_claims().collect::<Vec<_>>(), [&old]);
    Entry::of(&Record::Level(LevelRecord::new(FeatureLevel::Kept))).load(&mut view, 3);
    assert_eq!(view.holder(&subject).map(RoomId::as_str), Some("new"));
    assert_eq!(view.all_claims().collect::<Vec<_>>(), [&small]);
    assert_eq!(view.claims_of_all_levels().count(), 2);
}
