//! Whatever happens to the records in whatever order: no connection goes on with a right that its user does not have, and
//! none is cut that has lost nothing.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::select;

use super::tests::put;
use super::*;
use unibus_core::domain::{
    Claims, MemberState, Policy, Record, Records, Role, Room, RoomRole, RoomState, Space, State, SubjectList, User,
};
use unibus_core::view::fixtures::{Entry, member, room, user};

const HANDLES: [&str; 3] = ["alice", "bob", "carol"];
const ROOMS: [&str; 3] = ["a", "b", "c"];
const SUBJECTS: [&str; 4] = ["room.x", "room.y", "rpc.x", "rpc.y"];

#[derive(Debug, Clone)]
enum Step {
    Write(Record),
    /// Claims a subject for a room, or releases it.
    Claim(&'static str, Option<&'static str>),
    Connect(&'static str),
    /// The connection that was made so many connections ago ends.
    End(usize),
    /// The view is loaded anew, without the last so many writes of before.
    Reload(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let policy = any::<[bool; 3]>().prop_map(|[encrypt, persist, sign]| Policy { encrypt, persist, sign });
    let written_room = (select(&ROOMS[..]), select(&SUBJECTS[..]), policy, prop::bool::weighted(0.8));
    let written_room = written_room.prop_map(|(id, subject, policy, active)| {
        let state = if active { RoomState::Active } else { RoomState::Removed };
        Step::Write(Record::Room(Room { state, ..room(id, subject, policy) }))
    });
    let (role, state) = (select(&RoomRole::ALL[..]), select(&[MemberState::Joined; 3][..]));
    let state = prop_oneof![2 => state, 1 => select(&MemberState::ALL[..])];
    let membership = (select(&ROOMS[..]), select(&HANDLES[..]), role, state);
    let membership = membership
        .prop_map(|(room, handle, role, state)| Step::Write(Record::Membership(member(room, handle, role, state))));
    let state = prop_oneof![4 => Just(State::Active), 1 => Just(State::Disabled), 1 => Just(State::Removed)];
    let admin = any::<bool>().prop_map(|admin| if admin { Role::Admin } else { Role::User });
    let written_user = (select(&HANDLES[..]), admin, state)
        .prop_map(|(handle, role, state)| Step::Write(Record::User(user(handle, role, state))));
    prop_oneof![
        2 => written_user,
        4 => written_room,
        8 => membership,
        4 => (select(&SUBJECTS[..]), prop::option::weighted(0.8, select(&ROOMS[..]))).prop_map(|(s, r)| Step::Claim(s, r)),
        8 => select(&HANDLES[..]).prop_map(Step::Connect),
        1 => (0..4usize).prop_map(Step::End),
        1 => (0..6usize).prop_map(Step::Reload),
    ]
}

/// All that a user may do on the bus, asked one by one.
fn rights(handle: &str, view: &View) -> BTreeSet<String> {
    let who = view.user(&handle.parse().unwrap());
    let mut rights = BTreeSet::new();
    if decide(who, Action::Connect, Resource::Bus, view).is_allow() {
        rights.insert("connect".to_owned());
    }
    for room in view.rooms() {
        let on_subject = [Action::Publish, Action::Subscribe, Action::PublishClear, Action::PublishUnsigned];
        for action in on_subject {
            if decide(who, action, Resource::Subject(&room.id, &room.subject), view).is_allow() {
                // The engine's rights are on subjects, whichever room they come from; the rest is the room's.
                let of = if matches!(action, Action::Publish | Action::Subscribe) {
                    room.subject.as_str()
                } else {
                    room.id.as_str()
                };
                rights.insert(format!("{action:?} {of}"));
            }
        }
        if decide(who, Action::Reply, Resource::Subject(&room.id, &room.subject), view).is_allow() {
            rights.extend(["answer".to_owned(), format!("answer {}", room.id)]);
        }
        let [publishes, subscribes] = [Action::Publish, Action::Subscribe]
            .map(|action| decide(who, action, Resource::Subject(&room.id, &room.subject), view).is_allow());
        if publishes && subscribes {
            rights.insert(format!("queue {}", room.subject));
        }
        if decide(who, Action::ReceiveEvents, Resource::Room(&room.id), view).is_allow() {
            rights.insert(format!("events {}", room.id));
        }
    }
    rights
}

fn within(given: &SubjectList, now: &SubjectList) -> bool {
    // What it has no right to hear it needs not be denied to hear in a queue.
    let matters = |denied: &&String| denied.strip_suffix(" >").is_none_or(|of| given.allow.iter().any(|has| has == of));
    given.allow.iter().all(|subject| now.allow.contains(subject))
        && now.deny.iter().filter(matters).all(|subject| given.deny.contains(subject))
}

/// A connection, as the test sees it.
struct Connection {
    handle: &'static str,
    permissions: Permissions,
    given: BTreeSet<String>,
    known: BTreeSet<String>,
}

struct World {
    gate: Gate,
    now: Instant,
    log: Vec<Entry>,
    claims: BTreeMap<Space, Claims>,
    connections: BTreeMap<ConnectionId, Connection>,
    next: ConnectionId,
}

impl World {
    fn new() -> Self {
        let start = Instant::now();
        let now = start + bus::AUTHORIZATION_TIMEOUT;
        let gate = Gate::new(BusAuth::Enforce, start);
        gate.renew(now);
        let claims = Space::ALL.map(|space| (space, Claims::none(space))).into();
        let mut world = Self { gate, now, log: vec![], claims, connections: BTreeMap::new(), next: 1 };
        for handle in HANDLES {
            let user: User = user(handle, Role::User, State::Active);
            world.write(Entry::claim(&user));
            world.write(Entry::of(&Record::User(user)));
        }
        world
    }

    fn write(&mut self, entry: Entry) -> Review {
        self.log.push(entry.clone());
        put(&self.gate, &entry, u64::try_from(self.log.len()).unwrap()).review
    }

    fn take(&mut self, step: Step) -> Review {
        match step {
            Step::Write(record) => self.write(Entry::of(&record)),
            Step::Claim(subject, room) => {
                let subject = subject.parse::<unibus_core::domain::Subject>().unwrap();
                let claims = self.claims.get_mut(&subject.space()).unwrap();
                let holder = claims.holder(&subject).cloned();
                let free = holder.map_or_else(|| claims.clone(), |holder| claims.release(&subject, &holder));
                *claims =
                    room.map_or_else(|| free.clone(), |room| free.claim(&subject, &room.parse().unwrap()).unwrap());
                let entry = Entry::of(&Record::Claims(claims.clone()));
                self.write(entry)
            }
            Step::Connect(handle) => {
                let key = user(handle, Role::User, State::Active).sign_pub;
                let id = self.next;
                let admitted = self.gate.admit(Some(key), id, self.now);
                let now = self.gate.view(|view| rights(handle, view));
                assert_eq!(admitted.is_ok(), now.contains("connect"), "{handle}");
                if let Ok(Admission { permissions }) = admitted {
                    self.next += 1;
                    self.connections.insert(id, Connection { handle, permissions, given: now.clone(), known: now });
                }
                Review::default()
            }
            Step::End(back) => {
                if let Some(id) = self.connections.keys().rev().nth(back).copied() {
                    self.connections.remove(&id);
                    self.gate.ended(id);
                }
                Review::default()
            }
            Step::Reload(without) => {
                // The users stay; otherwise nobody would ever come back.
                let kept = self.log.len().saturating_sub(without).max(2 * HANDLES.len());
                self.log.truncate(kept);
                let mut view = View::default();
                for (revision, entry) in (1..).zip(&self.log) {
                    entry.load(&mut view, revision);
                }
                for (space, claims) in &mut self.claims {
                    *claims = view.claims(&(*space).into()).cloned().unwrap_or_else(|| Claims::none(*space));
                }
                self.gate.replace_view(view)
            }
        }
    }

    fn check(&mut self, review: Review) {
        let (cut, gained): (BTreeSet<_>, BTreeSet<_>) =
            (review.cut.into_iter().collect(), review.gained.into_iter().collect());
        let mut expected = BTreeSet::new();
        let Self { gate, connections, .. } = self;
        connections.retain(|id, connection| {
            let handle: Handle = connection.handle.parse().unwrap();
            let now = gate.view(|view| rights(connection.handle, view));
            let lost = !connection.given.is_subset(&now);
            assert_eq!(cut.contains(id), lost, "{id} of {handle}: {:?} to {now:?}", connection.given);
            if lost {
                gate.ended(*id);
                return false;
            }
            let allowed = gate.view(|view| Permissions::of(view.user(&handle).unwrap(), view));
            assert!(within(&connection.permissions.publish, &allowed.publish), "{handle} publishes");
            assert!(within(&connection.permissions.subscribe, &allowed.subscribe), "{handle} subscribes");
            if !now.is_subset(&connection.known) {
                expected.insert(handle);
            }
            connection.known = now;
            true
        });
        assert_eq!(gained, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_connection_outlives_a_right_of_its_own(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            let review = world.take(step);
            world.check(review);
        }
    }
}
