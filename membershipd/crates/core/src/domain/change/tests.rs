//! Commands by example.

use super::*;
use crate::domain::claims::ClaimError;
use crate::domain::fixtures::{Memory, membership, user};
use crate::domain::level::LevelRecord;
use crate::domain::subject::Space;
use crate::domain::user::Role;
use MemberState::{Banned, Invited, Joined, Removed};

pub(super) const TERMS: Terms = Terms { encrypted_only: false, quota: NO_QUOTA, keeping: Keeping::DEFAULT };
const NO_QUOTA: Quota = Quota { rooms: u32::MAX, persisting: u32::MAX, removed: u32::MAX };

pub(super) fn id(text: &str) -> RoomId {
    text.parse().unwrap()
}

pub(super) fn handle(text: &str) -> Handle {
    text.parse().unwrap()
}

/// A kitchen with one of each role, an admin and a stranger outside.
fn house() -> Memory {
    Memory::default()
        .with_user("root", Role::Admin)
        .with_user("alice", Role::User)
        .with_user("mod", Role::User)
        .with_user("bob", Role::User)
        .with_user("carol", Role::User)
        .with_user("dave", Role::User)
        .with_room("kitchen", "room.kitchen", Policy::CONVERSATION)
        .with_member("kitchen", "alice", RoomRole::Owner, Joined)
        .with_member("kitchen", "mod", RoomRole::Moderator, Joined)
        .with_member("kitchen", "bob", RoomRole::Member, Joined)
        .with_member("kitchen", "carol", RoomRole::Reader, Joined)
}

fn attempt_in(memory: &Memory, who: &str, room: &str, command: &Command) -> Result<Change, Refusal> {
    change(memory.who(who), &id(room), command, memory, TERMS)
}

fn apply(memory: &mut Memory, change: &Change) {
    change.writes.iter().cloned().for_each(|record| memory.put(record));
    if let (Some(subject), Some(room)) = (&change.release, change.writes.iter().find_map(as_room)) {
        let claims = memory.claims(&subject.space().into()).unwrap().release(subject, &room.id);
        memory.put(Record::Claims(claims));
    }
}

pub(super) fn as_room(record: &Record) -> Option<&Room> {
    if let Record::Room(room) = record { Some(room) } else { None }
}

fn done_in(memory: &mut Memory, who: &str, room: &str, command: Command) -> Change {
    let change = attempt_in(memory, who, room, &command);
    let change = change.unwrap_or_else(|refusal| panic!("{who}: {command:?}: {refusal}"));
    apply(memory, &change);
    change
}

fn refused_in(memory: &Memory, who: &str, room: &str, command: Command) -> Refusal {
    attempt_in(memory, who, room, &command).expect_err("must be refused")
}

fn attempt(memory: &Memory, who: &str, command: &Command) -> Result<Change, Refusal> {
    attempt_in(memory, who, "kitchen", command)
}

pub(super) fn done(memory: &mut Memory, who: &str, command: Command) -> Change {
    done_in(memory, who, "kitchen", command)
}

fn refused(memory: &Memory, who: &str, command: Command) -> Refusal {
    refused_in(memory, who, "kitchen", command)
}

fn standing(memory: &Memory, who: &str) -> Option<(RoomRole, MemberState)> {
    memory.membership(&id("kitchen"), &handle(who)).map(|m| (m.role, m.state))
}

pub(super) fn create(subject: &str) -> Command {
    Command::CreateRoom(subject.parse().unwrap(), Policy::CONVERSATION)
}

fn invite(who: &str, role: RoomRole) -> Command {
    Command::Invite(handle(who), role)
}

fn remove(who: &str) -> Command {
    Command::Remove(handle(who))
}

fn ban(who: &str) -> Command {
    Command::Ban(handle(who))
}

fn unban(who: &str) -> Command {
    Command::Unban(handle(who))
}

fn set_role(who: &str, role: RoomRole) -> Command {
    Command::SetRole(handle(who), role)
}

