//! This node's view of the buckets that decide access, fed in the order in which they were committed.

mod keys;
mod members;

#[cfg(any(test, feature = "test-support"))]
#[allow(clippy::unwrap_used, reason = "only tests use it")]
pub mod fixtures;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::bus::Bucket;
use crate::domain::{
    Claims, ClaimsKey, FeatureLevel, Handle, LevelRecord, Membership, Record, RecordKey, Records, Role, Room, RoomId,
    SignPub, State, User,
};

pub use keys::{
    EntryKey, INITIALIZED_KEY, LEVEL_KEY, PROBE_PREFIX, claim_key, claims_key, heartbeat_key, member_key, record_key,
    room_key, user_key,
};
use members::Members;

/// What a node writes into each deciding bucket once a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Identity of the daemon's process.
    pub boot: String,
    /// Number of the round.
    pub round: u64,
    /// Whether no earlier process of the node can be deciding any more; one that does not say so does not know.
    #[serde(default)]
    pub alone: bool,
    /// The number of the highest feature level that the process can do; a later release may say one that is not known here.
    #[serde(default = "lowest")]
    pub level: u32,
}

/// What a process can do whose release says nothing of levels.
fn lowest() -> u32 {
    FeatureLevel::default().number()
}

/// The first admin, as the cluster remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Initialized {
    /// Its handle.
    pub handle: Handle,
    /// Its key.
    pub sign_pub: SignPub,
    /// Whether its record was made; after that the claim is history and never acts again.
    pub done: bool,
}

/// A value and the revision that a change of it must name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// Its revision: the sequence of its message in the bucket's stream.
    pub revision: u64,
}

/// What an entry changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing that concerns access.
    None,
    /// A heartbeat of a node.
    Heartbeat(String, Heartbeat),
    /// A user was made or changed, or lost the claim on a key.
    User(Handle),
    /// A room was made or changed.
    Room(RoomId),
    /// Subjects were claimed for these rooms, or lost by them.
    Claims(BTreeSet<RoomId>),
    /// A membership was made or changed.
    Membership(RoomId, Handle),
    /// The feature level was raised, or stated again.
    Level(FeatureLevel),
}

/// An entry that makes no sense. The view is then no proof of anything.
#[derive(Debug, thiserror::Error)]
#[error("entry '{key}' of {bucket} at revision {revision} is not understood: {why}")]
pub struct Unreadable {
    /// Name of the bucket.
    pub bucket: &'static str,
    /// Key of the entry.
    pub key: String,
    /// Its revision.
    pub revision: u64,
    /// What is wrong with it.
    pub why: String,
}

/// The view.
#[derive(Debug, Default)]
pub struct View {
    users: BTreeMap<Handle, Versioned<User>>,
    owners: HashMap<SignPub, Handle>,
    rooms: BTreeMap<RoomId, Versioned<Room>>,
    claims: BTreeMap<ClaimsKey, Versioned<Claims>>,
    members: Members,
    level: Option<Versioned<LevelRecord>>,
    initialized: Option<Versioned<Initialized>>,
    nodes: BTreeSet<String>,
    /// The last revision of each bucket that was applied.
    applied: BTreeMap<Bucket, u64>,
}

impl View {
    /// Applies one entry of a bucket. What is not understood leaves the view as it was.
    pub fn apply(&mut self, bucket: Bucket, key: &str, value: &[u8], revision: u64) -> Result<Change, Unreadable> {
        let change = self.change(bucket, key, value, revision)?;
        self.applied.insert(bucket, revision);
        Ok(change)
    }

