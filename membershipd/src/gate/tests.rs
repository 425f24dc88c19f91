//! Tests of the gate.

use super::*;
use unibus_core::domain::{Claims, MemberState, Membership, Policy, Record, Role, Room, RoomRole, Space, State, User};
use unibus_core::view::fixtures::{Entry, member, room, user};

/// Applies an entry.
pub(crate) fn put(gate: &Gate, entry: &Entry, revision: u64) -> Applied {
    gate.apply(entry.bucket, &entry.key, &entry.value, revision).unwrap()
}

const TELEMETRY: Policy = Policy::TELEMETRY;

/// A gate with users and rooms, and one connection for each user.
struct House {
    gate: Gate,
    now: Instant,
    revision: u64,
}

impl House {
    /// Connection 1 is alice's, 2 bob's, 3 carol's and 4 dave's. Alice owns the rooms `hall` and `sums`; bob is a member of
    /// both; carol is a reader of the hall, and dave in neither.
    fn new() -> Self {
        Self::bounded(EngineBounds::DEFAULT)
    }

    fn bounded(bounds: EngineBounds) -> Self {
        let start = Instant::now();
        let now = start + bus::AUTHORIZATION_TIMEOUT;
        let mut house = Self { gate: Gate::bounded(BusAuth::Enforce, bounds, start), now, revision: 0 };
        house.gate.renew(now);
        for handle in USERS {
            let user = user(handle, Role::User, State::Active);
            house.record(Record::User(user.clone()));
            house.entry(&Entry::claim(&user));
        }
        for claims in [claims(&[("room.hall", "hall")]), claims(&[("rpc.sums", "sums")])] {
            house.record(Record::Claims(claims));
        }
        house.record(Record::Room(hall()));
        house.record(Record::Room(room("sums", "rpc.sums", TELEMETRY)));
        for (room, handle, role) in [
            ("hall", "alice", RoomRole::Owner),
            ("sums", "alice", RoomRole::Owner),
            ("hall", "bob", RoomRole::Member),
            ("sums", "bob", RoomRole::Member),
            ("hall", "carol", RoomRole::Reader),
        ] {
            house.member(room, handle, role, MemberState::Joined);
        }
        for (id, handle) in (1..).zip(USERS) {
            house.connect(handle, id);
        }
        house
    }

    fn connect(&self, handle: &str, id: ConnectionId) {
        self.gate.admit(Some(user(handle, Role::User, State::Active).sign_pub), id, self.now).unwrap();
    }

    fn entry(&mut self, entry: &Entry) -> (Vec<ConnectionId>, Vec<String>) {
        self.revision += 1;
        said(put(&self.gate, entry, self.revision).review)
    }

    fn record(&mut self, record: Record) -> (Vec<ConnectionId>, Vec<String>) {
        self.entry(&Entry::of(&record))
    }

    fn member(
        &mut self,
        room: &str,
        handle: &str,
        role: RoomRole,
        state: MemberState,
    ) -> (Vec<ConnectionId>, Vec<String>) {
        self.record(Record::Membership(member(room, handle, role, state)))
    }
}

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];

fn hall() -> Room {
    room("hall", "room.hall", TELEMETRY)
}

fn claims(held: &[(&str, &str)]) -> Claims {
    let space = if held.iter().any(|(subject, _)| subject.starts_with("rpc.")) { Space::Rpc } else { Space::Room };
    held.iter().fold(Claims::none(space), |claims, (subject, room)| {
        claims.claim(&subject.parse().unwrap(), &room.parse().unwrap()).unwrap()
    })
}

fn said(review: Review) -> (Vec<ConnectionId>, Vec<String>) {
    let (mut cut, mut gained) = (review.cut, review.gained.iter().map(Handle::to_string).collect::<Vec<_>>());
    cut.sort_unstable();
    gained.sort_unstable();
    (cut, gained)
}

/// Nobody is cut, and these gained something.
fn gained(handles: &[&str]) -> (Vec<ConnectionId>, Vec<String>) {
    (vec![], handles.iter().map(ToString::to_string).collect())
}

