//! What tests of the view and of what stands on it share: records as entries of their buckets.

use super::{View, claim_key, record_key};
use crate::bus::Bucket;
use crate::domain::{
    Claims, Handle, MemberState, Membership, Policy, Record, Role, Room, RoomRole, SignPub, Standing, State, User,
};

/// An entry of a bucket.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where it lies.
    pub bucket: Bucket,
    /// What it is called there.
    pub key: String,
    /// Its bytes.
    pub value: Vec<u8>,
}

impl Entry {
    /// A record, as it is written.
    pub fn of(record: &Record) -> Self {
        let (bucket, key) = record_key(&record.key());
        let value = match record {
            Record::User(user) => serde_json::to_vec(user),
            Record::Claims(claims) => serde_json::to_vec(claims),
            Record::Room(room) => serde_json::to_vec(room),
            Record::Membership(membership) => serde_json::to_vec(membership),
            Record::Level(level) => serde_json::to_vec(level),
        };
        Self { bucket, key, value: value.unwrap() }
    }

    /// The claim of a user on his key.
    pub fn claim(user: &User) -> Self {
        let value = serde_json::to_vec::<Handle>(&user.handle).unwrap();
        Self { bucket: Bucket::Users, key: claim_key(&user.sign_pub), value }
    }

    /// Applies it to a view.
    pub fn load(&self, view: &mut View, revision: u64) -> super::Change {
        view.apply(self.bucket, &self.key, &self.value, revision).unwrap()
    }
}

/// A user with a key of its own.
pub fn user(handle: &str, role: Role, state: State) -> User {
    let mut seed = [7; 32];
    seed.iter_mut().zip(handle.bytes()).for_each(|(seed, byte)| *seed = byte);
    let pair = nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::User, seed).unwrap();
    let sign_pub = SignPub::from_nkey(&pair.public_key()).unwrap();
    User { handle: handle.parse().unwrap(), sign_pub, role, state }
}

/// A room in use.
pub fn room(id: &str, subject: &str, policy: Policy) -> Room {
    Room::new(id.parse().unwrap(), subject.parse().unwrap(), policy, "alice".parse().unwrap())
}

/// The claims of a space in which only this room has one.
pub fn only_claim(room: &Room) -> Claims {
    Claims::none(room.subject.space()).claim(&room.subject, &room.id).unwrap()
}

/// A membership.
pub fn member(room: &str, handle: &str, role: RoomRole, state: MemberState) -> Membership {
    let standing = Standing { role, state };
    Membership::new(room.parse().unwrap(), handle.parse().unwrap(), standing, "alice".parse().unwrap())
}
