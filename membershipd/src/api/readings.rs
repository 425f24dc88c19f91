//! Places for answers with messages: so many in all, and of them so many for one user and for one room.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::limits;
use unibus_core::domain::{Handle, RoomId};

/// The places of a node.
#[derive(Debug)]
pub(super) struct Readings {
    all: Arc<Semaphore>,
    users: Shares<Handle>,
    rooms: Shares<RoomId>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Reading {
    _permits: [OwnedSemaphorePermit; 3],
}

impl Readings {
    pub(super) fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(limits::READINGS)),
            users: Shares::new(limits::READINGS_PER_USER),
            rooms: Shares::new(limits::READINGS_PER_ROOM),
        }
    }

    /// A place for `user` to read `room`; none: there was none within `patience`. Waiting for one's own share takes nothing from
    /// others.
    pub(super) async fn take(&self, user: &Handle, room: &RoomId, patience: Duration) -> Option<Reading> {
        let places = [self.users.of(user), self.rooms.of(room), self.all.clone()];
        let [own, of_room, any] = places;
        let all = async {
            // One after the other: a reader that waits for a place of all holds only its own shares.
            let permits =
                [own.acquire_owned().await.ok()?, of_room.acquire_owned().await.ok()?, any.acquire_owned().await.ok()?];
            Some(Reading { _permits: permits })
        };
        timeout(patience, all).await.ok().flatten()
    }
}

/// A share for each key. A key that is not in use takes no memory.
#[derive(Debug)]
struct Shares<K> {
    each: usize,
    places: Mutex<HashMap<K, Arc<Semaphore>>>,
}

impl<K: Clone + Eq + Hash> Shares<K> {
    fn new(each: usize) -> Self {
        Self { each, places: Mutex::default() }
    }

    fn of(&self, key: &K) -> Arc<Semaphore> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        // A permit, and a reader that waits for one, holds its semaphore.
        places.retain(|_, place| Arc::strong_count(place) > 1);
        places.entry(key.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.each))).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    #[tokio::test(start_paused = true)]
    async fn no_user_and_no_room_takes_all_places() {
        let readings = Readings::new();
        let (alice, bob): (Handle, Handle) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let room = |n: usize| -> RoomId { format!("room-{n}").parse().unwrap() };
        let mut held = Vec::new();
        while let Some(reading) = readings.take(&alice, &room(held.len()), SOON).await {
            held.push(reading);
        }
        assert_eq!(held.len(), limits::READINGS_PER_USER);
        assert!(readings.take(&bob, &room(0), SOON).await.is_some(), "another user is not held up");

        let user = |n: usize| -> Handle { format!("user{n}").parse().unwrap() };
        held.clear();
        while let Some(reading) = readings.take(&user(held.len()), &room(0), SOON).await {
            held.push(reading);
        }
        assert_eq!(held.len(), limits::READINGS_PER_ROOM);
        assert!(readings.take(&bob, &room(1), SOON).await.is_some(), "another room is not held up");

        held.clear();
        while let Some(reading) = readings.take(&user(held.len()), &room(held.len()), SOON).await {
            held.push(reading);
        }
        assert_eq!(held.len(), limits::READINGS);
        held.clear();
        assert!(readings.take(&alice, &room(0), SOON).await.is_some());
        drop(readings.take(&bob, &room(1), SOON).await);
        assert!(readings.users.places.lock().unwrap().len() <= 2, "no key is remembered");
    }
}