/// These are cut, and nobody gained anything.
fn cut(connections: &[ConnectionId]) -> (Vec<ConnectionId>, Vec<String>) {
    (connections.to_vec(), vec![])
}

#[test]
fn nobody_is_admitted_without_lease_key_or_user() {
    let start = Instant::now();
    let later = start + bus::AUTHORIZATION_TIMEOUT;
    let user = user("alice", Role::User, State::Active);
    let gate = Gate::new(BusAuth::Enforce, start);
    let refusal = |key, now| gate.admit(key, 1, now).map(|_| ()).unwrap_err();
    assert_eq!(refusal(Some(user.sign_pub), start), Refusal::Closed(Closed::Mute));
    assert_eq!(refusal(Some(user.sign_pub), later), Refusal::Closed(Closed::NoLease));
    gate.renew(start);
    assert_eq!(refusal(None, later), Refusal::NoKey);
    assert_eq!(refusal(Some(user.sign_pub), later), Refusal::Denied(Denial::UnknownKey));
    put(&gate, &Entry::claim(&user), 1);
    put(&gate, &Entry::of(&Record::User(user.clone())), 2);
    assert!(gate.admit(Some(user.sign_pub), 1, later).is_ok());
    assert_eq!(refusal(Some(user.sign_pub), start + bus::LEASE), Refusal::Closed(Closed::NoLease));
}

#[test]
fn without_authentication_the_lease_still_counts() {
    let start = Instant::now();
    let gate = Gate::new(BusAuth::Off, start);
    let later = start + bus::AUTHORIZATION_TIMEOUT;
    assert_eq!(gate.admit(None, 1, later).map(|_| ()).unwrap_err(), Refusal::Closed(Closed::NoLease));
    gate.renew(later);
    assert!(gate.admit(None, 1, later).is_ok());
}

#[test]
fn an_admission_has_what_the_rooms_give() {
    let house = House::new();
    let admit = |handle| {
        let key = user(handle, Role::User, State::Active).sign_pub;
        house.gate.admit(Some(key), 9, house.now).unwrap().permissions
    };
    let (bob, carol, dave) = (admit("bob"), admit("carol"), admit("dave"));
    let has = |list: &[String], subject: &str| list.iter().any(|allowed| allowed == subject);
    assert!(has(&bob.publish.allow, "rpc.sums.>") && has(&bob.subscribe.allow, "room.hall"));
    assert!(has(&carol.subscribe.allow, "room.hall") && !has(&carol.publish.allow, "room.hall"));
    assert!(!has(&carol.subscribe.allow, "rpc.sums") && !has(&dave.subscribe.allow, "room.hall"));
}

#[test]
fn a_revocation_names_every_connection_admitted_before_it() {
    let mut house = House::new();
    house.connect("bob", 7);
    house.connect("bob", 8);
    house.gate.ended(8);
    let disabled = user("bob", Role::User, State::Disabled);
    assert_eq!(house.record(Record::User(disabled)), cut(&[2, 7]));
    assert_eq!(
        said(house.gate.replace_view(View::default())),
        cut(&[1, 2, 3, 4, 7]),
        "a view without users allows nobody"
    );
    house.gate.reconcile(&HashSet::from([3]), house.now + Duration::from_secs(60));
    assert_eq!(house.gate.admitted(), [3]);
    house.gate.engine_ended();
    assert_eq!(said(house.gate.replace_view(View::default())), cut(&[]));
}

#[test]
fn a_key_that_is_another_s_or_was_replaced_cuts() {
    let mut house = House::new();
    let [bob, carol] = ["bob", "carol"].map(|handle| user(handle, Role::User, State::Active));
    let replaced = User { sign_pub: user("new", Role::User, State::Active).sign_pub, ..bob };
    assert_eq!(house.entry(&Entry::claim(&replaced)), cut(&[]));
    assert_eq!(house.record(Record::User(replaced)), cut(&[2]));
    let stolen = User { handle: "dave".parse().unwrap(), ..carol };
    assert_eq!(house.entry(&Entry::claim(&stolen)), cut(&[3]));
}