fn move_to(subject: &str) -> Command {
    Command::ChangeRoom(Some(subject.parse().unwrap()), None, None)
}

#[test]
fn a_new_room_is_a_claim_a_record_and_an_owner_in_that_order() {
    let mut memory = house();
    let made = done_in(&mut memory, "dave", "cellar", create("room.cellar"));
    let keys: Vec<_> = made.writes.iter().map(Record::key).collect();
    let membership = RecordKey::Membership(id("cellar"), handle("dave"));
    assert_eq!(keys, [RecordKey::Claims(Space::Room.into()), RecordKey::Room(id("cellar")), membership]);
    assert!(!made.must_fence());
    assert_eq!(memory.membership(&id("cellar"), &handle("dave")).unwrap().role, RoomRole::Owner);
    assert!(
        done_in(&mut memory, "dave", "cellar", create("room.cellar")).writes.is_empty(),
        "the same again is done already"
    );

    assert_eq!(refused_in(&memory, "bob", "cellar", create("room.cellar")), Refusal::RoomExists(id("cellar")));
    assert_eq!(refused_in(&memory, "dave", "cellar", create("room.other")), Refusal::RoomExists(id("cellar")));
    for taken in ["room.cellar", "room.cellar.wine"] {
        assert!(matches!(
            refused_in(&memory, "bob", "wine", create(taken)),
            Refusal::Claim(ClaimError::Overlap { .. })
        ));
    }
}

#[test]
fn a_creation_that_was_cut_short_is_harmless_and_completed_by_repeating_it() {
    let whole = attempt_in(&house(), "dave", "cellar", &create("room.cellar")).unwrap().writes;
    for cut in 0..whole.len() {
        let mut memory = house();
        whole.iter().take(cut).cloned().for_each(|record| memory.put(record));
        let subject = "room.cellar".parse().unwrap();
        let publish = |memory: &Memory| {
            let dave = memory.who("dave");
            decide(dave, Action::Publish, Resource::Subject(&id("cellar"), &subject), memory).is_allow()
        };
        assert!(!publish(&memory), "half a room is none, after {cut} writes");
        done_in(&mut memory, "dave", "cellar", create("room.cellar"));
        assert!(publish(&memory), "after {cut} writes");
    }
}

#[test]
fn who_made_a_room_and_left_does_not_come_back_by_making_it() {
    let mut memory = house();
    done_in(&mut memory, "dave", "kitchen2", create("room.kitchen2"));
    let room = id("kitchen2");
    done_in(&mut memory, "dave", "kitchen2", invite("bob", RoomRole::Owner));
    done_in(&mut memory, "bob", "kitchen2", Command::Accept { keep_connections: false });
    done_in(&mut memory, "dave", "kitchen2", Command::Leave);
    assert!(done_in(&mut memory, "dave", "kitchen2", create("room.kitchen2")).writes.is_empty());
    assert_eq!(memory.membership(&room, &handle("dave")).unwrap().state, Removed);
}

#[test]
fn a_moved_room_keeps_its_old_claim_until_the_release() {
    let mut memory = house();
    let moved = attempt(&memory, "alice", &move_to("rpc.kitchen")).unwrap();
    assert!(moved.must_fence());
    assert_eq!(moved.release, Some("room.kitchen".parse().unwrap()));
    moved.writes.iter().cloned().for_each(|record| memory.put(record));
    let taken = refused_in(&memory, "dave", "new", create("room.kitchen.corner"));
    assert!(matches!(taken, Refusal::Claim(ClaimError::Overlap { .. })), "old members may still be listening there");
    apply(&mut memory, &moved);
    done_in(&mut memory, "dave", "new", create("room.kitchen.corner"));
    assert!(matches!(refused(&memory, "bob", move_to("room.x")), Refusal::Denied(Denial::RoleTooLow)));
    assert!(matches!(refused(&memory, "root", move_to("room.x")), Refusal::Denied(Denial::NotMember)));
}