    fn change(&mut self, bucket: Bucket, key: &str, value: &[u8], revision: u64) -> Result<Change, Unreadable> {
        let unreadable = |why: String| Unreadable { bucket: bucket.name(), key: key.to_owned(), revision, why };
        let json = |e: serde_json::Error| unreadable(e.to_string());
        match EntryKey::parse(bucket, key).map_err(unreadable)? {
            EntryKey::Heartbeat(node) => {
                let heartbeat = serde_json::from_slice(value).map_err(json)?;
                self.nodes.insert(node.clone());
                Ok(Change::Heartbeat(node, heartbeat))
            }
            EntryKey::Probe => Ok(Change::None),
            EntryKey::Initialized => {
                self.initialized = Some(Versioned { value: serde_json::from_slice(value).map_err(json)?, revision });
                Ok(Change::None)
            }
            EntryKey::Claim(claimed) => {
                let was = self.owners.insert(claimed, serde_json::from_slice(value).map_err(json)?);
                Ok(was.map_or(Change::None, Change::User))
            }
            EntryKey::Record(key) => {
                let record = read_record(&key, value).map_err(unreadable)?;
                if let Record::Level(level) = &record {
                    level.level.check_known().map_err(|error| unreadable(error.to_string()))?;
                }
                Ok(self.put(record, revision))
            }
        }
    }

    fn put(&mut self, record: Record, revision: u64) -> Change {
        match record {
            Record::User(value) => {
                let handle = value.handle.clone();
                self.users.insert(handle.clone(), Versioned { value, revision });
                Change::User(handle)
            }
            Record::Room(value) => {
                let id = value.id.clone();
                self.rooms.insert(id.clone(), Versioned { value, revision });
                Change::Room(id)
            }
            Record::Claims(value) => {
                let key = value.key();
                let was = self.claims.get(&key).map(|was| &was.value);
                let rooms = was
                    .map_or_else(|| moved(&value, None), |was| &moved(&value, Some(was)) | &moved(was, Some(&value)));
                self.claims.insert(key, Versioned { value, revision });
                Change::Claims(rooms)
            }
            Record::Membership(value) => {
                let (room, handle) = (value.room.clone(), value.handle.clone());
                self.members.put(value, revision);
                Change::Membership(room, handle)
            }
            Record::Level(value) => {
                self.level = Some(Versioned { value, revision });
                Change::Level(value.level)
            }
        }
    }

    /// The users whose rights on the bus may rest on what changed.
    pub fn concerned<'a>(&'a self, change: &'a Change) -> HashSet<&'a Handle> {
        let members = |room| self.members.of_room(room).map(|m| &m.handle);
        match change {
            Change::None | Change::Heartbeat(..) => HashSet::new(),
            Change::User(handle) | Change::Membership(_, handle) => HashSet::from([handle]),
            Change::Room(room) => members(room).collect(),
            Change::Claims(rooms) => rooms.iter().flat_map(members).collect(),
            Change::Level(_) => self.users.keys().collect(),
        }
    }

    /// The user with this handle, and the revision of the record.
    pub fn versioned_user(&self, handle: &Handle) -> Option<&Versioned<User>> {
        self.users.get(handle)
    }

    /// The room with this id, and the revision of the record.
    pub fn versioned_room(&self, id: &RoomId) -> Option<&Versioned<Room>> {
        self.rooms.get(id)
    }

    /// How `handle` stands to the room, and the revision of the record.
    pub fn versioned_membership(&self, room: &RoomId, handle: &Handle) -> Option<&Versioned<Membership>> {
        self.members.get(room, handle)
    }

    /// The revision of a user's record.
    pub fn user_revision(&self, handle: &Handle) -> Option<u64> {
        self.users.get(handle).map(|user| user.revision)
    }

    /// The revision of a record; none: there is no such record.
    pub fn revision(&self, key: &RecordKey) -> Option<u64> {
        match key {
            RecordKey::User(handle) => self.user_revision(handle),
            RecordKey::Room(id) => self.rooms.get(id).map(|room| room.revision),
            RecordKey::Claims(key) => self.claims.get(key).map(|claims| claims.revision),
            RecordKey::Membership(room, handle) => self.members.get(room, handle).map(|m| m.revision),
            RecordKey::Level => self.level.as_ref().map(|level| level.revision),
        }
    }

    /// The feature level of the cluster.
    pub fn level(&self) -> FeatureLevel {
        self.level.as_ref().map(|level| level.value.level).unwrap_or_default()
    }

