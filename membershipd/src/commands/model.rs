//! Records in memory, in the order in which they were committed: what a tool or a repair knows.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::StreamExt;

use super::keys::{self, Stored};
use super::state::Snapshot;
use crate::domain::{self, Claims, Handle, Membership, Record, RecordKey, Room, RoomId, SignPub, Space, State, User};
use crate::store::{Event, Keyed, Operation, Position, Records, Revision, Store, StoreError};

/// The buckets that are read.
pub(super) const BUCKETS: [Records; 3] = [Records::Users, Records::Rooms, Records::Members];

/// Records in memory.
#[derive(Debug, Default)]
pub struct Model {
    users: BTreeMap<Handle, User>,
    signers: HashMap<SignPub, Handle>,
    claims: BTreeMap<Space, Claims>,
    rooms: BTreeMap<RoomId, Room>,
    members: BTreeMap<RoomId, BTreeMap<Handle, Membership>>,
    rooms_of: BTreeMap<Handle, BTreeSet<RoomId>>,
    revisions: HashMap<RecordKey, Revision>,
}

impl Model {
    /// All that `store` has now.
    pub async fn load(store: &dyn Store) -> Result<Self, StoreError> {
        let mut model = Self::default();
        for bucket in BUCKETS {
            let mut events = store.watch(bucket, Position::default()).await?;
            loop {
                match events.next().await.transpose()? {
                    Some(Event::Changed(entry)) => model.apply(bucket, &entry)?,
                    Some(Event::CaughtUp) => break,
                    None => {
                        let operation = Operation::on("watch", bucket.bucket());
                        return Err(StoreError::Unavailable { operation, why: "the watch ended".to_owned() });
                    }
                }
            }
        }
        Ok(model)
    }

    /// Applies an entry; one that is older than what is known changes nothing.
    pub(super) fn apply(&mut self, bucket: Records, Keyed { key, entry }: &Keyed) -> Result<(), StoreError> {
        let record = match keys::decode(bucket, key, &entry.value)? {
            Stored::Record(record) => record,
            Stored::SigningKey(key, handle) => {
                // Claimed for good: it is written once.
                self.signers.entry(key).or_insert(handle);
                return Ok(());
            }
            Stored::Beside => return Ok(()),
        };
        let of = record.key();
        if self.revisions.get(&of).is_some_and(|known| *known >= entry.revision) {
            return Ok(());
        }
        self.revisions.insert(of, entry.revision);
        match record {
            Record::User(user) => drop(self.users.insert(user.handle.clone(), user)),
            Record::Claims(claims) => drop(self.claims.insert(claims.space(), claims)),
            Record::Room(room) => drop(self.rooms.insert(room.id.clone(), room)),
            Record::Membership(m) => {
                self.rooms_of.entry(m.handle.clone()).or_default().insert(m.room.clone());
                self.members.entry(m.room.clone()).or_default().insert(m.handle.clone(), m);
            }
        }
        Ok(())
    }

    /// All rooms, tombstones included.
    pub fn rooms(&self) -> impl Iterator<Item = &Room> {
        self.rooms.values()
    }

    /// All documents of claims.
    pub fn all_claims(&self) -> impl Iterator<Item = &Claims> {
        self.claims.values()
    }

    /// All memberships, tombstones included.
    pub fn all_memberships(&self) -> impl Iterator<Item = &Membership> {
        self.members.values().flat_map(BTreeMap::values)
    }

    /// Whether there is such a user, admitted to the bus.
    pub(super) fn is_active(&self, handle: &Handle) -> bool {
        self.users.get(handle).is_some_and(|user| user.state == State::Active)
    }
}

impl domain::Records for Model {
    fn user(&self, handle: &Handle) -> Option<&User> {
        self.users.get(handle)
    }

    fn room(&self, id: &RoomId) -> Option<&Room> {
        self.rooms.get(id)
    }

    fn claims(&self, space: Space) -> Option<&Claims> {
        self.claims.get(&space)
    }

    fn membership(&self, room: &RoomId, handle: &Handle) -> Option<&Membership> {
        self.members.get(room)?.get(handle)
    }

    fn members<'a>(&'a self, room: &'a RoomId) -> impl Iterator<Item = &'a Membership> {
        self.members.get(room).into_iter().flat_map(BTreeMap::values)
    }

    fn memberships<'a>(&'a self, handle: &'a Handle) -> impl Iterator<Item = &'a Membership> {
        let rooms = self.rooms_of.get(handle).into_iter().flatten();
        rooms.filter_map(move |room| self.members.get(room)?.get(handle))
    }
}

impl Snapshot for Model {
    fn revision(&self, record: &RecordKey) -> Option<Revision> {
        self.revisions.get(record).copied()
    }

    fn user_of_key(&self, key: &SignPub) -> Option<&User> {
        self.users.get(self.signers.get(key)?).filter(|user| user.sign_pub == *key)
    }
}
