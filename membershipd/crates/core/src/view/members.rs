//! Memberships, found by room and by user alike.

use std::collections::HashMap;
use std::sync::Arc;

use super::Versioned;
use crate::domain::{Handle, Membership, RoomId};

type Shared = Arc<Versioned<Membership>>;

/// All memberships, tombstones included. Invariant: each stands once in the list of its room, by handle, and once in that of
/// its user, by room. Both lists hold the same record, so that neither names nor records are kept twice; a record goes
/// only where a newer one takes its place.
#[derive(Debug, Default)]
pub(super) struct Members {
    by_room: HashMap<RoomId, Vec<Shared>>,
    by_handle: HashMap<Handle, Vec<Shared>>,
}

impl Members {
    /// Puts a membership in the place of the one before.
    pub(super) fn put(&mut self, value: Membership, revision: u64) {
        let shared = Arc::new(Versioned { value, revision });
        let Membership { room, handle, .. } = &shared.value;
        place(self.by_room.entry(room.clone()).or_default(), &shared, |m| &m.handle);
        place(self.by_handle.entry(handle.clone()).or_default(), &shared, |m| &m.room);
    }

    /// How `handle` stands to `room`.
    pub(super) fn get(&self, room: &RoomId, handle: &Handle) -> Option<&Versioned<Membership>> {
        let list = self.by_handle.get(handle)?;
        let at = list.binary_search_by(|m| m.value.room.cmp(room)).ok()?;
        list.get(at).map(Arc::as_ref)
    }

    /// All of them, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Membership> {
        self.by_room.values().flatten().map(|m| &m.value)
    }

    /// The memberships of a room, by handle.
    pub(super) fn of_room(&self, room: &RoomId) -> impl Iterator<Item = &Membership> + use<'_> {
        self.by_room.get(room).into_iter().flatten().map(|m| &m.value)
    }

    /// The memberships of a user, by room.
    pub(super) fn of_handle(&self, handle: &Handle) -> impl Iterator<Item = &Membership> + use<'_> {
        self.by_handle.get(handle).into_iter().flatten().map(|m| &m.value)
    }
}

fn place<K: Ord>(list: &mut Vec<Shared>, shared: &Shared, key: impl Fn(&Membership) -> &K) {
    match list.binary_search_by(|m| key(&m.value).cmp(key(&shared.value))) {
        Ok(at) => {
            if let Some(slot) = list.get_mut(at) {
                *slot = shared.clone();
            }
        }
        Err(at) => list.insert(at, shared.clone()),
    }
}
