//! Commands of this process that write the same record wait for each other, instead of making each other begin anew.
//!
//! Only a courtesy, so that many who change one record take turns: what keeps their changes apart is the compare-and-set, which
//! also holds between nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use super::keys::Address;

/// The locks, one for each entry that is written now.
#[derive(Debug, Default)]
pub(super) struct RecordLocks(Mutex<BTreeMap<Address, Arc<Turn<()>>>>);

/// Holds the locks of some entries until it is dropped.
#[derive(Debug)]
pub(super) struct RecordLockGuard {
    records: BTreeSet<Address>,
    _turns: Vec<OwnedMutexGuard<()>>,
}

impl RecordLockGuard {
    /// Whether it is the turn at all of these.
    pub(super) fn covers(&self, records: &BTreeSet<Address>) -> bool {
        self.records.is_superset(records)
    }
}

impl RecordLocks {
    /// Waits for the turn at all of `records`. All enter in the order of the keys, so none waits in a circle.
    pub(super) async fn lock(&self, records: BTreeSet<Address>) -> RecordLockGuard {
        let queues: Vec<_> = {
            let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            queues.retain(|_, queue| Arc::strong_count(queue) > 1);
            records.iter().map(|record| queues.entry(record.clone()).or_default().clone()).collect()
        };
        let mut turns = Vec::with_capacity(queues.len());
        for queue in queues {
            turns.push(queue.lock_owned().await);
        }
        RecordLockGuard { records, _turns: turns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms(names: &[&str]) -> BTreeSet<Address> {
        names.iter().map(|name| Address::new(unibus_store::Records::Rooms, name).unwrap()).collect()
    }

    #[tokio::test]
    async fn whoever_shares_a_record_waits_and_nothing_is_kept() {
        let queues = RecordLocks::default();
        let held = queues.lock(rooms(&["a", "b"])).await;
        assert!(held.covers(&rooms(&["a"])) && !held.covers(&rooms(&["a", "c"])));
        let mut next = Box::pin(queues.lock(rooms(&["b", "c"])));
        assert!(futures::poll!(&mut next).is_pending());
        drop(queues.lock(rooms(&["d"])).await);
        drop(held);
        drop(next.await);
        drop(queues.lock(rooms(&["e"])).await);
        assert_eq!(queues.0.lock().unwrap().len(), 1, "only the last one is still known");
    }
}