#[test]
fn a_removed_room_stays_removed() {
    let mut memory = house();
    let removed = done(&mut memory, "alice", Command::RemoveRoom);
    assert!(removed.takes_away);
    let again = done(&mut memory, "root", Command::RemoveRoom);
    assert!(
        !again.takes_away && again.repeats && again.must_fence(),
        "the first attempt may not have come to its fence"
    );
    assert_eq!(memory.room(&id("kitchen")).unwrap().by, "alice".parse().unwrap());
    assert_eq!(refused_in(&memory, "alice", "kitchen", create("room.kitchen")), Refusal::RoomRemoved(id("kitchen")));
    for command in [
        invite("dave", RoomRole::Reader),
        Command::Accept { keep_connections: false },
        remove("bob"),
        move_to("room.x"),
    ] {
        assert_eq!(refused(&memory, "alice", command), Refusal::Denied(Denial::RoomRemoved));
    }
    done_in(&mut memory, "dave", "new", create("room.kitchen"));
}

#[test]
fn accepting_ends_connections_unless_they_are_to_be_kept_or_an_older_release_may_read_it() {
    let accepted = |level, keep_connections| {
        let mut memory = house();
        memory.put(Record::Level(LevelRecord::new(level)));
        done(&mut memory, "mod", invite("dave", RoomRole::Reader));
        match done(&mut memory, "dave", Command::Accept { keep_connections }).writes.as_slice() {
            [Record::Membership(membership)] => membership.reconnects,
            other => panic!("{other:?}"),
        }
    };
    assert!(accepted(FeatureLevel::Kept, false));
    assert!(!accepted(FeatureLevel::Kept, true) && !accepted(FeatureLevel::Captured, false));
}

#[test]
fn an_invitation_is_accepted_declined_taken_back_or_changed() {
    let mut memory = house();
    let asked = done(&mut memory, "mod", invite("dave", RoomRole::Reader));
    assert!(!asked.must_fence());
    assert!(asked.relies_on.contains(&RecordKey::Membership(id("kitchen"), handle("mod"))));
    assert!(done(&mut memory, "mod", invite("dave", RoomRole::Reader)).writes.is_empty());
    done(&mut memory, "mod", invite("dave", RoomRole::Member));
    assert_eq!(standing(&memory, "dave"), Some((RoomRole::Member, Invited)));
    assert!(!done(&mut memory, "dave", Command::Accept { keep_connections: false }).must_fence());
    assert_eq!(standing(&memory, "dave"), Some((RoomRole::Member, Joined)));
    assert!(done(&mut memory, "dave", Command::Accept { keep_connections: false }).writes.is_empty());
    assert_eq!(refused(&memory, "mod", invite("dave", RoomRole::Reader)), Refusal::AlreadyJoined(handle("dave")));
    assert!(done(&mut memory, "dave", Command::Leave).takes_away);
    assert_eq!(
        refused(&memory, "dave", Command::Accept { keep_connections: false }),
        Refusal::Denied(Denial::NotInvited)
    );

    for (who, command) in [("mod", remove("dave")), ("dave", Command::Leave)] {
        done(&mut memory, "mod", invite("dave", RoomRole::Member));
        done(&mut memory, who, command);
        assert_eq!(
            refused(&memory, "dave", Command::Accept { keep_connections: false }),
            Refusal::Denied(Denial::NotInvited)
        );
    }
    assert_eq!(refused(&memory, "mod", invite("nobody", RoomRole::Reader)), Refusal::NoSuchUser(handle("nobody")));
    assert_eq!(refused(&memory, "mod", invite("dave", RoomRole::Owner)), Refusal::Denied(Denial::Outranked));
    memory.put(Record::User(user("dave", Role::User, State::Disabled)));
    assert_eq!(refused(&memory, "mod", invite("dave", RoomRole::Reader)), Refusal::UserInactive(handle("dave")));
}