#[test]
fn whoever_leaves_a_room_is_cut_and_nobody_else() {
    for state in [MemberState::Removed, MemberState::Banned, MemberState::Invited] {
        let mut house = House::new();
        assert_eq!(house.member("hall", "bob", RoomRole::Member, state), cut(&[2]), "{state:?}");
        assert_eq!(house.member("hall", "carol", RoomRole::Reader, state), cut(&[3]), "{state:?}");
        assert_eq!(
            house.member("hall", "dave", RoomRole::Reader, state),
            cut(&[]),
            "he has no right to lose: {state:?}"
        );
    }
}

#[test]
fn a_lower_role_cuts_where_it_takes_a_right() {
    let mut house = House::new();
    assert_eq!(house.member("hall", "bob", RoomRole::Reader, MemberState::Joined), cut(&[2]));
    assert_eq!(
        house.member("hall", "alice", RoomRole::Member, MemberState::Joined),
        cut(&[]),
        "the bus knows no owners"
    );
    assert_eq!(house.member("sums", "alice", RoomRole::Reader, MemberState::Joined), cut(&[1]));
}

#[test]
fn the_end_of_a_room_or_of_its_subject_cuts_its_members() {
    let by = || "alice".parse().unwrap();
    let mut house = House::new();
    assert_eq!(house.record(Record::Room(hall().removed(by()))), cut(&[1, 2, 3]));

    let mut house = House::new();
    assert_eq!(house.record(Record::Claims(claims(&[("room.hall", "hall"), ("room.new", "hall")]))), cut(&[]));
    let moved = Room { subject: "room.new".parse().unwrap(), ..hall() };
    assert_eq!(house.record(Record::Room(moved)), cut(&[1, 2, 3]));

    let mut house = House::new();
    assert_eq!(
        house.record(Record::Claims(claims(&[("room.hall", "other")]))),
        cut(&[1, 2, 3]),
        "the claim is another's"
    );
    let mut house = House::new();
    assert_eq!(house.record(Record::Claims(claims(&[("room.hall", "hall"), ("room.other", "other")]))), cut(&[]));
    let none = Claims::none(Space::Rpc);
    assert_eq!(house.record(Record::Claims(none)), cut(&[1, 2]), "the claim is nobody's");
}

#[test]
fn a_stricter_policy_cuts_those_who_write() {
    let with = |encrypt, persist, sign| Record::Room(Room { policy: Policy { encrypt, persist, sign }, ..hall() });
    let mut house = House::new();
    assert_eq!(house.record(with(false, true, false)), cut(&[]), "what is kept is asked of the API, each time anew");
    assert_eq!(house.record(with(false, false, false)), cut(&[]));
    assert_eq!(house.record(with(true, false, false)), cut(&[1, 2]), "no more messages in clear");
    assert_eq!(House::new().record(with(false, false, true)), cut(&[1, 2]), "no more unsigned ones");
}

#[test]
fn gains_cut_nobody_and_are_told_once() {
    let mut house = House::new();
    assert_eq!(house.member("hall", "dave", RoomRole::Reader, MemberState::Joined), gained(&["dave"]));
    let mut by_another = member("hall", "dave", RoomRole::Reader, MemberState::Joined);
    by_another.by = "bob".parse().unwrap();
    assert_eq!(house.record(Record::Membership(by_another)), gained(&[]), "nothing new");
    assert_eq!(house.member("hall", "dave", RoomRole::Member, MemberState::Joined), gained(&["dave"]));
    assert_eq!(house.member("hall", "dave", RoomRole::Member, MemberState::Removed), gained(&[]), "he never had it");
    assert_eq!(house.member("hall", "dave", RoomRole::Member, MemberState::Joined), gained(&["dave"]), "again");
    house.connect("dave", 5);
    assert_eq!(
        house.member("hall", "dave", RoomRole::Member, MemberState::Banned),
        cut(&[5]),
        "the old one never had it"
    );
    let admin = user("carol", Role::Admin, State::Active);
    assert_eq!(house.record(Record::User(admin)), gained(&[]), "the bus itself gives admins no more than others");

    let mut house = House::new();
    house.record(Record::Claims(claims(&[("room.hall", "hall"), ("room.attic", "attic")])));
    let attic: Vec<Membership> = USERS.map(|u| member("attic", u, RoomRole::Reader, MemberState::Joined)).into();
    for membership in attic {
        assert_eq!(house.record(Record::Membership(membership)), gained(&[]), "there is no such room yet");
    }
    assert_eq!(house.record(Record::Room(room("attic", "room.attic", TELEMETRY))), gained(&USERS));
}

