//! Where records stand in the store and what they are called there. The view's own names are to become these.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bus::Bucket;
use crate::domain::{Claims, Handle, Membership, Record, RecordKey, Room, RoomId, SignPub, User};
use crate::store::{Key, Operation, Records, StoreError};

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
    match record {
        RecordKey::User(handle) => format!("user.{handle}"),
        RecordKey::Claims(space) => format!("claims.{space}"),
        RecordKey::Room(room) => format!("room.{room}"),
        RecordKey::Membership(room, handle) => format!("member.{room}.{handle}"),
    }
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
    let text = key.as_str();
    let (kind, rest) = text.split_once('.').unwrap_or((text, ""));
    let stored = match (of, kind) {
        (_, "heartbeat") | (Records::Users, "probe" | "initialized") => return Ok(Stored::Beside),
        (Records::Users, "key") => {
            let signer = rest.parse().map_err(|error| unreadable(format!("{error}")))?;
            return Ok(Stored::SigningKey(signer, parse(value).map_err(unreadable)?));
        }
        (Records::Users, "user") => parse::<User>(value).map(Record::User),
        (Records::Rooms, "room") => parse::<Room>(value).map(Record::Room),
        (Records::Rooms, "claims") => parse::<Claims>(value).map(Record::Claims),
        (Records::Members, "member") => parse::<Membership>(value).map(Record::Membership),
        _ => Err("no such kind of entry; a newer membershipd may have written it".to_owned()),
    };
    let record = stored.map_err(unreadable)?;
    let own = name(&record.key());
    if own == text { Ok(Stored::Record(record)) } else { Err(unreadable(format!("the record is that of {own}"))) }
}

fn parse<T: DeserializeOwned>(value: &[u8]) -> Result<T, String> {
    serde_json::from_slice(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{MemberState, Policy, RoomRole, Space, Standing};

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