    /// All users, tombstones included, by handle.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.users.values().map(|versioned| &versioned.value)
    }

    /// All rooms, tombstones included, by id.
    pub fn rooms(&self) -> impl Iterator<Item = &Room> {
        self.rooms.values().map(|versioned| &versioned.value)
    }

    /// The documents of claims that decide at the level of the cluster.
    pub fn all_claims(&self) -> impl Iterator<Item = &Claims> {
        let level = self.level();
        self.claims_of_all_levels().filter(move |claims| claims.key().decides_at(level))
    }

    /// The documents of claims, those among them that decide nothing at the level of the cluster.
    pub fn claims_of_all_levels(&self) -> impl Iterator<Item = &Claims> {
        self.claims.values().map(|versioned| &versioned.value)
    }

    /// All memberships, tombstones included, in no order.
    pub fn all_memberships(&self) -> impl Iterator<Item = &Membership> {
        self.members.all()
    }

    /// The revision up to which a bucket is known; 0: nothing of it is.
    pub fn applied(&self, bucket: Bucket) -> u64 {
        self.applied.get(&bucket).copied().unwrap_or_default()
    }

    /// The handle for which a key was claimed.
    pub fn claimed_by(&self, key: &SignPub) -> Option<&Handle> {
        self.owners.get(key)
    }

    /// The user whose key this is: the claim and the record must agree.
    pub fn user_of_key(&self, key: &SignPub) -> Option<&User> {
        let user = &self.users.get(self.owners.get(key)?)?.value;
        (user.sign_pub == *key).then_some(user)
    }

    /// Whether, and with whom, the cluster was initialized.
    pub fn initialized(&self) -> Option<&Versioned<Initialized>> {
        self.initialized.as_ref()
    }

    /// Names of all nodes that ever wrote a heartbeat.
    pub fn nodes(&self) -> impl Iterator<Item = &String> {
        self.nodes.iter()
    }

    /// Number of admins who are admitted.
    pub fn admins(&self) -> usize {
        self.users().filter(|u| u.role == Role::Admin && u.state == State::Active).count()
    }
}

impl Records for View {
    fn level(&self) -> FeatureLevel {
        View::level(self)
    }

    fn user(&self, handle: &Handle) -> Option<&User> {
        self.users.get(handle).map(|user| &user.value)
    }

    fn room(&self, id: &RoomId) -> Option<&Room> {
        self.rooms.get(id).map(|room| &room.value)
    }

    fn claims(&self, key: &ClaimsKey) -> Option<&Claims> {
        self.claims.get(key).map(|claims| &claims.value)
    }

    fn membership(&self, room: &RoomId, handle: &Handle) -> Option<&Membership> {
        self.members.get(room, handle).map(|m| &m.value)
    }

    fn rooms(&self) -> impl Iterator<Item = &Room> {
        View::rooms(self)
    }

    fn members<'a>(&'a self, room: &'a RoomId) -> impl Iterator<Item = &'a Membership> {
        self.members.of_room(room)
    }

    fn memberships<'a>(&'a self, handle: &'a Handle) -> impl Iterator<Item = &'a Membership> {
        self.members.of_handle(handle)
    }
}

/// The record that stands under `key`. One that says that it is another is none.
pub fn read_record(key: &RecordKey, value: &[u8]) -> Result<Record, String> {
    let record = match key {
        RecordKey::User(_) => serde_json::from_slice(value).map(Record::User),
        RecordKey::Room(_) => serde_json::from_slice(value).map(Record::Room),
        RecordKey::Claims(_) => serde_json::from_slice(value).map(Record::Claims),
        RecordKey::Membership(..) => serde_json::from_slice(value).map(Record::Membership),
        RecordKey::Level => serde_json::from_slice(value).map(Record::Level),
    };
    let record = record.map_err(|error| error.to_string())?;
    let (bucket, own) = record_key(&record.key());
    if record.key() == *key { Ok(record) } else { Err(format!("the record is that of '{own}' in {}", bucket.name())) }
}

/// Rooms with claims that `other` does not hold for them.
fn moved(claims: &Claims, other: Option<&Claims>) -> BTreeSet<RoomId> {
    let kept = |subject, room| other.and_then(|other| other.holder(subject)) == Some(room);
    claims.iter().filter(|(subject, room)| !kept(subject, *room)).map(|(_, room)| room.clone()).collect()
}