#[test]
fn a_ban_holds_until_it_is_lifted() {
    let mut memory = house();
    assert!(done(&mut memory, "mod", ban("bob")).takes_away);
    assert_eq!(refused(&memory, "alice", invite("bob", RoomRole::Member)), Refusal::Banned(handle("bob")));
    assert_eq!(refused(&memory, "alice", set_role("bob", RoomRole::Member)), Refusal::Banned(handle("bob")));
    assert_eq!(refused(&memory, "bob", Command::Accept { keep_connections: false }), Refusal::Denied(Denial::Banned));
    assert!(done(&mut memory, "alice", remove("bob")).must_fence());
    assert_eq!(standing(&memory, "bob"), Some((RoomRole::Member, Banned)), "a removal does not lift it");
    assert!(!done(&mut memory, "mod", unban("bob")).must_fence());
    assert_eq!(standing(&memory, "bob"), Some((RoomRole::Member, Removed)));
    assert!(done(&mut memory, "mod", unban("bob")).writes.is_empty());
    assert_eq!(refused(&memory, "mod", unban("carol")), Refusal::NotBanned(handle("carol")));
    done(&mut memory, "mod", ban("dave"));
    assert_eq!(standing(&memory, "dave"), Some((RoomRole::Reader, Banned)), "before he was ever in it");
}

#[test]
fn moderators_stand_above_members_only_and_owners_above_all() {
    let mut memory = house().with_member("kitchen", "dave", RoomRole::Moderator, Joined);
    for target in ["alice", "dave"] {
        for command in [remove(target), ban(target), set_role(target, RoomRole::Reader)] {
            assert_eq!(refused(&memory, "mod", command), Refusal::Denied(Denial::Outranked), "{target}");
        }
    }
    assert_eq!(refused(&memory, "mod", set_role("bob", RoomRole::Moderator)), Refusal::Denied(Denial::Outranked));
    assert_eq!(refused(&memory, "mod", remove("mod")), Refusal::Denied(Denial::Oneself));
    assert_eq!(refused(&memory, "bob", remove("carol")), Refusal::Denied(Denial::RoleTooLow));
    assert!(!done(&mut memory, "mod", set_role("carol", RoomRole::Member)).must_fence());
    assert!(done(&mut memory, "mod", set_role("bob", RoomRole::Reader)).takes_away);
    done(&mut memory, "alice", set_role("dave", RoomRole::Owner));
    assert!(done(&mut memory, "dave", remove("alice")).takes_away, "an owner can be removed, by an owner");
    assert_eq!(refused(&memory, "dave", set_role("alice", RoomRole::Owner)), Refusal::NotPresent(handle("alice")));
    done(&mut memory, "dave", ban("mod"));
    let lower = memory.with_member("kitchen", "bob", RoomRole::Moderator, Joined);
    assert_eq!(
        refused(&lower, "bob", unban("mod")),
        Refusal::Denied(Denial::Outranked),
        "a moderator's ban is the owner's"
    );
}

#[test]
fn the_last_owner_stays() {
    let mut memory = house();
    let last = Refusal::LastOwner(handle("alice"));
    assert_eq!(refused(&memory, "alice", Command::Leave), last);
    assert_eq!(refused(&memory, "alice", set_role("alice", RoomRole::Member)), last);
    for command in [remove("alice"), ban("alice")] {
        assert_eq!(refused(&memory, "root", command), last, "not even by an admin");
    }
    done(&mut memory, "alice", set_role("bob", RoomRole::Owner));
    let left = attempt(&memory, "alice", &Command::Leave).unwrap();
    let bob = RecordKey::Membership(id("kitchen"), handle("bob"));
    assert!(left.relies_on.contains(&bob), "both could leave at once otherwise: {:?}", left.relies_on);
    memory.put(Record::User(user("bob", Role::User, State::Disabled)));
    assert_eq!(refused(&memory, "alice", Command::Leave), last, "who is disabled owns nothing that moves");
}

