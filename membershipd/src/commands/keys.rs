//! Records as entries of a store, by the names that the view has for them, and the derived index of rooms by member.

use std::fmt;

use serde::Serialize;

use unibus_core::bus::Bucket;
use unibus_core::domain::{Handle, Record, RecordKey, RoomId};
use unibus_core::view;
use unibus_store::{Key, Operation, Records, StoreError};

/// Where an entry stands: its bucket, and its key there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The bucket.
    pub bucket: Records,
    /// The key.
    pub key: Key,
}

impl Address {
    /// The entry of this name. Fails where no entry can have it.
    pub fn new(bucket: Records, name: &str) -> Result<Self, StoreError> {
        Ok(Self { bucket, key: parsed(bucket, name)? })
    }

    /// The entry of a record.
    pub fn of(record: &RecordKey) -> Result<Self, StoreError> {
        Self::new(bucket(record), &name(record))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

/// The bucket in which a record is.
pub fn bucket(record: &RecordKey) -> Records {
    match record {
        RecordKey::User(_) => Records::Users,
        RecordKey::Claims(_) | RecordKey::Room(_) | RecordKey::Level => Records::Rooms,
        RecordKey::Membership(..) => Records::Members,
    }
}

/// The name of a record, for messages and as its key.
pub fn name(record: &RecordKey) -> String {
    view::record_key(record).1
}

/// The key of a record. Handles and ids are tokens of keys, so this does not fail for any that there is.
pub fn key(record: &RecordKey) -> Result<Key, StoreError> {
    parsed(bucket(record), &name(record))
}

/// The key under which [`Records::RoomsByMember`] says whether `handle` is in `room`, or invited to it.
pub fn index_key(handle: &Handle, room: &RoomId) -> Result<Key, StoreError> {
    parsed(Records::RoomsByMember, &format!("room.{handle}.{room}"))
}

/// The other way: who and which room a key of [`Records::RoomsByMember`] is about.
pub fn indexed(key: &Key) -> Option<(Handle, RoomId)> {
    let (handle, room) = key.as_str().strip_prefix("room.")?.split_once('.')?;
    Some((handle.parse().ok()?, room.parse().ok()?))
}

fn parsed(bucket: Records, name: &str) -> Result<Key, StoreError> {
    name.parse().map_err(|error| StoreError::Refused {
        operation: Operation::on("name an entry of", bucket.bucket()),
        why: format!("{error}"),
    })
}

/// A record as it stands in the store.
pub fn encode(record: &Record) -> Result<Vec<u8>, StoreError> {
    let of = bucket(&record.key()).bucket();
    match record {
        Record::User(user) => json(of, user),
        Record::Claims(claims) => json(of, claims),
        Record::Room(room) => json(of, room),
        Record::Membership(membership) => json(of, membership),
        Record::Level(level) => json(of, level),
    }
}

pub(super) fn json(of: Bucket, value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value)
        .map_err(|error| StoreError::Refused { operation: Operation::on("write to", of), why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use unibus_core::domain::{Claims, MemberState, Membership, Policy, Room, RoomRole, Space, Standing};

    fn records() -> Vec<Record> {
        let (room, bob): (RoomId, Handle) = ("kitchen".parse().unwrap(), "bob".parse().unwrap());
        let subject = "room.kitchen".parse().unwrap();
        let claims = Claims::none(Space::Room).claim(&subject, &room).unwrap();
        let standing = Standing { role: RoomRole::Owner, state: MemberState::Joined };
        vec![
            Record::Claims(claims),
            Record::Room(Room::new(room.clone(), subject, Policy::CONVERSATION, "bob".parse().unwrap())),
            Record::Membership(Membership::new(room, bob, standing, "bob".parse().unwrap())),
        ]
    }

    #[test]
    fn records_are_found_where_they_were_put() {
        let names = ["claims.room", "room.kitchen", "member.kitchen.bob"];
        for (record, named) in records().into_iter().zip(names) {
            let of = record.key();
            assert_eq!(key(&of).unwrap().as_str(), named);
            assert_eq!(view::read_record(&of, &encode(&record).unwrap()), Ok(record));
        }
        let (bob, kitchen) = ("bob".parse().unwrap(), "kitchen".parse().unwrap());
        assert_eq!(indexed(&index_key(&bob, &kitchen).unwrap()), Some((bob, kitchen)));
        assert_eq!(indexed(&"room.bob".parse().unwrap()), None);
    }
}
