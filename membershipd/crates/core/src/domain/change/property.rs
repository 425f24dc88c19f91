//! Any sequence of commands, decided on older states too, against a store with compare-and-set.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::tests::{TERMS, as_room, create, done, handle, id};
use super::*;
use crate::domain::fixtures::Memory;
use crate::domain::user::Role;

const PEOPLE: [&str; 5] = ["root", "alice", "bob", "carol", "dave"];

fn any_role() -> impl Strategy<Value = RoomRole> {
    prop::sample::select(RoomRole::ALL.to_vec())
}

fn any_person() -> impl Strategy<Value = &'static str> {
    prop::sample::select(PEOPLE.to_vec())
}

fn any_room() -> impl Strategy<Value = RoomId> {
    prop::sample::select(vec!["kitchen", "kitchen", "kitchen", "cellar"]).prop_map(id)
}

/// What is done to a room as a whole.
fn any_command_on_rooms() -> impl Strategy<Value = Command> {
    let subject = || {
        let few = vec!["room.kitchen", "room.cellar", "room.kitchen.corner", "rpc.kitchen"];
        prop::sample::select(few).prop_map(|subject| subject.parse::<Subject>().unwrap())
    };
    let flags = || (any::<bool>(), any::<bool>(), any::<bool>());
    let policy = move || flags().prop_map(|(encrypt, persist, sign)| Policy { encrypt, persist, sign });
    prop_oneof![
        10 => (subject(), policy()).prop_map(|(subject, policy)| Command::CreateRoom(subject, policy)),
        20 => (subject(), policy()).prop_map(|(subject, policy)| Command::ChangeRoom(Some(subject), Some(policy), None)),
        1 => Just(Command::RemoveRoom),
    ]
}

fn any_command() -> impl Strategy<Value = Command> {
    let person = || any_person().prop_map(handle);
    prop_oneof![
        5 => any_command_on_rooms(),
        6 => (person(), any_role()).prop_map(|(handle, role)| Command::Invite(handle, role)),
        6 => Just(Command::Accept { keep_connections: false }),
        2 => Just(Command::Leave),
        4 => person().prop_map(Command::Remove),
        3 => person().prop_map(Command::Ban),
        2 => person().prop_map(Command::Unban),
        4 => (person(), any_role()).prop_map(|(handle, role)| Command::SetRole(handle, role)),
    ]
}

/// The record that a command leaves as it says, whatever was ordered before and has not landed yet.
fn settles(who: &str, room: &RoomId, command: &Command) -> Option<RecordKey> {
    let of = |handle: &Handle| Some(RecordKey::Membership(room.clone(), handle.clone()));
    match command {
        Command::Leave => of(&handle(who)),
        Command::Remove(handle) | Command::Ban(handle) | Command::SetRole(handle, _) => of(handle),
        Command::RemoveRoom | Command::ChangeRoom(..) => Some(RecordKey::Room(room.clone())),
        Command::CreateRoom(..) | Command::Invite(..) | Command::Accept { .. } | Command::Unban(_) => None,
    }
}

/// Makes the writes of a change that was decided on `seen`, as the store would: each only where its record is as it was, and
/// the memberships on which it rests too. Stops at the first conflict.
fn land(store: &mut Memory, seen: &Memory, change: &Change) -> bool {
    let same = |store: &Memory, key: &RecordKey| store.revision(key) == seen.revision(key);
    if !change.relies_on.iter().all(|key| same(store, key)) {
        return false;
    }
    for record in &change.writes {
        if !same(store, &record.key()) {
            return false;
        }
        store.put(record.clone());
    }
    true
}

/// By hand: what each command is known to take from those it concerns.
fn must_take(room: &RoomId, command: &Command, before: &Memory, change: &Change) -> bool {
    let was = |handle: &Handle| before.membership(room, handle).map(Membership::standing);
    match command {
        Command::CreateRoom(..) | Command::Invite(..) | Command::Accept { .. } | Command::Unban(_) => false,
        Command::Leave => change.writes.iter().any(|write| match write {
            Record::Membership(own) => was(&own.handle).is_some_and(|s| s.state.is_present()),
            _ => false,
        }),
        Command::Remove(handle) | Command::Ban(handle) => was(handle).is_some_and(|s| s.state.is_present()),
        Command::SetRole(handle, role) => was(handle).is_some_and(|s| s.state == MemberState::Joined && s.role > *role),
        Command::RemoveRoom => before.room(room).is_some_and(|room| room.state == RoomState::Active),
        Command::ChangeRoom(..) => {
            let (was, is) = (before.room(room).unwrap(), change.writes.iter().find_map(as_room).unwrap());
            let keys = was.policy.encrypt && !is.policy.encrypt;
            let history = was.policy.persist && !is.policy.persist;
            let clear = !was.policy.encrypt && is.policy.encrypt;
            let unsigned = !was.policy.sign && is.policy.sign;
            was.subject != is.subject || keys || history || clear || unsigned
        }
    }
}

