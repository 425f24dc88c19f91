//! How many rooms one user may make, so that one cannot take the places of everybody. Settings of the server, the same on every node.

use std::fmt;

use super::author::Author;
use super::records::Records;
use super::room::{Room, RoomState};
use super::user::{Role, User};

/// How many rooms a user may make. Rooms that were removed count by themselves, since an id is never used again: without a bound a user
/// could make and remove rooms until every name is gone. Admins have no quota, so they can help others out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Rooms that the user made and that are in use.
    pub rooms: u32,
    /// Those among them that persist, or did and keep what was said then.
    pub persisting: u32,
    /// Rooms that the user made and that were removed.
    pub removed: u32,
}

/// What of it is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exhausted {
    /// [`Quota::rooms`], which is this many.
    Rooms(u32),
    /// [`Quota::persisting`], which is this many.
    Persisting(u32),
    /// [`Quota::removed`], which is this many.
    Removed(u32),
}

impl Quota {
    /// What a server allows whose operator says nothing.
    pub const DEFAULT: Self = Self { rooms: 500, persisting: 200, removed: 5_000 };

    /// What keeps `user` from making one more room, which `persists`; none: nothing does.
    pub(super) fn for_new_room(self, user: &User, persists: bool, state: &impl Records) -> Option<Exhausted> {
        if user.role == Role::Admin {
            return None;
        }
        let maker = Author::User(user.handle.clone());
        let by_state = |wanted| state.rooms().filter(move |room| room.state == wanted);
        let made = || by_state(RoomState::Active).filter(|room| room.created_by == maker);
        let removed = by_state(RoomState::Removed).filter(|room| room.created_by == maker);
        if is_reached(removed.count(), self.removed) {
            return Some(Exhausted::Removed(self.removed));
        }
        if is_reached(made().count(), self.rooms) {
            return Some(Exhausted::Rooms(self.rooms));
        }
        let full = persists && is_reached(made().filter(|room| room.keeps_messages()).count(), self.persisting);
        full.then_some(Exhausted::Persisting(self.persisting))
    }

    /// What keeps `room` from keeping messages from now on; none: nothing does. It counts for the user who made it, not for the one who asks.
    pub(super) fn for_keeping(self, room: &Room, state: &impl Records) -> Option<Exhausted> {
        let Author::User(maker) = &room.created_by else { return None };
        if state.user(maker).is_none_or(|maker| maker.role == Role::Admin) {
            return None;
        }
        let others = |other: &&Room| other.id != room.id && is_kept_by(other, &room.created_by);
        let full = is_reached(state.rooms().filter(others).count(), self.persisting);
        full.then_some(Exhausted::Persisting(self.persisting))
    }
}

fn is_kept_by(room: &Room, maker: &Author) -> bool {
    room.state == RoomState::Active && room.created_by == *maker && room.keeps_messages()
}

fn is_reached(count: usize, most: u32) -> bool {
    usize::try_from(most).is_ok_and(|most| count >= most)
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rooms(most) => write!(f, "{most} rooms in use (--rooms-by-user)"),
            Self::Persisting(most) => {
                write!(f, "{most} rooms in use that keep their messages (--persisting-rooms-by-user)")
            }
            Self::Removed(most) => {
                write!(f, "{most} rooms that were removed, whose ids are never used again (--removed-rooms-by-user)")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::{Memory, user};
    use crate::domain::records::Record;
    use crate::domain::room::{Policy, RoomId};
    use crate::domain::user::State;

    const QUOTA: Quota = Quota { rooms: 3, persisting: 1, removed: 2 };

    fn made(by: &str, rooms: &[(&str, Policy)]) -> Memory {
        let mut memory = Memory::default().with_user("root", Role::Admin).with_user("bob", Role::User);
        for (room, policy) in rooms {
            let subject = format!("room.{room}").parse().unwrap();
            memory.put(Record::Room(Room::new(room.parse().unwrap(), subject, *policy, by.parse().unwrap())));
        }
        memory
    }

    #[test]
    fn a_user_makes_as_many_rooms_as_the_quota_says_and_an_admin_any_number() {
        let (clear, kept) = (Policy::TELEMETRY, Policy::CONVERSATION);
        let bob = user("bob", Role::User, State::Active);
        let memory = made("bob", &[("a", clear), ("b", kept)]);
        assert_eq!(QUOTA.for_new_room(&bob, false, &memory), None);
        assert_eq!(QUOTA.for_new_room(&bob, true, &memory), Some(Exhausted::Persisting(1)));
        let full = made("bob", &[("a", clear), ("b", clear), ("c", clear)]);
        assert_eq!(QUOTA.for_new_room(&bob, false, &full), Some(Exhausted::Rooms(3)));
        let others = made("root", &[("a", kept), ("b", kept), ("c", kept)]);
        assert_eq!(QUOTA.for_new_room(&bob, true, &others), None, "what others made counts for them");
        let root = user("root", Role::Admin, State::Active);
        assert_eq!(QUOTA.for_new_room(&root, true, &others), None);
    }

    #[test]
    fn a_user_who_has_removed_as_many_rooms_as_the_quota_says_makes_no_more() {
        let clear = Policy::TELEMETRY;
        let remove = |memory: &mut Memory, id: &str, by: &str| {
            let room = memory.room(&id.parse::<RoomId>().unwrap()).unwrap().clone();
            memory.put(Record::Room(room.removed(by.parse().unwrap())));
        };
        let bob = user("bob", Role::User, State::Active);
        let mut memory = made("bob", &[("a", clear), ("b", clear)]);
        remove(&mut memory, "a", "bob");
        assert_eq!(QUOTA.for_new_room(&bob, false, &memory), None);
        remove(&mut memory, "b", "root");
        assert_eq!(QUOTA.for_new_room(&bob, false, &memory), Some(Exhausted::Removed(2)), "they count for the maker");
        let alice = user("alice", Role::User, State::Active);
        assert_eq!(QUOTA.for_new_room(&alice, false, &memory), None, "and for no other user");
        let root = user("root", Role::Admin, State::Active);
        let mut memory = made("root", &[("a", clear), ("b", clear)]);
        for id in ["a", "b"] {
            remove(&mut memory, id, "root");
        }
        assert_eq!(QUOTA.for_new_room(&root, false, &memory), None);
    }

    #[test]
    fn removed_rooms_do_not_count_and_a_room_counts_for_the_user_who_made_it() {
        let (clear, kept) = (Policy::TELEMETRY, Policy::CONVERSATION);
        let mut memory = made("bob", &[("a", kept), ("b", clear)]);
        let room = |memory: &Memory, id: &str| memory.room(&id.parse::<RoomId>().unwrap()).unwrap().clone();
        assert_eq!(QUOTA.for_keeping(&room(&memory, "b"), &memory), Some(Exhausted::Persisting(1)));
        assert_eq!(QUOTA.for_keeping(&room(&memory, "a"), &memory), None, "it has its place");
        let removed = room(&memory, "a").removed("bob".parse().unwrap());
        memory.put(Record::Room(removed));
        assert_eq!(QUOTA.for_keeping(&room(&memory, "b"), &memory), None);
        let roots = made("root", &[("a", kept), ("b", clear)]);
        assert_eq!(QUOTA.for_keeping(&room(&roots, "b"), &roots), None, "an admin has no quota");
    }
}