#[test]
fn an_admin_ends_things_and_does_not_get_in() {
    let mut memory = house();
    for command in [
        invite("root", RoomRole::Reader),
        invite("dave", RoomRole::Reader),
        Command::Accept { keep_connections: false },
        move_to("room.x"),
    ] {
        assert!(matches!(refused(&memory, "root", command), Refusal::Denied(_)));
    }
    for role in RoomRole::ALL {
        for target in ["root", "bob"] {
            assert!(
                matches!(refused(&memory, "root", set_role(target, role)), Refusal::Denied(_)),
                "{target} {role:?}"
            );
        }
    }
    done(&mut memory, "root", remove("bob"));
    done(&mut memory, "root", ban("carol"));
    done(&mut memory, "root", unban("carol"));
    memory.put(Record::User(user("alice", Role::User, State::Removed)));
    assert!(matches!(refused(&memory, "root", set_role("root", RoomRole::Owner)), Refusal::Denied(_)));
    assert!(matches!(refused(&memory, "root", set_role("bob", RoomRole::Owner)), Refusal::Denied(_)), "not in it");
    done(&mut memory, "root", set_role("mod", RoomRole::Owner));
    assert!(matches!(refused(&memory, "root", set_role("mod", RoomRole::Member)), Refusal::Denied(_)));
    done(&mut memory, "root", Command::RemoveRoom);
}

#[test]
fn a_removal_always_writes_and_always_fences() {
    for taking in [remove("bob"), ban("bob"), set_role("bob", RoomRole::Member), move_to("room.kitchen")] {
        let mut memory = house();
        for _ in 0..2 {
            let change = done(&mut memory, "alice", taking.clone());
            assert!(!change.writes.is_empty() && change.must_fence(), "{taking:?}");
        }
    }
    let mut memory = house();
    let never_in = done(&mut memory, "alice", remove("dave"));
    assert_eq!(never_in.writes.len(), 1, "an invitation that is still under way must not land afterwards");
    assert_eq!(standing(&memory, "dave"), Some((RoomRole::Reader, Removed)));
    assert!(done(&mut memory, "alice", ban("dave")).must_fence(), "the removal may not have come to its fence");
    assert_eq!(refused(&memory, "alice", remove("nobody")), Refusal::NoSuchUser(handle("nobody")));
}

#[test]
fn who_gave_a_right_up_may_say_so_again_and_nobody_else() {
    let mut memory = house();
    assert!(done(&mut memory, "bob", Command::Leave).takes_away);
    let gone = memory.membership(&id("kitchen"), &handle("bob")).cloned().unwrap();
    let again = done(&mut memory, "bob", Command::Leave);
    assert!(again.must_fence() && !again.takes_away, "{again:?}");
    assert_eq!(again.writes, [Record::Membership(gone)], "the same, and at a new revision");
    done(&mut memory, "mod", remove("carol"));
    assert_eq!(refused(&memory, "carol", Command::Leave), Denial::NotMember.into(), "that was not her doing");
    assert_eq!(refused(&memory, "dave", Command::Leave), Denial::NotMember.into());

    memory.put(membership("kitchen", "dave", RoomRole::Owner, Joined));
    let lower = || set_role("dave", RoomRole::Reader);
    assert!(done(&mut memory, "dave", lower()).takes_away);
    let again = done(&mut memory, "dave", lower());
    assert!(again.must_fence() && !again.takes_away, "{again:?}");
    assert_eq!(refused(&memory, "dave", set_role("dave", RoomRole::Member)), Denial::RoleTooLow.into());
    done(&mut memory, "alice", Command::RemoveRoom);
    assert_eq!(refused(&memory, "dave", lower()), Denial::RoomRemoved.into());
}