#[test]
fn who_accepts_comes_back_with_the_room_unless_the_record_says_otherwise() {
    let accepted = |handle, reconnects| {
        let joined = member("hall", handle, RoomRole::Member, MemberState::Joined);
        Entry::of(&Record::Membership(Membership { reconnects, ..joined }))
    };
    let house = House::new();
    house.connect("dave", 5);
    let review = put(&house.gate, &accepted("dave", true), 100).review;
    let mut reconnect = review.reconnect.clone();
    reconnect.sort_unstable();
    assert_eq!((said(review), reconnect), (gained(&["dave"]), vec![4, 5]), "nobody is cut for it");
    house.gate.ended(4);
    house.connect("dave", 6);
    assert_eq!(put(&house.gate, &accepted("dave", true), 101).review.reconnect, [5], "6 has it");
    assert!(put(&house.gate, &accepted("alice", true), 102).review.reconnect.is_empty(), "she gains nothing");

    let house = House::new();
    assert!(put(&house.gate, &accepted("dave", false), 100).review.reconnect.is_empty());
}

#[test]
fn what_a_user_gained_reaches_every_connection_in_the_end() {
    let mut house = House::new();
    let later = house.now + Duration::from_secs(60);
    assert!(house.gate.outdated(house.now).is_empty());
    assert_eq!(house.member("hall", "dave", RoomRole::Reader, MemberState::Joined), gained(&["dave"]));
    house.connect("dave", 5);
    assert!(house.gate.outdated(later).is_empty());
    assert!(house.gate.outdated(later + bus::OUTDATED - Duration::from_secs(1)).is_empty());
    assert_eq!(house.gate.outdated(later + bus::OUTDATED), [4], "the later connection has the room");
    // What was taken back since is nothing to come back for.
    house.member("hall", "dave", RoomRole::Reader, MemberState::Removed);
    assert!(house.gate.outdated(later + 2 * bus::OUTDATED).is_empty());

    let many = 2 * u32::try_from(bus::OUTDATED_AT_ONCE).unwrap();
    let bounds = EngineBounds { connections_by_user: 2 * many, logins_by_user: 2 * many, ..EngineBounds::DEFAULT };
    let mut house = House::bounded(bounds);
    for id in 10..10 + u64::from(many) {
        house.connect("dave", id);
    }
    house.member("hall", "dave", RoomRole::Reader, MemberState::Joined);
    house.gate.outdated(later);
    assert_eq!(house.gate.outdated(later + bus::OUTDATED).len(), bus::OUTDATED_AT_ONCE, "not all in one moment");
}

#[test]
fn what_was_not_admitted_here_or_has_too_much_may_not_go_on() {
    let house = House::new();
    assert_eq!(house.gate.uncovered([1, 2, 77]), BTreeSet::from([77]), "nobody admitted 77");
    let disabled = user("bob", Role::User, State::Disabled);
    put(&house.gate, &Entry::of(&Record::User(disabled)), 100);
    assert_eq!(house.gate.uncovered([1, 2]), BTreeSet::from([2]));
    assert!(house.gate.has_admitted(1) && !house.gate.has_admitted(77));
}

