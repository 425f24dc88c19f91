//! What is known when something is decided: records by their keys.

use super::claims::Claims;
use super::claims_key::ClaimsKey;
use super::level::{FeatureLevel, LevelRecord};
use super::member::{MemberState, Membership, RoomRole};
use super::room::{Room, RoomId, RoomState};
use super::subject::Subject;
use super::user::{Handle, State, User};

/// Records by their keys: the view of a node, for one.
pub trait Records {
    /// The feature level of the cluster.
    fn level(&self) -> FeatureLevel;
    /// The user with this handle.
    fn user(&self, handle: &Handle) -> Option<&User>;
    /// The room with this id.
    fn room(&self, id: &RoomId) -> Option<&Room>;
    /// A document of claims; none: nothing was ever claimed in it.
    fn claims(&self, key: &ClaimsKey) -> Option<&Claims>;
    /// How `handle` stands to the room.
    fn membership(&self, room: &RoomId, handle: &Handle) -> Option<&Membership>;
    /// All rooms, tombstones included.
    fn rooms(&self) -> impl Iterator<Item = &Room>;
    /// All memberships of a room, tombstones included.
    fn members<'a>(&'a self, room: &'a RoomId) -> impl Iterator<Item = &'a Membership>;
    /// All memberships of a user, tombstones included, in a stable order.
    fn memberships<'a>(&'a self, handle: &'a Handle) -> impl Iterator<Item = &'a Membership>;

    /// The room that has exactly this subject, by the document that decides at the level of the cluster.
    fn holder(&self, subject: &Subject) -> Option<&RoomId> {
        self.claims(&ClaimsKey::deciding(subject, self.level()))?.holder(subject)
    }
}

/// Knows nothing: for what concerns the bus alone.
impl Records for () {
    fn level(&self) -> FeatureLevel {
        FeatureLevel::default()
    }

    fn user(&self, _: &Handle) -> Option<&User> {
        None
    }

    fn room(&self, _: &RoomId) -> Option<&Room> {
        None
    }

    fn claims(&self, _: &ClaimsKey) -> Option<&Claims> {
        None
    }

    fn membership(&self, _: &RoomId, _: &Handle) -> Option<&Membership> {
        None
    }

    fn rooms(&self) -> impl Iterator<Item = &Room> {
        std::iter::empty()
    }

    fn members<'a>(&'a self, _: &'a RoomId) -> impl Iterator<Item = &'a Membership> {
        std::iter::empty()
    }

    fn memberships<'a>(&'a self, _: &'a Handle) -> impl Iterator<Item = &'a Membership> {
        std::iter::empty()
    }
}

/// A record of the domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A user.
    User(User),
    /// A document of claims.
    Claims(Claims),
    /// A room.
    Room(Room),
    /// A membership.
    Membership(Membership),
    /// The feature level of the cluster.
    Level(LevelRecord),
}

/// Which record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKey {
    /// The user with this handle.
    User(Handle),
    /// A document of claims.
    Claims(ClaimsKey),
    /// The room with this id.
    Room(RoomId),
    /// How this user stands to this room.
    Membership(RoomId, Handle),
    /// The feature level of the cluster.
    Level,
}

impl Record {
    /// Which record it is.
    pub fn key(&self) -> RecordKey {
        match self {
            Record::User(user) => RecordKey::User(user.handle.clone()),
            Record::Claims(claims) => RecordKey::Claims(claims.key()),
            Record::Room(room) => RecordKey::Room(room.id.clone()),
            Record::Membership(m) => RecordKey::Membership(m.room.clone(), m.handle.clone()),
            Record::Level(_) => RecordKey::Level,
        }
    }
}

/// The owners of a room who can act: joined, and admitted to the bus.
pub(super) fn acting_owners<'a>(room: &'a RoomId, state: &'a impl Records) -> impl Iterator<Item = &'a Handle> {
    let acts = |m: &&Membership| {
        m.role == RoomRole::Owner
            && m.state == MemberState::Joined
            && state.user(&m.handle).is_some_and(|user| user.state == State::Active)
    };
    state.members(room).filter(acts).map(|m| &m.handle)
}

/// Whether the room is in use and the claims of its space name it for its subject. Otherwise it has none: of two rooms
/// whose records name overlapping subjects at most one is heard, however the writes were interleaved.
pub fn holds_its_subject(room: &Room, state: &impl Records) -> bool {
    room.state == RoomState::Active && state.holder(&room.subject) == Some(&room.id)
}