/// Who is out is let in nowhere, and every room has an owner.
fn kept_out(memory: &Memory) -> Result<(), TestCaseError> {
    for room in memory.rooms() {
        for user in memory.users() {
            let standing = memory.membership(&room.id, &user.handle).map(Membership::standing);
            let out = standing.is_none_or(|s| !s.state.is_present());
            let subject = Resource::Subject(&room.id, &room.subject);
            for action in Action::ALL {
                for resource in
                    [Resource::Bus, Resource::Room(&room.id), Resource::Member(&room.id, &user.handle), subject]
                {
                    let allowed = decide(Some(user), action, resource, memory).is_allow();
                    let bus = resource == Resource::Bus
                        || user.role == Role::Admin && !matches!(resource, Resource::Subject(..));
                    let ended = room.state == RoomState::Removed && action == Action::RemoveRoom;
                    prop_assert!(!allowed || user.state == State::Active, "{:?} {:?}", user, action);
                    prop_assert!(!allowed || bus || !out, "{:?} is out of {:?}: {:?}", user, room, action);
                    prop_assert!(
                        !allowed || bus || ended || room.state == RoomState::Active,
                        "{:?} {:?}",
                        room,
                        action
                    );
                    let content = matches!(action, Action::ReadHistory | Action::ReadRoomKeys | Action::ReceiveEvents);
                    prop_assert!(!allowed || !content || !out, "{:?} is out of {:?}: {:?}", user, room, action);
                }
            }
        }
        let owned = memory.members(&room.id).any(|m| m.role == RoomRole::Owner && m.state == MemberState::Joined);
        let begun = memory.members(&room.id).next().is_some();
        prop_assert!(owned || !begun || room.state == RoomState::Removed, "{:?} has no owner", room);
    }
    Ok(())
}

/// No two rooms have subjects that overlap and are both heard by somebody.
fn heard_apart(memory: &Memory) -> Result<(), TestCaseError> {
    let hears = |room: &&Room| {
        let subject = Resource::Subject(&room.id, &room.subject);
        memory.users().any(|user| decide(Some(user), Action::Subscribe, subject, memory).is_allow())
    };
    let heard: Vec<_> = memory.rooms().filter(hears).collect();
    for (n, room) in heard.iter().enumerate() {
        prop_assert!(heard.iter().skip(n + 1).all(|other| !room.subject.overlaps(&other.subject)), "{:?}", heard);
    }
    Ok(())
}

/// Who does what to which room, on a state how many steps old, and how many releases may wait meanwhile.
type Step = (&'static str, RoomId, Command, usize, usize);

fn run(steps: Vec<Step>, check: fn(&Memory) -> Result<(), TestCaseError>) -> Result<(), TestCaseError> {
    let mut store = PEOPLE.iter().fold(Memory::default(), |memory, name| {
        memory.with_user(name, if *name == "root" { Role::Admin } else { Role::User })
    });
    done(&mut store, "alice", create("room.kitchen"));
    // Two owners, who may both want to go at once.
    store = store.with_member("kitchen", "bob", RoomRole::Owner, MemberState::Joined);
    let mut history = vec![store.clone()];
    // What was acknowledged last about a record by a command that takes something away, and when.
    let mut settled: BTreeMap<RecordKey, usize> = BTreeMap::new();
    // Subjects whose release is still to come; it may come late, when the room has gone back to one of them.
    let mut releases: Vec<(Subject, RoomId)> = Vec::new();
    for (who, room, command, age, late) in steps {
        let seen_at = history.len().saturating_sub(1 + age);
        let seen = history[seen_at].clone();
        let Ok(change) = change(seen.who(who), &room, &command, &seen, TERMS) else { continue };
        prop_assert_eq!(change.takes_away, must_take(&room, &command, &seen, &change), "{:?}", command);
        prop_assert!(change.must_fence() || !change.takes_away);
        let before = store.clone();
        let landed = land(&mut store, &seen, &change);
        releases.extend(change.release.clone().filter(|_| landed).map(|subject| (subject, room.clone())));
        if releases.len() > late {
            let (subject, room) = releases.remove(0);
            let claims = store.claims(&subject.space().into()).unwrap().release(&subject, &room);
            store.put(Record::Claims(claims));
        }
        for membership in store.all_memberships() {
            let was = before.membership(&membership.room, &membership.handle);
            if was == Some(membership) {
                continue;
            }
            let key = RecordKey::Membership(membership.room.clone(), membership.handle.clone());
            prop_assert!(
                settled.get(&key).is_none_or(|at| *at <= seen_at),
                "{:?} by a stale {:?}",
                membership,
                command
            );
            let was = was.map(|m| m.state);
            prop_assert!(was != Some(MemberState::Banned) || !membership.state.is_present());
            prop_assert!(was != Some(MemberState::Removed) || membership.state != MemberState::Joined);
        }
        for was in before.rooms() {
            let is = store.room(&was.id).unwrap();
            let at = settled.get(&RecordKey::Room(was.id.clone()));
            prop_assert!(is == was || at.is_none_or(|at| *at <= seen_at), "{:?} by a stale {:?}", is, command);
            prop_assert!(is.state == RoomState::Removed || was.state == RoomState::Active, "{:?} is back", is);
        }
        if let (true, Some(key)) = (landed, settles(who, &room, &command)) {
            settled.insert(key, history.len());
        }
        check(&store)?;
        history.push(store.clone());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 128, ..ProptestConfig::default() })]

    /// Commands are decided on states up to eight steps old and land late, or never whole.
    #[test]
    fn whatever_is_ordered_a_removal_stays(
        steps in prop::collection::vec((any_person(), any_room(), any_command(), 0..8usize, 0..3usize), 1..80),
    ) {
        run(steps, kept_out)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 128, ..ProptestConfig::default() })]

    /// One owner of two rooms moves them about, and releases come late.
    #[test]
    fn two_rooms_are_never_heard_in_one_place(
        steps in prop::collection::vec((Just("alice"), any_room(), any_command_on_rooms(), 0..3usize, 0..4usize), 1..80),
    ) {
        run(steps, heard_apart)?;
    }
}
