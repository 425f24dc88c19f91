//! What the tests of the domain share: records in memory, with revisions, and short ways to make them.

use std::collections::BTreeMap;

use super::claims::Claims;
use super::claims_key::ClaimsKey;
use super::level::FeatureLevel;
use super::member::{MemberState, Membership, RoomRole, Standing};
use super::records::{Record, RecordKey, Records};
use super::room::{Policy, Room, RoomId};
use super::subject::Subject;
use super::user::{Handle, Role, SignPub, State, User};

/// Records in memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    users: BTreeMap<Handle, User>,
    claims: BTreeMap<ClaimsKey, Claims>,
    rooms: BTreeMap<RoomId, Room>,
    members: BTreeMap<(RoomId, Handle), Membership>,
    level: FeatureLevel,
    revisions: BTreeMap<RecordKey, u64>,
}

impl Memory {
    /// Puts a record.
    pub(super) fn put(&mut self, record: Record) {
        *self.revisions.entry(record.key()).or_default() += 1;
        match record {
            Record::User(user) => drop(self.users.insert(user.handle.clone(), user)),
            Record::Claims(claims) => drop(self.claims.insert(claims.key(), claims)),
            Record::Room(room) => drop(self.rooms.insert(room.id.clone(), room)),
            Record::Membership(m) => drop(self.members.insert((m.room.clone(), m.handle.clone()), m)),
            Record::Level(record) => self.level = record.level,
        }
    }

    /// The revision of a record; 0: there is none.
    pub(super) fn revision(&self, key: &RecordKey) -> u64 {
        self.revisions.get(key).copied().unwrap_or_default()
    }

    /// With an active user.
    pub(super) fn with_user(mut self, handle: &str, role: Role) -> Self {
        self.put(Record::User(user(handle, role, State::Active)));
        self
    }

    /// With a room and the claim on its subject.
    pub(super) fn with_room(mut self, id: &str, subject: &str, policy: Policy) -> Self {
        let subject: Subject = subject.parse().unwrap();
        let id: RoomId = id.parse().unwrap();
        let key = ClaimsKey::deciding(&subject, self.level);
        let claims = self.claims(&key).cloned().unwrap_or_else(|| Claims::none(key));
        self.put(Record::Claims(claims.claim(&subject, &id).unwrap()));
        self.put(Record::Room(Room::new(id, subject, policy, "alice".parse().unwrap())));
        self
    }

    /// With a membership.
    pub(super) fn with_member(mut self, room: &str, handle: &str, role: RoomRole, state: MemberState) -> Self {
        self.put(membership(room, handle, role, state));
        self
    }

    /// The user with this handle.
    pub(super) fn who(&self, handle: &str) -> Option<&User> {
        self.users.get(&handle.parse().unwrap())
    }

    /// All users.
    pub(super) fn users(&self) -> impl Iterator<Item = &User> {
        self.users.values()
    }

    /// All memberships.
    pub(super) fn all_memberships(&self) -> impl Iterator<Item = &Membership> {
        self.members.values()
    }
}

/// A user with a key of its own.
pub(super) fn user(handle: &str, role: Role, state: State) -> User {
    let mut seed = [7; 32];
    seed.iter_mut().zip(handle.bytes()).for_each(|(seed, byte)| *seed = byte);
    let pair = nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::User, seed).unwrap();
    let sign_pub = SignPub::from_nkey(&pair.public_key()).unwrap();
    User { handle: handle.parse().unwrap(), sign_pub, role, state }
}

/// A membership.
pub(super) fn membership(room: &str, handle: &str, role: RoomRole, state: MemberState) -> Record {
    let standing = Standing { role, state };
    let by = "alice".parse().unwrap();
    Record::Membership(Membership::new(room.parse().unwrap(), handle.parse().unwrap(), standing, by))
}

impl Records for Memory {
    fn level(&self) -> FeatureLevel {
        self.level
    }

    fn user(&self, handle: &Handle) -> Option<&User> {
        self.users.get(handle)
    }

    fn room(&self, id: &RoomId) -> Option<&Room> {
        self.rooms.get(id)
    }

    fn claims(&self, key: &ClaimsKey) -> Option<&Claims> {
        self.claims.get(key)
    }

    fn membership(&self, room: &RoomId, handle: &Handle) -> Option<&Membership> {
        self.members.get(&(room.clone(), handle.clone()))
    }

    fn rooms(&self) -> impl Iterator<Item = &Room> {
        self.rooms.values()
    }

    fn members<'a>(&'a self, room: &'a RoomId) -> impl Iterator<Item = &'a Membership> {
        self.members.values().filter(move |m| m.room == *room)
    }

    fn memberships<'a>(&'a self, handle: &'a Handle) -> impl Iterator<Item = &'a Membership> {
        self.members.values().filter(move |m| m.handle == *handle)
    }
}