#[test]
fn rooms_of_others_concern_nobody_else() {
    let mut house = House::new();
    house.record(Record::Claims(claims(&[("room.hall", "hall"), ("room.attic", "attic")])));
    let attic = room("attic", "room.attic", TELEMETRY);
    let writes = [
        Record::Room(attic.clone()),
        Record::Membership(member("attic", "erin", RoomRole::Owner, MemberState::Joined)),
        Record::Room(Room { policy: Policy::CONVERSATION, ..attic.clone() }),
        Record::Membership(member("attic", "erin", RoomRole::Owner, MemberState::Removed)),
        Record::Room(attic.removed("alice".parse().unwrap())),
        Record::Claims(claims(&[("room.hall", "hall")])),
        Record::User(user("erin", Role::User, State::Removed)),
    ];
    for write in writes {
        assert_eq!(house.record(write.clone()), cut(&[]), "{write:?}");
    }
}

#[test]
fn a_replaced_view_cuts_what_it_no_longer_allows() {
    let house = House::new();
    let mut view = View::default();
    let users: Vec<User> = USERS.map(|handle| user(handle, Role::User, State::Active)).into();
    let mut entries: Vec<Entry> = users.iter().map(Entry::claim).collect();
    entries.extend(users.iter().cloned().map(|user| Entry::of(&Record::User(user))));
    let members = [("alice", RoomRole::Owner), ("bob", RoomRole::Reader), ("dave", RoomRole::Reader)];
    entries.extend([Entry::of(&Record::Claims(claims(&[("room.hall", "hall")]))), Entry::of(&Record::Room(hall()))]);
    entries.extend(
        members.map(|(handle, role)| Entry::of(&Record::Membership(member("hall", handle, role, MemberState::Joined)))),
    );
    for entry in entries {
        entry.load(&mut view, 1);
    }
    // Alice lost her other room, bob that and his role, carol the room; dave gained it.
    assert_eq!(said(house.gate.replace_view(view)), (vec![1, 2, 3], vec!["dave".to_owned()]));
}

#[test]
fn a_user_has_so_many_connections_and_logins_and_takes_none_of_another() {
    let bounds = EngineBounds { connections_by_user: 3, logins_by_user: 2, ..EngineBounds::DEFAULT };
    let start = Instant::now();
    let now = start + bus::AUTHORIZATION_TIMEOUT;
    let gate = Gate::bounded(BusAuth::Enforce, bounds, start);
    gate.renew(now);
    let [alice, bob] = ["alice", "bob"].map(|handle| user(handle, Role::User, State::Active));
    for user in [&alice, &bob] {
        put(&gate, &Entry::of(&Record::User(user.clone())), 1);
        put(&gate, &Entry::claim(user), 2);
    }
    let admit = |user: &User, id, now| gate.admit(Some(user.sign_pub), id, now).map(drop);
    let full = |bound| Err(Refusal::Bound { handle: alice.handle.clone(), bound });
    // Those whose verdict is on its way count.
    (1..=3).for_each(|id| admit(&alice, id, now).unwrap());
    assert!(!gate.take_doubt());
    assert_eq!(admit(&alice, 4, now), full(Bound::Connections));
    assert!(gate.take_doubt() && !gate.take_doubt(), "some of them may have ended without a word");
    admit(&bob, 5, now).unwrap();
    gate.ended(2);
    admit(&alice, 6, now).unwrap();
    // What the engine does not list has ended, unless it is young.
    let later = now + bus::AUTHORIZATION_TIMEOUT * 5;
    gate.renew(later);
    gate.reconcile(&[1, 5].into(), later);
    assert_eq!(gate.owned([(1, 10), (3, 10), (5, 20)]), [(alice.handle.clone(), 1, 10), (bob.handle.clone(), 5, 20)]);
    (7..=8).for_each(|id| admit(&alice, id, later).unwrap());
    assert_eq!(admit(&alice, 9, later), full(Bound::Connections));
    let busy: Vec<_> = (10..30).map(|id| admit(&alice, id, later)).collect();
    assert_eq!(busy[19], full(Bound::Logins), "eight at once, two a second");
    admit(&bob, 31, later).unwrap();
    admit(&alice, 9, later + Duration::from_secs(1)).unwrap_err();
    assert_eq!(gate.met(&alice.handle, later), None, "nobody was told");
    assert!(gate.note_met(&alice.handle, Bound::Logins, later).user);
    assert_eq!(gate.met(&alice.handle, later), Some(Bound::Logins));
}
