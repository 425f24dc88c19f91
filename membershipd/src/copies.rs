//! How many copies the buckets really have. The configuration only says how many a bucket is made with: `scale` raises
//! them while the daemons run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::history;
use unibus_core::bus;
use unibus_store::Replicas;
use unibus_store::link::Link;

/// How often the buckets are looked at, so that health, which asks nobody, is right on nodes that nobody asks either.
const LOOK: Duration = Duration::from_secs(10);
/// The same until the first answer.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// The least number of copies that any bucket is set to have, as last seen.
#[derive(Debug)]
pub struct Copies(AtomicUsize);

impl Copies {
    /// As configured, for as long as nobody has seen the buckets.
    pub fn new(configured: usize) -> Self {
        Self(AtomicUsize::new(configured))
    }

    /// The least number of copies.
    pub fn least(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether every bucket survives the loss of a node.
    pub fn survive_a_loss(&self) -> bool {
        self.least() >= bus::HA_COPIES
    }

    /// Notes what was seen. Buckets that did not answer say nothing: then what was seen before counts. Returns whether all did.
    pub fn saw(&self, replicas: &[Replicas]) -> bool {
        let all = replicas.iter().all(|replica| replica.current.is_some());
        match replicas.iter().map(|replica| replica.want).min() {
            Some(least) if all => self.0.store(least, Ordering::Relaxed),
            _ => return false,
        }
        true
    }

    /// Looks now and then, for as long as the process lives.
    pub async fn keep_looking(self: Arc<Self>, link: watch::Receiver<Option<Arc<Link>>>) {
        let mut pause = FIRST_LOOK;
        loop {
            tokio::time::sleep(pause).await;
            let Some(link) = link.borrow().clone() else { continue };
            if self.saw(&history::replicas(&link, self.least()).await) {
                pause = LOOK;
            }
        }
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