#[test]
fn limits_are_kept() {
    let mut memory = house();
    for n in 0..ROOMS_PER_USER {
        let room = format!("r{n}");
        memory = memory.with_room(&room, &format!("proc.r{n}"), Policy::TELEMETRY);
        memory = memory.with_member(&room, "dave", RoomRole::Reader, Joined);
    }
    let full = Refusal::TooManyRooms(handle("dave"));
    assert_eq!(refused_in(&memory, "dave", "cellar", create("room.cellar")), full);
    done(&mut memory, "alice", invite("dave", RoomRole::Reader));
    assert_eq!(refused(&memory, "dave", Command::Accept { keep_connections: false }), full);
    done_in(&mut memory, "root", "r7", Command::RemoveRoom);
    done(&mut memory, "dave", Command::Accept { keep_connections: false });

    for n in 0..MEMBERS_PER_ROOM - 5 {
        let state = if n % 2 == 0 { Joined } else { Invited };
        memory = memory.with_member("kitchen", &format!("m{n}"), RoomRole::Reader, state);
    }
    let memory = memory.with_user("eve", Role::User);
    let full = Refusal::TooManyMembers(id("kitchen"));
    assert_eq!(refused(&memory, "alice", invite("eve", RoomRole::Reader)), full);
    let mut memory = memory.with_member("kitchen", "m0", RoomRole::Reader, Removed);
    done(&mut memory, "alice", invite("eve", RoomRole::Reader));
}

#[test]
fn a_bus_that_takes_encrypted_rooms_only_says_so() {
    let memory = house();
    let terms = Terms { encrypted_only: true, ..TERMS };
    let policy = Policy::TELEMETRY;
    let new = Command::CreateRoom("rpc.new".parse().unwrap(), policy);
    for (room, command) in [("new", new), ("kitchen", Command::ChangeRoom(None, Some(policy), None))] {
        assert_eq!(change(memory.who("alice"), &id(room), &command, &memory, terms), Err(Refusal::MustEncrypt));
        assert!(change(memory.who("alice"), &id(room), &command, &memory, TERMS).is_ok());
    }
}

#[test]
fn nobody_unknown_disabled_or_removed_changes_anything() {
    let mut memory = house();
    for command in [
        create("room.new"),
        invite("dave", RoomRole::Reader),
        Command::Accept { keep_connections: false },
        Command::Leave,
        Command::RemoveRoom,
    ] {
        assert_eq!(change(None, &id("kitchen"), &command, &memory, TERMS), Err(Refusal::Denied(Denial::UnknownKey)));
        for (state, denial) in [(State::Disabled, Denial::Disabled), (State::Removed, Denial::Removed)] {
            memory.put(Record::User(user("alice", Role::Admin, state)));
            assert_eq!(refused(&memory, "alice", command.clone()), Refusal::Denied(denial));
        }
    }
}

#[test]
fn rooms_that_keep_messages_are_as_many_as_there_is_disk_for() {
    let off = Policy { persist: false, ..Policy::CONVERSATION };
    let mut full = house();
    for n in 1..PERSISTED_ROOMS {
        full = full.with_room(&format!("r{n}"), &format!("room.r{n}"), Policy::CONVERSATION);
    }
    let create = |policy| Command::CreateRoom("room.new".parse().unwrap(), policy);
    let said = |memory: &Memory, room: &str, command: &Command| {
        change(memory.who("alice"), &id(room), command, memory, TERMS).map(|change| change.writes)
    };
    assert_eq!(said(&full, "new", &create(Policy::CONVERSATION)), Err(Refusal::TooManyPersisted));
    assert!(said(&full, "new", &create(off)).is_ok());
    let switch = |policy| Command::ChangeRoom(None, Some(policy), None);

    // What was said stays when a room stops persisting, and so does its share; it may persist again.
    let stopped = said(&full, "kitchen", &switch(off)).unwrap();
    let kept = |record: &Record| matches!(record, Record::Room(room) if room.kept && room.keeps_messages());
    assert!(stopped.iter().any(kept), "{stopped:?}");
    stopped.into_iter().for_each(|record| full.put(record));
    assert_eq!(said(&full, "new", &create(Policy::CONVERSATION)), Err(Refusal::TooManyPersisted));
    assert!(said(&full, "kitchen", &switch(Policy::CONVERSATION)).is_ok());

    // A removal gives it back.
    said(&full, "kitchen", &Command::RemoveRoom).unwrap().into_iter().for_each(|record| full.put(record));
    assert!(said(&full, "new", &create(Policy::CONVERSATION)).is_ok());
    full = full.with_room("clear", "room.clear", off).with_member("clear", "alice", RoomRole::Owner, Joined);
    said(&full, "new", &create(Policy::CONVERSATION)).unwrap().into_iter().for_each(|record| full.put(record));
    assert_eq!(said(&full, "clear", &switch(Policy::CONVERSATION)), Err(Refusal::TooManyPersisted));
}

