//! What the entries of the deciding buckets are called: one key for each kind, and the way back.

use crate::bus::Bucket;
use crate::domain::{ClaimsKey, Handle, RecordKey, RoomId, SignPub};

/// Key that says whether, and with whom, the cluster was initialized.
pub const INITIALIZED_KEY: &str = "initialized";

/// What the keys of the registers begin with that `load` writes to see whether writes work. They decide nothing.
pub const PROBE_PREFIX: &str = "probe.";

const USER: &str = "user.";
const CLAIM: &str = "key.";
const HEARTBEAT: &str = "heartbeat.";
const ROOM: &str = "room.";
const CLAIMS: &str = "claims.";
/// Key of the feature level, in the bucket of rooms.
pub const LEVEL_KEY: &str = "level";

const MEMBER: &str = "member.";

/// Key of a user's record.
pub fn user_key(handle: &Handle) -> String {
    format!("{USER}{handle}")
}

/// Key that claims a signing key for one handle, for good: two users never share a key.
pub fn claim_key(key: &SignPub) -> String {
    format!("{CLAIM}{key}")
}

/// Key of a node's heartbeat in each bucket.
pub fn heartbeat_key(node: &str) -> String {
    format!("{HEARTBEAT}{node}")
}

/// Key of a room's record.
pub fn room_key(room: &RoomId) -> String {
    format!("{ROOM}{room}")
}

/// Key of a document of claims. They stand in the bucket of rooms.
pub fn claims_key(claims: &ClaimsKey) -> String {
    format!("{CLAIMS}{claims}")
}

/// Key of a membership. Neither id nor handle has a dot, so that it can be read in one way only.
pub fn member_key(room: &RoomId, handle: &Handle) -> String {
    format!("{MEMBER}{room}.{handle}")
}

/// The bucket in which a record stands, and its key there.
pub fn record_key(record: &RecordKey) -> (Bucket, String) {
    match record {
        RecordKey::User(handle) => (Bucket::Users, user_key(handle)),
        RecordKey::Room(room) => (Bucket::Rooms, room_key(room)),
        RecordKey::Claims(claims) => (Bucket::Rooms, claims_key(claims)),
        RecordKey::Membership(room, handle) => (Bucket::Members, member_key(room, handle)),
        RecordKey::Level => (Bucket::Rooms, LEVEL_KEY.to_owned()),
    }
}

/// What an entry of a deciding bucket is, by its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKey {
    /// Heartbeat of the node of this name.
    Heartbeat(String),
    /// A register of `load`.
    Probe,
    /// Whether the cluster was initialized.
    Initialized,
    /// Whose this signing key is.
    Claim(SignPub),
    /// A record of the domain.
    Record(RecordKey),
}

impl EntryKey {
    /// Reads a key of `bucket`; the error says what is wrong with it.
    pub fn parse(bucket: Bucket, key: &str) -> Result<Self, String> {
        if let Some(node) = key.strip_prefix(HEARTBEAT) {
            return Ok(Self::Heartbeat(node.to_owned()));
        }
        let read = match bucket {
            Bucket::Users => Self::of_users(key),
            Bucket::Rooms => Self::of_rooms(key),
            Bucket::Members => Self::of_members(key),
            _ => None,
        };
        let kind = || "no such kind of entry; a newer membershipd may have written it".to_owned();
        read.unwrap_or_else(|| Err(kind()))
    }

    fn of_users(key: &str) -> Option<Result<Self, String>> {
        if key == INITIALIZED_KEY {
            return Some(Ok(Self::Initialized));
        }
        if key.starts_with(PROBE_PREFIX) {
            return Some(Ok(Self::Probe));
        }
        if let Some(claimed) = key.strip_prefix(CLAIM) {
            return Some(parsed(claimed).map(Self::Claim));
        }
        let handle = key.strip_prefix(USER)?;
        Some(parsed(handle).map(|handle| Self::Record(RecordKey::User(handle))))
    }

    fn of_rooms(key: &str) -> Option<Result<Self, String>> {
        if key == LEVEL_KEY {
            return Some(Ok(Self::Record(RecordKey::Level)));
        }
        if let Some(claims) = key.strip_prefix(CLAIMS) {
            return Some(parsed(claims).map(|claims| Self::Record(RecordKey::Claims(claims))));
        }
        let room = key.strip_prefix(ROOM)?;
        Some(parsed(room).map(|room| Self::Record(RecordKey::Room(room))))
    }

    fn of_members(key: &str) -> Option<Result<Self, String>> {
        let (room, handle) = key.strip_prefix(MEMBER)?.split_once('.')?;
        let both = parsed(room).and_then(|room| Ok((room, parsed(handle)?)));
        Some(both.map(|(room, handle)| Self::Record(RecordKey::Membership(room, handle))))
    }
}

fn parsed<T: std::str::FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Space;
    use crate::domain::limits::{ROOM_ID_BYTES, SUBJECT_BYTES};

    #[test]
    fn every_record_has_a_key_that_a_store_takes_and_that_reads_as_that_record() {
        let (long_room, long_handle) = ("r".repeat(ROOM_ID_BYTES), "h".repeat(32));
        let mut records = Space::ALL.map(|space| RecordKey::Claims(space.into())).to_vec();
        let longest = format!("room.{}", "t".repeat(SUBJECT_BYTES - 5));
        records.extend(["rpc.kitchen", &longest].map(|claims| RecordKey::Claims(claims.parse().unwrap())));
        records.push(RecordKey::Level);
        for (room, handle) in [("kitchen", "bob"), ("0-_", "0_-"), (&long_room, &long_handle)] {
            let (room, handle): (RoomId, Handle) = (room.parse().unwrap(), handle.parse().unwrap());
            records.extend([
                RecordKey::User(handle.clone()),
                RecordKey::Room(room.clone()),
                RecordKey::Membership(room, handle),
            ]);
        }
        for record in records {
            let (bucket, key) = record_key(&record);
            assert!(key.parse::<crate::key::Key>().is_ok(), "{key}");
            assert_eq!(EntryKey::parse(bucket, &key), Ok(EntryKey::Record(record)), "{key}");
        }
        assert_eq!(member_key(&"kitchen".parse().unwrap(), &"bob".parse().unwrap()), "member.kitchen.bob");
        assert_eq!(
            (room_key(&"a".parse().unwrap()), claims_key(&Space::Rpc.into())),
            ("room.a".into(), "claims.rpc".into())
        );
    }

    #[test]
    fn what_is_no_key_of_its_bucket_is_refused() {
        for (bucket, keys) in [
            (
                Bucket::Users,
                vec!["", "level", "user", "user.", "user.A", "user.a.b", "key.00", "room.a", "member.a.b", "x.y"],
            ),
            (
                Bucket::Rooms,
                vec![
                    "",
                    "room.",
                    "room.A",
                    "room.a.b",
                    "claims.",
                    "claims.blog",
                    "claims.room.",
                    "claims.room.a.b",
                    "user.a",
                    "probe.1",
                    "level.a",
                    "level.",
                ],
            ),
            (Bucket::Members, vec!["", "member.a", "member..a", "member.a.", "member.a.b.c", "member.A.b", "room.a"]),
            (Bucket::RoomsByMember, vec!["user.a", "room.a", "member.a.b"]),
        ] {
            for key in keys {
                assert!(EntryKey::parse(bucket, key).is_err(), "{key:?} in {}", bucket.name());
            }
        }
    }
}
