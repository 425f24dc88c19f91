//! How many copies the buckets and the shards really have. The configuration only says how many a bucket is made with: `scale` raises
//! them while the daemons run. And what the streams of rooms are, which decides nothing: no client that asks waits for them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::gate::Gate;
use crate::history::{self, Look};
use unibus_core::bus::{self, Bucket};
use unibus_core::domain::FeatureLevel;
use unibus_store::Replicas;
use unibus_store::link::Link;

/// How often the buckets are looked at, so that health, which asks nobody, is right on nodes that nobody asks either.
const LOOK: Duration = Duration::from_secs(10);
/// The same until the first answer.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// The least number of copies that any bucket is set to have, and the streams of rooms, as last seen.
#[derive(Debug)]
pub struct Copies {
    least: AtomicUsize,
    rooms: Mutex<Arc<Look>>,
}

impl Copies {
    /// As configured, for as long as nobody has seen the buckets.
    pub fn new(configured: usize) -> Self {
        Self { least: AtomicUsize::new(configured), rooms: Mutex::default() }
    }

    /// The least number of copies.
    pub fn least(&self) -> usize {
        self.least.load(Ordering::Relaxed)
    }

    /// Whether every bucket survives the loss of a node.
    pub fn survive_a_loss(&self) -> bool {
        self.least() >= bus::HA_COPIES
    }

    /// Notes what was seen. Buckets that did not answer say nothing: then what was seen before counts. Returns whether all did.
    pub fn saw(&self, replicas: &[Replicas]) -> bool {
        let all = replicas.iter().all(|replica| replica.current.is_some());
        match replicas.iter().map(|replica| replica.want).min() {
            Some(least) if all => self.least.store(least, Ordering::Relaxed),
            _ => return false,
        }
        true
    }

    /// The copies of the buckets, and those of the shards where the cluster is at a level at which there are any.
    pub async fn look(&self, link: &Link, level: FeatureLevel) -> Vec<Replicas> {
        let least = self.least();
        let mut seen = unibus_store::replicas(link, least).await;
        if level >= FeatureLevel::Kept {
            // A new shard takes as many copies as the bucket of rooms has.
            let rooms = seen.iter().find(|replica| replica.bucket == Bucket::Rooms.name()).map(|replica| replica.want);
            seen.push(unibus_keeper::replicas(link, rooms.unwrap_or(least)).await);
        }
        seen
    }

    /// Looks now and then, for as long as the process lives.
    pub async fn keep_looking(self: Arc<Self>, link: watch::Receiver<Option<Arc<Link>>>, gate: Arc<Gate>) {
        let mut pause = FIRST_LOOK;
        loop {
            tokio::time::sleep(pause).await;
            let Some(link) = link.borrow().clone() else { continue };
            let buckets = self.look(&link, gate.view(|view| view.level())).await;
            let rooms = self.look_at_rooms(&link, &buckets).await;
            if self.saw(&buckets) && rooms.replicas.is_some() {
                pause = LOOK;
            }
        }
    }

    /// The streams of rooms, as last seen.
    pub fn rooms(&self) -> Arc<Look> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at the streams of rooms; of `buckets`, which were just seen, they get the number of copies.
    pub async fn look_at_rooms(&self, link: &Link, buckets: &[Replicas]) -> Arc<Look> {
        let before = self.rooms();
        let now = Arc::new(history::look(link, &before, buckets).await);
        for damaged in now.damaged.iter().filter(|damaged| !before.is_damaged(&damaged.room)) {
            let (room, why) = (&damaged.room, &damaged.why);
            tracing::warn!(%room, "the history of a room is damaged: {why}; next: membershipd repair --room {room}");
        }
        *self.rooms.lock().unwrap_or_else(PoisonError::into_inner) = now.clone();
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(want: usize, current: Option<usize>) -> Replicas {
        Replicas { bucket: "UNIBUS_users".to_owned(), want, current, leader: None, rooms: None, space: None }
    }

    #[test]
    fn the_bucket_with_the_fewest_copies_counts() {
        let copies = Copies::new(1);
        assert!(!copies.survive_a_loss());
        assert!(copies.saw(&[bucket(3, Some(1)), bucket(3, Some(3))]));
        assert!(copies.survive_a_loss());
        assert!(copies.saw(&[bucket(3, Some(3)), bucket(1, Some(1))]));
        assert_eq!(copies.least(), 1);
    }

    #[test]
    fn silence_changes_nothing() {
        let copies = Copies::new(3);
        assert!(!copies.saw(&[bucket(1, None), bucket(3, Some(3))]));
        assert!(!copies.saw(&[]));
        assert_eq!(copies.least(), 3);
    }
}
