//! Records as entries of a store, by the names that the view has for them, and the derived index of rooms by member.

use serde::Serialize;

use crate::bus::Bucket;
use crate::domain::{Handle, Record, RecordKey, RoomId, SignPub};
use crate::store::{Key, Operation, Records, StoreError};
use crate::view::{self, EntryKey};

/// What the store has under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// A record of the domain.
    Record(Record),
    /// A signing key, and the handle for which it was claimed for good.
    SigningKey(SignPub, Handle),
    /// Something that stands beside the records and is none: a heartbeat, a register of `load`, the mark of the first start.
    Beside,
}

/// The bucket in which a record is.
pub fn bucket(record: &RecordKey) -> Records {
    match record {
        RecordKey::User(_) => Records::Users,
        RecordKey::Claims(_) | RecordKey::Room(_) => Records::Rooms,
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
    }
}

pub(super) fn json(of: Bucket, value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value)
        .map_err(|error| StoreError::Refused { operation: Operation::on("write to", of), why: error.to_string() })
}

/// What an entry of one of the deciding buckets is. What is not understood is an error, and never skipped.
pub fn decode(of: Records, key: &Key, value: &[u8]) -> Result<Stored, StoreError> {
    let unreadable = |why: String| StoreError::Unreadable { operation: Operation::at("read", of.bucket(), key), why };
    let stored = match EntryKey::parse(of.bucket(), key.as_str()).map_err(unreadable)? {
        EntryKey::Heartbeat(_) | EntryKey::Probe | EntryKey::Initialized => Stored::Beside,
        EntryKey::Claim(signer) => {
            let handle = serde_json::from_slice(value).map_err(|error| unreadable(error.to_string()))?;
            Stored::SigningKey(signer, handle)
        }
        EntryKey::Record(record) => Stored::Record(view::read_record(&record, value).map_err(unreadable)?),
    };
    Ok(stored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Claims, MemberState, Membership, Policy, Room, RoomRole, Space, Standing};

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
            let read = decode(bucket(&of), &key(&of).unwrap(), &encode(&record).unwrap()).unwrap();
            assert_eq!(read, Stored::Record(record));
        }
        let (bob, kitchen) = ("bob".parse().unwrap(), "kitchen".parse().unwrap());
        assert_eq!(indexed(&index_key(&bob, &kitchen).unwrap()), Some((bob, kitchen)));
        assert_eq!(indexed(&"room.bob".parse().unwrap()), None);
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        let read = |of, key: &str, value: &str| decode(of, &key.parse().unwrap(), value.as_bytes());
        let room = &records()[1];
        let value = String::from_utf8(encode(room).unwrap()).unwrap();
        assert!(read(Records::Rooms, "room.kitchen", &value).is_ok());
        for (of, key) in
            [(Records::Rooms, "room.cellar"), (Records::Rooms, "tent.kitchen"), (Records::Members, "room.kitchen")]
        {
            assert!(matches!(read(of, key, &value), Err(StoreError::Unreadable { .. })), "{key}");
        }
        assert!(read(Records::Rooms, "room.kitchen", "{}").is_err());
        assert!(read(Records::Users, "key.00", "\"bob\"").is_err(), "no key");
        for (of, beside) in [(Records::Members, "heartbeat.homer"), (Records::Users, "probe.1")] {
            assert_eq!(read(of, beside, "anything").unwrap(), Stored::Beside);
        }
    }
}