#[test]
fn the_quota_of_a_user_is_asked_for_new_rooms_and_when_one_begins_to_keep_messages() {
    let terms = Terms { quota: Quota { rooms: 2, persisting: 1, removed: 9 }, ..TERMS };
    let create = |policy| Command::CreateRoom("room.new".parse().unwrap(), policy);
    let off = Policy { persist: false, ..Policy::CONVERSATION };
    let said = |memory: &Memory, room: &str, command: &Command| {
        change(memory.who("alice"), &id(room), command, memory, terms).map(drop)
    };
    // Alice has made the kitchen, which keeps messages.
    let memory = house().with_user("alice", Role::User);
    let exhausted = |exhausted| Err(Refusal::Quota(handle("alice"), exhausted));
    assert_eq!(said(&memory, "new", &create(Policy::CONVERSATION)), exhausted(Exhausted::Persisting(1)));
    assert_eq!(said(&memory, "new", &create(off)), Ok(()));
    let memory = memory.with_room("second", "room.second", off).with_member(
        "second",
        "alice",
        RoomRole::Owner,
        MemberState::Joined,
    );
    let full = said(&memory, "new", &create(off));
    assert_eq!(full, exhausted(Exhausted::Rooms(2)));
    let text = full.unwrap_err().to_string();
    assert!(text.contains("2 rooms in use (--rooms-by-user)"), "{text}");
    let keep = Command::ChangeRoom(None, Some(Policy::CONVERSATION), None);
    assert_eq!(said(&memory, "second", &keep), exhausted(Exhausted::Persisting(1)));
    assert_eq!(said(&memory, "kitchen", &keep), Ok(()), "it keeps messages already");
    let admin = memory.with_user("alice", Role::Admin);
    assert_eq!(said(&admin, "new", &create(Policy::CONVERSATION)), Ok(()));
}

#[test]
fn owners_choose_what_is_kept_where_all_releases_can_read_it() {
    let keep = |bytes, days| Command::ChangeRoom(None, None, Some(Keep { bytes, days }));
    let mut memory = house();
    assert_eq!(refused(&memory, "alice", keep(Some(5 << 20), None)), Refusal::KeepNotYet);
    done(&mut memory, "alice", keep(None, None));
    memory.put(Record::Level(LevelRecord::new(FeatureLevel::Kept)));
    assert_eq!(refused(&memory, "mod", keep(Some(5 << 20), None)), Denial::RoleTooLow.into());
    for (bytes, days) in [(Some(1), None), (Some(1 << 40), None), (None, Some(0))] {
        let refused = refused(&memory, "alice", keep(bytes, days));
        assert_eq!(refused, Refusal::KeepOutOfBounds(Keeping::DEFAULT));
        assert!(refused.to_string().contains("4194304 to 10485760 bytes"), "{refused}");
    }
    let chosen = attempt(&memory, "alice", &keep(Some(5 << 20), Some(7))).unwrap();
    assert!(!chosen.takes_away, "no right is");
    let room = chosen.writes.iter().find_map(as_room).unwrap().clone();
    assert_eq!(room.keep, Keep { bytes: Some(5 << 20), days: Some(7) });
    // The operator allows less since; other changes go on.
    memory.put(Record::Room(room));
    let less = Terms { keeping: Keeping { bytes: 4 << 20, days: Some(1) }, ..TERMS };
    assert!(change(memory.who("alice"), &id("kitchen"), &move_to("room.x"), &memory, less).is_ok());
}

#[test]
fn above_the_lowest_level_no_room_begins_to_keep_what_is_not_signed() {
    let unsigned = Policy { sign: false, ..Policy::CONVERSATION };
    let attempts = |memory: &Memory| {
        let create = Command::CreateRoom("room.new".parse().unwrap(), unsigned);
        let change_to = |policy| Command::ChangeRoom(None, Some(policy), None);
        [("new", create), ("kitchen", change_to(unsigned)), ("quiet", change_to(unsigned))]
            .map(|(room, command)| change(memory.who("alice"), &id(room), &command, memory, TERMS).map(drop))
    };
    let quiet = Policy { persist: false, ..unsigned };
    let mut memory = house();
    for (room, policy) in [("quiet", quiet), ("old", unsigned)] {
        let subject = format!("room.{room}");
        memory = memory.with_room(room, &subject, policy).with_member(room, "alice", RoomRole::Owner, Joined);
    }
    assert_eq!(attempts(&memory), [Ok(()), Ok(()), Ok(())], "as older releases do");

    memory.put(Record::Level(LevelRecord::new(FeatureLevel::Kept)));
    let key = |room: &str| ClaimsKey::deciding(&format!("room.{room}").parse().unwrap(), FeatureLevel::Kept);
    for room in ["kitchen", "quiet", "old"] {
        let claims = Claims::none(key(room)).claim(&format!("room.{room}").parse().unwrap(), &id(room)).unwrap();
        memory.put(Record::Claims(claims));
    }
    let no = || Err(Refusal::PersistUnsigned);
    assert_eq!(attempts(&memory), [no(), no(), no()]);
    assert!(no().map(|(): ()| ()).unwrap_err().remedy().contains("'sign'"));

    // One that did so before goes on, moves, and may become better, and not worse.
    let say = |memory: &mut Memory, command| attempt_in(memory, "alice", "old", &command);
    let again = Command::CreateRoom("room.old".parse().unwrap(), unsigned);
    assert!(say(&mut memory, again).unwrap().writes.is_empty(), "the same again");
    assert!(say(&mut memory, move_to("room.elsewhere")).is_ok());
    assert!(say(&mut memory, Command::ChangeRoom(None, Some(unsigned), None)).is_ok());
    let clear = Policy { encrypt: false, ..unsigned };
    assert_eq!(say(&mut memory, Command::ChangeRoom(None, Some(clear), None)), Err(Refusal::PersistUnsigned));
    for better in [Policy::CONVERSATION, quiet] {
        assert!(say(&mut memory, Command::ChangeRoom(None, Some(better), None)).is_ok(), "{better:?}");
    }
}

#[test]
fn above_the_lowest_level_rooms_that_keep_messages_are_bounded_by_the_number_of_rooms() {
    let mut memory = house();
    memory.put(Record::Level(LevelRecord::new(FeatureLevel::Kept)));
    for n in 0..PERSISTED_ROOMS {
        memory = memory.with_room(&format!("r{n}"), &format!("room.r{n}"), Policy::CONVERSATION);
    }
    let create = Command::CreateRoom("room.new".parse().unwrap(), Policy::CONVERSATION);
    let said = |memory: &Memory| change(memory.who("alice"), &id("new"), &create, memory, TERMS).map(drop);
    assert_eq!(said(&memory), Ok(()));
    for n in PERSISTED_ROOMS..ROOMS {
        memory = memory.with_room(&format!("r{n}"), &format!("room.r{n}"), Policy::TELEMETRY);
    }
    assert_eq!(said(&memory), Err(Refusal::NoMoreRooms));
}
